"""The demo's task: which pictures it has, which labels come with them, and the truth of the rest.

Four sets: brain slices made here, and, when `LABLOOP_DATA` holds them, the Sunnybrook hearts, the
paediatric chest X-rays and the hippocampus volumes of the Medical Segmentation Decathlon.
"""

import csv
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imaging.dataset.cases import CaseRecord
from imaging.errors import RecordError
from imaging.io.picture import write_label_map, write_picture
from imaging.io.volumes import read_labels
from imaging.labels import LabelScheme, label_scheme
from imaging.labelstudio.results import results_from_classes, results_from_label_map
from imaging.labelstudio.stack import items_of, results_from_label_volume
from imaging.layout import TaskFolder
from imaging.task import GatePolicy, RecipeChoice, RetrainPolicy, SplitPolicy, TaskConfig, save_task
from stack.demo.example import NEW_SCANNER, OLD_SCANNER, SCHEME, make_patients
from stack.errors import UsageError

Results = list[dict[str, Any]]
# What a perfect annotator answers to a task of a case; a task's data say which slices it shows.
Truth = Callable[[CaseRecord, Mapping[str, Any]], Results]


@dataclass(frozen=True, slots=True)
class DemoItem:
    """One picture of the demo, how to write it, and what a perfect annotator would answer."""

    file: str
    patient: str
    group: str  # scanner, pathology: a further column of cases.csv
    write_image: Callable[[Path], None]
    truth: Truth
    write_label: Callable[[Path], None] | None = None  # set: the label comes with the picture
    class_folder: str | None = None  # set: the label is the folder's name


@dataclass(frozen=True, slots=True)
class DemoSet:
    """A task with its pictures.

    `rounds`: how many answers the annotator gives before each training run; 0 where the labels
    that come with the pictures are enough.
    `is_sure`: the second round surely makes a better model, so that a refusal is a fault. Of real
    pictures nobody knows: the gate may find a few patients too few to tell.
    """

    task: str
    config: TaskConfig
    items: tuple[DemoItem, ...]
    rounds: tuple[int, int]
    is_sure: bool = False

    @property
    def given(self) -> int:
        """How many pictures bring their label along."""
        return sum(1 for item in self.items if item.write_label or item.class_folder)

    @property
    def truths(self) -> Mapping[str, Truth]:
        """File name → the answer a perfect annotator gives."""
        return {item.file: item.truth for item in self.items}

    def write(self, task: TaskFolder) -> None:
        """Put the pictures on the NAS the way a person would: task.yaml, then rawdata/."""
        save_task(task.config, self.config)
        staging = task.root / ".filling"  # ingest sees the pictures when they are all there
        for item in self.items:
            folder = staging / (item.class_folder or "images")
            folder.mkdir(parents=True, exist_ok=True)
            item.write_image(folder / item.file)
            if item.write_label:
                (staging / "masks").mkdir(exist_ok=True)
                item.write_label(staging / "masks" / item.file)
        with (staging / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow(("file", "patient", "group"))
            rows.writerows((item.file, item.patient, item.group) for item in self.items)
        staging.rename(task.rawdata)


def demo_set(name: str, budget_s: float | None, data: Path) -> DemoSet:
    """The demo set of that name, with its own or another training time.

    Args:
        name: "example", or a folder of `data`.
        budget_s: training time of each run; None = the set's own.
        data: the folder of openly licensed image sets (LABLOOP_DATA).

    Raises:
        UsageError: the name is unknown, or LABLOOP_DATA does not hold the set.
    """
    makers: dict[str, Callable[[], DemoSet]] = {
        "example": _example,
        "cardiac_lv_sunnybrook": lambda: cardiac_set(data),
        "chest_xray_pneumonia": lambda: chest_set(data),
        "hippocampus_mr": lambda: hippocampus_set(data),
    }
    if name not in makers:
        raise UsageError(
            f"the data set is {name!r}, expected one of {', '.join(makers)}",
            hint=f"The demo makes `example` itself; the others lie in LABLOOP_DATA, now {data}.",
        )
    made = makers[name]()
    if budget_s is None:
        return made
    recipe = replace(made.config.recipe, budget_s=budget_s)
    return replace(made, config=replace(made.config, recipe=recipe))


def _config(config: TaskConfig, min_new_labels: int) -> TaskConfig:
    """The task with the demo's hurry: train as soon as a round's labels are there."""
    retrain = RetrainPolicy(min_new_labels=min_new_labels, quiet_s=4.0, cooldown_s=0.0)
    return replace(config, retrain=retrain)


def _example() -> DemoSet:
    def item(one: Any, given: bool) -> DemoItem:
        return DemoItem(
            file=f"{one.name}.png",
            patient=one.patient,
            group=one.scanner,
            write_image=lambda path: write_picture(path, one.image_HW),
            truth=lambda *_: results_from_label_map(one.labels_HW, SCHEME),
            write_label=(lambda path: write_label_map(path, one.labels_HW)) if given else None,
        )

    items = [item(one, given=True) for one in make_patients(0, 12, OLD_SCANNER)]
    items += [item(one, given=False) for one in make_patients(100, 16, NEW_SCANNER)]
    config = TaskConfig(
        kind="segmentation",
        scheme=SCHEME,
        title="Brain tissue (demo)",
        split=SplitPolicy(held_out=0.25, validation=0.15),
        recipe=RecipeChoice("auto", 40.0),
        gate=GatePolicy(min_held_out_cases=10),
    )
    return DemoSet(
        "Task001_brain_tissue", _config(config, 48), tuple(items), rounds=(0, 48), is_sure=True
    )


def cardiac_set(data: Path) -> DemoSet:
    """Left ventricles of 15 patients, none of them labelled: the annotator draws them all."""
    root = _found(data / "cardiac_lv_sunnybrook")
    scheme = label_scheme(["left ventricle"])

    def item(row: Mapping[str, str]) -> DemoItem:
        def truth(*_: object) -> Results:
            with Image.open(root / "masks" / row["file"]) as mask:
                labels_HW = (np.asarray(mask.convert("L")) > 127).astype(np.uint8)
            return results_from_label_map(labels_HW, scheme)

        source = root / "images" / row["file"]
        return DemoItem(row["file"], row["patient"], row["pathology_group"], _copier(source), truth)

    items = tuple(map(item, _rows(root / "cases.csv")))
    config = TaskConfig(
        kind="segmentation",
        scheme=scheme,
        title="Left ventricle (Sunnybrook)",
        split=SplitPolicy(held_out=0.34, validation=0.1),
        recipe=RecipeChoice("auto", 420.0),
    )
    rounds = (60, len(items) - 60)
    return DemoSet("Task002_cardiac_lv", _config(config, 60), items, rounds)


def chest_set(data: Path, given_share: float = 2 / 3) -> DemoSet:
    """Paediatric chest X-rays; `given_share` of them lie in class folders, their labels known."""
    root = _found(data / "chest_xray_pneumonia")
    rows = _rows(root / "labels.csv")
    scheme = label_scheme(["normal", "pneumonia"])

    def item(row: Mapping[str, str], given: bool) -> DemoItem:
        return DemoItem(
            row["file"],
            row["patient"],
            row["subtype"],
            _copier(root / "images" / row["file"]),
            lambda *_: results_from_classes((row["label"],), None),
            class_folder=row["label"] if given else None,
        )

    given = round(len(rows) * given_share)
    items = tuple(item(row, position < given) for position, row in enumerate(rows))
    config = TaskConfig(
        kind="classification",
        scheme=scheme,
        title="Chest X-ray (paediatric)",
        split=SplitPolicy(held_out=0.25, validation=0.1),
        recipe=RecipeChoice("auto", 300.0),
    )
    return DemoSet("Task003_chest_xray", _config(config, 120), items, rounds=(0, 120))


def hippocampus_set(data: Path, *, drawn: int = 20, volumes: int | None = None) -> DemoSet:
    """Small MR volumes with two labels; `drawn` of them are the annotator's, slice by slice.

    Args:
        data: LABLOOP_DATA.
        drawn: how many come without a label map.
        volumes: about so many, evenly spread over the set; None = all 150.

    The set has about two volumes of each person and does not say which: neighbouring numbers count
    as one patient.
    """
    root = _found(data / "hippocampus_mr")
    scheme = label_scheme(["anterior", "posterior"])
    files = sorted(path.name for path in (root / "images").glob("*.nii.gz"))
    files = files[:: max(1, len(files) // (volumes or len(files)))]
    patients = neighbours(files)

    def item(place: int, file: str) -> DemoItem:
        label = root / "labels" / file
        return DemoItem(
            file,
            patients[file],
            "MSD",
            _copier(root / "images" / file),
            _drawer(label, scheme),
            write_label=None if place < drawn else _copier(label),
        )

    # Spread over the set, so that some of what is drawn by hand trains and some is held out.
    step = max(1, len(files) // max(drawn, 1))
    order = sorted(range(len(files)), key=lambda place: (place % step, place))
    items = tuple(item(place, files[at]) for place, at in enumerate(order))
    config = TaskConfig(
        kind="segmentation",
        scheme=scheme,
        title="Hippocampus (MSD)",
        modality="MR",
        split=SplitPolicy(held_out=0.25, validation=0.1),
        recipe=RecipeChoice("auto", 600.0),
        gate=GatePolicy(min_held_out_cases=5),
    )
    return DemoSet("Task004_hippocampus", _config(config, max(drawn, 1)), items, (0, drawn))


def neighbours(files: Sequence[str]) -> dict[str, str]:
    """File → patient, where runs of consecutive numbers in the names are one patient."""
    numbers = {file: int(re.search(r"(\d+)", file)[1]) for file in files}  # type: ignore[index]
    patients: dict[str, str] = {}
    before, patient = -2, ""
    for file, number in sorted(numbers.items(), key=lambda pair: pair[1]):
        if number != before + 1:
            patient = f"p-{number:03}"
        patients[file], before = patient, number
    return patients


def _drawer(label: Path, scheme: LabelScheme) -> Truth:
    def truth(case: CaseRecord, data: Mapping[str, Any]) -> Results:
        if case.volume is None:
            raise RecordError(f"{case.case} is a picture, expected a volume")
        labels_XYZ = read_labels(label, case.volume.grid, scheme)
        return results_from_label_volume(labels_XYZ, scheme, case.volume.plane, items_of(data))

    return truth


def _copier(source: Path) -> Callable[[Path], None]:
    def copy(path: Path) -> None:
        shutil.copyfile(source, path)

    return copy


def _rows(path: Path) -> Sequence[Mapping[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _found(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(
            f"there is no {folder}", hint="Set LABLOOP_DATA to the folder that holds the set."
        )
    return folder
