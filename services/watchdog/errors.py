"""The errors of the watchdog.

WatchdogError
├── TooLargeError         the answers to one task are more than may be read at once
├── SecondWatchdogError   another watchdog works with the same state folder
└── StoppedError          somebody asked the process to end; the current item is given back
"""


class WatchdogError(Exception):
    """Root of the tree."""

    hint = ""


class TooLargeError(WatchdogError):
    """The answers to one task are more than may be read at once; they stay in Label Studio."""

    hint = "Open the task in Label Studio and delete the broken region, or draw fewer."


class SecondWatchdogError(WatchdogError):
    """Two processes with one state folder would ask for every run twice."""

    hint = "Stop the other one first (`labloop status`)."


class StoppedError(WatchdogError):
    """The process is to end. What was being done is done again after the next start."""
