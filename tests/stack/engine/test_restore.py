"""What a restore refuses, and what it holds against the manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from stack.engine.bare_restic import BareRestic, inner_words
from stack.engine.docker_call import Docker
from stack.engine.dumps import OldServerError, check_server, read_counts
from stack.engine.lab import Lab
from stack.engine.manifest import Database, Entry, Manifest
from stack.engine.repository import BackupSettings, NoRepositoryError
from stack.engine.restore import NotEmptyError, RestoreWishes, _refuse
from stack.engine.verify import expected_on_disk


class Named:
    """As much of a lab as a question needs."""

    class settings:
        stack_name = "lab"


LAB = cast(Lab, Named())


def refuse(found: list[str], *, with_replace: bool, answer: str = "") -> list[str]:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    _refuse(found, LAB, RestoreWishes(with_replace=with_replace), cast(Callable[[str], str], ask))
    return asked


def test_an_empty_target_needs_no_question() -> None:
    assert refuse([], with_replace=False) == refuse([], with_replace=True) == []


def test_a_target_with_data_is_refused_by_name() -> None:
    with pytest.raises(NotEmptyError, match="holds data: volume lab_db") as caught:
        refuse(["volume lab_db"], with_replace=False)
    assert caught.value.exit_code == 3 and "--replace" in caught.value.hint


def test_replacing_wants_the_stack_s_name() -> None:
    asked = refuse(["volume lab_db"], with_replace=True, answer="lab")
    assert "volume lab_db" in asked[0] and "Type lab" in asked[0]
    with pytest.raises(NotEmptyError, match="the answer was 'yes'"):
        refuse(["volume lab_db"], with_replace=True, answer="yes")


def test_secrets_and_odd_names_are_verified_otherwise() -> None:
    entries = {
        path: Entry("file", "0600", 0, 0) for path in ("nas/a", "nas/a\nb", "secrets/x", "dumps/d")
    }
    manifest = Manifest("s", "c", "i", "t", "1", "r", {}, {}, entries)
    assert set(expected_on_disk(manifest)) == {"nas/a", "dumps/d"}


def test_rows_are_read_with_their_tables() -> None:
    text = "server|170005\ntable|public.task|12\ntable|audit.log|3\n"
    assert read_counts(text) == Database(170005, {"task": 12, "audit.log": 3})


def test_an_older_server_is_refused() -> None:
    check_server(Database(170005, {}), Database(170001, {}))
    with pytest.raises(OldServerError, match="PostgreSQL here is 16, the backup's 17"):
        check_server(Database(170005, {}), Database(160009, {}))


def test_a_bare_box_only_looks(tmp_path: Path) -> None:
    (tmp_path / "backups" / "restic").mkdir(parents=True)
    settings = BackupSettings.from_env({})
    bare = BareRestic(Docker(), "an-image", settings, tmp_path / "password", tmp_path)
    words = bare.words(inner_words(("run", "--rm", "backup", "ls", "--json")))
    volumes = [word for word, before in zip(words[1:], words, strict=False) if before == "--volume"]
    assert len(volumes) == 2 and all(volume.endswith(":ro") for volume in volumes)
    assert words[words.index("--network") + 1] == "none"
    assert words[-3:] == ["restic", "ls", "--json"]
    assert inner_words(("run", "--entrypoint", "sh", "backup", "-ec", "x")) == ("sh", "-ec", "x")
    with pytest.raises(NoRepositoryError, match="only containers mount"):
        BareRestic(Docker(), "an-image", settings, tmp_path / "password", None).words(())
