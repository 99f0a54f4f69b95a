"""What becomes of DICOM files, seen from outside."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from imaging.dataset.annotations import current_answers
from imaging.dataset.base import read_base
from imaging.dataset.cases import CaseRecord
from imaging.dataset.quarantine import decide, quarantined
from imaging.deid.burned_in import BurnedIn
from imaging.deid.reader import Box
from imaging.errors import DeidentificationError
from imaging.io.dicom.series import sort_dicom
from imaging.io.dicom.write import write_rtstruct, write_seg
from imaging.io.nifti import read_nifti, write_label_volume
from imaging.labels import label_scheme
from imaging.publish import verify_folder
from imaging.task import load_task
from services.ingest import dicom_visit
from services.ingest.dicom_head import DicomHead, read_head
from services.ingest.dicom_labels import land_objects
from tests.dicom_phantoms import ramp, set_pixels, small_scan, write_scan
from tests.imaging.io.dicom.test_pixels import enhanced
from tests.services.ingest.conftest import QUIET_S, Lab

ORGAN = "kind: segmentation\nmodality: CT\nlabels: [liver, tumour]\n"
WAIT_S = 3 * QUIET_S
SHAPE_DHW = (5, 8, 9)


def drop_series(lab: Lab, folder: str, seed: int = 0, **changes: Any) -> list[Path]:
    """A series of five slices; another seed, other pixels and another UID."""
    changes = {"series": str(seed + 1), "stored_DHW": ramp(SHAPE_DHW) + seed} | changes
    return write_scan(lab.task.rawdata / folder, small_scan(**changes))


def only_case(lab: Lab) -> CaseRecord:
    (case,) = lab.cases().values()
    return case


def see_text(
    _headers: Sequence[Dataset],
    slices: Iterable[NDArray[np.uint8]],
    _beat: Callable[[], None],
) -> BurnedIn | None:
    """Text on the second slice, whatever it shows."""
    assert len(list(slices)) == SHAPE_DHW[0]
    return BurnedIn("text was read", {1: (Box(1, 1, 3, 5),)}, np.zeros((8, 9, 3), dtype=np.uint8))


def drop_two_in_one_file(lab: Lab, folder: str) -> None:
    """A multi-frame object of two echoes at the same places."""
    made = enhanced(small_scan(stored_DHW=ramp(SHAPE_DHW)))
    frames = made.pixel_array
    set_pixels(made, np.concatenate([frames, frames + 500]).reshape(-1, SHAPE_DHW[2]))
    made.Rows, made.NumberOfFrames = SHAPE_DHW[1], 2 * SHAPE_DHW[0]
    groups = [deepcopy(group) for _ in range(2) for group in made.PerFrameFunctionalGroupsSequence]
    for number, group in enumerate(groups):
        group.MREchoSequence = [Dataset()]
        group.MREchoSequence[0].EffectiveEchoTime = 10.0 + 20 * (number // SHAPE_DHW[0])
        group.FrameContentSequence = [Dataset()]
        group.FrameContentSequence[0].TemporalPositionIndex = 1 + number // SHAPE_DHW[0]
    made.PerFrameFunctionalGroupsSequence = groups
    (lab.task.rawdata / folder).mkdir(parents=True)
    made.save_as(lab.task.rawdata / folder / "x.dcm", enforce_file_format=True)


# --- series --------------------------------------------------------------------------------------


def test_a_series_becomes_a_case_and_a_task(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "Mueller^Hans/1.2.3")
    lab.settle(30)
    case = only_case(lab)
    assert verify_folder(lab.task.case(case.case))
    image = read_nifti(lab.task.case(case.case) / case.image)
    assert image.grid.stored_shape == (9, 8, 5)
    assert image.voxels_CXYZ.min() == -1024
    assert case.volume is not None and case.volume.modality == "CT"
    assert case.volume.headers["Modality"] == "CT"
    assert lab.label_studio.cases() == [case.case]
    assert len(lab.left()) == len(files)
    assert lab.pulse.trouble == ""


def test_a_slow_copy_is_not_cut_in_two(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a")
    away = lab.state / "later.dcm"
    files[-1].rename(away)
    lab.round()
    lab.round(QUIET_S)
    lab.round(QUIET_S)
    away.rename(files[-1])
    lab.round(QUIET_S - 1)
    lab.round(QUIET_S)
    lab.round(QUIET_S)
    assert not lab.cases()
    lab.settle(30)
    assert read_nifti(lab.task.case(only_case(lab).case) / "image.nii.gz").grid.shape_XYZ[2] == 5


def test_slices_that_come_late_are_refused_with_what_to_do(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a", stored_DHW=ramp((8, 8, 9)))
    for path in files[5:]:
        path.rename(lab.state / path.name)
    lab.settle(30)
    assert len(lab.cases()) == 1
    for path in files[5:]:
        (lab.state / path.name).rename(path)
    lab.settle(30)
    assert "3 images of a series of which 5" in lab.refusals()["late-slices"]
    assert len(lab.cases()) == 1 and len(lab.left()) == 5
    shutil.rmtree(lab.task.rawdata / "a")  # as reason.txt says
    drop_series(lab, "b", stored_DHW=ramp((8, 8, 9)))
    lab.settle(30)
    assert len(lab.cases()) == 2 and len(lab.refusals()) == 1


def test_a_whole_copy_of_a_series_is_a_duplicate(lab: Lab) -> None:
    lab.configure(ORGAN)
    drop_series(lab, "a")
    lab.settle(30)
    drop_series(lab, "b")
    lab.settle(30)
    assert only_case(lab).case in lab.refusals()["duplicate"]
    assert all(path.startswith("a/") for path in lab.left())


def test_series_of_one_folder_are_cases_of_one_patient(lab: Lab) -> None:
    lab.configure(ORGAN)
    for seed in range(2):
        drop_series(lab, "all", seed)
    drop_series(lab, "all", 3, patient="P-2")
    lab.settle(30)
    patients = [case.patient for case in lab.cases().values()]
    assert len(patients) == 3 and len(set(patients)) == 2
    assert all(patient.startswith("p-") for patient in patients)


def test_cases_csv_names_a_folder_and_wins(lab: Lab) -> None:
    lab.configure(ORGAN)
    for seed, name in enumerate(("x", "y")):
        drop_series(lab, f"{name}/ct", seed, patient=f"P-{seed}")
    lab.drop("cases.csv", b"file,patient,scanner\nx/ct,Ann,A\ny,Ann,B\n")
    lab.settle(30)
    cases = list(lab.cases().values())
    assert len({case.patient for case in cases}) == 1
    assert {case.metadata["scanner"] for case in cases} == {"A", "B"}


def test_a_bare_name_in_cases_csv_means_no_series_of_which_two_have_it(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("cases.csv", b"file,patient\n1-000.dcm,Ann\n")
    drop_series(lab, "a")
    lab.settle(30)
    drop_series(lab, "b", 1)
    (lab.task.rawdata / "b/2-000.dcm").rename(lab.task.rawdata / "b/1-000.dcm")
    lab.settle(30)
    assert len(lab.cases()) == 1 and list(lab.refusals()) == ["name-twice"]


def test_a_late_case_list_labels_series_and_names_no_absent_files(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.configure(ORGAN.replace("segmentation", "classification"))
    drop_series(lab, "x/ct")
    drop_series(lab, "liver/ct", 1)
    lab.drop("unlabelled/z.txt", b"")
    lab.settle(30)
    assert "unknown-class" in lab.refusals()  # x is no class; its name is not told
    assert "'x'" not in lab.refusals()["unknown-class"]
    (case,) = lab.cases().values()
    assert len(lab.label_studio.task_of(case.case)["annotations"]) == 1
    lab.drop("cases.csv", b"file,label,patient\nliver/ct,liver,Ann\n")
    lab.settle(30)
    assert "gives 1 cases another patient" in caplog.text
    assert "absent" not in caplog.text


def test_nothing_of_a_series_happens_twice(lab: Lab) -> None:
    lab.configure(ORGAN)
    drop_series(lab, "a")
    drop_series(lab, "b", 1)
    lab.settle(30)
    calls = len(lab.label_studio.calls)
    lab.restart()
    lab.settle(30)
    lab.ledger.close()
    for path in lab.state.glob("ingest.db*"):
        path.unlink()
    lab.start()
    lab.settle(90)
    assert len(lab.cases()) == len(lab.label_studio.cases()) == 2
    assert not lab.refusals() and len(lab.left()) == 10
    assert "POST" not in " ".join(lab.label_studio.calls[calls:])


def test_a_mixed_folder_keeps_the_good_series(lab: Lab) -> None:
    lab.configure(ORGAN)
    drop_series(lab, "a")
    drop_series(lab, "a", 1, modality="MR")
    drop_series(lab, "a", 2, stored_DHW=ramp((2, 8, 9)))
    bad = drop_series(lab, "a", 3)
    for path in bad:
        path.write_bytes(path.read_bytes()[:-40])
    lab.drop("a/DICOMDIR", b"junk")
    lab.settle(90)
    assert len(lab.cases()) == 1
    assert {"other-modality", "too-few-slices", "truncated", "not-a-volume"} == set(lab.refusals())
    assert len(lab.left()) == 5


def test_a_task_of_one_named_channel_takes_series_without_a_case_list(lab: Lab) -> None:
    lab.configure(ORGAN.replace("CT", "MR") + "volume: {channels: [T1]}\n")
    drop_series(lab, "a", modality="MR")
    lab.settle(30)
    case = only_case(lab)
    assert case.volume is not None
    assert (case.volume.modality, case.volume.channels, case.channels) == ("MR", ("T1",), 1)


def test_two_patients_in_one_series_are_refused(lab: Lab) -> None:
    lab.configure(ORGAN)
    drop_series(lab, "a")
    for path in drop_series(lab, "b", origin=(0.0, 0.0, 500.0), patient="P-2"):
        path.rename(lab.task.rawdata / "a" / f"b{path.name}")
    lab.settle(30)
    assert "several-patients" in lab.refusals()
    assert not lab.cases() and not lab.left()


def test_names_of_refused_files_are_not_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    lab.configure(ORGAN)
    drop_series(lab, "Mueller^Hans", stored_DHW=ramp((2, 8, 9)))
    drop_series(lab, "Mueller^Hans", 1)
    lab.settle(60)
    (folder,) = lab.task.rejected.iterdir()
    assert "Mueller" not in (folder / "reason.txt").read_text()
    assert "2 DICOM files" in (folder / "reason.txt").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["0.dcm", "1.dcm", "reason.txt"]
    record = json.dumps(only_case(lab).to_json())
    assert "Mueller" not in caplog.text + record
    assert "P-1" not in record and "1.2.826" not in record + caplog.text


@pytest.mark.parametrize("error", [SystemExit, OSError])
def test_a_series_is_refused_whole_whatever_dies_meanwhile(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a", stored_DHW=ramp((9, 8, 9)))
    files[3].unlink()  # what is left behind it would be a series without a gap
    rename = os.rename
    moved: list[Any] = []

    def die(*given: Any, **more: Any) -> None:
        if len(moved) == 3:
            monkeypatch.setattr("os.rename", rename)
            raise error
        moved.append(given)
        rename(*given, **more)

    lab.round()
    monkeypatch.setattr("os.rename", die)
    with suppress(SystemExit):
        lab.round(WAIT_S)
    assert len(moved) == 3
    if error is SystemExit:
        lab.restart()
    lab.settle(60)
    assert not lab.cases() and not lab.left()
    (folder,) = lab.task.rejected.glob("rej-*")
    assert len(list(folder.iterdir())) == 8 + 1


def test_a_directory_of_a_disc_is_passed_over(lab: Lab) -> None:
    lab.configure(ORGAN)
    (path, *_) = drop_series(lab, "disc/IMAGES")
    header = dcmread(path)
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.1.3.10"
    for tag in ("PixelData", "Rows", "Columns"):
        del header[tag]
    header.save_as(lab.task.rawdata / "disc" / "DICOMDIR")
    lab.settle(60)
    assert len(lab.cases()) == 1
    assert not lab.refusals() and "disc/DICOMDIR" in lab.left()


def test_many_files_are_looked_at_in_several_visits(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[str] = []

    def read_slowly(root: Path, path: str) -> DicomHead | None:
        lab.now_s += 8
        heads.append(path)
        return read_head(root, path)

    monkeypatch.setattr(dicom_visit, "read_head", read_slowly)
    lab.configure(ORGAN)
    files = drop_series(lab, "a")
    lab.round()
    lab.round(WAIT_S)
    assert len(heads) == 3 and lab.ingest.next_wait_s(10) == 0
    lab.round()
    lab.round()
    assert sorted(heads) == sorted(f"a/{path.name}" for path in files)
    assert len(lab.cases()) == 1


# --- the airlock ---------------------------------------------------------------------------------


def test_text_in_the_pixels_means_quarantine_and_the_rest_goes_on(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    drop_series(lab, "a")
    lab.settle(30)
    lab.find_text = lambda *_: None
    drop_series(lab, "b", 1)
    lab.settle(30)
    (waiting,) = quarantined(lab.task)
    assert waiting.picture.is_file() and waiting.decision is None
    assert len(lab.cases()) == 1 and len(lab.left()) == 10
    lab.restart()
    lab.settle(60)
    assert len(lab.cases()) == 1


@pytest.mark.parametrize("decision", ["release", "redact"])
def test_what_a_person_lets_through_becomes_a_case(lab: Lab, decision: Any) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    files = drop_series(lab, "a")
    lab.settle(30)
    assert not lab.cases()
    lab.restart()
    decide(lab.task, quarantined(lab.task)[0].id, decision, "Ann")
    lab.round()
    image = read_nifti(lab.task.case(only_case(lab).case) / "image.nii.gz")
    covered = int(dcmread(files[1]).pixel_array[2, 3]) - 1024  # no other voxel has this value
    assert bool((image.voxels_CXYZ == covered).any()) is (decision == "release")
    assert lab.label_studio.cases() == [only_case(lab).case]


def test_what_a_person_rejects_is_refused(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    drop_series(lab, "a")
    lab.settle(30)
    decide(lab.task, quarantined(lab.task)[0].id, "reject", "Ann")
    lab.round()
    assert "rejected-by-a-person" in lab.refusals()
    assert not lab.left() and not lab.cases()


def test_a_lost_ledger_does_not_let_anything_through(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    drop_series(lab, "a")
    lab.settle(30)
    lab.ledger.close()
    for path in lab.state.glob("ingest.db*"):
        path.unlink()
    lab.find_text = lambda *_: pytest.fail("looked again")
    lab.start()
    lab.settle(60)
    assert not lab.cases() and len(quarantined(lab.task)) == 1


def test_a_reader_that_is_not_installed_is_said_and_waited_for(lab: Lab) -> None:
    def is_missing(*_: Any) -> BurnedIn | None:
        raise DeidentificationError("rapidocr cannot be imported")

    lab.configure(ORGAN)
    lab.find_text = is_missing
    drop_series(lab, "a")
    lab.settle(60)
    assert "rapidocr cannot be imported" in lab.pulse.trouble
    assert not lab.cases() and not lab.refusals()
    lab.find_text = lambda *_: None
    lab.settle(30)
    assert len(lab.cases()) == 1 and lab.pulse.trouble == ""


def test_a_series_whose_folder_in_quarantine_was_deleted_is_looked_at_again(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    drop_series(lab, "a")
    lab.settle(30)
    shutil.rmtree(quarantined(lab.task)[0].folder)
    lab.settle(30)
    assert len(quarantined(lab.task)) == 1 and not lab.cases()


def test_a_decision_that_cannot_be_read_keeps_nobody_else_waiting(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    drop_series(lab, "a")
    lab.settle(30)
    (waiting,) = quarantined(lab.task)
    (waiting.folder / "decision.json").write_text('{"decision": "relase"}')
    lab.find_text = lambda *_: None
    drop_series(lab, "b", 1)
    lab.settle(30)
    assert len(lab.cases()) == 1 and not lab.refusals()
    (waiting.folder / "decision.json").unlink()
    decide(lab.task, waiting.id, "release", "Ann")
    lab.round()
    assert len(lab.cases()) == 2


@pytest.mark.parametrize("with_text", [0, 1])
def test_each_volume_of_one_file_is_decided_about_by_itself(lab: Lab, with_text: int) -> None:
    lab.configure(ORGAN)
    drop_two_in_one_file(lab, "a")
    looks: list[int] = []

    def see_some(
        _headers: Sequence[Dataset],
        slices: Iterable[NDArray[np.uint8]],
        _beat: Callable[[], None],
    ) -> BurnedIn | None:
        looks.append(len(list(slices)))
        boxes = {1: (Box(1, 1, 3, 5),)}
        found = BurnedIn("text was read", boxes, np.zeros((8, 9, 3), dtype=np.uint8))
        return found if len(looks) == with_text + 1 else None

    lab.find_text = see_some
    lab.settle(30)
    assert looks == [5, 5]
    assert len(quarantined(lab.task)) == 1 and len(lab.cases()) == 1
    (good,) = lab.cases().values()
    decide(lab.task, quarantined(lab.task)[0].id, "redact", "Ann")
    lab.settle(30)
    cases = {case.case for case in lab.cases().values()}
    assert len(cases) == 2 and good.case in cases
    assert not lab.refusals()


# --- channels and task.yaml ----------------------------------------------------------------------


def test_series_of_several_channels_are_one_case(lab: Lab) -> None:
    lab.configure(ORGAN.replace("CT", "MR") + "volume: {channels: [T1, FLAIR]}\n")
    drop_series(lab, "p7/flair", 1, modality="MR")
    drop_series(lab, "p7/t1", 2, modality="MR")
    lab.drop("cases.csv", b"file,case,channel\np7/t1,p7,T1\np7/flair,p7,FLAIR\n")
    lab.settle(30)
    case = only_case(lab)
    first = read_nifti(lab.task.case(case.case) / "image_0000.nii.gz")
    assert first.voxels_CXYZ.min() == 2 - 1024
    assert case.channels == 2
    lab.restart()
    lab.settle(30)
    assert len(lab.cases()) == 1 and not lab.refusals()


def test_two_series_of_one_channel_are_not_taken_for_two_channels(lab: Lab) -> None:
    lab.configure(ORGAN.replace("CT", "MR") + "volume: {channels: [T1, FLAIR]}\n")
    drop_series(lab, "p7/t1", 1, modality="MR")
    drop_series(lab, "p7/t1", 2, modality="MR")
    lab.drop("cases.csv", b"file,case,channel\np7/t1,p7,T1\np7/flair,p7,FLAIR\n")
    lab.settle(90)
    assert not lab.cases()
    assert list(lab.refusals()) == ["channel-twice"]


def test_a_series_that_cases_csv_calls_a_label_map_is_no_channel(lab: Lab) -> None:
    lab.configure(ORGAN.replace("CT", "MR") + "volume: {channels: [T1, FLAIR]}\n")
    drop_series(lab, "p7/drawn", 1, modality="MR")
    drop_series(lab, "p7/flair", 2, modality="MR")
    lab.drop("cases.csv", b"file,case,channel\np7/drawn,p7,label\np7/flair,p7,FLAIR\n")
    lab.settle(90)
    assert not lab.cases()
    assert set(lab.refusals()) == {"channel-unknown", "channel-missing"}


def test_a_task_is_guessed_from_dicom(lab: Lab) -> None:
    for seed in range(2):
        drop_series(lab, f"series{seed}", seed, modality="MR")
    lab.settle(40)
    config = load_task(lab.task.config)
    assert (config.kind, config.modality) == ("segmentation", "MR")
    assert "that of the DICOM files" in lab.task.config.read_text()
    assert len(lab.cases()) == 2


def test_files_that_vanish_meanwhile_are_forgotten(lab: Lab) -> None:
    lab.configure(ORGAN)
    drop_series(lab, "a")
    lab.round()
    shutil.rmtree(lab.task.rawdata / "a")
    lab.settle(30)
    assert not lab.cases() and not lab.refusals()


# --- label objects -------------------------------------------------------------------------------


def write_object(
    lab: Lab, files: Sequence[Path], path: str, write: Callable[..., None], names: str = "liver"
) -> NDArray[np.uint8]:
    """A label object about a series; what its label map is."""
    (series,) = sort_dicom(files).series
    grid = series.stack.grid
    labels_XYZ = np.zeros(grid.shape_XYZ, dtype=np.uint8)
    labels_XYZ[2:6, 3:5, 1:4] = 1
    target = lab.task.rawdata / path
    target.parent.mkdir(exist_ok=True)
    write(target, labels_XYZ, label_scheme([names]), grid, series.headers)
    return labels_XYZ


def landed(lab: Lab, case: CaseRecord) -> NDArray[np.uint8]:
    (answer,) = current_answers(lab.task, case.case)
    return read_base(lab.task, answer, case, load_task(lab.task.config).scheme)


@pytest.mark.parametrize("write", [write_seg, write_rtstruct])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_label_object_labels_its_series(
    lab: Lab, write: Callable[..., None], is_late: bool
) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a")
    drop_series(lab, "a", 1)
    if is_late:
        lab.settle(30)
    truth_XYZ = write_object(lab, files, "elsewhere/labels.dcm", write)
    lab.settle(40)
    cases = [case for case in lab.cases().values() if current_answers(lab.task, case.case)]
    (case,) = cases
    assert np.array_equal(landed(lab, case), truth_XYZ)
    assert len(lab.label_studio.task_of(case.case)["annotations"]) == 1
    lab.restart()
    lab.settle(30)
    assert not lab.refusals() and len(lab.cases()) == 2


@pytest.mark.parametrize("drawn_on", [0, 1])
def test_a_label_object_labels_the_time_that_it_was_drawn_on(lab: Lab, drawn_on: int) -> None:
    """Two times of one series lie on one grid: where the object fits does not tell them apart."""
    lab.configure(ORGAN)
    files = []
    for time in (0, 1):

        def mark(k: int, dataset: Dataset, time: int = time) -> None:
            dataset.TemporalPositionIdentifier = time + 1
            dataset.SOPInstanceUID = f"1.2.3.{time}.{k}"

        scan = small_scan(stored_DHW=ramp(SHAPE_DHW) + np.uint16(500 * time))
        files += write_scan(lab.task.rawdata / f"time{time}", scan, mark)
    lab.settle(30)
    assert len(lab.cases()) == 2
    found = sort_dicom(files).series
    series = next(one for one in found if one.part == f"time {drawn_on + 1} of 2")
    truth_XYZ = write_object(lab, list(series.files), "elsewhere/labels.dcm", write_seg)
    lab.settle(40)
    (case,) = [one for one in lab.cases().values() if current_answers(lab.task, one.case)]
    assert np.array_equal(landed(lab, case), truth_XYZ)
    image = read_nifti(lab.task.case(case.case) / "image.nii.gz").voxels_CXYZ
    assert image.min() == 500 * drawn_on - 1024


def test_a_label_map_labels_the_series_in_a_folder_of_its_name(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "imagesTr/x/ct")
    (series,) = sort_dicom(files).series
    labels_XYZ = np.zeros(series.stack.grid.shape_XYZ, dtype=np.uint8)
    labels_XYZ[2:6, 3:5, 1:4] = 2
    (lab.task.rawdata / "labelsTr").mkdir()
    write_label_volume(lab.task.rawdata / "labelsTr/x.nii.gz", labels_XYZ, series.stack.grid)
    lab.settle(60)
    assert not lab.refusals()
    assert np.array_equal(landed(lab, only_case(lab)), labels_XYZ)
    assert len(lab.label_studio.task_of(only_case(lab).case)["annotations"]) == 1


def test_a_label_map_waits_for_a_series_that_is_copied_slowly(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "imagesTr/x/ct")
    write_labels_of(lab, files, "labelsTr/x.nii.gz")
    arrive_slowly(lab, files)
    lab.settle(60)
    assert not lab.refusals() and current_answers(lab.task, only_case(lab).case)


def test_a_label_object_waits_while_files_come(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "images/ct")
    write_object(lab, files, "labels/seg.dcm", write_seg)
    arrive_slowly(lab, files)
    lab.settle(60)
    assert not lab.refusals() and current_answers(lab.task, only_case(lab).case)


def test_a_label_map_waits_for_a_series_in_quarantine(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    files = drop_series(lab, "imagesTr/x/ct")
    write_labels_of(lab, files, "labelsTr/x.nii.gz")
    lab.settle(120)
    assert not lab.refusals() and not lab.cases() and lab.ingest.is_done
    decide(lab.task, quarantined(lab.task)[0].id, "release", "Ann")
    lab.settle(30)
    assert not lab.refusals() and current_answers(lab.task, only_case(lab).case)


def write_labels_of(lab: Lab, files: Sequence[Path], path: str) -> None:
    """A label map on the grid of a series."""
    grid = sort_dicom(files).series[0].stack.grid
    (lab.task.rawdata / path).parent.mkdir()
    write_label_volume(lab.task.rawdata / path, np.ones(grid.shape_XYZ, dtype=np.uint8), grid)


def arrive_slowly(lab: Lab, files: Sequence[Path]) -> None:
    """Files that come one by one, none soon after the label that lies there already."""
    for path in files:
        path.rename(lab.state / path.name)
    for _ in range(3):
        for path in files:
            lab.settle(QUIET_S)
            path.unlink(missing_ok=True)
            shutil.copy(lab.state / path.name, path)


def test_objects_for_one_structure_each_become_one_label_map(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a")
    truth_XYZ = write_object(lab, files, "a/one.dcm", write_seg)
    write_object(lab, files, "a/two.dcm", write_rtstruct, "TUMOUR")
    lab.settle(30)
    assert np.array_equal(landed(lab, only_case(lab)), 2 * truth_XYZ)


def test_label_objects_keep_no_other_task_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def land_slowly(*given: Any) -> str | None:
        lab.now_s += 25
        return land_objects(*given)

    monkeypatch.setattr(dicom_visit, "land_objects", land_slowly)
    lab.configure(ORGAN)
    for seed in range(2):
        write_object(lab, drop_series(lab, f"a{seed}", seed), f"b/{seed}.dcm", write_seg)
    lab.round()
    lab.round(WAIT_S)
    cases = [case.case for case in lab.cases().values()]
    assert sum(bool(current_answers(lab.task, case)) for case in cases) == 1
    lab.settle(30)
    assert all(current_answers(lab.task, case) for case in cases)


def test_a_label_object_without_its_series_is_refused_after_a_while(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a")
    write_object(lab, files, "b/seg.dcm", write_seg)
    shutil.rmtree(lab.task.rawdata / "a")
    lab.settle(50)
    assert not lab.refusals()
    lab.settle(60)
    assert "mask-without-picture" in lab.refusals()


def test_a_label_object_of_unknown_structures_is_refused(lab: Lab) -> None:
    lab.configure(ORGAN)
    files = drop_series(lab, "a")
    write_object(lab, files, "a/seg.dcm", write_seg, "spleen")
    lab.settle(30)
    assert set(lab.refusals()) == {"label-values"}
    assert not current_answers(lab.task, only_case(lab).case)


def test_labels_of_a_series_in_quarantine_wait_with_it(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.find_text = see_text
    files = drop_series(lab, "a")
    truth_XYZ = write_object(lab, files, "a/seg.dcm", write_seg)
    lab.settle(90)
    assert not lab.refusals() and not lab.cases()
    decide(lab.task, quarantined(lab.task)[0].id, "release", "Ann")
    lab.round()
    assert np.array_equal(landed(lab, only_case(lab)), truth_XYZ)


def test_the_labels_of_a_guessed_task_are_those_of_its_objects(lab: Lab) -> None:
    files = drop_series(lab, "a")
    write_object(lab, files, "a/seg.dcm", write_seg, "left kidney")
    lab.settle(40)
    assert load_task(lab.task.config).scheme.names == ("left kidney",)
    assert landed(lab, only_case(lab)).any()
