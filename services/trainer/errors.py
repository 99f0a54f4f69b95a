"""The errors of the trainer.

TrainerError
├── HopelessRunError      the run cannot succeed however often it is tried: it fails at once
├── LeaseLostError        another trainer has taken the run over: leave it alone
└── InterruptedRunError   the trainer was asked to stop: the run is given back
"""

import errno

from imaging.errors import os_error_beneath


class TrainerError(Exception):
    """Root of the tree."""

    hint = ""


class HopelessRunError(TrainerError):
    """The run cannot succeed, whoever tries again. The message is for people."""

    hint = "Mend what the reason names; the next labels, or `labloop train`, start a new run."


class LeaseLostError(TrainerError):
    """Another trainer works on the run by now."""


class InterruptedRunError(TrainerError):
    """The trainer is shutting down; the run goes on later from its checkpoint."""


def is_full(error: BaseException) -> bool:
    """Whether an error, or what lies beneath it, says that there is no room left."""
    beneath = os_error_beneath(error)
    return beneath is not None and beneath.errno in (errno.ENOSPC, errno.EDQUOT)
