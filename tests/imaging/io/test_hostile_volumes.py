import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.errors import VolumeError
from imaging.io.dicom.read import read_series
from imaging.io.dicom.series import sort_dicom
from imaging.io.volumes import read_volume
from tests.imaging.io.hostile_volumes import hostile_volumes

MOST_BYTES = 64 << 20  # of memory for any of them; one claims 2 · 10¹⁸


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("hostile")
    yield folder, dict(hostile_volumes(folder))


def reasons_of(path: Path) -> set[str]:
    """Every reason that a file, or a folder's series, is refused for."""
    if path.is_dir():
        found = sort_dicom(sorted(path.iterdir()))
        reasons = {one.reason for one in found.refused}
        for series in found.series:
            with pytest.raises(VolumeError) as caught:
                read_series(series)
            reasons.add(caught.value.reason)
        return reasons
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    return {caught.value.reason}


def test_every_hostile_volume_is_refused_for_its_reason(
    hostile: tuple[Path, dict[str, str]],
) -> None:
    folder, expected = hostile
    assert len(expected) >= 30
    found = {name: reasons_of(folder / name) for name in expected}
    assert found == {name: {reason} for name, reason in expected.items()}


def test_none_of_them_takes_much_memory(hostile: tuple[Path, dict[str, str]]) -> None:
    folder, expected = hostile
    reasons_of(folder / "cut.nii")  # what is imported on the way does not count
    reasons_of(folder / "two-patients")
    tracemalloc.start()
    try:
        for name in expected:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            reasons_of(folder / name)
            assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES, name
    finally:
        tracemalloc.stop()
