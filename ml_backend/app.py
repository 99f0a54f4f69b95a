"""Label Studio's five routes, once for each task folder: /TaskNNN_what/health, /setup, /predict,
/webhook and /versions; and /health for the stack.

The event loop only reads, parses and passes on. Pictures are computed on the lanes, and each
request is answered as soon as its own are done.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imaging.ids import TASK_NAME
from ml_backend.answers import NO_MODEL, encoded, entry, no_entry
from ml_backend.auth import TokenRequired
from ml_backend.calls import CalledTask, PredictCall, parse_object, parse_predict
from ml_backend.champion import Champions
from ml_backend.errors import BackendError, BadCallError, BusyError
from ml_backend.lanes import Lanes, Rank, Work
from ml_backend.model import Predictor
from ml_backend.pictures import Loaded, Pictures, reason_of

log = logging.getLogger(__name__)

# An interactive call carries the task's annotations and drafts: a few MB of brush strokes.
MAX_BODY_BYTES = 64 * 2**20

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Backend:
    """What the routes work with."""

    champions: Champions
    pictures: Pictures
    lanes: Lanes
    versions: Callable[[str], Sequence[str]]  # task → its models; reads the share
    tasks_arrived: Callable[[], None]  # Label Studio has new tasks
    report: Callable[[], Mapping[str, Any]]  # for /health of the whole


def create_app(backend: Backend, token: str) -> Starlette:
    """The ASGI application; `token` is asked of every request."""
    routes = Routes(backend)
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/{task}/health", routes.task_health),
            Route("/{task}/setup", routes.setup, methods=["POST"]),
            Route("/{task}/predict", routes.predict, methods=["POST"]),
            Route("/{task}/webhook", routes.webhook, methods=["POST"]),
            Route("/{task}/versions", routes.versions, methods=["GET", "POST"]),
        ],
        middleware=[Middleware(TokenRequired, token=token)],
        exception_handlers={
            BadCallError: _refused(400),
            BusyError: _refused(503),
            HTTPException: _http_error,
        },
        max_body_size=MAX_BODY_BYTES,
    )


class Routes:
    """One method for each route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "UP", **self._backend.report()})

    async def task_health(self, request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_version": self._version(_task(request))})

    async def setup(self, request: Request) -> Response:
        """Label Studio asks before each prediction which version would answer."""
        task = _task(request)
        parse_object(await request.body())
        return JSONResponse({"model_version": self._version(task)})

    async def predict(self, request: Request) -> Response:
        task = _task(request)
        call = parse_predict(await request.body())
        # Chosen once: all tasks of a call are answered by one version.
        predictor = self._backend.champions.current(task)
        if predictor is None:
            entries = [encoded(no_entry(call.interactive))] * len(call.tasks)
        else:
            entries = await self._predicted(request, task, call, predictor)
        body = b'{"results":[' + b",".join(entries) + b"]}"
        return Response(body, media_type="application/json")

    async def webhook(self, request: Request) -> Response:
        """Events only shorten a wait: the truth is what Label Studio holds. Nothing trains here."""
        _task(request)
        event = parse_object(await request.body())
        if event.get("action") == "TASKS_CREATED":
            self._backend.tasks_arrived()
        return JSONResponse({"status": "ok"})

    async def versions(self, request: Request) -> Response:
        versions = await run_in_threadpool(self._backend.versions, _task(request))
        return JSONResponse({"versions": list(versions)})

    def _version(self, task: str) -> str:
        predictor = self._backend.champions.current(task)
        return predictor.version if predictor else NO_MODEL

    async def _predicted(
        self, request: Request, task: str, call: PredictCall, predictor: Predictor
    ) -> list[bytes]:
        futures = self._submit(task, call, predictor)
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        outcomes = await _unless_gone(request, waiting)
        entries = []
        for called, outcome in zip(call.tasks, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.warning(
                    "task %s: Label Studio task %s got no prediction: %s",
                    task, called.id, reason_of(outcome),
                )  # fmt: skip
                outcome = encoded(no_entry(call.interactive))
            entries.append(outcome)
        return entries

    def _submit(self, task: str, call: PredictCall, predictor: Predictor) -> "list[Future[bytes]]":
        rank = _rank(call)
        futures: list[Future[bytes]] = []
        try:
            for called in call.tasks:
                futures.append(
                    self._backend.lanes.submit(self._work(task, called, predictor, rank))
                )
        except BusyError:
            for future in futures:
                future.cancel()
            raise
        return futures

    def _work(self, task: str, called: CalledTask, predictor: Predictor, rank: Rank) -> Work:
        pictures = self._backend.pictures
        return Work(rank, predictor, lambda: pictures.load(task, called.data), _encoded_entry)


def _encoded_entry(predictor: Predictor, prediction: Any, loaded: Loaded) -> bytes:
    return encoded(entry(predictor, prediction, loaded))


def _rank(call: PredictCall) -> Rank:
    if call.interactive:
        return Rank.INTERACTIVE
    return Rank.OPEN if len(call.tasks) == 1 else Rank.BATCH


def _task(request: Request) -> str:
    """The task folder in the address. Whether it has a model is another question."""
    task = str(request.path_params["task"])
    if not TASK_NAME.fullmatch(task):
        raise HTTPException(404, "expected /TaskNNN_what/<route>")
    return task


async def _unless_gone(request: Request, work: "asyncio.Future[Result]") -> Result:
    """Wait for the work; if the client hangs up, cancel it: its pictures leave the queue."""
    gone = asyncio.ensure_future(_hung_up(request))
    either: set[asyncio.Future[Any]] = {work, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            raise HTTPException(499, "the client has gone")
        return work.result()
    finally:
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refused(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(_: Request, error: Exception) -> Response:
        hint = error.hint if isinstance(error, BackendError) else ""
        return JSONResponse({"error": str(error), "hint": hint}, status_code=status)

    return refuse


async def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
