"""The plots: what must be seen is there."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.io.picture import read_picture
from imaging.labels import label_scheme
from imaging.model.plots import Example, plot_confusion, plot_dice, plot_examples
from imaging.model.report import LabelRow

SCHEME = label_scheme(["liver", "脾"])  # the second name is not in the font


def near(pixels: NDArray[Any], color: str) -> int:
    """How many pixels have about that colour."""
    wanted = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted).max(axis=2) < 12).sum())


def row(name: str, dice: tuple[float, ...]) -> LabelRow:
    return LabelRow(name, dice, 0, 0, {})


def test_each_label_with_a_score_has_a_box(tmp_path: Path) -> None:
    plot_dice(tmp_path / "a.png", [row("liver", (0.5, 0.7, 0.9)), row("脾", ())], SCHEME, "a")
    plot_dice(tmp_path / "b.png", [row("liver", (0.5, 0.7)), row("脾", (1.0,))], SCHEME, "b")
    one, two = (read_picture(tmp_path / name) for name in ("a.png", "b.png"))
    assert two.shape[0] > one.shape[0]


def test_nothing_to_plot_is_an_empty_plot(tmp_path: Path) -> None:
    plot_dice(tmp_path / "a.png", [], SCHEME, "nothing")
    assert (tmp_path / "a.png").is_file()


def test_outlines_have_the_colours_of_their_labels(tmp_path: Path) -> None:
    truth_HW = np.zeros((20, 30), dtype=np.uint8)
    truth_HW[:8, :8] = 1  # touches the border
    answer_HW = np.full_like(truth_HW, 2)  # the whole picture
    grey_HW = np.full((20, 30), 128, dtype=np.uint8)
    color_HWC = np.stack([grey_HW] * 3, axis=2)
    for pixels in (grey_HW, color_HWC):
        example = Example("case-1", pixels, truth_HW, answer_HW)
        plot_examples(tmp_path / "a.png", [example], SCHEME, "worst")
        shown = read_picture(tmp_path / "a.png")
        assert all(near(shown, label.color) > 50 for label in SCHEME.labels)


def test_a_confusion_shows_its_rows(tmp_path: Path) -> None:
    plot_confusion(tmp_path / "a.png", [[5, 0], [0, 0]], ["liver", "脾"], "two")
    assert near(read_picture(tmp_path / "a.png"), "#08306b") > 500  # all of the row: the darkest
