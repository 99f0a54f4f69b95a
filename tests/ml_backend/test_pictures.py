from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from imaging.errors import CodecError, GridMismatchError
from imaging.io.nifti import write_nifti
from imaging.layout import Nas
from imaging.volume import Volume, grid_of
from ml_backend.errors import NoCaseError
from ml_backend.pictures import Pictures
from tests.imaging.dataset.volume_lab import SIDES, make_grid
from tests.ml_backend.fakes import TASK, add_case, add_volume, block_voxels


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    return Nas(tmp_path)


def picture(pictures: Pictures, address: str) -> npt.NDArray[Any]:
    loaded = pictures.load(TASK, {"image": address})
    assert loaded.stack is None and isinstance(loaded.image, np.ndarray)
    return loaded.image


def volume(pictures: Pictures, data: dict[str, Any]) -> Volume:
    loaded = pictures.load(TASK, data)
    assert loaded.stack is not None and isinstance(loaded.image, Volume)
    return loaded.image


def test_the_model_gets_the_training_image_not_the_preview(nas: Nas) -> None:
    pixels = picture(Pictures(nas), add_case(nas, "case-1"))
    assert pixels.dtype == np.uint16
    assert pixels.max() == 800


def test_an_address_may_be_quoted_and_may_carry_a_host(nas: Nas) -> None:
    address = add_case(nas, "case-1").replace("/cases/", "%2Fcases%2F")
    pixels = picture(Pictures(nas), f"http://lab.example:8080/ls{address}")
    assert pixels.shape == (32, 40)


@pytest.mark.parametrize(
    "address",
    [
        None,
        17,
        "",
        "/data/upload/1/x.png",
        "/data/local-files/",
        "/data/local-files/?d=",
        "/data/local-files/?d=dataset/Task001_heart/cases",
        "/data/local-files/?d=dataset/Task001_heart/task.yaml",
        "/data/local-files/?d=dataset/Task001_heart/cases/../../../secret/case-9/image.png",
        "/data/local-files/?d=dataset/Task001_heart/cases/%2e%2e/%2e%2e/%2e%2e/secret/case-9/x.png",
        "/data/local-files/?d=/etc/passwd",
        "/data/local-files/?d=..%2f..%2fetc/passwd",
        "/data/local-files/?d=dataset/Task002_lung/cases/case-1/image.png",
        "/data/local-files/?d=dataset/Task001_heart/cases/link/image.png",
        "/data/local-files/?d=dataset/Task001_heart/cases/.staging/case-1/image.png",
        "/data/local-files/?d=a%00b",
        "/data/local-files/?d=a&d=b",
        "http://[::1",
    ],
)
def test_only_cases_of_the_tasks_own_folder_are_read(nas: Nas, address: object) -> None:
    add_case(nas, "case-1")
    add_case(nas, "case-1", task="Task002_lung")
    add_case(nas, "case-9", task="Task003_secret")
    (nas.task(TASK).cases / "link").symlink_to(nas.task("Task003_secret").case("case-9"))
    with pytest.raises(NoCaseError):
        Pictures(nas).load(TASK, {"image": address})


def test_a_picture_is_decoded_once_until_others_need_the_room(nas: Nas) -> None:
    one = add_case(nas, "case-1")
    size_bytes = 32 * 40 * 2
    pictures = Pictures(nas, cache_bytes=4 * size_bytes)
    first = picture(pictures, one)
    assert picture(pictures, one) is first
    assert not first.flags.writeable
    for name in ("case-2", "case-3", "case-4", "case-5"):
        pictures.load(TASK, {"image": add_case(nas, name)})
    assert picture(pictures, one) is not first


def test_a_picture_as_large_as_the_cache_is_not_kept(nas: Nas) -> None:
    one = add_case(nas, "case-1")
    pictures = Pictures(nas, cache_bytes=32 * 40 * 2)
    assert picture(pictures, one) is not picture(pictures, one)


# --- volumes ----------------------------------------------------------------------------------


def test_a_volume_is_found_by_its_slices_and_comes_with_their_places(nas: Nas) -> None:
    loaded = Pictures(nas).load(TASK, add_volume(nas, "case-1", (0, 5, 11, 3)))
    assert loaded.stack is not None and loaded.stack.items == (0, 5, 11, 3)
    assert isinstance(loaded.image, Volume) and loaded.image.grid.is_same(make_grid())
    assert np.array_equal(loaded.image.voxels_CXYZ, block_voxels()[None])
    assert not loaded.image.voxels_CXYZ.flags.writeable


def test_all_channels_of_a_volume_are_read(nas: Nas) -> None:
    data = add_volume(nas, "case-1", (0, 5), channels=3)
    assert volume(Pictures(nas), data).voxels_CXYZ.shape == (3, *SIDES)
    folder = nas.task(TASK).case("case-1")
    elsewhere = grid_of(SIDES, np.diag([1.0, 1, 1, 1]))
    write_nifti(folder / "image_0001.nii.gz", block_voxels(), elsewhere)
    with pytest.raises(GridMismatchError):
        Pictures(nas).load(TASK, data)


def test_a_volume_is_read_once_unless_it_would_push_out_the_rest(nas: Nas) -> None:
    data = add_volume(nas, "case-1", (0, 5))
    size_bytes = block_voxels().nbytes
    pictures = Pictures(nas, cache_bytes=4 * size_bytes)
    assert volume(pictures, data) is volume(pictures, data | {"slices": data["slices"][:1]})
    small = Pictures(nas, cache_bytes=4 * size_bytes - 1)
    assert volume(small, data) is not volume(small, data)


def test_slices_of_two_cases_are_no_volume(nas: Nas) -> None:
    data = add_volume(nas, "case-1", (0, 5))
    data["slices"] += add_volume(nas, "case-2", (7,))["slices"]
    with pytest.raises(NoCaseError, match="several folders"):
        Pictures(nas).load(TASK, data)


@pytest.mark.parametrize("slices", [None, [], "x", [3], ["/data/local-files/?d=/etc/slices/1.png"]])
def test_a_task_without_readable_slices_leads_to_no_case(nas: Nas, slices: Any) -> None:
    with pytest.raises(NoCaseError):
        Pictures(nas).load(TASK, add_volume(nas, "case-1", (0,)) | {"slices": slices})


def test_slices_must_be_those_of_a_volume(nas: Nas) -> None:
    with pytest.raises(NoCaseError, match="expected 0 to 11"):
        Pictures(nas).load(TASK, add_volume(nas, "case-1", (0, 12)))
    address = add_case(nas, "case-2")
    with pytest.raises(NoCaseError, match="its case is a picture"):
        Pictures(nas).load(TASK, {"slices": [address]})
    with pytest.raises(CodecError, match="slices is None"):
        Pictures(nas).load(TASK, {"image": address.replace("case-2", "case-1")})
