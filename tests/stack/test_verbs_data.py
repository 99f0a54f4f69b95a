from pathlib import Path

import pytest

from imaging.task import load_task
from stack.bootstrap import init_nas
from stack.cli import main
from stack.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    init_nas(home.nas_folder)
    return home


def labloop(home: Home, *arguments: str) -> int:
    return main([*arguments, "--home", str(home.root)])


def new_task(home: Home, name: str = "Task001_kidney") -> Path:
    labels = ("--labels", "kidney, tumour")
    assert labloop(home, "task", "new", name, "--kind", "segmentation", *labels) == 0
    return home.nas.task(name).config


def test_a_new_task_can_be_filled_at_once(home: Home) -> None:
    config = load_task(new_task(home))
    assert config.scheme.names == ("kidney", "tumour")
    assert home.nas.task("Task001_kidney").rawdata.is_dir()


def test_a_new_task_of_volumes_says_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("task", "new", "Task002_organs", "--kind", "segmentation", "--labels", "liver")
    for wrong in ("ct", "Picture", ""):
        assert labloop(home, *words, "--modality", wrong) == 2
        assert "CT, MR, PT" in capsys.readouterr().err
    assert labloop(home, *words, "--modality", "CT") == 0
    config = load_task(home.nas.task("Task002_organs").config)
    assert config.is_volume and config.modality == "CT"
    assert "drop volumes in" in capsys.readouterr().out
    assert labloop(home, "task", "check", "Task002_organs") == 0
    assert "segmentation_3d" in capsys.readouterr().out


def test_an_existing_task_is_not_overwritten(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before = new_task(home).read_text()
    arguments = ("task", "new", "Task001_kidney", "--kind", "classification", "--labels", "a")
    assert labloop(home, *arguments) == 3
    assert "choose another name" in capsys.readouterr().err
    assert home.nas.task("Task001_kidney").config.read_text() == before


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        ("kidney", "a", "expected TaskNNN_what"),
        ("Task001_kidney", "", "label 1 is ''"),
        ("Task001_kidney", "a,a", "labels repeat"),
        ("Task001_kidney", "a" * 101, "expected at most 100"),
    ],
)
def test_a_name_or_labels_that_cannot_be_are_wrong_usage(
    home: Home, capsys: pytest.CaptureFixture[str], name: str, labels: str, words: str
) -> None:
    arguments = ("task", "new", name, "--kind", "segmentation", "--labels", labels)
    assert labloop(home, *arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "backup" not in said
    assert not list(home.nas.tasks())


def test_a_task_number_is_given_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    new_task(home, "Task007_kidney")
    arguments = ("task", "new", "Task007_liver", "--kind", "segmentation", "--labels", "liver")
    assert labloop(home, *arguments) == 3
    words = capsys.readouterr().err
    assert "Task007_kidney" in words and "Task008_liver" in words
    assert not home.nas.task("Task007_liver").root.exists()


@pytest.mark.parametrize("verb", [("task", "check"), ("train", "--now")])
def test_a_task_without_task_yaml_is_told_in_plain_words(
    home: Home, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    home.nas.task("Task002_plain").rawdata.mkdir(parents=True)
    assert labloop(home, *verb, "Task002_plain") == 3
    words = capsys.readouterr().err
    assert "Task002_plain has no task.yaml yet" in words and "Errno" not in words


@pytest.mark.parametrize(
    "verb", [("task", "list"), ("task", "new", "T", "--kind", "segmentation"), ("logs",)]
)
def test_a_home_that_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    labels = ("--labels", "a") if "new" in verb else ()
    assert labloop(Home(tmp_path / "no"), *verb, *labels) == 2
    words = capsys.readouterr().err
    assert f"there is no home at {tmp_path / 'no'}" in words
    assert f"`labloop up --local --home {tmp_path / 'no'}`" in words


@pytest.mark.parametrize("verb", [("task", "list"), ("models", "Task001_kidney")])
def test_without_the_marker_of_the_share_every_verb_refuses(
    home: Home, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    new_task(home)
    home.nas.marker.unlink()
    assert labloop(home, *verb) == 3
    assert "not mounted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("task", "show", "kidney"), 2),
        (("promote", "Task001_kidney", "model-9"), 2),
        (("promote", "Task001_kidney", "../model-9"), 2),
        (("rollback", "Task001_kidney", "--to", "model-9"), 2),
        (("rollback", "Task001_kidney"), 3),
    ],
)
def test_a_wrong_word_is_usage_and_what_cannot_be_done_is_refused(
    home: Home, arguments: tuple[str, ...], code: int
) -> None:
    new_task(home)
    assert labloop(home, *arguments) == code


def test_tasks_are_listed_with_where_they_stand(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    new_task(home)
    (home.nas.task("Task002_plain").rawdata).mkdir(parents=True)
    capsys.readouterr()
    assert labloop(home, "task", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Task001_kidney", "segmentation", *"0000", "none"]
    assert "no task.yaml yet" in lines[2]


def test_check_names_every_problem_of_a_task(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = new_task(home)
    assert labloop(home, "task", "check", "Task001_kidney") == 0
    assert "segmentation_2d" in capsys.readouterr().out
    path.write_text("kind: guess\nlabels: []\n")
    assert labloop(home, "task", "check", "Task001_kidney") == 3
    found = capsys.readouterr().err
    assert "kind is 'guess'" in found and "found 0 labels" in found


def test_check_finds_a_recipe_that_cannot_be(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = new_task(home)
    path.write_text(path.read_text().replace("budget_s: 600.0", "budget_s: 600.0\n  batch: -1"))
    assert labloop(home, "task", "check", "Task001_kidney") == 3
    assert "batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("task", "show", "Task009_absent"),
        ("models", "Task009_absent"),
        ("rollback", "Task009_absent"),
        ("train", "Task009_absent", "--now"),
        ("evaluate", "Task009_absent"),
    ],
)
def test_an_unknown_task_is_a_wrong_usage_that_names_the_known(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    new_task(home)
    assert labloop(home, *arguments) == 2
    assert "Task001_kidney" in capsys.readouterr().err


def test_without_a_champion_there_is_nothing_to_predict_with(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_task(home)
    arguments = ("predict", "Task001_kidney", "a.png", "-o", str(tmp_path / "out"))
    assert labloop(home, *arguments) == 2
    assert "has no champion yet" in capsys.readouterr().err


def test_training_without_labels_is_refused_with_the_reason(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    new_task(home)
    assert labloop(home, "train", "Task001_kidney", "--now") == 3
    words = capsys.readouterr().err
    assert "0 of 0 cases" in words and "in Label Studio first" in words
    assert not home.nas.task("Task001_kidney").snapshots.exists()
    assert not home.nas.task_runs("Task001_kidney").exists()
