"""The errors of the back end.

BackendError
├── BadCallError     a request's body is not what Label Studio sends; answered with 400
├── BusyError        too many pictures wait already; answered with 503
├── NoCaseError      a task names no case of ours, or reaches outside the folder it may read
├── WrongKindError   the model is made for pictures and the case is a volume, or the reverse
└── TooMuchError     an answer is larger than an editor can open

What goes wrong inside one task of a batch leaves that task without a prediction, never the batch.
"""


class BackendError(Exception):
    """Root of the tree."""

    hint = ""


class BadCallError(BackendError):
    """The body of a request cannot be understood."""

    hint = "The ML routes are for Label Studio 1.23; see ml_backend/README.md."


class BusyError(BackendError):
    """The queue is full."""

    hint = "Ask again in a few seconds, with fewer tasks in one call."


class NoCaseError(BackendError):
    """A task's data do not lead to a case of its task folder."""

    hint = "Tasks are made by ingest; one made by hand must name a picture under cases/."


class WrongKindError(BackendError):
    """A model for pictures is asked about a volume, or the reverse."""

    hint = "task.yaml says with `modality` which of the two its task is about; train again."


class TooMuchError(BackendError):
    """A model drew more than Label Studio's editor can open."""

    hint = "An early model draws noise; label more cases, or roll back with `labloop rollback`."
