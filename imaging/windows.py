"""Windows: which values are shown black and white, and the names radiologists have for them."""

import re
from dataclasses import dataclass

AUTO = "auto"
SOFT_TISSUE = "soft-tissue"
SPACES = re.compile(r"[\s_]+")
NUMBERS = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Window:
    """The value shown black, the one shown white, and a word on where they are from."""

    low: float
    high: float
    name: str = ""


def ct_window(centre: float, width: float, name: str = "") -> Window:
    """A window as radiologists give it, in HU."""
    return Window(centre - width / 2, centre + width / 2, name or f"{centre:g}/{width:g}")


# Centre and width in HU: the usual settings, which differ a little from book to book.
# Source: radiopaedia.org/articles/windowing-ct.
CT_PRESETS = {
    name: ct_window(centre, width, name)
    for name, (centre, width) in {
        SOFT_TISSUE: (40, 400),
        "abdomen": (40, 400),
        "angio": (300, 600),
        "bone": (400, 1800),
        "brain": (40, 80),
        "liver": (60, 160),
        "lung": (-600, 1500),
        "mediastinum": (50, 350),
        "spine": (50, 250),
        "stroke": (35, 40),
        "subdural": (75, 215),
    }.items()
}
SPELLINGS = "auto, centre/width such as 40/400, or one of " + ", ".join(sorted(CT_PRESETS))


def window_named(text: str) -> Window | None:
    """The window that a preset's name, or "centre/width", means; None for anything else."""
    name = SPACES.sub("-", text.strip().lower())
    if name in CT_PRESETS:
        return CT_PRESETS[name]
    if (match := NUMBERS.fullmatch(text)) and float(match[2]) > 0:
        return ct_window(float(match[1]), float(match[2]))
    return None
