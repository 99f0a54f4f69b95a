"""What the engine says about GPUs, and what follows. Its words are those of engine 26.1."""

from pathlib import Path

import pytest

from stack.engine.gpu import Gpu
from stack.engine.gpu_runtime import (
    GpuOutcome,
    Sight,
    choose_gpu,
    explain,
    find_nvidia_runtime,
    torch_of,
    try_gpu,
)
from stack.errors import RefusedError
from tests.stack.engine.programs import calls, fake_docker

NO_DRIVER = (
    'docker: Error response from daemon: could not select device driver "nvidia" with '
    "capabilities: [[gpu]]."
)
SEEN = Sight("nvidia", has_driver=False)
WORKS = GpuOutcome("works", "", gpus=(Gpu("NVIDIA H200", (9, 0), "143771 MiB", "580.95.05"),))


def test_a_runtime_is_found_in_what_the_engine_says_of_itself() -> None:
    def found(info: dict[str, object]) -> str:
        return find_nvidia_runtime(info, has_driver=False).runtime

    assert found({"Runtimes": {"runc": {}, "nvidia": {"path": "x"}}}) == "nvidia"
    assert found({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}) == "cdi"
    assert found({"Runtimes": {"runc": {}}, "DiscoveredDevices": None}) == ""


def test_without_a_runtime_and_a_driver_nothing_is_tried(tmp_path: Path) -> None:
    docker = fake_docker(tmp_path, "exit 1")
    assert try_gpu(docker, "image", Sight("", has_driver=False)).state == "none"
    assert calls(tmp_path) == []


def test_a_container_that_shows_its_gpu_works(tmp_path: Path) -> None:
    docker = fake_docker(tmp_path, "echo 'NVIDIA H200, 9.0, 143771 MiB, 580.95.05'")
    outcome = try_gpu(docker, "labloop/trainer:1", SEEN)
    assert outcome.state == "works" and outcome.gpus[0].name == "NVIDIA H200"
    (call,) = calls(tmp_path)
    assert "--gpus all,driver=nvidia --entrypoint nvidia-smi labloop/trainer:1" in call
    assert "--pull never" in call and "--network none" in call


def test_a_runtime_that_is_there_and_broken_is_refused(tmp_path: Path) -> None:
    outcome = try_gpu(fake_docker(tmp_path, f"echo '{NO_DRIVER}' >&2; exit 125"), "image", SEEN)
    assert outcome.state == "broken"
    assert "could not select device driver" in outcome.words, "the engine's own words"
    decision = choose_gpu("auto", outcome)
    assert decision.verdict == "refused" and "NVIDIA Container Toolkit" in decision.advice
    with pytest.raises(RefusedError, match="does not work") as refusal:
        decision.check()
    assert "GPU=off" in refusal.value.hint and refusal.value.exit_code == 3


def test_a_driver_without_a_runtime_means_cpu_with_advice(tmp_path: Path) -> None:
    docker = fake_docker(tmp_path, f"echo '{NO_DRIVER}' >&2; exit 125")
    outcome = try_gpu(docker, "image", Sight("", has_driver=True))
    decision = choose_gpu("auto", outcome)
    assert decision.verdict == "cpu" and "cannot hand GPUs to containers" in decision.words
    assert "nvidia-ctk runtime configure" in decision.advice


def test_a_container_without_any_gpu_in_it_is_broken(tmp_path: Path) -> None:
    docker = fake_docker(tmp_path, "echo 'No devices were found'; exit 6")
    assert try_gpu(docker, "image", SEEN).state == "broken"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (NO_DRIVER, "Container Toolkit"),
        ('could not select device driver "cdi" with capabilities: [[gpu]]', "Container Toolkit"),
        ("unknown or invalid runtime name: nvidia", "no runtime of that name"),
        ("nvml error: driver/library version mismatch", "updated"),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", "not loaded"),
        ("libnvidia-ml.so.1: cannot open shared object file: no such file", "not loaded"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all", "(CDI)"),
        ('exec: "nvidia-smi": executable file not found in $PATH', "did not add them"),
        ("fork/exec /usr/bin/nvidia-container-runtime: no such file or directory", "started"),
        ("Failed to initialize NVML: Unknown Error", "may not use the GPU"),
        ("something new", "does not start"),
    ],
)
def test_the_engines_words_are_explained(said: str, meaning: str) -> None:
    assert meaning in explain(said)[0]


def test_the_setting_decides_together_with_what_was_seen() -> None:
    none = GpuOutcome("none", "Docker knows no NVIDIA runtime")
    assert choose_gpu("auto", WORKS).verdict == "gpu" == choose_gpu("on", WORKS).verdict
    assert "NVIDIA H200" in choose_gpu("auto", WORKS).words
    assert choose_gpu("auto", none).verdict == "cpu"
    assert choose_gpu("on", none).verdict == "refused"
    assert choose_gpu("off", GpuOutcome("broken", "x")).verdict == "cpu"
    assert choose_gpu("auto", none).check().words.startswith("trainings run on the CPU")


def test_torch_is_asked_in_its_own_image(tmp_path: Path) -> None:
    docker = fake_docker(tmp_path, "echo '2.13.0+cu130 13.0 sm_90'")
    found = torch_of(docker, "labloop/trainer:1")
    assert found is not None and found.architectures == ("sm_90",)
    assert torch_of(fake_docker(tmp_path, "exit 1"), "x") is None
