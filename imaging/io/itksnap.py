"""The label description that ITK-SNAP reads: names and colours of a label scheme.

Source: the header that ITK-SNAP itself writes (Segmentation > Export Label Descriptions).
"""

from imaging.labels import LabelScheme

HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


def label_description(scheme: LabelScheme) -> str:
    """The text of a label description file; ITK-SNAP opens it beside a label map."""
    lines = [_line(0, (0, 0, 0), 0, "Clear Label")]
    lines += [_line(label.index, label.rgb, 1, label.name) for label in scheme.labels]
    return HEAD + "".join(lines)


def _line(index: int, rgb: tuple[int, int, int], seen: int, name: str) -> str:
    red, green, blue = rgb
    quoted = name.replace('"', "'")
    return f'{index:5d} {red:5d} {green:4d} {blue:4d} {seen:8d} {seen:2d} {seen:2d}    "{quoted}"\n'
