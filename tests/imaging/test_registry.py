"""Versions and the champion pointer: whole, checked, and back again."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from imaging import registry
from imaging.errors import NasGoneError, RegistryError
from imaging.layout import Nas
from imaging.publish import MANIFEST, manifest_files, write_json
from imaging.registry import champion, promote, roll_back, verify_version, versions

TASK = "Task001_heart"
A, B, C, D = (f"model-20260314T09{minute}00Z-0000" for minute in (10, 20, 30, 40))


@pytest.fixture
def nas(tmp_path: Path) -> Nas:
    nas = Nas(tmp_path)
    nas.marker.touch()
    for version in (A, B, C, D):
        add_version(nas, version)
    return nas


def add_version(nas: Nas, version: str) -> Path:
    folder = nas.model(TASK).version(version)
    write_json(folder / "labloop.json", {"created_at": "2026-03-14T09:10:00Z", "run": "run-1"})
    (folder / "weights").write_bytes(os.urandom(2000))
    write_json(folder / MANIFEST, {"format": 1, "files": manifest_files(folder)})
    return folder


def spoil(nas: Nas, version: str) -> None:
    (nas.model(TASK).version(version) / "weights").write_bytes(b"truncated")


def serving(nas: Nas) -> str | None:
    current = champion(nas, TASK)
    return current.version if current else None


def promote_in_turn(nas: Nas, *names: str) -> None:
    for name in names:
        promote(nas, TASK, name, f"promoted {name}")


# Listing


def test_versions_are_listed_oldest_first_with_what_their_record_says(nas: Nas) -> None:
    found = versions(nas, TASK)
    assert [one.version for one in found] == [A, B, C, D]
    assert (found[0].run, found[0].made_at) == ("run-1", "2026-03-14T09:10:00Z")


def test_half_written_and_foreign_folders_are_no_versions(nas: Nas) -> None:
    root = nas.model(TASK).root
    (root / ".staging" / "model-x").mkdir(parents=True)
    write_json(root / ".staging" / MANIFEST, {})
    (root / "notes").mkdir()
    promote(nas, TASK, A, "first")
    assert [one.version for one in versions(nas, TASK)] == [A, B, C, D]


def test_a_version_with_an_unreadable_record_is_listed_with_its_trouble(nas: Nas) -> None:
    (nas.model(TASK).version(B) / "labloop.json").write_text("{")
    found = {one.version: one for one in versions(nas, TASK)}
    assert "labloop.json" in found[B].trouble and not found[A].trouble


def test_a_task_without_models_has_no_versions_and_no_champion(nas: Nas) -> None:
    assert versions(nas, "Task002_lung") == []
    assert champion(nas, "Task002_lung") is None


# Promotion


def test_a_promoted_version_serves_and_the_reason_is_kept(nas: Nas) -> None:
    made = promote(nas, TASK, A, "promoted by run run-1")
    assert champion(nas, TASK) == made
    assert (made.version, made.previous, made.reason) == (A, None, "promoted by run run-1")
    assert made.folder == nas.model(TASK).version(A)


def test_each_promotion_is_added_to_the_history(nas: Nas) -> None:
    promote_in_turn(nas, A, B, C)
    made = champion(nas, TASK)
    assert made is not None and made.previous == B
    assert [change.version for change in made.history] == [A, B, C]
    stamps = [change.changed_at for change in made.history]
    assert stamps == sorted(stamps)


def test_promoting_the_champion_again_changes_nothing(nas: Nas) -> None:
    promote_in_turn(nas, A, B)
    before = nas.model(TASK).champion.read_bytes()
    assert promote(nas, TASK, B, "once more").reason == f"promoted {B}"
    assert nas.model(TASK).champion.read_bytes() == before


def test_a_missing_version_is_not_promoted(nas: Nas) -> None:
    promote(nas, TASK, A, "first")
    with pytest.raises(RegistryError, match="found no version 'model-gone'"):
        promote(nas, TASK, "model-gone", "?")
    assert serving(nas) == A


@pytest.mark.parametrize("name", ["../Task001_heart", ".staging", "*", ""])
def test_a_name_that_is_no_version_is_not_promoted(nas: Nas, name: str) -> None:
    with pytest.raises(RegistryError):
        promote(nas, TASK, name, "?")
    assert serving(nas) is None


def test_a_corrupt_version_is_not_promoted(nas: Nas) -> None:
    promote(nas, TASK, A, "first")
    spoil(nas, B)
    with pytest.raises(RegistryError, match="weights"):
        promote(nas, TASK, B, "?")
    assert serving(nas) == A


def test_a_version_without_its_manifest_is_not_promoted(nas: Nas) -> None:
    (nas.model(TASK).version(B) / MANIFEST).unlink()
    with pytest.raises(RegistryError, match=MANIFEST):
        promote(nas, TASK, B, "?")


def test_an_intact_version_passes_verification(nas: Nas) -> None:
    assert verify_version(nas, TASK, A) == nas.model(TASK).version(A)


# Verdicts that have become void


def test_a_verdict_holds_while_the_champion_it_beat_still_serves(nas: Nas) -> None:
    promote(nas, TASK, A, "run 1", over=None)
    promote(nas, TASK, B, "run 2", over=A)
    assert serving(nas) == B


def test_a_verdict_against_a_champion_that_was_replaced_is_void(nas: Nas) -> None:
    promote_in_turn(nas, A, B)
    with pytest.raises(RegistryError, match=f"judged against {A}, but {B} serves"):
        promote(nas, TASK, C, "run 3", over=A)
    with pytest.raises(RegistryError, match="judged against no champion"):
        promote(nas, TASK, C, "run 3", over=None)
    assert serving(nas) == B


def test_a_trainer_that_repeats_its_promotion_after_a_crash_does_no_harm(nas: Nas) -> None:
    promote(nas, TASK, A, "run 1", over=None)
    promote(nas, TASK, B, "run 2", over=A)
    assert promote(nas, TASK, B, "run 2", over=A).previous == A
    current = champion(nas, TASK)
    assert current is not None and len(current.history) == 2


def test_a_repeated_promotion_does_not_undo_a_roll_back(nas: Nas) -> None:
    promote(nas, TASK, A, "run 1", over=None)
    promote(nas, TASK, B, "run 2", over=A)
    roll_back(nas, TASK)
    with pytest.raises(RegistryError, match="has been champion before"):
        promote(nas, TASK, B, "run 2", over=A)
    assert serving(nas) == A
    promote(nas, TASK, B, "a person wants it")
    assert serving(nas) == B


# Roll-back


def test_a_roll_back_serves_the_champion_before(nas: Nas) -> None:
    promote_in_turn(nas, A, B)
    made = roll_back(nas, TASK)
    assert (made.version, made.reason) == (A, f"rolled back from {B}")
    assert champion(nas, TASK) == made


def test_roll_backs_in_a_row_go_further_back_and_end_with_a_clear_refusal(nas: Nas) -> None:
    promote_in_turn(nas, A, B, C)
    assert [roll_back(nas, TASK).version for _ in range(2)] == [B, A]
    with pytest.raises(RegistryError, match="no earlier champion"):
        roll_back(nas, TASK)
    assert serving(nas) == A


def test_after_a_new_promotion_a_roll_back_skips_what_was_rolled_back_from(nas: Nas) -> None:
    promote_in_turn(nas, A, B)
    roll_back(nas, TASK)
    made = promote(nas, TASK, C, "run 3")
    assert made.previous == A
    assert roll_back(nas, TASK).version == A


def test_an_old_version_promoted_by_hand_can_be_rolled_back_from(nas: Nas) -> None:
    promote_in_turn(nas, A, B, C, A)
    assert [roll_back(nas, TASK).version for _ in range(3)] == [C, B, A]
    with pytest.raises(RegistryError):
        roll_back(nas, TASK)


def test_a_roll_back_can_name_its_goal(nas: Nas) -> None:
    promote_in_turn(nas, A, B, C)
    made = roll_back(nas, TASK, to=A)
    assert (made.version, made.previous) == (A, None)
    assert roll_back(nas, TASK, to=A).version == A


def test_a_version_that_never_served_is_no_goal_of_a_roll_back(nas: Nas) -> None:
    promote_in_turn(nas, A, B)
    with pytest.raises(RegistryError, match="was not champion"):
        roll_back(nas, TASK, to=D)
    assert serving(nas) == B


def test_a_roll_back_skips_versions_that_are_not_intact_and_says_so(nas: Nas) -> None:
    promote_in_turn(nas, A, B, C)
    spoil(nas, B)
    made = roll_back(nas, TASK)
    assert made.version == A
    assert made.reason == f"rolled back from {C}; not intact: {B}"


def test_a_roll_back_to_a_corrupt_goal_is_refused(nas: Nas) -> None:
    promote_in_turn(nas, A, B, C)
    spoil(nas, A)
    with pytest.raises(RegistryError, match="weights"):
        roll_back(nas, TASK, to=A)
    spoil(nas, B)
    with pytest.raises(RegistryError, match="not intact"):
        roll_back(nas, TASK)
    assert serving(nas) == C


def test_without_a_champion_there_is_nothing_to_roll_back(nas: Nas) -> None:
    with pytest.raises(RegistryError, match="no champion"):
        roll_back(nas, TASK)


# A pointer, or a share, in trouble


def test_a_pointer_of_nonsense_is_an_error_and_not_no_champion(nas: Nas) -> None:
    for text in ("{", "[]", '{"version": "model-1"}', '{"history": 3}'):
        nas.model(TASK).champion.write_text(text)
        with pytest.raises(RegistryError, match="which version serves"):
            champion(nas, TASK)
    with pytest.raises(RegistryError):
        promote(nas, TASK, A, "by a run", over=None)


def test_a_pointer_that_leads_out_of_the_share_is_refused(nas: Nas) -> None:
    promote(nas, TASK, A, "first")
    pointer = nas.model(TASK).champion
    write_json(pointer, json.loads(pointer.read_text()) | {"version": "../../etc"})
    with pytest.raises(RegistryError):
        champion(nas, TASK)


def test_a_person_can_replace_a_broken_pointer_and_the_broken_one_is_kept(nas: Nas) -> None:
    nas.model(TASK).champion.write_text("{ half")
    promote(nas, TASK, A, "by hand")
    assert serving(nas) == A
    kept = list(nas.model(TASK).root.glob("champion.broken-*.json"))
    assert [path.read_text() for path in kept] == ["{ half"]


def test_a_pointer_edited_by_hand_is_believed_and_its_history_still_used(nas: Nas) -> None:
    promote_in_turn(nas, A, B)
    pointer = nas.model(TASK).champion
    write_json(pointer, json.loads(pointer.read_text()) | {"version": D})
    assert serving(nas) == D
    assert roll_back(nas, TASK).version == B


def test_a_share_that_is_gone_is_not_taken_for_a_task_without_champion(nas: Nas) -> None:
    nas.marker.unlink()
    with pytest.raises(NasGoneError):
        champion(nas, TASK)
    with pytest.raises(NasGoneError):
        promote(nas, TASK, A, "?")
    with pytest.raises(NasGoneError):
        roll_back(nas, TASK)
    assert not (nas.model(TASK).root / registry.LOCK).exists()


def test_a_full_disk_leaves_the_old_champion(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(nas, TASK, A, "first")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        promote(nas, TASK, B, "second")
    assert serving(nas) == A
    assert not list(nas.model(TASK).root.glob(".champion.json*"))
    promote(nas, TASK, B, "second")
    assert serving(nas) == B


# Several at once


def test_a_reader_never_sees_a_torn_or_absent_champion(nas: Nas) -> None:
    promote(nas, TASK, A, "first")
    done, seen, failures = threading.Event(), set(), []

    def read() -> None:
        while not done.is_set():
            try:
                current = champion(nas, TASK)
                seen.add((current.version, current.history[-1].version) if current else None)
            except Exception as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(40):
        promote(nas, TASK, (B, A)[turn % 2], f"turn {turn}")
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert seen <= {(A, A), (B, B)}


PROMOTE_IN_A_LOOP = """
import sys
from pathlib import Path
from imaging.layout import Nas
from imaging.registry import promote
nas, task, turns, names = Nas(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
print("ready", flush=True)
for turn in range(turns):
    promote(nas, task, names[turn % len(names)], f"turn {turn} of {names}")
"""


def start_promoting(nas: Nas, turns: int, *names: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PROMOTE_IN_A_LOOP, str(nas.root), TASK, str(turns), *names]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_two_processes_that_promote_at_once_lose_no_entry_of_the_history(nas: Nas) -> None:
    first, second = start_promoting(nas, 30, A, B), start_promoting(nas, 30, C, D)
    for process in (first, second):
        process.communicate(timeout=30)
        assert process.returncode == 0
    current = champion(nas, TASK)
    assert current is not None
    assert current.history[-1].version == current.version
    assert len({change.reason for change in current.history}) == len(current.history) == 60


def test_a_promoter_killed_at_any_moment_leaves_a_champion_and_no_lock(nas: Nas) -> None:
    promote(nas, TASK, A, "first")
    for round_s in (0.01, 0.03, 0.07):
        process = start_promoting(nas, 100_000, A, B, C)
        time.sleep(round_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert serving(nas) in {A, B, C}
        started = time.monotonic()
        promote(nas, TASK, D, "after the crash")
        assert time.monotonic() - started < 5
        assert serving(nas) == D


def test_a_change_waits_for_another_and_gives_up_with_a_clear_error(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "LOCK_WAIT_S", 0.1)
    with (nas.model(TASK).root / registry.LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RegistryError, match="locked"):
            promote(nas, TASK, A, "?")
    promote(nas, TASK, A, "after all")


def test_a_share_without_locks_can_still_be_promoted_on(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    promote(nas, TASK, A, "first")
    assert serving(nas) == A


def test_the_registry_needs_neither_torch_nor_scipy() -> None:
    code = "import sys, imaging.registry; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
