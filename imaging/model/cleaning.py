"""What is done to a label map after the network, as a bundle's labloop.json says it.

`imaging.model.pieces` does it, and chooses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imaging.errors import RecordError


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What is done to one label, in this order."""

    min_size_mm3: float = 0.0  # smaller pieces are removed
    pieces: int = 0  # so many of the largest stay; 0 = all
    fill_holes: bool = False  # background that a label encloses becomes the label

    def to_json(self) -> dict[str, Any]:
        return {
            "min_size_mm3": self.min_size_mm3,
            "pieces": self.pieces,
            "fill_holes": self.fill_holes,
        }

    def __str__(self) -> str:
        said = [f"pieces below {self.min_size_mm3:g} mm³ are removed"] * (self.min_size_mm3 > 0)
        said += [f"the largest {self.pieces} piece(s) stay"] * (self.pieces > 0)
        said += ["holes are filled"] * self.fill_holes
        return ", ".join(said) or "nothing"


Cleanings = Mapping[str, Cleaning]  # label name → what is done to it; others stay as they are


def parse_cleanings(record: Mapping[str, Any], *, where: str) -> dict[str, Cleaning]:
    """The cleanings in a labloop.json.

    Raises:
        RecordError: it holds something else.
    """
    try:
        return {
            str(name): Cleaning(
                min_size_mm3=float(one["min_size_mm3"]),
                pieces=int(one["pieces"]),
                fill_holes=bool(one["fill_holes"]),
            )
            for name, one in record.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{where}: {error!r} while reading postprocessing") from error
