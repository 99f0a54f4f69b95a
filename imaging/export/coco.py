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


@dataclass(frozen=True, slots=True)
class Part:
    """One connected part of a label: its mask within its bounding box."""

    index: int  # of the label
    top: int
    left: int
    mask_HW: Mask


def encode_rle(part: Part, shape_HW: tuple[int, int]) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a whole picture: how many pixels are out, in, out …"""
    height, width = shape_HW
    columns, rows = np.nonzero(part.mask_HW.T)  # column by column, as the runs go
    places = (columns + part.left) * height + rows + part.top
    breaks = np.flatnonzero(np.diff(places) > 1)
    starts = places[np.concatenate(([0], breaks + 1))]
    ends = places[np.concatenate((breaks, [len(places) - 1]))] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(np.concatenate(([0], edges, [height * width]))).tolist()
    # A picture that ends inside a run has no zeros after it.
    return {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}


def parts_of(labels_HW: NDArray[np.uint8]) -> Iterator[Part]:
    """The connected parts of each label, by label; worked out within their boxes alone."""
    for number, box in enumerate(ndimage.find_objects(labels_HW), start=1):
        if box is None:
            continue
        found_HW, _ = ndimage.label(labels_HW[box] == number, structure=TOUCHING)
        for part, inner in enumerate(ndimage.find_objects(found_HW), start=1):
            top, left = (outer.start + one.start for outer, one in zip(box, inner, strict=True))
            yield Part(number, top, left, found_HW[inner] == part)


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
        for part in parts_of(view.labels_HW):
            annotation = {"id": len(sheet.annotations) + 1, "image_id": image["id"]}
            sheet.annotations.append(annotation | _region(part, (height, width)))


def _region(part: Part, shape_HW: tuple[int, int]) -> dict[str, Any]:
    height, width = part.mask_HW.shape
    return {
        "category_id": part.index,
        "segmentation": encode_rle(part, shape_HW),
        "area": int(part.mask_HW.sum()),
        "bbox": [part.left, part.top, width, height],
        "iscrowd": 0,
    }
