import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from imaging import publish
from imaging.dataset.snapshot import load_snapshot
from imaging.errors import BundleError, RecordError, RegistryError, TaskConfigError
from imaging.layout import Nas, RunFolder
from imaging.model.bundle import load_bundle
from imaging.publish import read_json
from imaging.registry import champion, versions
from imaging.runs import load_state, save_state
from imaging.task import TaskConfig
from services.trainer.claims import Lease, claim, this_process
from services.trainer.errors import HopelessRunError
from services.trainer.exits import CRASHED, DONE, GIVEN_BACK, HOPELESS, PAUSED
from services.trainer.plan import obstacle
from services.trainer.work import Attempt, perform
from tests.phantoms import TASK, class_config, mask_config
from tests.services.trainer.runs import request_again, requested_run, settings_of


def attempt_at(nas: Nas, run: RunFolder) -> Attempt:
    lease = claim(run, this_process(), stale_s=60.0)
    assert lease is not None
    return Attempt(nas, lease, settings_of(nas))


pytestmark = pytest.mark.slow  # each trains a network
FULL = Path("/dev/full")  # every write to it says that there is no room


def beneath(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nas, RunFolder]]:
    """A run of two seconds, done once for all tests that only look at what it left."""
    nas, run = requested_run(tmp_path_factory.mktemp("finished"), class_config(), count=40)
    attempt = attempt_at(nas, run)
    assert perform(attempt) == DONE
    attempt.lease.release()
    yield nas, run


def test_a_run_ends_judged_with_a_bundle_and_a_verdict(finished: tuple[Nas, RunFolder]) -> None:
    nas, run = finished
    state = load_state(run)
    assert (state.state, state.progress) == ("judged", 1.0)
    assert state.message.startswith(("promoted: ", "not promoted: "))
    assert [version.version for version in versions(nas, TASK)] == [state.version]
    assert read_json(run.verdict)["subject"]["candidate"] == state.version
    assert run.verdict_text.read_text().startswith("# ")


def test_the_bundle_names_what_made_it_and_how_well_it_does(
    finished: tuple[Nas, RunFolder],
) -> None:
    nas, run = finished
    bundle = load_bundle(nas.model(TASK).version(str(load_state(run).version)))
    snapshot = load_snapshot(nas.task(TASK).snapshot(bundle.snapshot))
    assert bundle.run == run.run_id
    assert bundle.cases["test"] == tuple(case.case for case in snapshot.of("test"))
    assert not bundle.known_patients & set(bundle.patients["test"])
    assert bundle.metrics == read_json(run.metrics)["candidate"]["summary"]
    assert bundle.training["iterations"] > 0


def test_recipe_json_tells_everything_to_train_again(finished: tuple[Nas, RunFolder]) -> None:
    _, run = finished
    record = read_json(run.recipe)
    assert record["recipe"]["seed"] == 0
    assert record["snapshot"] == read_json(run.request)["snapshot"]
    assert set(record["versions"]) == {"labloop", "torch", "monai", "openvino"}
    assert record["start_from"] is None


def test_tensorboard_shows_curves_and_pictures(finished: tuple[Nas, RunFolder]) -> None:
    _, run = finished
    events = EventAccumulator(str(run.root))
    events.Reload()
    tags = events.Tags()
    assert {"validation/mean", "validation/left", "validation/right"} <= set(tags["scalars"])
    assert {"augmentation", "validation/input"} <= set(tags["images"])


def test_a_run_that_is_done_does_nothing_twice(finished: tuple[Nas, RunFolder]) -> None:
    """As after a kill between the verdict and the state."""
    nas, run = finished
    before = run.verdict.read_bytes()
    save_state(run, replace(load_state(run), state="evaluating"))
    attempt = attempt_at(nas, run)
    assert perform(attempt) == DONE
    attempt.lease.release()
    assert run.verdict.read_bytes() == before
    assert len(versions(nas, TASK)) == 1


def test_the_next_run_starts_from_the_champion(finished: tuple[Nas, RunFolder]) -> None:
    nas, run = finished
    present = champion(nas, TASK)
    assert present is not None, run.verdict_text.read_text()
    again = request_again(nas, class_config())
    attempt = attempt_at(nas, again)
    assert perform(attempt) == DONE
    attempt.lease.release()
    assert read_json(again.recipe)["start_from"] == present.version
    assert read_json(again.verdict)["opponent"] == "champion"


def test_a_champion_of_another_kind_of_network_is_no_start(finished: tuple[Nas, RunFolder]) -> None:
    nas, run = finished
    bundle = load_bundle(nas.model(TASK).version(str(load_state(run).version)))
    snapshot = load_snapshot(nas.task(TASK).snapshot(bundle.snapshot))
    assert obstacle(bundle.recipe, bundle, snapshot) == ""
    wider = replace(bundle.recipe, widths=(8, 8, 8, 8))
    assert obstacle(wider, bundle, snapshot) == "another widths"
    leaky = replace(bundle, patients={**bundle.patients, "train": bundle.patients["test"]})
    assert obstacle(bundle.recipe, leaky, snapshot) == "it knows held-out patients"


@pytest.mark.parametrize(
    ("config", "classes", "reason"),
    [
        (class_config(1.0), {"left"}, "training cases are left; expected at least two"),
        (mask_config(1.0, learning_rate=-1.0), None, "recipe.learning_rate is -1"),
        (mask_config(1.0, widths="8 16 32 64 128 256 512"), None, "expected multiples of 64"),
    ],
)
def test_a_hopeless_run_fails_at_once_and_says_why(
    tmp_path: Path, config: TaskConfig, classes: set[str] | None, reason: str
) -> None:
    nas, run = requested_run(tmp_path, config, count=12)
    if classes is not None:
        manifest = nas.task(TASK).snapshot(read_json(run.request)["snapshot"]) / "manifest.json"
        text = manifest.read_text().replace('"right"\n', '"left"\n')
        manifest.chmod(0o644)
        manifest.write_text(text)
    assert perform(attempt_at(nas, run)) == HOPELESS
    state = load_state(run)
    assert state.state == "failed"
    assert reason in state.message


def test_a_snapshot_that_changed_is_not_trained_on(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    case = next(nas.task(TASK).cases.glob("case-*"))
    (case / "image.png").write_bytes(b"changed")
    assert perform(attempt_at(nas, run)) == HOPELESS
    assert case.name in load_state(run).message


def test_a_share_that_went_away_is_a_pause_and_no_failure(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    attempt = attempt_at(nas, run)
    nas.marker.unlink()
    (nas.task(TASK).config).unlink()
    assert perform(attempt) == PAUSED
    assert load_state(run).state != "failed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "no room"), PAUSED),
        (OSError(errno.EIO, "broken cable"), CRASHED),
        (RegistryError("the champion changed"), CRASHED),
        (ValueError("a bug"), CRASHED),
        (beneath(RecordError("request.json"), OSError(errno.ESTALE, "stale")), CRASHED),
        (beneath(RecordError("request.json"), OSError(errno.EDQUOT, "no room")), PAUSED),
        (beneath(HopelessRunError("champion"), beneath(BundleError("x"), OSError())), CRASHED),
        (TaskConfigError("task.yaml", ["found NoneType, expected a mapping"]), CRASHED),
    ],
)
def test_trouble_that_may_pass_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("services.trainer.work.load_snapshot", fail)
    assert perform(attempt_at(nas, run)) == code
    assert load_state(run).state != "failed"


def test_a_stale_file_handle_is_no_verdict_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    attempt, read = attempt_at(nas, run), Path.read_bytes

    def flaky(path: Path) -> bytes:
        if path == run.request:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", flaky)
    assert perform(attempt) == CRASHED
    state = load_state(run)
    assert state.state != "failed"
    assert "Stale file handle" in state.message


def test_a_case_image_that_cannot_be_read_just_now_does_not_count_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    attempt, hashed = attempt_at(nas, run), publish.sha256_of

    def flaky(path: Path) -> str:
        if path.name == "image.png":
            raise OSError(errno.EIO, "broken cable")
        return hashed(path)

    monkeypatch.setattr("imaging.dataset.snapshot.sha256_of", flaky)
    assert perform(attempt) == CRASHED
    assert load_state(run).state != "failed"


def test_a_disk_that_fills_up_during_export_is_a_pause_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    attempt, save = attempt_at(nas, run), torch.save

    def full(content: object, file: object) -> None:
        save(content, FULL if isinstance(file, Path) else file)

    write = Path.write_bytes
    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(
        Path,
        "write_bytes",
        lambda path, data: write(FULL if path.name == "model.pt" else path, data),
    )
    assert perform(attempt) == PAUSED
    monkeypatch.undo()
    assert perform(Attempt(nas, claimed_again(run), settings_of(nas))) == DONE


def test_a_task_yaml_that_somebody_is_saving_costs_an_attempt_and_not_the_run(
    tmp_path: Path,
) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    config = nas.task(TASK).config
    whole = config.read_text()
    config.write_text("")
    assert perform(attempt_at(nas, run)) == CRASHED
    assert "task.yaml" in load_state(run).message
    assert load_state(run).state != "failed"
    config.write_text(whole)
    again = Attempt(nas, claimed_again(run), settings_of(nas))
    assert perform(again) == DONE


def claimed_again(run: RunFolder) -> Lease:
    """The lease of a run whose last owner is dead."""
    lease = claim(run, this_process(), stale_s=-1.0)
    assert lease is not None
    return lease


def test_an_attempt_that_is_asked_to_stop_gives_the_run_back(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    attempt = attempt_at(nas, run)
    attempt.is_stopping.set()
    assert perform(attempt) == GIVEN_BACK


def test_an_attempt_whose_lease_was_taken_over_publishes_nothing(tmp_path: Path) -> None:
    nas, run = requested_run(tmp_path, mask_config(1.0), count=12)
    attempt = attempt_at(nas, run)
    (run.root / f".lease.{attempt.lease.number + 1}").touch()
    assert perform(attempt) == GIVEN_BACK
    assert not versions(nas, TASK)
    assert not run.verdict.exists()
