"""`python -m ml_backend`: serves until SIGTERM; with `--once`, pushes what is missing and exits."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from imaging.errors import NasGoneError
from ml_backend.lanes import cores
from ml_backend.load import Loader
from ml_backend.service import Service
from ml_backend.settings import BackendSettings
from stack.runtime.label_studio import LabelStudioError
from stack.runtime.log import start_logging
from stack.runtime.settings import SettingsError

log = logging.getLogger("ml_backend")

# Python lets a thread hold the interpreter for 5 ms before another may ask for it. /health needs
# it several times over, and competes with every lane.
SWITCH_INTERVAL_S = 0.001
# How long Label Studio's connections may idle; it opens a new one for each call anyway.
KEEP_ALIVE_S = 30
# Requests under way when SIGTERM comes. The runner kills after 30 s.
GRACE_S = 15


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ml_backend", description=__doc__)
    parser.add_argument("--once", action="store_true", help="push what is missing, then exit")
    options = parser.parse_args(arguments)
    try:
        settings = BackendSettings.from_env(os.environ)
    except SettingsError as error:
        start_logging()
        log.error("settings: %s %s", error, error.hint)
        return 2
    start_logging(settings.log_level)
    service = Service(settings, Loader(settings.threads or cores()))
    if options.once:
        return push_once(service)
    serve(service, settings)
    return 0


def push_once(service: Service) -> int:
    try:
        service.once()
    except (LabelStudioError, NasGoneError) as error:
        log.error("nothing more was pushed: %s %s", error, error.hint)
        return 1
    return 0


def serve(service: Service, settings: BackendSettings) -> None:
    """Answer requests until SIGTERM or SIGINT; those under way are finished."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    server = uvicorn.Server(
        uvicorn.Config(
            service.app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="off",
            server_header=False,
        )
    )
    # uvicorn raises the signal again once it is done; stopping when asked is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _nothing_more)
    service.start()
    try:
        asyncio.run(_serve(server, service))
    finally:
        service.stop()
    log.info("stopped")


async def _serve(server: uvicorn.Server, service: Service) -> None:
    beating = asyncio.create_task(service.beat())
    try:
        await server.serve()
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


def _nothing_more(_number: int, _frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
