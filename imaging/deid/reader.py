"""Reading text in pictures: RapidOCR's models on OpenVINO, as they come with the package.

The import takes a second and is left until text is looked for; without the package everything
else of Labloop works. Nothing is ever downloaded: the models are named by their files.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DeidentificationError

# As the package's wheel has them (PP-OCRv6, small: digits, Latin, Chinese, Japanese).
FIND, READ, TURN = (
    "PP-OCRv6_det_small.onnx",
    "PP-OCRv6_rec_small.onnx",
    "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
)
# The shorter side that a picture is brought to at least. At 736, the default, 10 px letters are
# found no more often, and it takes more than twice as long (docs/decisions/0012-airlock.md).
SIDE = 512
LONGEST_ASPECT = 4  # of a picture; a strip of 3 × 700 pixels would be enlarged to 60 million
# Weak findings are wanted too: `is_suspicious` in burned_in.py decides. Defaults: 0.5 and 0.5.
LEAST_BOX_SCORE = LEAST_TEXT_SCORE = 0.3


class Box(NamedTuple):
    """Pixels of a slice, the last row and column not among them."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A line of text that was seen. The text itself is never stored or logged."""

    text: str
    score: float  # 0 to 1, the model's
    box: Box


class TextReader:
    """One engine, for one thread: it keeps its own input and output in memory."""

    def __init__(self) -> None:
        """Load the models; about half a second.

        Raises:
            DeidentificationError: the package or its models are not installed.
        """
        try:
            import rapidocr
            from rapidocr import EngineType
        except ImportError as error:
            raise DeidentificationError(f"rapidocr cannot be imported: {error}") from error
        folder = Path(rapidocr.__file__).parent / "models"
        missing = [name for name in (FIND, READ, TURN) if not (folder / name).is_file()]
        if missing:
            raise DeidentificationError(f"{folder} lacks {', '.join(missing)}")
        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        parameters: dict[str, Any] = {
            "Global.log_level": "critical",
            "Global.text_score": LEAST_TEXT_SCORE,
            "Global.use_cls": False,  # text that stands on its head is read by nobody
            "EngineConfig.openvino.inference_num_threads": 1,
            "Det.limit_side_len": SIDE,
            "Det.box_thresh": LEAST_BOX_SCORE,
        }
        for stage, name in (("Det", FIND), ("Rec", READ), ("Cls", TURN)):
            parameters[f"{stage}.engine_type"] = EngineType.OPENVINO
            parameters[f"{stage}.model_path"] = str(folder / name)  # named = not looked up online
        self._engine: Any = rapidocr.RapidOCR(params=parameters)

    def read(self, pixels: NDArray[np.uint8]) -> list[Reading]:
        """Lines of text in a picture: uint8, `HW` or `HWC` with three colours."""
        height, width = pixels.shape[:2]
        colours = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        found = self._engine(np.ascontiguousarray(_not_too_long(colours)))
        if found.boxes is None or found.txts is None:
            return []
        readings = []
        for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
            xs, ys = np.asarray(corners).T
            box = Box(
                max(0, int(ys.min())),
                max(0, int(xs.min())),
                min(height, int(np.ceil(ys.max())) + 1),
                min(width, int(np.ceil(xs.max())) + 1),
            )
            readings.append(Reading(str(text), float(score), box))
        return readings


_idle: list[TextReader] = []  # those of earlier calls; a few hundred MB in all


@contextmanager
def text_reader() -> Iterator[TextReader]:
    """A reader for one thread at a time, made when there is none idle.

    Raises:
        DeidentificationError: the package or its models are not installed.
    """
    try:
        reader = _idle.pop()  # atomic: no two threads get the same
    except IndexError:
        reader = TextReader()
    try:
        yield reader
    finally:
        _idle.append(reader)


def _not_too_long(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A strip with black beside it: the shorter side is enlarged to `SIDE`, the other with it."""
    height, width = colours.shape[:2]
    more = [
        max(0, math.ceil(other / LONGEST_ASPECT) - own)
        for own, other in ((height, width), (width, height))
    ]
    return np.pad(colours, ((0, more[0]), (0, more[1]), (0, 0))) if any(more) else colours
