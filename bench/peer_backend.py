"""What a lab would write from Label Studio's examples: the back end that `bench/serving.py` meets.

A Flask application under gunicorn, one worker and eight threads, as label-studio-ml-backend's own
Dockerfile starts it: the picture comes over HTTP, Pillow decodes it, torch computes it eagerly and
the SDK codes the masks. Network and weights are those of the bundle. What label-studio-ml itself
adds (a new model object for each request) is left out in its favour.
"""

import io
import os
from pathlib import Path
from typing import Any

import flask
import httpx
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bench.codec import sdk_brush
from imaging.model.bundle import WEIGHTS, Bundle, read_bundle
from imaging.model.network import build_network

Pixels = npt.NDArray[np.uint8]


class Peer:
    """The model, loaded once."""

    def __init__(self, folder: Path, pictures_url: str) -> None:
        self.bundle: Bundle = read_bundle(folder)
        self.network = build_network(self.bundle.recipe).eval()
        self.network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
        self.brush = sdk_brush()
        self.http = httpx.Client(base_url=pictures_url)

    def fetch(self, address: str) -> bytes:
        return self.http.get(address).content

    def decode(self, data: bytes) -> Pixels:
        return np.asarray(Image.open(io.BytesIO(data)).convert("L"))

    def prepare(self, pixels: Pixels) -> torch.Tensor:
        low, high = np.percentile(pixels, [1, 99])
        image_HW = np.clip((pixels.astype(np.float32) - low) / (high - low), 0, 1)
        return torch.from_numpy(image_HW.astype(np.float32))[None, None]

    def compute(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.softmax(self.network(image_BCHW), dim=1)

    def labels(self, probabilities_BKHW: torch.Tensor) -> Pixels:
        return probabilities_BKHW[0].numpy().argmax(0).astype(np.uint8)

    def regions(self, labels_HW: Pixels) -> list[dict[str, Any]]:
        height, width = labels_HW.shape
        return [
            {
                "from_name": "label",
                "to_name": "image",
                "type": "brushlabels",
                "original_width": width,
                "original_height": height,
                "value": {
                    "format": "rle",
                    "rle": self.brush.mask2rle((labels_HW == label.index).astype(np.uint8) * 255),
                    "brushlabels": [label.name],
                },
            }
            for label in self.bundle.scheme.labels
        ]

    def answer(self, address: str) -> dict[str, Any]:
        probabilities = self.compute(self.prepare(self.decode(self.fetch(address))))
        score = float(probabilities.numpy().max(1).mean())
        result = self.regions(self.labels(probabilities))
        return {"model_version": self.bundle.version, "score": score, "result": result}


def create_app() -> flask.Flask:
    """The application gunicorn serves; its two settings come from the benchmark."""
    peer = Peer(Path(os.environ["PEER_BUNDLE"]), os.environ["PEER_PICTURES_URL"])
    app = flask.Flask(__name__)

    @app.get("/health")
    def health() -> flask.Response:
        return flask.jsonify({"status": "UP"})

    @app.post("/setup")
    def setup() -> flask.Response:
        return flask.jsonify({"model_version": peer.bundle.version})

    @app.post("/predict")
    def predict() -> flask.Response:
        tasks = flask.request.get_json()["tasks"]
        return flask.jsonify({"results": [peer.answer(task["data"]["image"]) for task in tasks]})

    return app
