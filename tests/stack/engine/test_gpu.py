"""Which GPU which torch serves."""

import pytest

from stack.engine.gpu import (
    Gpu,
    TorchBuild,
    driver_trouble,
    fit,
    parse_gpus,
    parse_torch,
    runs_on,
    suggested_cuda,
    summary,
)

SMI = "NVIDIA H200, 9.0, 143771 MiB, 580.95.05\nNVIDIA H200, 9.0, 143771 MiB, 580.95.05\n"
H200 = Gpu("NVIDIA H200", (9, 0), "143771 MiB", "580.95.05")
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")


def test_nvidia_smi_is_read() -> None:
    assert parse_gpus(SMI) == [H200, H200]
    assert parse_gpus("No devices were found\n") == []
    assert parse_gpus("GeForce GTX 1, [N/A], 1 MiB, 1.0") == []
    assert summary([H200, H200]).startswith("2 × NVIDIA H200 (compute capability 9.0")


def test_torch_is_read_from_its_last_line() -> None:
    text = "a warning\n2.13.0+cu130 13.0 sm_90 compute_90\n"
    assert parse_torch(text) == TorchBuild("2.13.0+cu130", "13.0", ("sm_90", "compute_90"))
    assert parse_torch("2.13.0+cpu none\n") == TorchBuild("2.13.0+cpu", "none", ())
    assert parse_torch("") is None and parse_torch("Traceback …\nImportError: x") is None


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((9, 0), ARCHITECTURES, "fits"),
        ((8, 9), ("sm_80",), "fits"),  # a later step of the same generation
        ((8, 0), ("sm_86",), "unfit"),  # an earlier one
        ((9, 0), ("sm_80", "sm_86"), "unfit"),
        ((9, 0), ("sm_80", "compute_80"), "translated"),
        ((7, 0), ARCHITECTURES, "unfit"),
        ((12, 1), ("sm_120",), "fits"),
        ((13, 0), ARCHITECTURES, "translated"),
        ((9, 0), ("sm_90a",), "fits"),
        ((10, 3), ("sm_100a",), "unfit"),  # `a` is for that step alone
        ((10, 3), ("sm_100f",), "fits"),  # `f` for its family
        ((12, 0), ("compute_100f",), "unfit"),
        ((9, 0), ("nonsense",), "unfit"),
    ],
)
def test_code_serves_its_generation_and_ptx_the_later_ones(
    capability: tuple[int, int], architectures: tuple[str, ...], expected: str
) -> None:
    assert runs_on(capability, architectures) == expected


def test_a_fit_is_told_in_a_sentence() -> None:
    good = fit(H200, TorchBuild("2.13.0+cu130", "13.0", ARCHITECTURES))
    assert good.verdict == "fits" and "NVIDIA H200 (compute capability 9.0" in good.words
    old = fit(H200, TorchBuild("1.12", "11.3", ("sm_70", "sm_80", "sm_86")))
    assert old.verdict == "unfit" and "sm_70 sm_80 sm_86, and none that runs on" in old.words
    cpu = fit(H200, TorchBuild("2.13.0+cpu", "none", ()))
    assert cpu.verdict == "unfit" and "TORCH_CUDA" in cpu.advice and "13.0" in cpu.advice


def test_an_old_driver_is_told_before_anything_else() -> None:
    old = Gpu("NVIDIA A100", (8, 0), "40960 MiB", "535.183.01")
    found = fit(old, TorchBuild("2.13.0+cu130", "13.0", ARCHITECTURES))
    assert found.verdict == "unfit"
    assert found.words == "the NVIDIA driver is 535.183.01, expected 580 or newer for CUDA 13.0"
    assert driver_trouble("535.183.01", "12.6") == ""
    assert driver_trouble("unknown", "13.0") == "" == driver_trouble("1", "99.0")


def test_the_newest_cuda_that_driver_and_generation_serve_is_suggested() -> None:
    assert suggested_cuda(H200) == "13.0"
    assert suggested_cuda(Gpu("NVIDIA A100", (8, 0), "", "535.1")) == "12.6"
    assert suggested_cuda(Gpu("Tesla V100", (7, 0), "", "580.1")) == "12.6"
    assert suggested_cuda(Gpu("Tesla K80", (3, 7), "", "470.1")) == "11.8"
