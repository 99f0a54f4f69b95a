"""PNG: masks hold the indices and look like the labels."""

import csv
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.dataset.cases import load_case
from imaging.dataset.snapshot import freeze_snapshot
from imaging.errors import ExportError
from imaging.export.folder import export_snapshot
from imaging.export.png import fill_drawn, fill_png, legend_picture, palette_png
from imaging.io.nifti import read_label_volume
from imaging.io.picture import read_label_map, read_picture
from imaging.labels import label_scheme
from imaging.labelstudio.plane import plane_of
from imaging.task import VolumePolicy
from tests.imaging.dataset.lab import SEGMENTATION, SHAPE_HW, label_cases, make_task
from tests.imaging.export.lab import SCHEME, make_lab


def test_a_mask_holds_indices_and_shows_colours() -> None:
    labels_HW = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    image = Image.open(BytesIO(palette_png(labels_HW, SCHEME)))
    assert np.array_equal(np.asarray(image), labels_HW)
    assert image.convert("RGB").getpixel((0, 1)) == SCHEME.labels[1].rgb


def test_pictures_and_masks_read_back_equal(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    label_cases(task, range(6))
    frozen = freeze_snapshot(task, SEGMENTATION)
    export_snapshot(tmp_path / "out", frozen, "png", fill_png)
    for case in frozen.cases:
        name = f"{case.split}/{case.case}.png"
        assert case.labels is not None
        shown_HW = read_picture(tmp_path / "out" / "images" / name)
        assert np.array_equal(shown_HW, read_picture(case.image))
        mask_HW = read_label_map(tmp_path / "out" / "masks" / name, SHAPE_HW, SEGMENTATION.scheme)
        assert np.array_equal(mask_HW, read_label_map(case.labels, SHAPE_HW))


def test_a_volume_becomes_a_folder_of_slices(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "png", fill_png)
    for case in lab.snapshot.cases:
        volume = load_case(case.image.parent).volume
        assert volume is not None and case.labels is not None
        labels_XYZ = read_label_volume(case.labels, volume.grid)
        folder = tmp_path / "out" / "masks" / case.split / case.case
        for index in range(labels_XYZ.shape[2]):
            mask_HW = read_label_map(folder / f"{index:04d}.png", volume.plane.shape_HW)
            back_AB = volume.plane.voxels(mask_HW)
            assert np.array_equal(back_AB, labels_XYZ.take(index, axis=2))
            assert (tmp_path / f"out/images/{case.split}/{case.case}/{index:04d}.png").is_file()


def test_slices_along_another_axis_are_drawn_for_the_export(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    fill = fill_drawn(VolumePolicy(axis="coronal"))
    export_snapshot(tmp_path / "out", lab.snapshot, "png", fill)
    for case in lab.snapshot.cases:
        volume = load_case(case.image.parent).volume
        assert volume is not None and case.labels is not None
        labels_XYZ = read_label_volume(case.labels, volume.grid)
        plane = plane_of(volume.grid, "coronal")
        folder = tmp_path / "out" / "masks" / case.split / case.case
        assert len(list(folder.iterdir())) == labels_XYZ.shape[1]
        for index in range(labels_XYZ.shape[1]):
            mask_HW = read_label_map(folder / f"{index:04d}.png", plane.shape_HW)
            assert np.array_equal(plane.voxels(mask_HW), labels_XYZ[:, index])
            picture = tmp_path / f"out/images/{case.split}/{case.case}/{index:04d}.png"
            assert read_picture(picture).shape == plane.shape_HW


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    with pytest.raises(ExportError, match="has 1 channels, expected 2"):
        export_snapshot(tmp_path / "out", lab.snapshot, "png", fill_drawn(VolumePolicy(), 1))


def test_the_legend_names_every_label(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "nas")
    export_snapshot(tmp_path / "out", lab.snapshot, "png", fill_png)
    with (tmp_path / "out" / "legend.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["index"], row["name"]) for row in rows] == [
        ("0", "background"),
        ("1", "liver"),
        ("2", "left kidney"),
    ]
    assert read_picture(tmp_path / "out" / "legend.png").shape[0] > 50
    assert '"left kidney"' in (tmp_path / "out" / "itksnap.txt").read_text()


def test_the_legend_is_as_wide_as_its_longest_name() -> None:
    short, long = (
        Image.open(BytesIO(legend_picture(label_scheme([name])))).size[0]
        for name in ("a", "a" * 80)
    )
    assert long > 5 * short
