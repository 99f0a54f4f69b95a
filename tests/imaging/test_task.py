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


@pytest.mark.parametrize("labels", [[False, True], [{"name": True}, "a"]])
def test_a_label_that_yaml_took_for_true_or_false_must_be_quoted(labels: list[object]) -> None:
    with pytest.raises(TaskConfigError, match="in quotes: unquoted, YAML reads yes, no"):
        parse_task({"kind": "classification", "labels": labels}, where="t")


@pytest.mark.parametrize("name", [None, 1.5, ["a"], pytest.param(2**20_000, id="long")])
def test_a_label_name_that_is_neither_text_nor_a_plain_number_is_refused(name: object) -> None:
    with pytest.raises(TaskConfigError, match="expected a name"):
        parse_task({"kind": "classification", "labels": ["a", {"name": name}]}, where="t")


@pytest.mark.parametrize("color", [123456, 0, False, ["#123456"]])
def test_a_colour_that_is_no_text_is_refused(color: object) -> None:
    labels = [{"name": "lv", "color": color}]
    with pytest.raises(TaskConfigError, match="expected a color in quotes"):
        parse_task({"kind": "segmentation", "labels": labels}, where="t")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "a: " + "9" * 5000,
        "a: 2026-99-99",
        "a: !!bool maybe",
        "a: !!int ''",
        "a: !!timestamp x",
    ],
)
def test_what_the_yaml_parser_stumbles_over_is_a_problem_of_the_file(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(TaskConfigError, match=r"task\.yaml: \S"):
        load_task(tmp_path / "task.yaml")


@pytest.mark.parametrize(
    "line", ["title: *a9", "labels: [*a9]", "kind: *a9", "recipe: {batch: *a9}", "gate: *a9"]
)
def test_a_few_lines_that_stand_for_a_billion_names_are_quoted_in_short(
    tmp_path: Path, line: str
) -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "task.yaml").write_text("\n".join([*bomb, line]))
    with pytest.raises(TaskConfigError, match=r"expected .*is not a known key") as caught:
        load_task(tmp_path / "task.yaml")
    assert len(str(caught.value)) < 2000


def test_a_window_is_a_preset_or_centre_and_width() -> None:
    document = {"kind": "segmentation", "labels": ["liver"], "modality": "CT"}
    for window in ("auto", "Soft tissue", "40/400", "-600/1500"):
        config = parse_task(document | {"volume": {"window": window}}, where="t")
        assert config.volume.window == window
    for window in ("livers", "40", "40/0", ""):
        with pytest.raises(
            TaskConfigError, match=r"volume\.window is .* expected auto, centre/width"
        ):
            parse_task(document | {"volume": {"window": window}}, where="t")


def test_a_modality_is_picture_or_a_word_in_capitals() -> None:
    about = {"kind": "segmentation", "labels": ["liver"]}
    assert not parse_task(about, where="x").is_volume
    assert parse_task(about | {"modality": "CT"}, where="x").is_volume
    for wrong in ("ct", "Picture", "", "C T"):
        with pytest.raises(TaskConfigError, match=r"modality is .*CT, MR, PT"):
            parse_task(about | {"modality": wrong}, where="x")
