"""Loads a champion for serving: checked, compiled for the lanes, and warm."""

from pathlib import Path

import numpy as np

from imaging.model.predict import Predictor, load_predictor


class Loader:
    """Loads bundles for a number of lanes.

    Each lane computes one picture on one core: more pictures per second than all cores on each
    picture in turn, and no picture waits for its neighbour in a batch.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes

    def __call__(self, folder: Path) -> Predictor:
        """A bundle after a first prediction.

        Raises:
            BundleError: the bundle is absent, changed or unusable.
        """
        predictor = load_predictor(folder, threads=self._lanes, streams=self._lanes)
        height, width = predictor.bundle.recipe.input_HW
        predictor.predict([np.zeros((height, width), dtype=np.uint8)])
        return predictor
