"""Whether containers get a GPU: what the engine says it can do, a real try, and what follows.

A runtime that is named in the engine's settings may still be broken, so one container is started
with the GPUs, as Compose would, and asked with nvidia-smi.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stack.engine.docker_call import Docker
from stack.engine.gpu import NVIDIA_SMI, TORCH_QUESTION, Gpu, TorchBuild, parse_gpus, parse_torch
from stack.errors import RefusedError

OVERRIDE = "gpu"  # stack/overrides/gpu.yaml
TRY_LIMIT_S = 60.0  # the first container with a GPU after a boot takes some seconds
INSTALL = (
    "Install the NVIDIA Container Toolkit, run `nvidia-ctk runtime configure --runtime=docker` and "
    "restart Docker"
)
# What the engine says → what it means and what to do.
EXPLANATIONS = (
    (
        "could not select device driver",
        "Docker does not find the NVIDIA Container Toolkit, which hands GPUs to containers",
        INSTALL,
    ),
    (
        "unknown or invalid runtime name",
        "Docker has no runtime of that name",
        INSTALL,
    ),
    (
        "driver/library version mismatch",
        "the NVIDIA driver was updated, and the old one is still loaded",
        "Restart this machine",
    ),
    (
        "driver not loaded|libnvidia-ml.so|couldn't communicate with the nvidia driver",
        "the NVIDIA driver is not loaded on this machine",
        "Install it, or load it; `nvidia-smi` must work here before it can in a container",
    ),
    (
        "unresolvable cdi devices",
        "the description of the GPUs for containers (CDI) is missing or out of date",
        "Run `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`",
    ),
    (
        'exec: "?nvidia-smi"?|executable file not found',
        "the container started without the driver's programs: the runtime did not add them",
        INSTALL,
    ),
    (
        "no such file or directory|permission denied|exec format error",
        "the runtime that Docker's settings name cannot be started",
        "Mend `runtimes` in /etc/docker/daemon.json. " + INSTALL,
    ),
    (
        "failed to initialize nvml",
        "the container sees the driver, and may not use the GPU",
        'Set "exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json, or update '
        "the toolkit",
    ),
)
UNKNOWN = ("a container with a GPU does not start", INSTALL)


@dataclass(frozen=True, slots=True)
class Sight:
    """What speaks for GPUs before anything was tried."""

    runtime: str  # "nvidia", "cdi", or empty: the engine's settings know none
    has_driver: bool  # this machine has nvidia-smi

    @property
    def is_worth_a_try(self) -> bool:
        return bool(self.runtime) or self.has_driver


@dataclass(frozen=True, slots=True)
class GpuOutcome:
    """What came of the try."""

    state: Literal["none", "works", "broken"]
    words: str  # what was found, for people
    advice: str = ""
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuDecision:
    """How the trainer runs, and why."""

    verdict: Literal["gpu", "cpu", "refused"]
    words: str
    advice: str = ""

    def check(self) -> "GpuDecision":
        """The decision, unless it is a refusal.

        Raises:
            RefusedError: a GPU was asked for or is set up, and does not work.
        """
        if self.verdict == "refused":
            raise RefusedError(self.words, hint=self.advice)
        return self


def find_nvidia_runtime(info: Mapping[str, Any], *, has_driver: bool | None = None) -> Sight:
    """What `docker info` and this machine know of NVIDIA GPUs.

    Args:
        info: the engine's answer, with `Runtimes` and, from 28.3 on, `DiscoveredDevices`.
        has_driver: whether this machine has nvidia-smi; looked up by default.
    """
    runtimes = [name for name in info.get("Runtimes") or {} if "nvidia" in name]
    devices = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
    found = (
        "nvidia" if runtimes else "cdi" if any("nvidia.com/gpu" in one for one in devices) else ""
    )
    if has_driver is None:
        has_driver = shutil.which("nvidia-smi") is not None
    return Sight(found, has_driver)


def try_gpu(docker: Docker, image: str, sight: Sight) -> GpuOutcome:
    """Start a container with all GPUs, as the trainer's will be started, and look.

    Args:
        image: any that is there; the toolkit brings nvidia-smi along.
    """
    if not sight.is_worth_a_try:
        return GpuOutcome(
            "none", "Docker knows no NVIDIA runtime, and this machine no NVIDIA driver"
        )
    words = ("run", "--rm", "--pull", "never", "--network", "none")
    gpu = ("--gpus", "all,driver=nvidia", "--entrypoint", NVIDIA_SMI[0])
    answer = docker.ask(*words, *gpu, image, *NVIDIA_SMI[1:], timeout_s=TRY_LIMIT_S)
    gpus = tuple(parse_gpus(answer.output))
    if answer.exit_code == 0 and gpus:
        return GpuOutcome("works", "a container with the GPUs starts", gpus=gpus)
    meaning, advice = explain(f"{answer.said}\n{answer.output}")
    said = " ".join(answer.said.split())[:400]
    if not sight.runtime and "could not select device driver" in said:
        found = "this machine has an NVIDIA driver, but Docker cannot hand GPUs to containers"
        return GpuOutcome("none", found, f"{INSTALL}; until then GPU=off is all there is.")
    return GpuOutcome("broken", f"{meaning}. The engine said: {said}", f"{advice}.")


def explain(said: str) -> tuple[str, str]:
    """What the engine's words mean, and what to do."""
    for pattern, meaning, advice in EXPLANATIONS:
        if re.search(pattern, said.lower()):
            return meaning, advice
    return UNKNOWN


def choose_gpu(setting: Literal["auto", "on", "off"], outcome: GpuOutcome) -> GpuDecision:
    """Whether the trainer gets the GPUs: only those that were seen to work.

    Args:
        setting: GPU in .env. With `auto`, no GPU at all means CPU; one that is set up and broken
            is refused, because trainings would quietly take days.
        outcome: of the try; not looked at when the setting is `off`.
    """
    if setting == "off":
        return GpuDecision("cpu", "trainings run on the CPU, as GPU=off says")
    if outcome.state == "works":
        names = ", ".join(dict.fromkeys(gpu.words for gpu in outcome.gpus))
        count = f"{len(outcome.gpus)} GPUs" if len(outcome.gpus) > 1 else "the GPU"
        return GpuDecision("gpu", f"trainings run on {count}: {names}")
    off = "Or set GPU=off in .env to train on the CPU."
    if outcome.state == "broken":
        words = f"Docker has an NVIDIA runtime that does not work: {outcome.words}"
        return GpuDecision("refused", words, f"{outcome.advice} {off}")
    if setting == "on":
        words = f"GPU=on, and no GPU that works: {outcome.words}"
        return GpuDecision("refused", words, f"{outcome.advice or INSTALL + '.'} {off}")
    return GpuDecision("cpu", f"trainings run on the CPU: {outcome.words}", outcome.advice)


def torch_of(docker: Docker, image: str) -> TorchBuild | None:
    """What the torch in the trainer's image was built for; None when it does not say."""
    words = ("run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "python")
    answer = docker.ask(*words, image, "-c", TORCH_QUESTION, timeout_s=TRY_LIMIT_S)
    return parse_torch(answer.output) if answer.exit_code == 0 else None
