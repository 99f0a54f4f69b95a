"""What the paths below rawdata say: which are pictures, which are masks, which name a class.

Pure functions on paths (`/` between parts, relative to rawdata). Three arrangements are known,
at any depth:

    <class>/x.jpg                       a folder per class
    imagesTr/x_0000.png labelsTr/x.png  pairs; also imagesTs, and images/ with masks/ or labels/
    anything else                       a plain tree of pictures
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imaging.io.casesheet import CaseSheet
from imaging.task import Kind
from services.ingest.names import composed, stem_of

IMAGE_FOLDERS = {"imagestr": "tr", "imagests": "ts", "images": ""}
MASK_FOLDERS = {"labelstr": "tr", "labelsts": "ts", "labels": "", "masks": ""}
# Folders that name no class: other people's splits, and a place for what nobody labelled yet.
NEUTRAL_FOLDERS = frozenset(
    {*IMAGE_FOLDERS, "train", "training", "val", "validation", "test", "testing",
     "unlabelled", "unlabeled"}
)  # fmt: skip
MAX_CLASS_FOLDERS = 50  # more folders than this are patients or dates, not classes
TEST_FOLDERS = frozenset({"imagests", "labelsts"})
CHANNEL_0 = "_0000"  # nnU-Net's suffix of the first, for pictures only, channel


@dataclass(frozen=True, slots=True)
class Place:
    """What a path says about its file in a segmentation task."""

    is_mask: bool
    pair: str | None  # equal for a picture and its mask, but for CHANNEL_0; None = no pairs here


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a whole tree seems to be."""

    kind: Kind
    classes: tuple[str, ...]  # classification: the names, sorted
    masks: tuple[str, ...]  # segmentation: the paths of masks
    multi_label: bool
    because: str  # a sentence for people


def place_of(path: str) -> Place:
    """Whether a path is a picture or a mask, and the key that pairs the two."""
    *folders, name = composed(path).split("/")
    stem = stem_of(name)
    for at, folder in enumerate(folders):
        low = folder.lower()
        family = IMAGE_FOLDERS.get(low, MASK_FOLDERS.get(low))
        if family is not None:
            pair = "/".join([*folders[:at], f"<{family}>", *folders[at + 1 :], stem])
            return Place(is_mask=low in MASK_FOLDERS, pair=pair)
    return Place(is_mask=False, pair=None)


def is_contest_input(path: str) -> bool:
    """Whether a file is one of a challenge's test cases (or their truth): never a case of volumes.

    Nobody labels them, no model trains on them; `labloop submit` reads them where they lie.
    """
    return any(folder.lower() in TEST_FOLDERS for folder in path.split("/")[:-1])


def class_folder(path: str) -> str | None:
    """The first folder that names a class, or None for a picture nobody labelled."""
    folders = composed(path).split("/")[:-1]
    return next((folder for folder in folders if folder.lower() not in NEUTRAL_FOLDERS), None)


def arrangement(
    paths: Sequence[str], sheet: CaseSheet | None, *, what: str = "pictures", least: int = 1
) -> Arrangement:
    """What a task is, by the paths of the image files in its rawdata and its cases.csv.

    Args:
        paths: the files.
        sheet: cases.csv.
        what: what they are called in the sentence.
        least: how many of them a class folder holds at least.
    """
    masks = tuple(path for path in paths if place_of(path).is_mask)
    if masks and len(masks) < len(paths):
        because = f"{len(masks)} masks lie beside {len(paths) - len(masks)} {what}"
        return Arrangement("segmentation", (), masks, False, because)
    if sheet is not None and sheet.label_names:
        names = tuple(sorted({composed(name) for name in sheet.label_names}))
        because = f"cases.csv labels {what} with {len(names)} names"
        return Arrangement("classification", names, (), sheet.is_multi_label, because)
    classes = _class_folders(paths, least)
    if classes:
        because = f"{what} lie in {len(classes)} folders, one for each class"
        return Arrangement("classification", classes, (), False, because)
    because = f"{what} came without labels; outlining one structure was assumed"
    return Arrangement("segmentation", (), (), False, because)


def _class_folders(paths: Iterable[str], least: int) -> tuple[str, ...]:
    """The class names, if every folder is one: two or more, none inside another, none too empty."""
    names: Counter[str] = Counter()
    for path in paths:
        parts = composed(path).split("/")[:-1]
        folders = [part for part in parts if part.lower() not in NEUTRAL_FOLDERS]
        if len(folders) > 1:
            return ()
        names.update(folders)
    is_likely = 2 <= len(names) <= MAX_CLASS_FOLDERS and min(names.values()) >= least
    return tuple(sorted(names)) if is_likely else ()
