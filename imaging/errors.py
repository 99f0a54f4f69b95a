"""The errors of the imaging core.

ImagingError
├── RecordError              a JSON or YAML file does not hold what it should
│   └── TaskConfigError      … and it is somebody's task.yaml
├── UnsafeNameError          a task, case or version name cannot be used
├── NasGoneError             the marker file is absent: the NAS is not mounted
├── IncompleteFolderError    a staging folder without its manifest
├── AlreadyPublishedError    the final folder is there already
├── CorruptFolderError       a published folder no longer matches its manifest
├── PictureError             a picture cannot be read, or must not be
│   └── VolumeError          … and it is a volume
├── DeidentificationError    a series cannot be checked for what names a person
├── QuarantineError          a decision about a quarantined series cannot be written
├── GridMismatchError        two arrays do not share one grid
├── CodecError               an annotation result cannot be decoded
├── SnapshotError            a snapshot cannot be frozen or fails its checks
├── RecipeError              a recipe names something unknown or impossible
├── ScoreError               scores cannot be computed, or not be compared
├── BundleError              a model bundle cannot be written, read or trusted
├── RegistryError            promotion or roll-back cannot be done
├── ExportError              cases cannot be written as another tool wants them
└── SubmissionError          label maps must not be handed in to a challenge

The message says what was found and what was expected; `hint` says what to do next.
`os_error_beneath` tells a file that is wrong from a share that was not there to be read;
`shown` quotes what was found.
"""

import reprlib
from collections.abc import Sequence
from pathlib import Path

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 60, 60


class ImagingError(Exception):
    """Root of the tree: something about the data is not as it must be."""

    hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


def os_error_beneath(error: BaseException) -> OSError | None:
    """The operating system's error that another one was raised from, or which it is itself.

    "Stale file handle" while a record is read says nothing about the record: the same file may
    be perfectly readable in a minute.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__
    return None


def shown(found: object) -> str:
    """What was found, as a message may quote it: short, whatever it is.

    A few lines of YAML can stand for a list of a billion names, which must not be written out.
    """
    try:
        return f"{_BRIEF.repr(found):.200}"
    except ValueError:  # Python does not print whole numbers of more than 4300 digits
        return f"a {type(found).__name__} too large to show"


class RecordError(ImagingError):
    """A JSON or YAML file does not hold what it should."""

    hint = "Restore the file from a backup, or remove it and let Labloop write it anew."


class TaskConfigError(RecordError):
    """A task.yaml is not usable. The message lists every problem found in it."""

    hint = "Correct it (docs/data-format.md explains each key); `labloop task check` tests it."

    def __init__(self, where: str, problems: list[str]) -> None:
        super().__init__(f"{where}: " + "; ".join(problems))
        self.problems = problems


class UnsafeNameError(ImagingError):
    """A name from outside cannot become part of a path."""

    hint = "Use letters, digits, '-' and '_' only; a task is called TaskNNN_what."


class NasGoneError(ImagingError):
    """The marker file is absent, so the NAS is not mounted here."""

    hint = "Mount the NAS again. Work goes on by itself once the marker is back."

    def __init__(self, root: Path) -> None:
        super().__init__(f"no marker file .labloop in {root}: the NAS is not mounted")
        self.root = root


class IncompleteFolderError(ImagingError):
    """A staging folder has no manifest, so its writer was not done."""

    hint = "Delete the .staging folder; the work is repeated."

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} has no manifest.json; expected a finished folder")


class AlreadyPublishedError(ImagingError):
    """The final folder exists; published folders are never edited."""

    hint = "Use a new identifier, or keep what is there."

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} exists already")


class CorruptFolderError(ImagingError):
    """Files of a published folder no longer match the hashes in its manifest."""

    hint = "Restore the folder from a backup; do not train on it or serve it."


class PictureError(ImagingError):
    """A picture cannot be read, or must not be. The reason is meant for whoever dropped it."""

    hint = "Export the picture again as PNG, JPEG or TIFF and drop it in rawdata."

    def __init__(self, message: str, *, reason: str = "broken", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason  # a keyword: services/ingest/README.md lists them


class VolumeError(PictureError):
    """A volume cannot be read, or must not be. The reason is meant for whoever dropped it."""

    hint = "Export the series again, whole and as it came from the scanner, and drop it in rawdata."


class DeidentificationError(ImagingError):
    """A series cannot be de-identified or checked, so it must not go on."""

    hint = "Install rapidocr and openvino in ingest's environment; `make setup` does it."


class QuarantineError(ImagingError):
    """A decision about a quarantined series cannot be written."""

    hint = "`labloop release TASK` lists what waits."


class GridMismatchError(ImagingError):
    """A label map and its image do not share one grid."""

    hint = "Re-export the annotation, or drop the case from the snapshot."

    def __init__(self, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
        super().__init__(f"label map has shape {found}, its image has {expected}")
        self.expected, self.found = expected, found


class CodecError(ImagingError):
    """An annotation result is malformed, or claims more than it may."""

    hint = "Open the task in Label Studio, delete the broken region and submit again."


class SnapshotError(ImagingError):
    """A snapshot cannot be frozen, or one on disk fails its checks."""

    hint = "The message names the cases; mend or remove their annotations."


class RecipeError(ImagingError):
    """A recipe names something unknown, or asks for the impossible."""

    hint = "See docs/train.md for the recipes and their settings."


class ScoreError(ImagingError):
    """Scores cannot be computed, or two models' scores cannot be compared."""

    hint = "Evaluate both models again on one snapshot; the message says what does not fit."


class BundleError(ImagingError):
    """A model bundle cannot be written, read or trusted."""

    hint = "Train again, or roll back to an earlier version with `labloop rollback`."


class RegistryError(ImagingError):
    """A promotion or roll-back cannot be done."""

    hint = "`labloop models TASK` lists the versions there are."


class ExportError(ImagingError):
    """The cases of a snapshot cannot be written as another tool wants them."""

    hint = "docs/contest.md says what each format can hold."


class SubmissionError(ImagingError):
    """Label maps must not be handed in to a challenge. The message lists every reason."""

    hint = "docs/contest.md says what is checked, and why."

    def __init__(self, where: str, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n  ".join([f"{where}:", *problems]), hint=hint)
        self.problems = tuple(problems)
