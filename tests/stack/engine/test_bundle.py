"""Bundles: what is in one, and that nothing of a damaged one is loaded."""

import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from stack.engine import bundle
from stack.engine.bundle import (
    MANIFEST,
    SOURCE,
    SUMS,
    BundleError,
    Manifest,
    Packed,
    archive_name,
    installed,
    keep_only,
    pack_images,
    pack_source,
    prepare,
    tracked_files,
    write_sums,
)
from stack.engine.bundle_load import check_sums, load_bundle, read_sums
from stack.engine.compose_call import Compose
from stack.engine.docker_call import Docker
from stack.engine.images import MissingImageError
from stack.engine.lab import Lab
from stack.engine.settings import LabSettings
from stack.environments import ROOT
from stack.home import Home
from tests.stack.engine.programs import calls, fake_docker

TAG = "1-a"
IMAGE = "labloop/app:1-a"
# Has an image once it was loaded: the file `there` says so.
ENGINE = """
case "$1 $2" in
"image inspect")
    [ -e {there} ] && echo '{record}' && exit 0
    echo 'No such image: x' >&2; exit 1 ;;
"image save") echo "layers of $3" ;;
"image load") touch {there} ;;
esac
"""


def engine(folder: Path, *, has_it: bool, image_id: str = "sha256:12345678901234") -> Docker:
    record = json.dumps({"tags": [IMAGE], "digests": [], "id": image_id})
    there = folder / "there"
    if has_it:
        folder.mkdir(parents=True, exist_ok=True)
        there.touch()
    return fake_docker(folder, ENGINE.format(there=there, record=record))


def lab_in(folder: Path, tag: str = TAG) -> Lab:
    compose = Compose("t", folder, (), folder / "env", "lab")
    return Lab(Home(folder / "home"), LabSettings.from_env({}), compose, (), tag)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small whole bundle."""
    folder = tmp_path / "bundle"
    prepare(folder)
    images = pack_images(engine(tmp_path / "saver", has_it=True), [IMAGE], folder)
    manifest = Manifest("1", TAG, "lab", "", "3.11", "x86_64", {"TORCH_CUDA": "none"}, images)
    (folder / MANIFEST).write_text(manifest.as_json())
    write_sums(folder)
    return folder


def loads(folder: Path) -> list[str]:
    return [call for call in calls(folder) if call.startswith("image load")]


def test_a_bundle_is_loaded_once(made: Path, tmp_path: Path) -> None:
    box = tmp_path / "box"
    docker = engine(box, has_it=False)
    assert load_bundle(lab_in(tmp_path), made, docker) == [IMAGE]
    assert load_bundle(lab_in(tmp_path), made, docker) == []
    assert len(loads(box)) == 1


def test_another_image_store_gives_other_ids_and_still_nothing_is_loaded_twice(
    made: Path, tmp_path: Path
) -> None:
    box = tmp_path / "box"
    docker = engine(box, has_it=False, image_id="sha256:another")
    assert load_bundle(lab_in(tmp_path), made, docker) == [IMAGE]
    assert load_bundle(lab_in(tmp_path), made, docker) == []


def test_a_changed_or_missing_archive_is_refused_and_nothing_loaded(
    made: Path, tmp_path: Path
) -> None:
    (archive,) = (made / "images").iterdir()
    box = tmp_path / "box"
    docker = engine(box, has_it=False)
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(BundleError, match=r"is not what it was.*nothing was loaded") as error:
        load_bundle(lab_in(tmp_path), made, docker)
    assert error.value.exit_code == 3
    archive.unlink()
    with pytest.raises(BundleError, match="is missing"):
        load_bundle(lab_in(tmp_path), made, docker)
    assert loads(box) == []


def test_a_changed_manifest_is_refused(made: Path, tmp_path: Path) -> None:
    with (made / MANIFEST).open("a") as stream:
        stream.write(" ")
    with pytest.raises(BundleError, match=r"manifest\.json is not what it was"):
        load_bundle(lab_in(tmp_path), made, engine(tmp_path / "box", has_it=False))


def test_a_bundle_that_was_not_finished_is_none(made: Path, tmp_path: Path) -> None:
    prepare(made)  # a new one begins
    with pytest.raises(BundleError, match="no whole bundle"):
        load_bundle(lab_in(tmp_path), made, engine(tmp_path / "box", has_it=False))
    (made / SUMS).write_text("nonsense\n")
    with pytest.raises(BundleError, match="damaged"):
        read_sums(made)


def test_a_bundle_of_other_settings_is_refused_with_the_difference(
    made: Path, tmp_path: Path
) -> None:
    lab = lab_in(tmp_path, "1-b")
    lab = replace(lab, settings=LabSettings.from_env({"TORCH_CUDA": "13.0"}))
    with pytest.raises(BundleError, match=r"TORCH_CUDA is '13\.0' here and 'none' there"):
        load_bundle(lab, made, engine(tmp_path / "box", has_it=False))


def test_sums_are_those_of_sha256sum(made: Path) -> None:
    words = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(words, cwd=made, check=False).returncode == 0
    with pytest.raises(BundleError, match="has no line in SHA256SUMS"):
        check_sums(made, {"README.txt": ""})


def test_an_image_is_written_once_and_goes_with_its_id(made: Path, tmp_path: Path) -> None:
    saver = tmp_path / "saver"
    pack_images(engine(saver, has_it=True), [IMAGE], made)
    assert len([call for call in calls(saver) if call.startswith("image save")]) == 1
    (before,) = (made / "images").iterdir()
    pack_images(engine(saver, has_it=True, image_id="sha256:another"), [IMAGE], made)
    (after,) = (made / "images").iterdir()
    assert after != before and after.name.startswith("labloop-app-1-a-another.tar")


def test_an_image_that_is_not_there_is_no_bundle(tmp_path: Path) -> None:
    prepare(tmp_path / "b")
    with pytest.raises(MissingImageError, match=IMAGE):
        pack_images(engine(tmp_path / "e", has_it=False), [IMAGE], tmp_path / "b")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(BundleError, match="holds other things"):
        prepare(tmp_path)


def test_names_of_archives_are_files_anywhere() -> None:
    name = archive_name("docker.io/library/caddy:2.10.2-alpine", "sha256:0123456789abcdef")
    assert name.startswith("images/library-caddy-2.10.2-alpine-0123456789ab.tar.")


def test_what_is_half_written_goes(tmp_path: Path) -> None:
    for name in ("a.tar.zst", ".b.tar.zst.part", "c.tar.zst"):
        (tmp_path / name).touch()
    keep_only(tmp_path, ["images/a.tar.zst"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.zst"]


def test_the_program_is_packed_the_same_again(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("x")
    (tmp_path / "a.sh").chmod(0o700)
    pack_source(tmp_path, ["a.sh"], tmp_path / SOURCE)
    first = (tmp_path / SOURCE).read_bytes()
    (tmp_path / "a.sh").touch()
    pack_source(tmp_path, ["a.sh"], tmp_path / SOURCE)
    assert (tmp_path / SOURCE).read_bytes() == first
    with tarfile.open(tmp_path / SOURCE) as archive:
        assert archive.getmember("a.sh").mode == 0o755


def test_only_what_is_under_version_control_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "secret.key"):
        (tmp_path / name).touch()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "a.py"], cwd=tmp_path, check=True)
    monkeypatch.setattr(bundle, "image_files", lambda root: ["a.py"])
    assert tracked_files(tmp_path) == ["a.py"]
    monkeypatch.setattr(bundle, "image_files", lambda root: ["a.py", "secret.key"])
    with pytest.raises(BundleError, match=r"git does not know: secret\.key"):
        tracked_files(tmp_path)


def test_a_manifest_of_another_form_is_refused() -> None:
    good = Manifest("1", TAG, "lab", "", "3.11", "x86_64", {}, (Packed("a", "b", "c"),))
    assert Manifest.from_json(good.as_json()) == good
    for text in ("[]", "{}", '{"format": 2}', "no json", good.as_json().replace("python", "py")):
        with pytest.raises(BundleError):
            Manifest.from_json(text)


def test_an_environment_says_what_is_in_it_but_not_ourselves() -> None:
    import sys

    found = installed(Path(sys.executable))
    assert any(one.startswith("httpx==") for one in found)
    assert not [one for one in found if one.startswith("labloop==")]


def test_the_installer_is_a_plain_shell_program() -> None:
    script = ROOT / "stack" / "engine" / "bundle_files" / "install.sh"
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
