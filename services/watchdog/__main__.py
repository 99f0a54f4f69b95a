"""`python -m services.watchdog`: land annotations and ask for runs until told to stop.

With `--once`, everything is compared once and the process ends: 0 when all could be done, 1 when
something waits for a person, for the NAS or for Label Studio.
"""

import argparse
import logging
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence

from imaging.layout import Nas
from services.watchdog.errors import SecondWatchdogError, StoppedError
from services.watchdog.loop import Pulse, StateLock, Watchdog, run
from services.watchdog.settings import WatchdogSettings
from services.watchdog.source import LabelStudioSource
from services.watchdog.wake import WebhookServer
from stack.runtime.events import Alarm, wants_events
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudio
from stack.runtime.log import start_logging
from stack.runtime.settings import SettingsError

log = logging.getLogger("services.watchdog")

LABEL_STUDIO_TIMEOUT_S = 60.0  # below the health check's patience


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.watchdog", description=__doc__)
    parser.add_argument("--once", action="store_true", help="compare everything once, then end")
    once = parser.parse_args(arguments).once
    try:
        settings = WatchdogSettings.from_env(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 2
    start_logging(settings.log_level)
    stop, wake = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        with StateLock(settings.state_dir):
            return _serve(settings, stop, wake, once=once)
    except SecondWatchdogError as error:
        log.error("%s", error)
        return 1
    except (OSError, sqlite3.Error) as error:
        # In the loop they are waited out; here it is the state folder, or the port is taken.
        log.error("the watchdog cannot start: %s", error)
        return 1


def _serve(
    settings: WatchdogSettings, stop: threading.Event, wake: threading.Event, *, once: bool
) -> int:
    url, token = settings.label_studio_url, settings.label_studio_token
    pulse = Pulse(Heartbeat(settings.heartbeat_file), stop)
    with LabelStudio(url, token, LABEL_STUDIO_TIMEOUT_S) as client:
        watchdog = Watchdog(
            Nas(settings.nas_root),
            settings.state_dir,
            LabelStudioSource(client),
            pulse,
            settings.full_scan_s,
        )
        log.info("watchdog started")
        try:
            if once:
                return _once(watchdog)
            _listen(watchdog, settings, wake)
        finally:
            watchdog.close()
    log.info("watchdog stopped")
    return 0


def _once(watchdog: Watchdog) -> int:
    try:
        return 1 if watchdog.round() else 0
    except StoppedError:
        return 0


def _listen(watchdog: Watchdog, settings: WatchdogSettings, wake: threading.Event) -> None:
    server = WebhookServer((settings.host, settings.port), settings.webhook_secret, wake)
    server.start()
    has_events = wants_events(settings.file_events, settings.nas_root)
    alarm = Alarm(wake, keeps_paths=True) if has_events else None
    if alarm is None:
        log.info("annotations and task.yaml are polled every %g s", settings.poll_s)
    try:
        if alarm is not None:
            alarm.start()
        run(watchdog, settings.poll_s, wake, alarm)
    finally:
        if alarm is not None:
            alarm.stop()
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
