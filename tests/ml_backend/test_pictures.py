from pathlib import Path

import numpy as np
import pytest

from imaging.layout import Nas
from ml_backend.errors import NoCaseError
from ml_backend.pictures import Pictures
from tests.ml_backend.fakes import TASK, add_case


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    return Nas(tmp_path)


def test_the_model_gets_the_training_image_not_the_preview(nas: Nas) -> None:
    pixels = Pictures(nas).load(TASK, {"image": add_case(nas, "case-1")})
    assert pixels.dtype == np.uint16
    assert pixels.max() == 800


def test_an_address_may_be_quoted_and_may_carry_a_host(nas: Nas) -> None:
    address = add_case(nas, "case-1").replace("/cases/", "%2Fcases%2F")
    pixels = Pictures(nas).load(TASK, {"image": f"http://lab.example:8080/ls{address}"})
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
    first = pictures.load(TASK, {"image": one})
    assert pictures.load(TASK, {"image": one}) is first
    assert not first.flags.writeable
    for name in ("case-2", "case-3", "case-4", "case-5"):
        pictures.load(TASK, {"image": add_case(nas, name)})
    assert pictures.load(TASK, {"image": one}) is not first


def test_a_picture_as_large_as_the_cache_is_not_kept(nas: Nas) -> None:
    one = add_case(nas, "case-1")
    pictures = Pictures(nas, cache_bytes=32 * 40 * 2)
    assert pictures.load(TASK, {"image": one}) is not pictures.load(TASK, {"image": one})
