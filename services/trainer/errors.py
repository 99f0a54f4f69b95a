"""The errors of the trainer.

TrainerError
├── HopelessRunError      the run cannot succeed however often it is tried: it fails at once
├── LeaseLostError        another trainer has taken the run over: leave it alone
└── InterruptedRunError   the trainer was asked to stop: the run is given back
"""


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
