"""The task.yaml of a task that has none: guessed from rawdata, for a person to look over."""

from collections.abc import Iterable, Sequence

from imaging.errors import PictureError, RecordError
from imaging.ids import utc_now
from imaging.io.casesheet import CaseSheet
from imaging.io.mask import MaskContent, Rgb, mask_content
from imaging.io.picture import decode_mask, decode_picture, read_file
from imaging.labels import LabelScheme, label_scheme
from imaging.layout import TaskFolder
from imaging.publish import write_text
from imaging.task import TaskConfig, dump_task
from services.ingest.description import named_labels, read_document
from services.ingest.errors import HoldError
from services.ingest.tree import Arrangement, arrangement, place_of

# Reading every mask of a large set would hold the task up; these, evenly spread, tell the labels.
MASKS_READ = 1000
MAX_INDEX = 64  # a larger value in a mask means a photograph or a blurred edge, not a label
MAX_COLORS = 20
BINARY = (255, 65535)


def infer_task(
    task: TaskFolder, pictures: Sequence[str], sheet: CaseSheet | None
) -> tuple[TaskConfig, str]:
    """What a task seems to be, and a sentence why.

    Args:
        task: the task folder.
        pictures: the picture files in rawdata, at least one; all have settled.
        sheet: its cases.csv.

    Raises:
        HoldError: there are only masks, or the names found cannot be labels.
    """
    if all(place_of(path).is_mask for path in pictures):
        raise HoldError("no task.yaml yet: only masks have come, their pictures are waited for")
    found = arrangement(pictures, sheet)
    try:
        scheme = label_scheme(found.classes) if found.classes else _structures(task, found)
    except RecordError as error:
        raise HoldError(f"no task.yaml, and none can be guessed: {error}") from error
    title = what_of(task).replace("_", " ")
    config = TaskConfig(found.kind, scheme, title=title, multi_label=found.multi_label)
    return config, found.because


def begins_well(task: TaskFolder, pictures: Sequence[str]) -> bool:
    """Whether one picture at least can be decoded.

    A task is not guessed from files that are about to be refused.
    """
    return any(_decodes(task, path) for path in pictures)


def write_inferred(task: TaskFolder, config: TaskConfig, because: str) -> bool:
    """Write task.yaml, unless somebody else has meanwhile; whether it was written."""
    if task.config.exists():
        return False
    text = (
        f"# Guessed by ingest at {utc_now()}: {because}.\n"
        "# Please look over `kind`, `modality` and `labels` now: cases are labelled by them.\n\n"
    )
    write_text(task.config, text + dump_task(config))
    return True


def scheme_of_masks(contents: Iterable[MaskContent], what: str) -> LabelScheme:
    """The labels that masks show, when nobody has named them.

    Indices give `label 1` to the largest, colours one label each; a mask of one structure takes
    the name of the task. Contents that cannot be labels are left to be refused later.
    """
    top = 0
    colors: set[Rgb] = set()
    for content in contents:
        highest = max(content.values, default=0)
        if highest <= MAX_INDEX:
            top = max(top, highest)
        elif highest in BINARY and set(content.values) <= {0, highest}:
            top = max(top, 1)
        if 0 < len(content.colors) <= MAX_COLORS + 1:
            colors.update(content.colors)
    colors.discard((0, 0, 0))
    if top <= 1 and 0 < len(colors) <= MAX_COLORS:
        shades = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in sorted(colors)]
        names = [f"label {number}" for number in range(1, len(shades) + 1)]
        return label_scheme(names if len(names) > 1 else [what], shades)
    return label_scheme([f"label {number}" for number in range(1, top + 1)] if top > 1 else [what])


def _structures(task: TaskFolder, found: Arrangement) -> LabelScheme:
    names = named_labels(read_document(task)) if found.masks else ()
    if names:
        return label_scheme(names)
    step = max(1, len(found.masks) // MASKS_READ)
    return scheme_of_masks(_contents(task, found.masks[::step]), what_of(task))


def _contents(task: TaskFolder, paths: Iterable[str]) -> Iterable[MaskContent]:
    for path in paths:
        try:
            yield mask_content(decode_mask(read_file(task.rawdata / path)))
        except (PictureError, OSError):
            continue  # it will be met again, and refused, when its turn comes


def _decodes(task: TaskFolder, path: str) -> bool:
    try:
        decode_picture(read_file(task.rawdata / path))
    except (PictureError, OSError):
        return False
    return True


def what_of(task: TaskFolder) -> str:
    """`kidneycancer` of `Task001_kidneycancer`."""
    return task.name.partition("_")[2]
