"""The labelling configuration of a task: which controls annotators see in Label Studio.

The names of the tags are part of the contract (docs/data-format.md): results are read and
predictions are written by them. Written against Label Studio 1.23.2.
"""

import re
from xml.etree import ElementTree

from imaging.errors import RecordError
from imaging.labels import LabelScheme
from imaging.labelstudio.results import CONTROL, IMAGE, RECTANGLE
from imaging.labelstudio.stack import SLICES
from imaging.task import TaskConfig

HOTKEYS = "123456789"  # further labels get letters from Label Studio itself
# A "$" before a word is a variable of the task's data to Label Studio: the label would be shown,
# and stored as an answer, under whatever that holds.
VARIABLE = re.compile(r"\$[\w[\].{}]")
SHAPES = (
    ("PolygonLabels", "polygon", "Polygon"),
    ("EllipseLabels", "ellipse", "Ellipse"),
    ("RectangleLabels", RECTANGLE, "Rectangle"),
)
INLINE_CLASSES = 6  # more are easier to read one below the other


def labelling_config(config: TaskConfig) -> str:
    """Label Studio's XML for a task, the same for the same labels, colours and kind.

    Segmentation offers a brush and three shapes, which may be mixed; classification offers the
    classes, of which one must be chosen, or any number where several may hold. Volumes are shown as
    a stack of slices to page through; regions then belong to a slice, a class to the volume.

    Raises:
        RecordError: Label Studio would take a label's name for something else.
    """
    for name in config.scheme.names:
        if VARIABLE.search(name):
            raise RecordError(
                f"label is {name!r}, expected no '$' before a word: Label Studio would replace it",
                hint="Rename the label in task.yaml.",
            )
    view = ElementTree.Element("View")
    if config.kind == "classification":
        _add_choices(view, config.scheme, config.multi_label)
    else:
        _add_controls(view, config.scheme)
    _add_image(view, config.is_volume)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def _add_image(view: ElementTree.Element, is_volume: bool) -> None:
    # No rotateControl: a region keeps the angle at which it was drawn, and would be refused.
    buttons = ("zoom", "zoomControl", "brightnessControl", "contrastControl")
    source = {"valueList": f"${SLICES}"} if is_volume else {"value": f"${IMAGE}"}
    attributes = {"name": IMAGE} | source | dict.fromkeys(buttons, "true")
    ElementTree.SubElement(view, "Image", attributes)


def _add_controls(view: ElementTree.Element, scheme: LabelScheme) -> None:
    # Side by side as far as there is room: four rows would push the picture off a laptop's screen.
    style = {"style": "display: flex; flex-wrap: wrap; column-gap: 2em"}
    tools = ElementTree.SubElement(view, "View", style)
    _add_labels(tools, "BrushLabels", CONTROL, "Brush", scheme, HOTKEYS)
    for tag, name, title in SHAPES:
        _add_labels(tools, tag, name, title, scheme, "")


def _add_labels(
    view: ElementTree.Element, tag: str, name: str, title: str, scheme: LabelScheme, hotkeys: str
) -> None:
    row = ElementTree.SubElement(
        view, "View", {"style": "display: flex; align-items: center; gap: 0.5em"}
    )
    ElementTree.SubElement(row, "Header", {"value": title, "size": "6"})
    control = ElementTree.SubElement(row, tag, {"name": name, "toName": IMAGE})
    for position, label in enumerate(scheme.labels):
        attributes = {"value": label.name, "background": label.color}
        if position < len(hotkeys):
            attributes["hotkey"] = hotkeys[position]
        ElementTree.SubElement(control, "Label", attributes)


def _add_choices(view: ElementTree.Element, scheme: LabelScheme, multi_label: bool) -> None:
    attributes = {
        "name": CONTROL,
        "toName": IMAGE,
        "choice": "multiple" if multi_label else "single",
        "layout": "inline" if len(scheme.labels) <= INLINE_CLASSES else "vertical",
    }
    if not multi_label:
        attributes |= {"required": "true", "requiredMessage": "Choose the class first."}
    control = ElementTree.SubElement(view, "Choices", attributes)
    for position, label in enumerate(scheme.labels):
        attributes = {"value": label.name}
        if position < len(HOTKEYS):
            attributes["hotkey"] = HOTKEYS[position]
        ElementTree.SubElement(control, "Choice", attributes)
