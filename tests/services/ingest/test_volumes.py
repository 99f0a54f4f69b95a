"""What becomes of NIfTI and NRRD files, seen from outside."""

import json
from typing import Any

import numpy as np
import pytest
from isal import igzip

from imaging.dataset.annotations import current_answers
from imaging.dataset.base import read_base
from imaging.io.nifti import read_nifti
from imaging.io.picture import read_picture
from imaging.io.volume_digest import case_id
from imaging.publish import verify_folder
from imaging.task import load_task
from imaging.volume import to_stored
from services.ingest import volume_visit
from services.ingest.take_labels import land_labels
from tests.services.ingest.conftest import QUIET_S, Lab
from tests.services.ingest.volumes import SHAPE, label_array, labels, nifti, volume

ORGAN = "kind: segmentation\nmodality: CT\nlabels: [liver, tumour]\n"
TWO = ORGAN + "volume: {channels: [T1, T2]}\n"


# --- cases ---------------------------------------------------------------------------------------


def test_a_dropped_volume_becomes_a_case_and_a_task(lab: Lab) -> None:
    lab.configure(ORGAN)
    path = lab.drop("scan.nii.gz", volume(1))
    lab.settle(20)
    case = lab.cases()["scan.nii.gz"]
    folder = lab.task.case(case.case)
    assert verify_folder(folder)["case"] == case.case
    dropped, kept = read_nifti(path), read_nifti(folder / case.image)
    assert kept.grid == dropped.grid
    assert np.array_equal(kept.voxels_CXYZ, dropped.voxels_CXYZ)
    assert case.case == case_id([dropped])
    assert case.volume is not None
    assert (case.image, case.preview, case.bits, case.channels) == ("image.nii.gz", "slices", 16, 1)
    assert case.volume.modality == "CT"
    slices = sorted((folder / "slices").iterdir())
    assert len(slices) == case.volume.plane.count == len(case.volume.key_slices)
    assert read_picture(slices[0]).shape == case.shape_HW == case.volume.plane.shape_HW
    data = lab.label_studio.task_of(case.case)["data"]
    assert data["slices"][3].endswith(f"/cases/{case.case}/slices/0003.png")
    assert "image" not in data
    assert lab.left() == ["scan.nii.gz"]
    assert lab.pulse.trouble == ""


def test_a_long_volume_is_offered_by_key_slices(lab: Lab) -> None:
    lab.configure(ORGAN + "annotation: {max_slices: 5}\n")
    lab.drop("scan.nii.gz", volume(1))
    lab.settle(20)
    case = lab.cases()["scan.nii.gz"]
    assert case.volume is not None and len(case.volume.key_slices) == 5
    assert len(lab.label_studio.task_of(case.case)["data"]["slices"]) == 5
    assert len(list((lab.task.case(case.case) / "slices").iterdir())) == case.volume.plane.count


def test_nothing_of_a_volume_happens_twice(lab: Lab) -> None:
    lab.configure(ORGAN)
    for number in range(3):
        lab.drop(f"imagesTr/{number}.nii.gz", volume(number))
        lab.drop(f"labelsTr/{number}.nii.gz", labels())
    lab.settle(30)
    calls = len(lab.label_studio.calls)
    lab.restart()
    lab.settle(30)
    lab.ledger.close()
    for path in lab.state.glob("ingest.db*"):
        path.unlink()
    lab.start()
    lab.settle(90)
    assert len(lab.cases()) == len(lab.label_studio.cases()) == 3
    assert not lab.refusals()
    assert len(lab.left()) == 6
    assert "POST" not in " ".join(lab.label_studio.calls[calls:])


def test_the_same_voxels_twice_are_refused(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("a.nii.gz", volume(1))
    lab.drop("b.nii.gz", volume(1))
    lab.settle(20)
    assert list(lab.cases()) == ["a.nii.gz"]
    assert lab.cases()["a.nii.gz"].case in lab.refusals()["duplicate"]


def test_two_files_of_one_name_are_two_cases(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("a.nii.gz", volume(1))
    lab.drop("a.nii", igzip.decompress(volume(2)))
    lab.settle(20)
    assert len(lab.cases()) == 2


def test_pictures_and_papers_are_refused_in_a_task_of_volumes(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop_picture("a.png", seed=1)
    lab.drop("notes.txt", b"hello")
    lab.drop("README.md", b"about")
    lab.drop("b.nii.gz", volume(1))
    lab.settle(40)
    assert set(lab.refusals()) == {"not-a-volume"}
    assert lab.left() == ["README.md", "b.nii.gz"]


def test_a_volume_is_refused_in_a_task_of_pictures(lab: Lab) -> None:
    lab.configure("kind: segmentation\nlabels: [lv]\n")
    lab.drop("scan.nii.gz", volume(1))
    lab.settle(40)
    assert "modality: CT" in lab.refusals()["volume-among-pictures"]


def test_a_stalled_copy_of_a_volume_is_waited_for(lab: Lab) -> None:
    lab.configure(ORGAN)
    whole = volume(1)
    lab.drop("a.nii.gz", whole[: len(whole) // 2])
    lab.settle(15)
    assert lab.left() == ["a.nii.gz"] and not lab.cases()
    lab.drop("a.nii.gz", whole)
    lab.settle(40)
    assert list(lab.cases()) == ["a.nii.gz"]
    assert not lab.refusals()


def test_patients_of_volumes_are_their_names_but_for_a_channel(lab: Lab) -> None:
    lab.configure(ORGAN)
    for number, name in enumerate(["amos_0004", "amos_0005", "la_003_0000"]):
        lab.drop(f"{name}.nii.gz", volume(number))
    lab.drop("cases.csv", b"file,patient,age\nx.nii.gz,amos_0004,61\n")
    lab.drop("x.nii.gz", volume(9))
    lab.settle(30)
    cases = {path: case.patient for path, case in lab.cases().items()}
    assert len(set(cases.values())) == 3
    assert cases["x.nii.gz"] == cases["amos_0004.nii.gz"]
    assert lab.cases()["x.nii.gz"].metadata == {"age": "61"}


def test_stopping_in_the_middle_loses_and_repeats_nothing(lab: Lab) -> None:
    lab.configure(ORGAN)
    for number in range(4):
        lab.drop(f"{number}.nii.gz", volume(number))
    lab.round()
    real = lab.label_studio.call
    beats = iter(range(10_000))
    original = lab.pulse.beat

    def beat() -> None:
        lab.stopping = lab.stopping or next(beats) > 20
        original()

    object.__setattr__(lab.ingest.tools, "beat", beat)
    lab.round(QUIET_S)
    assert real is not None
    assert 0 < len(lab.cases()) < 4
    lab.stopping = False
    lab.restart()
    lab.settle(90)
    assert len(lab.cases()) == len(lab.label_studio.cases()) == 4
    assert not list(lab.task.cases.glob(".staging/*"))


# --- label maps ----------------------------------------------------------------------------------


def test_label_maps_land_on_the_grid_of_their_volume(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("imagesTr/x_0000.nii.gz", volume(1))
    lab.drop("labelsTr/x.nii.gz", labels())
    lab.settle(20)
    case = lab.cases()["imagesTr/x_0000.nii.gz"]
    (answer,) = current_answers(lab.task, case.case)
    assert case.volume is not None
    landed_XYZ = read_base(lab.task, answer, case, load_task(lab.task.config).scheme)
    assert np.array_equal(to_stored(landed_XYZ, case.volume.grid), label_array())
    (annotation,) = lab.label_studio.task_of(case.case)["annotations"]
    assert {one["type"] for one in annotation["result"]} == {"brushlabels"}
    assert {one["item_index"] for one in annotation["result"]} == set(range(4, 11))
    assert "annotations" not in " ".join(lab.label_studio.calls)  # it came with the import


def test_a_label_map_that_comes_later_is_given_to_the_task(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("images/x.nii.gz", volume(1))
    lab.settle(20)
    lab.drop("labels/x.nii.gz", labels())
    lab.settle(20)
    case = lab.cases()["images/x.nii.gz"].case
    assert len(lab.label_studio.task_of(case)["annotations"]) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (labels((9, 11, 12)), "other-grid"),
        (nifti(label_array(), np.diag([1.0, 1, 1, 1])), "other-grid"),
        (labels(top=3), "label-values"),
        (nifti(label_array().astype(np.float32) + 0.5), "label-values"),
        (b"nothing", "not-a-volume"),
    ],
    ids=["another size", "another place", "a value too high", "fractions", "no volume"],
)
def test_a_bad_label_map_leaves_its_volume_as_work(lab: Lab, data: bytes, reason: str) -> None:
    lab.configure(ORGAN)
    lab.drop("imagesTr/x.nii.gz", volume(1))
    lab.drop("labelsTr/x.nii.gz", data)
    lab.settle(60)
    assert reason in lab.refusals()
    case = lab.cases()["imagesTr/x.nii.gz"].case
    assert not lab.label_studio.task_of(case)["annotations"]


def test_late_label_maps_keep_no_other_task_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def land_slowly(*given: Any) -> bool:
        lab.now_s += 15
        return land_labels(*given)

    monkeypatch.setattr(volume_visit, "land_labels", land_slowly)
    lab.configure(ORGAN)
    for seed in range(4):
        lab.drop(f"imagesTr/{seed}.nii.gz", volume(seed))
    lab.settle(30)
    for seed in range(4):
        lab.drop(f"labelsTr/{seed}.nii.gz", labels())
    lab.round()
    lab.round(QUIET_S)
    cases = [case.case for case in lab.cases().values()]
    assert sum(bool(current_answers(lab.task, case)) for case in cases) == 2
    assert lab.ingest.next_wait_s(10) == 0
    lab.round()
    assert all(current_answers(lab.task, case) for case in cases)


def test_a_lost_label_map_keeps_no_other_case_from_label_studio(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.label_studio.down = True
    for seed, name in enumerate("ab"):
        lab.drop(f"imagesTr/{name}.nii.gz", volume(seed))
        lab.drop(f"labelsTr/{name}.nii.gz", labels())
    lab.settle(30)
    lost, other = (lab.cases()[f"imagesTr/{name}.nii.gz"].case for name in "ab")
    for path in lab.task.case_annotations(lost).glob("*.nii.gz"):
        path.unlink()
    lab.label_studio.down = False
    lab.settle(120)
    assert lab.label_studio.cases() == [other]


def test_a_label_map_without_a_volume_is_refused_after_a_while(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("labelsTr/x.nii.gz", labels())
    lab.settle(30)
    assert lab.left()
    lab.settle(60)
    assert set(lab.refusals()) == {"mask-without-picture"}


def test_test_images_of_a_challenge_stay_and_are_no_cases(lab: Lab) -> None:
    lab.configure(ORGAN)
    lab.drop("imagesTr/x.nii.gz", volume(1))
    lab.drop("imagesTs/y.nii.gz", volume(2))
    lab.settle(90)
    assert list(lab.cases()) == ["imagesTr/x.nii.gz"]
    assert lab.left() == ["imagesTr/x.nii.gz", "imagesTs/y.nii.gz"]
    lab.restart()
    lab.settle(20)
    assert not lab.refusals()


# --- channels ------------------------------------------------------------------------------------


def test_channels_by_number_are_one_case(lab: Lab) -> None:
    lab.configure(TWO)
    lab.drop("imagesTr/x_0000.nii.gz", volume(1))
    lab.drop("imagesTr/x_0001.nii.gz", volume(2))
    lab.drop("labelsTr/x.nii.gz", labels())
    lab.settle(30)
    (case,) = lab.cases().values()
    assert case.volume is not None
    assert case.volume.images == ("image_0000.nii.gz", "image_0001.nii.gz")
    assert case.volume.channels == ("T1", "T2")
    assert (case.image, case.channels) == ("image_0000.nii.gz", 2)
    assert len(current_answers(lab.task, case.case)) == 1
    lab.restart()
    lab.settle(30)
    assert len(lab.cases()) == 1 and not lab.refusals()


def test_a_file_that_holds_all_channels_is_one_case(lab: Lab) -> None:
    about = {
        "modality": {"0": "FLAIR", "1": "T1w"},
        "labels": {"0": "background", "1": "edema"},
        "tensorImageSize": "4D",
    }
    random = np.random.default_rng(7)
    both = random.integers(0, 1000, (*SHAPE, 2), dtype=np.int16)
    lab.drop("dataset.json", json.dumps(about).encode())
    lab.drop("imagesTr/BRATS_001.nii.gz", nifti(both))
    lab.drop("labelsTr/BRATS_001.nii.gz", labels(top=1))
    lab.settle(30)
    assert not lab.refusals()
    (case,) = lab.cases().values()
    assert case.volume is not None and case.volume.channels == ("FLAIR", "T1w")
    for place, name in enumerate(case.volume.images):
        found = read_nifti(lab.task.case(case.case) / name)
        assert np.array_equal(to_stored(found.voxels_CXYZ[0], found.grid), both[..., place])
    assert len(current_answers(lab.task, case.case)) == 1


def test_a_file_with_another_number_of_channels_is_refused(lab: Lab) -> None:
    lab.configure(TWO)
    lab.drop("x.nii.gz", nifti(np.ones((*SHAPE, 3), dtype=np.int16)))
    lab.settle(600)
    assert not lab.cases() and lab.refusals()


def test_channels_by_case_list_are_one_case(lab: Lab) -> None:
    lab.configure(TWO)
    lab.drop("b/one_t2.nii.gz", volume(2))
    lab.drop("b/one_t1.nii.gz", volume(1))
    lab.drop("b/one_seg.nii.gz", labels())
    lab.drop(
        "cases.csv",
        b"file,case,channel,patient\nb/one_t1.nii.gz,one,t1,Ann\nb/one_t2.nii.gz,one,T2,Ann\n"
        b"b/one_seg.nii.gz,one,label,Ann\n",
    )
    lab.settle(30)
    (case,) = lab.cases().values()
    assert case.source.path == "b/one_t1.nii.gz"
    assert len(current_answers(lab.task, case.case)) == 1
    assert not lab.refusals()


def test_a_channel_that_never_comes_refuses_its_case(lab: Lab) -> None:
    lab.configure(TWO)
    lab.drop("imagesTr/x_0000.nii.gz", volume(1))
    lab.settle(30)
    assert not lab.refusals()
    lab.settle(60)
    assert "T1, but 1 channels" in lab.refusals()["channel-missing"]


def test_channels_on_two_grids_are_refused_together(lab: Lab) -> None:
    lab.configure(TWO)
    lab.drop("x_0000.nii.gz", volume(1))
    lab.drop("x_0001.nii.gz", volume(2, (9, 11, 12)))
    lab.settle(30)
    assert "9 × 11 × 13" in lab.refusals()["channel-grid"]
    (folder,) = lab.task.rejected.iterdir()
    assert len(list(folder.iterdir())) == 3
    assert not lab.left()


def test_a_channel_that_the_task_lacks_is_refused(lab: Lab) -> None:
    lab.configure(TWO)
    lab.drop("x.nii.gz", volume(1))
    lab.drop("cases.csv", b"file,case,channel\nx.nii.gz,x,FLAIR\n")
    lab.settle(30)
    assert "the task knows T1, T2" in lab.refusals()["channel-unknown"]


# --- task.yaml -----------------------------------------------------------------------------------


def test_a_decathlon_layout_is_understood(lab: Lab) -> None:
    about = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "cancer"}}
    lab.drop("dataset.json", json.dumps(about).encode())
    for number in range(2):
        lab.drop(f"imagesTr/liver_{number}.nii.gz", volume(number))
        lab.drop(f"labelsTr/liver_{number}.nii.gz", labels())
    lab.drop("imagesTs/liver_9.nii.gz", volume(9))
    lab.settle(30)
    config = load_task(lab.task.config)
    assert (config.kind, config.modality, config.volume.channels) == ("segmentation", "CT", ())
    assert config.scheme.names == ("liver", "cancer")
    assert len(lab.label_studio.cases()) == 2


def test_an_nnunet_layout_with_channels_is_understood(lab: Lab) -> None:
    about = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "lesion": 1}}
    lab.drop("dataset.json", json.dumps(about).encode())
    lab.drop("imagesTr/ms_1_0000.nii.gz", volume(1))
    lab.drop("imagesTr/ms_1_0001.nii.gz", volume(2))
    lab.drop("labelsTr/ms_1.nii.gz", labels(top=1))
    lab.settle(30)
    config = load_task(lab.task.config)
    assert (config.modality, config.volume.channels) == ("MR", ("T1", "FLAIR"))
    assert len(lab.label_studio.cases()) == 1


@pytest.mark.parametrize("extra", [{"whole": [1, 2]}, {"ignore": 3}], ids=["regions", "ignore"])
def test_regions_hold_the_task(lab: Lab, extra: dict[str, object]) -> None:
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1} | extra}
    lab.drop("dataset.json", json.dumps(about).encode())
    lab.drop("imagesTr/x_0000.nii.gz", volume(1))
    lab.settle(30)
    assert "not supported" in lab.pulse.trouble
    assert not lab.task.config.exists()


def test_unnamed_labels_and_channels_are_found_in_the_files(lab: Lab) -> None:
    for number in range(2):
        lab.drop(f"imagesTr/x{number}_0000.nii.gz", volume(number))
        lab.drop(f"imagesTr/x{number}_0001.nii.gz", volume(number + 5))
        lab.drop(f"labelsTr/x{number}.nii.gz", labels(top=3))
    lab.settle(30)
    config = load_task(lab.task.config)
    assert config.scheme.names == ("label 1", "label 2", "label 3")
    assert config.volume.channels == ("channel 0", "channel 1")
    assert config.modality == "MR"
    assert "the modality MR was guessed" in lab.task.config.read_text()
    assert len(lab.cases()) == 2


def test_amos_numbers_are_no_channels(lab: Lab) -> None:
    for number in (1, 4, 7):
        lab.drop(f"imagesTr/amos_000{number}.nii.gz", volume(number))
        lab.drop(f"labelsTr/amos_000{number}.nii.gz", labels())
    lab.settle(30)
    assert load_task(lab.task.config).volume.channels == ()
    assert len(lab.cases()) == 3
    assert all(len(current_answers(lab.task, one.case)) == 1 for one in lab.cases().values())


def test_hounsfield_units_are_known_as_ct(lab: Lab) -> None:
    array = np.full(SHAPE, -1000, dtype=np.int16)
    array[3:6, 3:6, 3:6] = 40
    lab.drop("a.nii.gz", nifti(array))
    lab.settle(30)
    assert load_task(lab.task.config).modality == "CT"
    assert load_task(lab.task.config).kind == "segmentation"


def test_class_folders_of_volumes_make_a_classification(lab: Lab) -> None:
    for number in range(4):
        lab.drop(f"{'healthy' if number < 2 else 'ill'}/{number}.nii.gz", volume(number))
    lab.settle(30)
    config = load_task(lab.task.config)
    assert (config.kind, config.scheme.names) == ("classification", ("healthy", "ill"))
    case = lab.cases()["ill/3.nii.gz"].case
    assert len(lab.label_studio.task_of(case)["annotations"]) == 1


def test_a_folder_for_each_volume_is_no_class(lab: Lab) -> None:
    for number in range(3):
        lab.drop(f"subject{number}/anat.nii.gz", volume(number))
    lab.settle(30)
    assert load_task(lab.task.config).kind == "segmentation"


def test_no_task_is_guessed_from_broken_volumes(lab: Lab) -> None:
    lab.drop("a.nii.gz", volume(1)[:400])
    lab.settle(60)
    assert not lab.task.config.exists()
    assert lab.refusals() and not lab.left()


def test_logs_and_records_hold_no_names_of_volumes_files(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    lab.configure(ORGAN)
    lab.drop("Mueller_Hans.nii.gz", volume(1))
    lab.drop("Mueller_Copy.nii.gz", volume(1))
    lab.settle(30)
    assert "Mueller" not in caplog.text
