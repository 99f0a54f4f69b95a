"""`LabloopModel`: a lab that already runs label-studio-ml serves our champion from there.

    gunicorn --workers 1 --threads 8 'ml_backend.adapter:app()'      label-studio-ml 1.0.9
    init_app(LabloopModel)                                            the 2.0 API

It needs NAS_ROOT and LABLOOP_TASK, and what the extra `ml-backend` installs beside
label-studio-ml; no torch. It is not a second product: no token, no queue, no pushed predictions,
and so no slices appended to the tasks of volumes, which it answers like any others. Both APIs are
told apart by their constructor, as their version numbers overlap in the wild.

1.0.9 makes a model object for each /setup and 2.0 for each request, so the weights live outside.
"""

import inspect
import logging
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import label_studio_ml.api as ml_api
from flask import Flask
from label_studio_ml.model import LabelStudioMLBase

from imaging.errors import NasGoneError
from imaging.layout import Nas
from ml_backend.answers import NO_MODEL, entry, no_entry
from ml_backend.champion import Champions
from ml_backend.lanes import check_kind, cores
from ml_backend.load import Loader
from ml_backend.model import Predictor
from ml_backend.pictures import Pictures, reason_of
from ml_backend.settings import AdapterSettings

log = logging.getLogger(__name__)

IS_V2 = "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters


class Weights:
    """The champion of one task, shared by all model objects of this process."""

    def __init__(self, settings: AdapterSettings) -> None:
        nas = Nas(settings.nas_root)
        self.task = settings.task
        self.pictures = Pictures(nas)
        self.volumes = threading.Lock()  # one at a time: the server has eight threads, not 16 GB
        self._champions = Champions(nas, Loader(cores()))
        self._loading = threading.Lock()

    def current(self) -> Predictor | None:
        """The champion's model as the pointer stands now; loading it takes about a second."""
        with self._loading:
            try:
                self._champions.refresh()
            except (NasGoneError, OSError) as error:
                log.warning("champions: %s", type(error).__name__)
        return self._champions.current(self.task)


@cache
def weights() -> Weights:
    return Weights(AdapterSettings.from_env(os.environ))


class LabloopModel(LabelStudioMLBase):  # type: ignore[misc]  # the package has no types
    """The champion under label-studio-ml, either API."""

    def setup(self) -> None:
        """2.0 asks each new object for its version here; 1.0.9 does not know the method."""
        self.set("model_version", current_version())

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: object = None, **_: Any
    ) -> list[Any]:
        """One entry for each task, in order; an empty one where there is no prediction."""
        shared = weights()
        predictor = shared.current()
        if predictor is None:
            return [no_entry(bool(context)) for _ in tasks]
        return [_answer(shared, predictor, task, bool(context)) for task in tasks]

    def fit(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Training is the watchdog's to ask for and never starts in a request."""
        return {}


def current_version() -> str:
    predictor = weights().current()
    return predictor.version if predictor else NO_MODEL


def _answer(shared: Weights, predictor: Predictor, task: Mapping[str, Any], clicked: bool) -> Any:
    try:
        loaded = shared.pictures.load(shared.task, task.get("data") or {})
        check_kind(predictor, loaded)
        with shared.volumes if predictor.takes_volumes else nullcontext():
            return entry(predictor, predictor.predict([loaded.image])[0], loaded)
    except Exception as error:  # one bad picture must not cost the others their predictions
        log.warning("Label Studio task %s got no prediction: %s", task.get("id"), reason_of(error))
        return no_entry(clicked)


def app() -> Flask:
    """The WSGI application, with the faults of 1.0.9 that would show mended.

    There, /setup names the version INITIAL whatever the predictions say, /predict fails until
    /setup was called once in this process, and every event of Label Studio starts a process.
    """
    served: Flask
    if IS_V2:
        served = ml_api.init_app(LabloopModel)
        return served
    ml_api._manager = _versioned_manager()
    # A folder for trainings of its own, which there are none of; without one it lists the
    # working directory for them.
    served = ml_api.init_app(LabloopModel, model_dir=tempfile.mkdtemp(prefix="labloop-"))
    ml_api._manager.fetch()
    return served


def _versioned_manager() -> Any:
    """1.0.9's manager, naming our version."""
    from label_studio_ml.model import LabelStudioMLManager

    class VersionedManager(LabelStudioMLManager):  # type: ignore[misc]
        @classmethod
        def fetch(cls, *arguments: Any, **keywords: Any) -> Any:
            keywords.pop("model_version", None)  # there, the number of one of its own trainings
            wrapper = super().fetch(*arguments, **keywords)
            wrapper.model_version = current_version()
            return wrapper

        @classmethod
        def predict(cls, *arguments: Any, **keywords: Any) -> Any:
            predictions, wrapper = super().predict(*arguments, **keywords)
            wrapper.model_version = current_version()
            return predictions, wrapper

        @classmethod
        def webhook(cls, *_: Any) -> dict[str, Any]:
            return {}

    return VersionedManager()
