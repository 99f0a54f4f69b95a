"""MONAI: a data list in the Medical Segmentation Decathlon's words, and the files it names.

    datalist.json                     for `monai.data.load_decathlon_datalist` and Auto3DSeg
    imagesTr/, labelsTr/              train and validation; one file for each channel
    imagesTs/, labelsTs/              the held-out cases

`training` holds every case that is not held out with its `fold`: the fold that validates on it.
Fold 0 is the split that Labloop trains with. There is no list `validation`: whoever took it beside
`training` would train on it. `testing` holds the held-out cases with their labels. In a task of
classes `label` is the class's number from 0, or a row of 0 and 1 where several may hold.
"""

from collections.abc import Sequence
from typing import Any

from imaging.dataset.folds_file import fold_cases
from imaging.export.folder import Export, ExportCase, Progress, metadata
from imaging.export.nnunet import one_kind_of_channels

LIST = "datalist.json"


def fill_monai(export: Export, cases: Sequence[ExportCase], progress: Progress) -> None:
    """Write the list and its files.

    Raises:
        ExportError: the cases do not have the same channels.
    """
    snapshot = export.snapshot
    channels = one_kind_of_channels(cases)
    fold_of = {
        name: number for number, fold in enumerate(fold_cases(snapshot)) for name in fold.validation
    }
    training: list[dict[str, Any]] = []
    testing: list[dict[str, Any]] = []
    for done, case in enumerate(cases, start=1):
        item = _item(export, case)
        if case.is_test:
            testing.append(item)
        else:
            # Without a fold of its own where there are too few patients for several.
            training.append(item | ({"fold": fold_of[case.name]} if case.name in fold_of else {}))
        progress(done, len(cases))
    is_volume = cases[0].frozen.is_volume
    first = 1 if snapshot.kind == "segmentation" else 0
    labels = {str(one.index - 1 + first): one.name for one in snapshot.scheme.labels}
    record = {
        "name": snapshot.task,
        "description": f"snapshot {snapshot.id} of Labloop",
        "tensorImageSize": "3D" if is_volume else "2D",
        "modality": {str(number): name for number, name in enumerate(channels)},
        "labels": ({"0": "background"} if first else {}) | labels,
        "numTraining": len(training),
        "numTest": len(testing),
        "training": training,
        "testing": testing,
    }
    export.write_json(LIST, record)


def _item(export: Export, case: ExportCase) -> dict[str, Any]:
    side = "Ts" if case.is_test else "Tr"
    ending = ".nii.gz" if case.frozen.is_volume else ".png"
    images = []
    for channel, (source, sha256) in enumerate(case.images):
        number = f"_{channel:04d}" if len(case.images) > 1 else ""
        images.append(f"images{side}/{case.name}{number}{ending}")
        export.link(images[-1], source, sha256)
    label: str | int | list[int]
    if case.frozen.labels is not None:
        label = f"labels{side}/{case.name}{ending}"
        export.link_labels(label, case)
    else:
        label = _class_label(export, case.frozen.classes or ())
    item: dict[str, Any] = {
        "image": images[0] if len(images) == 1 else images,
        "label": label,
        "case": case.name,
        "patient": case.frozen.patient,
    }
    # A record of its own: MONAI takes a plain text that happens to be a path for one.
    return item | ({"metadata": found} if (found := metadata(case)) else {})


def _class_label(export: Export, classes: Sequence[str]) -> int | list[int]:
    names = export.snapshot.scheme.names
    if export.snapshot.multi_label:
        return [int(name in classes) for name in names]
    return names.index(classes[0])
