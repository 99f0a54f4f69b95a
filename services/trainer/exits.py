"""How an attempt's process tells its parent what came of it, by its exit code."""

from typing import Final

DONE: Final = 0  # the verdict is written
CRASHED: Final = 1  # may go better the next time; the run's state says what was wrong
HOPELESS: Final = 3  # the run has failed, and its state says why
PAUSED: Final = 74  # the share is full or gone
GIVEN_BACK: Final = 75  # asked to stop, or the lease was lost
