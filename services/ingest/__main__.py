"""`python -m services.ingest`: turn dropped images into cases and tasks until told to stop.

With `--once`, everything that is there now is dealt with and the process ends: 0 when all of it
was, 1 when something waits for a person or for Label Studio.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from imaging.io.picture import PictureLimits
from imaging.io.volumes import VolumeLimits
from imaging.layout import Nas, TaskFolder
from imaging.task import TaskConfig
from services.ingest.errors import SecondIngestError
from services.ingest.ledger import Ledger
from services.ingest.project import ProjectLinks, ensure_project
from services.ingest.service import Ingest, Pulse, StateLock, run, run_once
from services.ingest.settings import IngestSettings
from services.ingest.tempo import Tempo
from services.ingest.tools import Tools
from stack.runtime.events import Alarm, wants_events
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudio, ProjectRef
from stack.runtime.log import start_logging
from stack.runtime.settings import SettingsError

log = logging.getLogger("services.ingest")

# An import of 100 tasks with large masks takes Label Studio tens of seconds on a busy box; giving
# up earlier than it does would make us list the project anew. Below the health check's patience.
LABEL_STUDIO_TIMEOUT_S = 90.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.ingest", description=__doc__)
    parser.add_argument("--once", action="store_true", help="deal with what is there, then end")
    once = parser.parse_args(arguments).once
    try:
        settings = IngestSettings.from_env(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 2
    start_logging(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with StateLock(settings.state_dir):
            return _serve(settings, stop, once=once)
    except SecondIngestError as error:
        log.error("%s", error)
        return 1


def _serve(settings: IngestSettings, stop: threading.Event, *, once: bool) -> int:
    pulse = Pulse(Heartbeat(settings.heartbeat_file))
    ledger = Ledger(settings.state_dir)
    url, token = settings.label_studio_url, settings.label_studio_token
    try:
        with LabelStudio(url, token, LABEL_STUDIO_TIMEOUT_S) as client:
            ingest = Ingest(_tools(settings, ledger, client, pulse, stop, once=once), pulse)
            log.info("ingest started")
            if once:
                return 0 if run_once(ingest, settings.quiet_s, stop) else 1
            _run_with_alarm(ingest, settings, stop)
    finally:
        ledger.close()
    log.info("ingest stopped")
    return 0


def _tools(
    settings: IngestSettings,
    ledger: Ledger,
    client: LabelStudio,
    pulse: Pulse,
    stop: threading.Event,
    *,
    once: bool,
) -> Tools:
    nas = Nas(settings.nas_root)
    links = ProjectLinks(
        settings.ml_backend_url,
        settings.ml_backend_token,
        settings.webhook_url,
        settings.webhook_secret,
    )

    def ensure(task: TaskFolder, config: TaskConfig) -> ProjectRef:
        return ensure_project(client, nas, task.name, config, links)

    make_tempo = Tempo.once if once else Tempo.steady
    return Tools(
        nas=nas,
        ledger=ledger,
        client=client,
        ensure=ensure,
        pseudonym_key=settings.pseudonym_key,
        limits=PictureLimits(max_pixels=settings.max_pixels),
        tempo=make_tempo(settings.quiet_s, settings.full_scan_s),
        clock=time.monotonic,
        beat=pulse.beat,
        is_stopping=stop.is_set,
        volume_limits=VolumeLimits(max_voxels=settings.max_voxels),
    )


def _run_with_alarm(ingest: Ingest, settings: IngestSettings, stop: threading.Event) -> None:
    if not wants_events(settings.file_events, settings.nas_root):
        log.info("rawdata is polled every %g s", settings.poll_s)
        run(ingest, settings.poll_s, stop, None)
        return
    alarm = Alarm()
    alarm.start()
    try:
        run(ingest, settings.poll_s, stop, alarm)
    finally:
        alarm.stop()


if __name__ == "__main__":
    sys.exit(main())
