"""OpenVINO without its telemetry. Everything of Labloop that needs OpenVINO imports it here.

`import openvino` tells Google Analytics about itself unless the user has opted out in a file
under the home folder. Without the package `openvino_telemetry` it uses a stub of its own, so
that package is made not to be found: a hospital's box calls nobody.
"""

import queue
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # import then fails

import openvino  # noqa: E402  # after the line above, by intent

from imaging.errors import BundleError  # noqa: E402
from imaging.model.transforms import FloatArray  # noqa: E402


def save_openvino(network: Any, example_BCHW: Any, path: Path) -> None:
    """Write a torch module as an OpenVINO model that takes any number of pictures at once.

    Raises:
        OSError: there is no room for it.
    """
    shape = [-1, *example_BCHW.shape[1:]]
    model = openvino.convert_model(network, example_input=example_BCHW, input=shape)
    # Single precision: 6 MB for the UNet, and the answers stay equal.
    # OpenVINO notices a full disk as RuntimeError or not at all; a copy tells in time.
    with TemporaryDirectory() as local:
        openvino.save_model(model, Path(local) / path.name, compress_to_fp16=False)
        for file in Path(local).iterdir():
            shutil.copyfile(file, path.parent / file.name)


class OpenVinoModel:
    """A network's forward pass on the CPU, callable from several threads at once."""

    def __init__(self, path: Path, threads: int | None = None, streams: int | None = None) -> None:
        """Read and compile `model.xml`; its weights lie beside it as `model.bin`.

        Args:
            path: the model.
            threads: CPU threads in all; None leaves the choice to OpenVINO.
            streams: calls that are computed at the same time, each with its share of the threads.
                As many streams as threads compute a quarter more per second than one; alone, a
                call then takes a quarter longer. None: one, for the shortest single call. With
                streams, pictures are computed one by one: a graph compiled for exactly one takes
                5 % less time than one for any number, and one core gains nothing from batches.

        Raises:
            BundleError: the model cannot be read or compiled.
        """
        options: dict[str, Any] = {
            # By default a CPU with AMX computes in bfloat16: probabilities then differ from what
            # was checked and judged by up to 0.02.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if streams:
            # Threads tied to cores would wait there for a training that runs on the same box.
            options |= {"NUM_STREAMS": streams, "ENABLE_CPU_PINNING": False}
        else:
            options["PERFORMANCE_HINT"] = "LATENCY"
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._one_by_one = streams is not None
        try:
            core = openvino.Core()
            model = core.read_model(path)
            if self._one_by_one:
                _, *sides = model.input(0).partial_shape
                model.reshape([1, *(side.get_length() for side in sides)])
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise BundleError(f"{path}: OpenVINO cannot use the model: {error}") from error
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, images_BCHW: FloatArray) -> FloatArray:
        """Probabilities, BKHW or BK."""
        if not self._one_by_one:
            return self._infer(images_BCHW)
        answers = [
            self._infer(image_1CHW) for image_1CHW in np.split(images_BCHW, len(images_BCHW))
        ]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _infer(self, images_BCHW: FloatArray) -> FloatArray:
        with self._request() as request:
            request.infer({0: images_BCHW})
            # A copy: the tensor is overwritten by the request's next use.
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """A request of one's own; as many are made as threads ask at the same time."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            yield request
        finally:
            self._idle.put(request)
