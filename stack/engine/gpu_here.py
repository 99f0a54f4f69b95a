"""Asks this machine's own nvidia-smi which GPUs it has."""

import shutil
import subprocess

from stack.doctor import GPU_TIMEOUT_S
from stack.engine.gpu import NVIDIA_SMI, Gpu, parse_gpus


def gpus_here() -> list[Gpu]:
    """The GPUs of this machine; none where there is no driver, or it does not answer."""
    program = shutil.which(NVIDIA_SMI[0])
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *NVIDIA_SMI[1:]],
            capture_output=True,
            text=True,
            timeout=GPU_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(answer.stdout)
