"""COCO: regions with bounding boxes and run lengths, for detection and instance segmentation.

    images/<split>/<case>.png                      a picture; of a volume <case>_0007.png, slice 7
    annotations/instances_<split>.json             train, validation, test

Each connected part of a label on a picture or slice is one annotation. Its run lengths are COCO's
uncompressed ones: down the columns, zeros first. Slices of a volume are shown as annotators see
them: windowed to 8 bits, on square pixels.

Source: https://cocodataset.org/#format-data; cocoapi/common/maskApi.h for the run lengths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.dataset.folds import SPLITS
from imaging.export.folder import Export, ExportCase, Progress, metadata
from imaging.export.views import views_of

TOUCHING = np.ones((3, 3), dtype=np.bool_)  # corners connect
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class _Sheet:
    """The lists of one split's file; numbers run from 1."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


def fill_coco(export: Export, cases: Sequence[ExportCase], progress: Progress) -> None:
    """Write pictures and annotations.

    Raises:
        ExportError: a case has no label map, or no slices to show.
    """
    scheme, snapshot = export.snapshot.scheme, export.snapshot
    sheets = {split: _Sheet() for split in SPLITS}
    for done, case in enumerate(cases, start=1):
        _take(export, case, sheets[case.frozen.split])
        progress(done, len(cases))
    categories = [
        {"id": one.index, "name": one.name, "supercategory": snapshot.task, "color": one.color}
        for one in scheme.labels
    ]
    for split, sheet in sheets.items():
        record = {
            "info": {"description": f"{snapshot.task}, {split}, snapshot {snapshot.id} of Labloop"},
            "licenses": [],
            "categories": categories,
            "images": sheet.images,
            "annotations": sheet.annotations,
        }
        export.write_json(f"annotations/instances_{split}.json", record, indent=None)


def encode_rle(mask_HW: Mask) -> dict[str, Any]:
    """COCO's uncompressed run lengths: down the columns, how many are out, in, out …"""
    flat = mask_HW.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": list(mask_HW.shape), "counts": [0, *counts] if flat[0] else counts}


def parts_of(labels_HW: NDArray[np.uint8]) -> Iterator[tuple[int, Mask]]:
    """Each connected part of each label: its index, and its mask."""
    for index in np.flatnonzero(np.bincount(labels_HW[labels_HW > 0])):
        parts_HW, count = ndimage.label(labels_HW == index, structure=TOUCHING)
        for part in range(1, count + 1):
            yield int(index), parts_HW == part


def _take(export: Export, case: ExportCase, sheet: _Sheet) -> None:
    found = metadata(case)
    for view in views_of(case):
        number = "" if view.index is None else f"_{view.index:04d}"
        file_name = f"{case.name}{number}.png"
        export.link(f"images/{case.frozen.split}/{file_name}", view.image, view.sha256)
        height, width = view.labels_HW.shape
        image: dict[str, Any] = {
            "id": len(sheet.images) + 1,
            "file_name": file_name,
            "width": width,
            "height": height,
            "case": case.name,
            "patient": case.frozen.patient,
        }
        if view.index is not None:
            is_filled = view.index in case.frozen.interpolated
            image |= {"slice": view.index, "interpolated": is_filled}
        sheet.images.append(image | ({"metadata": found} if found else {}))
        for index, mask_HW in parts_of(view.labels_HW):
            annotation = {"id": len(sheet.annotations) + 1, "image_id": image["id"]}
            sheet.annotations.append(annotation | {"category_id": index} | _region(mask_HW))


def _region(mask_HW: Mask) -> dict[str, Any]:
    rows, columns = ndimage.find_objects(mask_HW.astype(np.uint8))[0]
    sides = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    return {
        "segmentation": encode_rle(mask_HW),
        "area": int(mask_HW.sum()),
        "bbox": [int(side) for side in sides],
        "iscrowd": 0,
    }
