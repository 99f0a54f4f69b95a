"""A tag says what an image is made of: the same again for the same, another for any change."""

import shutil
from pathlib import Path

import pytest

from stack.engine.image_tag import build_sections, copied, filled, image_tag, is_ignored, let_in
from stack.environments import ROOT
from stack.errors import ComposeError

COMPOSE = """
services:
  app:
    image: lab/app:${IMAGE_TAG:-dev}
    build:
      context: .
      dockerfile: app/Dockerfile
      args: {BASE_IMAGE: "${BASE_IMAGE:-python:3.11}", VERSION: "${IMAGE_TAG:-dev}"}
  db: {image: postgres}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / ".dockerignore").write_text(
        "# nothing but\n*\n!app\n!pins\n**/*.md\n**/Dockerfile\n"
    )
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2"\n')
    (tmp_path / "pins").write_text("a==1\n")
    (tmp_path / "app" / "deep").mkdir(parents=True)
    (tmp_path / "app" / "main.py").write_text("print()\n")
    (tmp_path / "app" / "deep" / "more.py").write_text("1\n")
    (tmp_path / "app" / "README.md").write_text("read\n")
    (tmp_path / "app" / "Dockerfile").write_text(
        "ARG BASE_IMAGE\nFROM scratch AS other\nFROM ${BASE_IMAGE}\nCOPY pins /setup/\n"
        "COPY --chmod=755 app /app\nCOPY --from=other /x /x\n"
    )
    return tmp_path


def test_a_tag_is_the_version_and_a_digest(checkout: Path) -> None:
    version, digest = image_tag(checkout, {}).split("-")
    assert version == "1.2" and len(digest) == 12


def test_a_clone_has_the_same_tag(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    clone = tmp_path_factory.mktemp("clone") / "it"
    shutil.copytree(checkout, clone)
    (clone / "app" / "main.py").touch()
    assert image_tag(clone, {}) == image_tag(checkout, {})


@pytest.mark.parametrize("name", ["app/main.py", "app/deep/more.py", "pins", "app/Dockerfile"])
def test_what_goes_into_an_image_changes_the_tag(checkout: Path, name: str) -> None:
    before = image_tag(checkout, {})
    with (checkout / name).open("a") as stream:
        stream.write("# more\n")
    assert image_tag(checkout, {}) != before


def test_a_new_name_changes_the_tag(checkout: Path) -> None:
    before = image_tag(checkout, {})
    (checkout / "app" / "main.py").rename(checkout / "app" / "other.py")
    assert image_tag(checkout, {}) != before


@pytest.mark.parametrize("name", ["app/README.md", "notes.txt", ".git"])
def test_what_no_image_holds_changes_nothing(checkout: Path, name: str) -> None:
    before = image_tag(checkout, {})
    (checkout / name).write_text("something else\n")
    assert image_tag(checkout, {}) == before


def test_the_base_changes_the_tag_and_its_default_said_aloud_does_not(checkout: Path) -> None:
    usual = image_tag(checkout, {})
    assert image_tag(checkout, {"BASE_IMAGE": "own:1"}) != usual
    assert image_tag(checkout, {"BASE_IMAGE": "python:3.11"}) == usual
    assert image_tag(checkout, {"BASE_IMAGE": ""}) == usual


def test_neither_the_tag_nor_the_commit_is_content(checkout: Path) -> None:
    usual = image_tag(checkout, {})
    assert image_tag(checkout, {"IMAGE_TAG": "x", "REVISION": "y", "OTHER": "z"}) == usual


def test_a_copy_that_is_not_understood_is_refused(checkout: Path) -> None:
    with (checkout / "app" / "Dockerfile").open("a") as stream:
        stream.write("COPY app/*.py /app/\n")
    with pytest.raises(ComposeError, match="expected plain names"):
        image_tag(checkout, {})
    (checkout / "app" / "Dockerfile").write_text("COPY gone /app/\n")
    with pytest.raises(ComposeError, match="it is not there"):
        image_tag(checkout, {})


def test_the_last_rule_that_fits_decides() -> None:
    rules = ("*", "!app", "**/*.md", "!app/keep.md")
    assert is_ignored("other/file", rules)
    assert not is_ignored("app/a/b.py", rules)
    assert is_ignored("app/a/b.md", rules)
    assert not is_ignored("app/keep.md", rules)


def test_variables_are_filled_in() -> None:
    assert filled("${A:-x}$$${B}", {"B": "b"}) == "x$b"
    assert filled("${A:-x}", {"A": "a"}) == "a"


def test_our_own_images_are_made_of_code_and_pins_alone() -> None:
    sections = build_sections(ROOT / "compose.yaml", {})
    dockerfiles = {str(build["dockerfile"]) for build in sections.values()}
    assert dockerfiles == {
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("services/*/Dockerfile"), ROOT / "ml_backend" / "Dockerfile"]
    }
    sources = {name for file in dockerfiles for name in copied(ROOT / file)}
    files = let_in(ROOT, sources)
    assert "constraints.txt" in files and "stack/runtime/log.py" in files
    assert not [file for file in files if file.endswith((".md", ".pyc", "Dockerfile"))]
    assert "stack/cli.py" not in files, "a change of the command line builds no image anew"
