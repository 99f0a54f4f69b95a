"""Predictions in Label Studio's words."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from imaging.labelstudio.results import results_from_classes, results_from_label_map
from imaging.labelstudio.stack import results_from_label_volume
from ml_backend.errors import TooMuchError
from ml_backend.model import Prediction, Predictor, VolumePrediction
from ml_backend.pictures import Loaded, Stack

NO_MODEL = "no-model-yet"  # the version that /setup names before a first champion
# Fifteen organs on a hundred slices are 2 MB; noise on as many is 20 MB for each label.
MAX_RLE_BYTES = 16 * 2**20

Entry = dict[str, Any]


def entry(predictor: Predictor, prediction: Any, loaded: Loaded) -> Entry:
    """One entry of the `results` of /predict.

    Args:
        predictor: who answered.
        prediction: a `Prediction`, or a `VolumePrediction` where a stack was loaded.
        loaded: what it is about.

    Raises:
        CodecError: the prediction does not fit the model's own labels, or the task's slices.
        TooMuchError: it is too large for an editor.
    """
    if loaded.stack is not None:
        results = stack_results(predictor, prediction, loaded.stack)
    else:
        results = results_of(predictor, prediction)
    return {
        "model_version": predictor.version,
        "score": score_of(prediction),
        "result": results,
    }


def no_entry(interactive: bool) -> Entry | Sequence[Entry]:
    """The entry of a task without a prediction.

    Label Studio 1.23.2 stores every prediction in an entry, so an empty list stores nothing. The
    editor wants a prediction even so, or shows an error: it gets one without regions.
    """
    return {"model_version": NO_MODEL, "score": 0.0, "result": []} if interactive else []


def score_of(prediction: Prediction | VolumePrediction) -> float:
    """Confidence between 0 and 1, low = asked first."""
    return round(min(max(float(prediction.score), 0.0), 1.0), 6)


def results_of(predictor: Predictor, prediction: Prediction) -> list[Entry]:
    """Regions or choices, each with its score."""
    if prediction.labels_HW is not None:
        regions = results_from_label_map(prediction.labels_HW, predictor.scheme)
        return [{"score": score_of(prediction)} | region for region in regions]
    # float32 sums to one but for its last digit, and Label Studio's scores end at 1.
    odds = {name: min(p, 1.0) for name, p in (prediction.probabilities or {}).items()}
    return results_from_classes(chosen_classes(odds, predictor.bundle.multi_label), odds)


def stack_results(predictor: Predictor, prediction: VolumePrediction, stack: Stack) -> list[Entry]:
    """A brush region for each label on each slice that the task shows, each with the score.

    Raises:
        CodecError: the prediction does not fit the model's own labels, or the task's slices.
        TooMuchError: it is too large for an editor.
    """
    regions = results_from_label_volume(
        prediction.labels_XYZ, predictor.scheme, stack.plane, stack.items
    )
    size_bytes = sum(len(region["value"]["rle"]) for region in regions)
    if size_bytes > MAX_RLE_BYTES:
        raise TooMuchError(
            f"the answer has {size_bytes >> 20} MiB of brush strokes, expected at most "
            f"{MAX_RLE_BYTES >> 20}"
        )
    return [{"score": score_of(prediction)} | region for region in regions]


def chosen_classes(odds: Mapping[str, float], several: bool) -> list[str]:
    """The classes a model answers with: the likeliest, or where several may hold all likely ones.

    `imaging.model.metrics` judges by the same rule.
    """
    if several:
        return [name for name, probability in odds.items() if probability >= 0.5]
    return [max(odds, key=odds.__getitem__)] if odds else []


def encoded(value: object) -> bytes:
    """Compact JSON; made on a lane, so that the event loop only passes bytes on."""
    return orjson.dumps(value)
