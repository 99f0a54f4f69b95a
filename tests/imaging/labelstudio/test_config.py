from xml.etree import ElementTree

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from imaging.errors import RecordError
from imaging.labels import label_scheme
from imaging.labelstudio.config import labelling_config
from imaging.labelstudio.plane import plane_of
from imaging.labelstudio.results import (
    results_from_boxes,
    results_from_classes,
    results_from_label_map,
)
from imaging.labelstudio.shapes import Box
from imaging.labelstudio.stack import results_from_label_volume
from imaging.task import Kind, TaskConfig
from imaging.volume import grid_of

AWKWARD = (
    "kidney & co",
    'the "left" one',
    "a < b > c",
    "Läsion №1",
    "肿瘤",
    "it's",
    "true",
    "7",
    "]]>",
)


def config_of(kind: Kind, *names: str, multi_label: bool = False) -> str:
    return labelling_config(TaskConfig(kind, label_scheme(names), multi_label=multi_label))


def parsed(xml: str) -> ElementTree.Element:
    return ElementTree.fromstring(xml)


def control(xml: str, name: str) -> ElementTree.Element:
    found = parsed(xml).find(f".//*[@name='{name}']")
    assert found is not None
    return found


def test_segmentation_offers_a_brush_and_three_shapes_under_the_fixed_names() -> None:
    root = parsed(config_of("segmentation", "kidney", "tumour"))
    named = {tag.get("name"): tag.tag for tag in root.iter() if tag.get("name")}
    assert named == {
        "label": "BrushLabels",
        "polygon": "PolygonLabels",
        "ellipse": "EllipseLabels",
        "rectangle": "RectangleLabels",
        "image": "Image",
    }
    assert all(tag.get("toName") in (None, "image") for tag in root.iter())
    assert control(config_of("segmentation", "kidney"), "image").get("value") == "$image"


@pytest.mark.parametrize("name", ["label", "polygon", "ellipse", "rectangle"])
def test_every_control_has_all_labels_in_their_order_and_colours(name: str) -> None:
    xml = config_of("segmentation", "kidney", "tumour")
    labels = [(label.get("value"), label.get("background")) for label in control(xml, name)]
    assert labels == [("kidney", "#e6194b"), ("tumour", "#3cb44b")]


def test_the_first_nine_labels_have_the_digits_as_hotkeys() -> None:
    names = [f"label {number}" for number in range(12)]
    hotkeys = [label.get("hotkey") for label in control(config_of("segmentation", *names), "label")]
    assert hotkeys == [*"123456789", None, None, None]
    hotkeys = [one.get("hotkey") for one in control(config_of("classification", *names), "label")]
    assert hotkeys == [*"123456789", None, None, None]


def test_one_class_must_be_chosen_or_any_number_may() -> None:
    single = control(config_of("classification", "normal", "ill"), "label")
    several = control(config_of("classification", "normal", "ill", multi_label=True), "label")
    assert (single.tag, single.get("choice"), single.get("required")) == (
        "Choices",
        "single",
        "true",
    )
    assert (several.get("choice"), several.get("required")) == ("multiple", None)
    assert [one.get("value") for one in single] == ["normal", "ill"]


def test_many_classes_are_listed_one_below_the_other() -> None:
    names = [f"class {number}" for number in range(7)]
    assert control(config_of("classification", *names), "label").get("layout") == "vertical"
    assert control(config_of("classification", *names[:6]), "label").get("layout") == "inline"


def test_the_picture_cannot_be_turned() -> None:
    assert control(config_of("segmentation", "kidney"), "image").get("rotateControl") is None


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_names_that_mean_something_in_xml_come_through(kind: Kind) -> None:
    xml = config_of(kind, *AWKWARD)
    assert [label.get("value") for label in control(xml, "label")] == list(AWKWARD)
    assert xml == config_of(kind, *AWKWARD)


@pytest.mark.parametrize("name", ["$image", "costs $5", "a$b"])
def test_a_name_that_label_studio_would_replace_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match="no '\\$' before a word"):
        config_of("segmentation", "kidney", name)
    assert config_of("segmentation", "in US$", "$ only")


@pytest.mark.parametrize("names", [("kidney",), ("kidney", "tumour"), AWKWARD])
def test_label_studio_accepts_a_segmentation_task_and_what_is_predicted_for_it(
    names: tuple[str, ...],
) -> None:
    interface = LabelInterface(config_of("segmentation", *names))
    interface.validate()
    scheme = label_scheme(names)
    labels_HW = np.arange(600).reshape(20, 30) % (len(names) + 1)
    results = results_from_label_map(labels_HW.astype(np.uint8), scheme)
    results += results_from_boxes([Box(name, 1, 2, 5, 9) for name in names], (20, 30))
    prediction = {"model_version": "model-1", "score": 0.5, "result": results}
    assert interface.validate_prediction(prediction, return_errors=True) == []
    results[0]["value"]["brushlabels"] = ["liver"]
    assert interface.validate_prediction(prediction, return_errors=True) != []


@pytest.mark.parametrize("names", [("normal",), ("normal", "ill"), AWKWARD])
@pytest.mark.parametrize("multi_label", [False, True])
def test_label_studio_accepts_a_classification_task_and_what_is_predicted_for_it(
    names: tuple[str, ...], multi_label: bool
) -> None:
    interface = LabelInterface(config_of("classification", *names, multi_label=multi_label))
    interface.validate()
    results = results_from_classes(names if multi_label else names[-1:], dict.fromkeys(names, 0.7))
    prediction = {"model_version": "model-1", "score": 0.7, "result": results}
    assert interface.validate_prediction(prediction, return_errors=True) == []


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_a_volume_is_shown_as_a_stack_of_slices(kind: Kind) -> None:
    config = TaskConfig(kind, label_scheme(["kidney"]), modality="CT")
    image = control(labelling_config(config), "image")
    assert image.get("valueList") == "$slices" and image.get("value") is None
    # A class belongs to the volume: a choice for each slice would be perItem.
    assert control(labelling_config(config), "label").get("perItem") is None


def test_label_studio_accepts_a_volume_and_what_is_predicted_for_its_slices() -> None:
    scheme = label_scheme(["kidney", "tumour"])
    interface = LabelInterface(labelling_config(TaskConfig("segmentation", scheme, modality="MR")))
    interface.validate()
    plane = plane_of(grid_of((5, 6, 3), np.eye(4)))
    labels_XYZ = np.arange(90).reshape(5, 6, 3) % 3
    results = results_from_label_volume(labels_XYZ.astype(np.uint8), scheme, plane, (0, 2))
    prediction = {"model_version": "model-1", "score": 0.5, "result": results}
    assert interface.validate_prediction(prediction, return_errors=True) == []
