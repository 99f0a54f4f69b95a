"""`python -m services.trainer`: claim run requests and work on them until told to stop.

With `--once`, every waiting run is dealt with and the process ends: 0 when all are over, 1 when
one could not be.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from services.trainer.service import Trainer
from services.trainer.settings import TrainerSettings, let_threads_sleep
from stack.runtime.log import start_logging
from stack.runtime.settings import SettingsError

log = logging.getLogger("services.trainer")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.trainer", description=__doc__)
    parser.add_argument("--once", action="store_true", help="do the waiting runs, then end")
    once = parser.parse_args(arguments).once
    try:
        settings = TrainerSettings.from_env(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 2
    let_threads_sleep(os.environ)
    start_logging(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    trainer = Trainer(settings, stop)
    log.info("trainer started")
    if once:
        return 0 if trainer.run_once() else 1
    trainer.run()
    log.info("trainer stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
