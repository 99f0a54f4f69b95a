from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.files_lite.whole import whole


def copier(blocks: Any, target: Any, *rest: Any) -> int:
    return sum(target.write(block) for block in blocks)


def test_a_file_appears_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "p.png"

    def blocks() -> Iterator[bytes]:
        for _ in range(3):
            assert not path.exists()
            yield b"xyz"

    with path.open("wb") as target:
        path.chmod(0o664)
        assert whole(copier)(blocks(), target) == 9
    assert path.read_bytes() == b"xyz" * 3 and path.stat().st_mode & 0o777 == 0o664
    assert [one.name for one in tmp_path.iterdir()] == ["p.png"]


def test_half_a_file_never_appears(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with (tmp_path / "p.png").open("wb") as target, pytest.raises(ConnectionError):
        whole(copier)(blocks(), target)
    assert list(tmp_path.iterdir()) == []


def test_what_came_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "p.png"

    def blocks() -> Iterator[bytes]:
        path.write_bytes(b"first")
        yield b"second"

    with path.open("wb") as target, pytest.raises(FileExistsError):
        whole(copier)(blocks(), target)
    assert path.read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1


def test_parts_of_a_file_are_filled_in_place(tmp_path: Path) -> None:
    path = tmp_path / ".p.png.PARTIAL"
    path.write_bytes(b"......")
    with path.open("rb+") as target:
        target.seek(3)
        whole(copier)([b"xyz"], target)
    assert path.read_bytes() == b"...xyz"
