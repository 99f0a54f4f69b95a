"""One log format for every process: one event, one line, UTC."""

import logging
import sys
import time

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


def start_logging(level: str = "INFO") -> None:
    """Send log lines to stderr, where both runners collect them."""
    formatter = logging.Formatter(FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # httpx logs every request at info; an admin wants to read events, not polls.
    logging.getLogger("httpx").setLevel(logging.WARNING)
