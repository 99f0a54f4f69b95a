from pathlib import Path

import pytest

from imaging.errors import RecordError, TaskConfigError
from imaging.labels import label_scheme
from imaging.task import RecipeChoice, TaskConfig, dump_task, load_task, parse_task, save_task


def test_kind_and_labels_are_enough() -> None:
    config = parse_task({"kind": "segmentation", "labels": ["kidney", "tumour"]}, where="t")
    assert [(label.name, label.index) for label in config.scheme.labels] == [
        ("kidney", 1),
        ("tumour", 2),
    ]
    assert config.retrain.min_new_labels == 20


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    config = TaskConfig(
        kind="classification",
        scheme=label_scheme(["normal", "Ödem: ja"], [None, "#102030"]),
        title="Chest: a test",
        multi_label=True,
        recipe=RecipeChoice("auto", 30.0, {"batch": 8}),
    )
    save_task(tmp_path / "task.yaml", config)
    assert load_task(tmp_path / "task.yaml") == config
    assert "# In order: index 1" in dump_task(config)


def test_every_problem_is_reported_at_once() -> None:
    document = {
        "kind": "detection",
        "labels": ["a", "a"],
        "retrain": {"min_new_labels": 0, "hours": "9-17", "surprise": 1},
        "gate": {"confidence": "high"},
        "colour": 1,
        "split": [1],
        "multi_label": "no",
    }
    with pytest.raises(TaskConfigError) as caught:
        parse_task(document, where="task.yaml")
    message = str(caught.value)
    for expected in (
        "kind is 'detection', expected classification or segmentation",
        "labels repeat",
        "retrain.min_new_labels is 0, expected 1 to",
        "retrain.hours is '9-17'",
        "retrain.surprise is not a known key",
        "gate.confidence is 'high', expected a number",
        "colour is not a known key",
        "split is [1], expected a mapping",
        "multi_label is 'no', expected true or false",
    ):
        assert expected in message


@pytest.mark.parametrize("text", ["- 1", "a: [", "\x00", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(TaskConfigError, match=r"task\.yaml"):
        load_task(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    "names", [[], [""], [" a"], ["a", "a"], ["a\nb"], [f"l{n}" for n in range(256)]]
)
def test_unusable_label_names_are_refused(names: list[str]) -> None:
    with pytest.raises(RecordError):
        label_scheme(names)


def test_a_bad_colour_is_refused() -> None:
    with pytest.raises(RecordError, match="expected #rrggbb"):
        label_scheme(["a"], ["red"])
