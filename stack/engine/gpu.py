"""Whether a GPU, its driver and the trainer's torch fit together. Pure: others ask the machine.

A build of torch holds machine code for some generations of GPUs (`sm_90`), and perhaps code that
the driver translates for later ones (`compute_90`, PTX). For a GPU that neither serves, torch is
imported without a word and fails at the first kernel.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

QUERY = "name,compute_cap,memory.total,driver_version"
NVIDIA_SMI = ("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader")
# For `python -c` in the trainer's image; without a GPU get_arch_list() would be empty.
TORCH_QUESTION = (
    "import torch; flags = getattr(torch._C, '_cuda_getArchFlags', lambda: '')() or ''; "
    "print(torch.__version__, torch.version.cuda or 'none', *flags.split())"
)
# The oldest driver for each CUDA, on Linux: table 1 of
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_DRIVER = {13: 580, 12: 525, 11: 450}
ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")

Verdict = Literal["fits", "translated", "unfit"]
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One line of nvidia-smi."""

    name: str
    capability: Capability  # compute capability, e.g. (9, 0)
    memory: str  # as nvidia-smi writes it: "143771 MiB"
    driver: str

    @property
    def words(self) -> str:
        major, minor = self.capability
        return f"{self.name} (compute capability {major}.{minor}, {self.memory})"


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """What a torch was built for."""

    version: str
    cuda: str  # "none": for processors alone
    architectures: tuple[str, ...]  # as torch lists them


@dataclass(frozen=True, slots=True)
class Fit:
    """The judgement, and a sentence for people."""

    verdict: Verdict
    words: str
    advice: str = ""


def parse_gpus(text: str) -> list[Gpu]:
    """What `nvidia-smi --query-gpu` printed; lines that are none of it are left out."""
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        match = re.fullmatch(r"(\d+)\.(\d+)", cells[1]) if len(cells) == 4 else None
        if match is not None:
            capability = (int(match[1]), int(match[2]))
            gpus.append(Gpu(cells[0], capability, cells[2], cells[3]))
    return gpus


def parse_torch(text: str) -> TorchBuild | None:
    """The answer to TORCH_QUESTION; its last line, since imports may warn."""
    words = text.strip().splitlines()[-1].split() if text.strip() else []
    if len(words) < 2 or not words[0][0].isdigit():
        return None
    return TorchBuild(words[0], words[1], tuple(words[2:]))


def runs_on(capability: Capability, architectures: Iterable[str]) -> Verdict:
    """Whether code for these architectures runs on a GPU of this capability.

    Machine code serves its own generation from its own step on: `sm_80` an 8.6, but no 9.0; with an
    `a` its own step alone. PTX serves its own capability and all later ones.

    Source: NVIDIA, CUDA C++ Programming Guide, "Application Compatibility".
    """
    is_translated = False
    for word in architectures:
        match = ARCHITECTURE.fullmatch(word)
        if match is None:
            continue
        kind, suffix = match[1], match[4]
        built = (int(match[2]), int(match[3]))
        if suffix == "a":
            reaches = built == capability
        elif kind == "sm" or suffix == "f":
            reaches = built[0] == capability[0] and built <= capability
        else:
            reaches = built <= capability
        if reaches and kind == "sm":
            return "fits"
        is_translated = is_translated or reaches
    return "translated" if is_translated else "unfit"


def fit(gpu: Gpu, torch: TorchBuild) -> Fit:
    """Judge one GPU against the trainer's torch: its driver first, then its generation."""
    if torch.cuda == "none":
        return Fit(
            "unfit",
            f"the trainer's torch {torch.version} is built for processors alone",
            f"set TORCH_CUDA in .env, e.g. to {suggested_cuda(gpu)}, and `labloop up` builds it",
        )
    trouble = driver_trouble(gpu.driver, torch.cuda)
    if trouble:
        return Fit("unfit", trouble, "update the driver, or set TORCH_CUDA to an older CUDA")
    verdict = runs_on(gpu.capability, torch.architectures)
    built = f"torch {torch.version} for CUDA {torch.cuda}"
    listed = " ".join(torch.architectures) or "nothing"
    if verdict == "fits":
        return Fit(verdict, f"{built} has code for {gpu.words}")
    if verdict == "translated":
        words = f"{built} has only PTX for {gpu.words}: the driver translates it at each first use"
        return Fit(verdict, words, "a newer torch or CUDA (TORCH_CUDA) starts faster")
    return Fit(
        verdict,
        f"{built} holds code for {listed}, and none that runs on {gpu.words}",
        "another CUDA (TORCH_CUDA) may; else train with GPU=off",
    )


def driver_trouble(driver: str, cuda: str) -> str:
    """Why a driver cannot serve this CUDA; empty when it can, or nobody knows."""
    major = cuda.partition(".")[0]
    oldest = OLDEST_DRIVER.get(int(major)) if major.isdecimal() else None
    found = driver.partition(".")[0]
    if oldest is None or not found.isdecimal() or int(found) >= oldest:
        return ""
    return f"the NVIDIA driver is {driver}, expected {oldest} or newer for CUDA {cuda}"


def suggested_cuda(gpu: Gpu) -> str:
    """The newest CUDA generation that the driver serves, as TORCH_CUDA may name it."""
    usual = {13: "13.0", 12: "12.6", 11: "11.8"}
    fitting = [text for text in usual.values() if not driver_trouble(gpu.driver, text)]
    # CUDA 13 knows nothing older than Turing (7.5).
    if gpu.capability < (7, 5):
        fitting = [text for text in fitting if not text.startswith("13")]
    return fitting[0] if fitting else usual[12]


def summary(gpus: Sequence[Gpu]) -> str:
    """The GPUs of a machine in one line."""
    names = dict.fromkeys(gpu.words for gpu in gpus)
    counts = {words: sum(gpu.words == words for gpu in gpus) for words in names}
    return ", ".join(f"{n} × {words}" if n > 1 else words for words, n in counts.items())
