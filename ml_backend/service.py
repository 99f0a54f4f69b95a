"""The service's parts, put together: lanes, the follower of champions, the pusher, heartbeat."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette

from imaging.errors import NasGoneError
from imaging.layout import Nas
from imaging.registry import versions
from ml_backend.app import Backend, create_app
from ml_backend.champion import Champions
from ml_backend.lanes import Lanes, cores
from ml_backend.model import Load
from ml_backend.pictures import Pictures
from ml_backend.push import Pusher, Shelf
from ml_backend.settings import BackendSettings
from stack.runtime.heartbeat import Heartbeat
from stack.runtime.label_studio import LabelStudio, LabelStudioError

log = logging.getLogger(__name__)

BEAT_S = 1.0
STALE_S = 60.0  # the pointers were not looked at for so long: a hung share, or a very slow load
BURST_S = 0.5  # tasks arrive in bursts; one round for all of them
# A look at an idle project costs Label Studio some 0.1 s; so looking takes 5 % of its time at most.
REST_PER_ROUND = 20.0
LONGEST_REST_S = 300.0


class Service:
    """Owns every thread but the event loop's."""

    def __init__(self, settings: BackendSettings, load: Load) -> None:
        nas = Nas(settings.nas_root)
        self._settings = settings
        self._heartbeat = Heartbeat(settings.heartbeat_file)
        self._api = LabelStudio(settings.label_studio_url, settings.label_studio_token)
        self.champions = Champions(nas, load)
        # One lane more than the model computes pictures at a time: it decodes the next picture, or
        # codes the last answer, while every core has a network to compute. Worth 7 %.
        self.lanes = Lanes((settings.threads or cores()) + 1, settings.max_batch)
        pictures = Pictures(nas)
        shelf = Shelf(nas, self.champions, pictures, self.lanes)
        self._pusher = Pusher(shelf, self._api, settings.keep_old_s)
        self._stop = threading.Event()
        self._push_soon = threading.Event()
        self._nas_trouble = ""
        self._push_trouble = ""
        self._looked_at = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("champions", self._follow), ("push", self._push))
        ]
        backend = Backend(
            champions=self.champions,
            pictures=pictures,
            lanes=self.lanes,
            versions=lambda task: [one.version for one in versions(nas, task)],
            tasks_arrived=self._push_soon.set,
            report=self.report,
        )
        self.app: Starlette = create_app(backend, settings.token)

    def start(self) -> None:
        self.lanes.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._pusher.stop()
        self._push_soon.set()
        self.lanes.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10.0)
        self._api.close()

    def once(self) -> None:
        """Load the champions, push what is missing, and be done."""
        self.lanes.start()
        try:
            self.champions.refresh()
            self._pusher.round()
        finally:
            self.stop()

    async def beat(self) -> None:
        """The event loop's own sign of life, with the follower's troubles."""
        while True:
            with contextlib.suppress(OSError):  # a full disk: the heartbeat grows stale and says so
                self._heartbeat.beat(self.reason())
            await asyncio.sleep(BEAT_S)

    def reason(self) -> str:
        """Why the service cannot do all of its work; empty when it can."""
        silent_s = time.monotonic() - self._looked_at
        if silent_s > STALE_S:
            return f"the champion pointers were last looked at {silent_s:.0f} s ago"
        troubles = [f"{task}: {why}" for task, why in sorted(self.champions.troubles().items())]
        return "; ".join([self._nas_trouble, *troubles] if self._nas_trouble else troubles)

    def report(self) -> Mapping[str, Any]:
        """What /health of the whole says to whoever has the token."""
        serving = self.champions.all()
        return {
            "reason": self.reason(),
            "push": self._push_trouble or "ok",
            "tasks": {task: predictor.version for task, predictor in serving.items()},
            "waiting": len(self.lanes),
        }

    # --- the threads ------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._stop.is_set():
            before = self.champions.all()
            trouble = self._refresh()
            if trouble != self._nas_trouble:
                log.warning("champions: %s", trouble or "the share is back")
            self._nas_trouble, self._looked_at = trouble, time.monotonic()
            if self.champions.all() != before:
                self._push_soon.set()
            self._stop.wait(self._settings.poll_s)

    def _refresh(self) -> str:
        try:
            self.champions.refresh()
        except NasGoneError as error:
            return str(error)
        except OSError as error:
            return f"the share cannot be read: {error.strerror}"
        return ""

    def _push(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            trouble, pushed = self._round()
            if trouble != self._push_trouble:
                log.warning("predictions: %s", trouble or "pushing goes on")
            self._push_trouble = trouble
            rest_s = 0.0 if pushed else REST_PER_ROUND * (time.monotonic() - start)
            self._push_soon.wait(max(self._settings.push_every_s, min(rest_s, LONGEST_REST_S)))
            self._stop.wait(BURST_S)
            self._push_soon.clear()

    def _round(self) -> tuple[str, int]:
        """One round: what stood in its way, and how many predictions it pushed."""
        try:
            return "", self._pusher.round()
        except (LabelStudioError, NasGoneError) as error:
            return str(error), 0
        except Exception as error:  # the loop goes on with whatever comes next
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._push_trouble:
                log.exception("a round of pushing predictions failed")
            return trouble, 0
