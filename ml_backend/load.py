"""Loads a champion for serving: checked, compiled for the lanes, and warm."""

from pathlib import Path

from imaging.model.predict import AnyPredictor, load_predictor


class Loader:
    """Loads bundles for a number of lanes.

    Each lane computes one picture on one core: more pictures per second than all cores on each
    picture in turn, and no picture waits for its neighbour in a batch.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes

    def __call__(self, folder: Path) -> AnyPredictor:
        """A bundle after a first prediction.

        Raises:
            BundleError: the bundle is absent, changed or unusable.
        """
        predictor = load_predictor(folder, threads=self._lanes, streams=self._lanes)
        predictor.warm_up()
        return predictor
