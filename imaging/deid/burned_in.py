"""Text that is part of the pixels: a header's flag, and every slice looked at.

Up to 300 slices are read one by one. Of longer stacks, blocks of neighbouring slices are read as
their brightest and their darkest pixels: text on any one slice of a block mostly shows in one.
Where something is read, the slices of the block are read one by one to say where it stands.
Docs: docs/decisions/0012-airlock.md, with what is found and what is missed.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset

from imaging.deid.reader import Box, Reading, text_reader

Slice = NDArray[np.uint8]
Boxes = Mapping[int, tuple[Box, ...]]  # number of a slice → where text stands on it

LOOKS = 300  # at 80 ms of CPU time each and two at a time: 12 s of a long CT's minute
WORKERS = 2  # the cores of a small box; more would take them from the others on it
WAITING = 2 * WORKERS  # blocks held in memory
LOCATED = 48  # slices read one by one after a block was hit; then its slices are taken together
SHOWN = 4  # slices in the picture for whoever decides
# Objects that are slices of a body; others (screenshots, ultrasound, angiography) are pages with
# text more often than not, and are read one by one however many they are.
STACKS = frozenset({"CT", "MR", "PT", "NM"})
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SURE, LONG_ENOUGH, LONG = 0.5, 3, 5  # see `is_suspicious`
# Markers of orientation (R, LPH, [R]), lengths at a scale bar (10 cm), and what the reader makes
# of vessels and bones in cross section: rings and strokes.
NO_NAME = re.compile(
    r"[^\w]*(?:[LRAPHFSI]{1,3}|\d{1,4}(?:[.,]\d{1,2})?\s?(?:cm|mm|HU)?|[0OoDQCU8ilI1|]{1,3})[^\w]*",
    re.ASCII,
)
DIGITS_OF_AN_ID = 4
LEAST_ASPECT = 1.2  # three letters are longer than high; the round things in a body are not
RED = (255, 48, 48)


@dataclass(frozen=True, slots=True, eq=False)
class BurnedIn:
    """What speaks for text in the pixels of a series."""

    reason: str  # a sentence for people; never holds what was read
    boxes: Boxes
    picture: NDArray[np.uint8]  # HWC: slices on which it was seen, boxes drawn in red


def find_burned_in(
    headers: Sequence[Dataset],
    slices: Iterable[Slice],
    progress: Callable[[], None] = lambda: None,
    looks: int = LOOKS,
) -> BurnedIn | None:
    """Text burned into the pixels of a series, or None if nothing speaks for it.

    Args:
        headers: of all files of the series; one of them may stand for many frames.
        slices: uint8 `HW` (or `HWC`) as annotators will see them, in the order that the boxes are
            to count them; taken one after the other, a few are held at a time.
        progress: called after every look, some 50 ms apart.
        looks: how often to read at most where nothing is found.

    Raises:
        DeidentificationError: the text reader is not installed, so nothing can be let through.
    """
    flagged = [number for number, header in enumerate(headers) if says_burned_in(header)]
    size = _block_size(headers, looks)
    found: dict[int, tuple[Box, ...]] = {}
    pages: dict[int, Slice] = {}  # with text that was read
    flag_page: dict[int, Slice] = {}  # shown where none was read
    count = 0
    for start, block, hits in _looked_at(_blocks(slices, size), progress):
        count = start + len(block)
        found |= {start + offset: boxes for offset, boxes in hits.items()}
        for offset in sorted(hits)[: SHOWN - len(pages)]:
            pages[start + offset] = block[offset]
        if flagged and start <= flagged[len(flagged) // 2] < count:
            number = flagged[len(flagged) // 2]
            flag_page = {number: block[number - start]}
    if not flagged and not found:
        return None
    return BurnedIn(
        _reason(bool(flagged), len(found), count), found, _picture(pages or flag_page, found)
    )


def is_suspicious(reading: Reading) -> bool:
    """Whether a line that was read may be about a person.

    It is with three letters or digits that the model is sure of, or five that it is less sure of;
    a Chinese, Japanese or Korean sign counts twice. Orientation letters, lengths with their unit
    and numbers of up to three digits are none, nor is what is as high as it is wide.
    """
    text, box = reading.text.strip(), reading.box
    sides = sorted((box.bottom - box.top, box.right - box.left))
    if sides[1] < LEAST_ASPECT * sides[0]:
        return False
    digits = sum(character.isdigit() for character in text)
    if NO_NAME.fullmatch(text) and (digits < DIGITS_OF_AN_ID or text[-1:].isalpha()):
        return False
    signs = sum(2 if ord(c) >= 0x2E80 else 1 for c in text if c.isalnum())
    return signs >= LONG or (signs >= LONG_ENOUGH and reading.score >= SURE)


def says_burned_in(header: Dataset) -> bool:
    """Whether a header says itself that text is part of the pixels."""
    return str(header.get("BurnedInAnnotation", "") or "").strip().upper() == "YES"


def _block_size(headers: Sequence[Dataset], looks: int) -> int:
    """How many slices are looked at together, so that looks are not too many."""
    count = sum(_frames(header) for header in headers)
    if count <= looks or any(_is_a_page(header) for header in headers):
        return 1
    return max(3, math.ceil(2 * count / looks))  # two looks at each block


def _frames(header: Dataset) -> int:
    try:
        return max(1, int(header.get("NumberOfFrames", 1) or 1))
    except (TypeError, ValueError):
        return 1


def _is_a_page(header: Dataset) -> bool:
    kind = str(header.get("SOPClassUID", "") or "")
    return header.get("Modality", "") not in STACKS or kind.startswith(SECONDARY_CAPTURE)


def _blocks(slices: Iterable[Slice], size: int) -> Iterator[tuple[int, list[Slice]]]:
    """Runs of neighbouring slices of one shape, each with the number of its first."""
    start = 0
    block: list[Slice] = []
    for number, one in enumerate(slices):
        if block and (len(block) == size or block[0].shape != one.shape):
            yield start, block
            start, block = number, []
        block.append(one)
    if block:
        yield start, block


Looked = tuple[int, list[Slice], dict[int, tuple[Box, ...]]]


def _looked_at(
    blocks: Iterable[tuple[int, list[Slice]]], progress: Callable[[], None]
) -> Iterator[Looked]:
    """The blocks in their order, each with what was found: slice in the block → boxes."""
    waiting: deque[tuple[int, list[Slice], Future[dict[int, tuple[Box, ...]]]]] = deque()
    located = 0

    def done() -> Looked:
        nonlocal located
        start, block, future = waiting.popleft()
        hits = future.result()
        located += len(block) if hits else 0
        progress()
        return start, block, hits

    with ThreadPoolExecutor(WORKERS, "text") as pool:
        try:
            for start, block in blocks:
                if len(waiting) >= WAITING:
                    yield done()
                waiting.append((start, block, pool.submit(_look, block, located < LOCATED)))
            while waiting:
                yield done()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _look(block: list[Slice], locate: bool) -> dict[int, tuple[Box, ...]]:
    """Which slices of a block hold text, and where."""
    if len(block) == 1:
        boxes = _read(block[0])
        return {0: boxes} if boxes else {}
    stack_SHW = np.stack(block)
    together = _read(stack_SHW.max(axis=0)) + _read(stack_SHW.min(axis=0))
    if not together:
        return {}
    singly = {number: _read(one) for number, one in enumerate(block)} if locate else {}
    hits = {number: boxes for number, boxes in singly.items() if boxes}
    return hits or dict.fromkeys(range(len(block)), together)


def _read(pixels: Slice) -> tuple[Box, ...]:
    if pixels.min() == pixels.max():
        return ()
    with text_reader() as reader:
        return tuple(one.box for one in reader.read(pixels) if is_suspicious(one))


def _reason(flagged: bool, hits: int, count: int) -> str:
    said = ["the header says that text is burned in"] if flagged else []
    if hits:
        said.append(f"text was read on {hits} of {count} slices")
    elif flagged:
        said.append("none was read")
    return "; ".join(said)


def _picture(shown: Mapping[int, Slice], found: Boxes) -> NDArray[np.uint8]:
    """The slices side by side, each with its number and a red frame around what was read."""
    pages = [] if shown else [Image.new("RGB", (8, 8))]
    for number, pixels in sorted(shown.items()):
        page = Image.fromarray(pixels).convert("RGB")
        draw = ImageDraw.Draw(page)
        for box in found.get(number, ()):
            frame = (box.left - 2, box.top - 2, box.right + 1, box.bottom + 1)
            draw.rectangle(frame, outline=RED)
        pages.append(page)
    sheet = Image.new("RGB", (sum(page.width + 4 for page in pages), max(p.height for p in pages)))
    left = 0
    for page in pages:
        sheet.paste(page, (left, 0))
        left += page.width + 4
    return np.asarray(sheet)
