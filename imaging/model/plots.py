"""Pictures of an evaluation: box plots of Dice, and cases with the outlines of truth and answer.

matplotlib draws them, without pyplot: nothing is kept, and no screen is needed.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from imaging.labels import LabelScheme
from imaging.model.report import LabelRow

DPI = 120
COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Example:
    """One case as a person sees it: a picture, or the slice of a volume that shows most."""

    title: str
    pixels: NDArray[Any]  # uint8, HW or HWC
    truth_HW: NDArray[np.uint8]
    answer_HW: NDArray[np.uint8]


def plot_dice(path: Path, rows: Sequence[LabelRow], scheme: LabelScheme, title: str) -> None:
    """A box for each label over its cases, with every case as a dot; labels from top to bottom."""
    shown = [row for row in rows if row.dice]
    figure = Figure(figsize=(8, 1.4 + 0.42 * max(1, len(shown))), layout="constrained")
    axes = figure.add_subplot()
    heights = np.arange(len(shown), 0, -1)
    for height, row in zip(heights, shown, strict=True):
        label = scheme.find(row.label)
        color = label.color if label else "#808080"
        axes.boxplot(
            [row.dice],
            positions=[height],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": color, "alpha": 0.45},
            medianprops={"color": "black", "linewidth": 1.6},
        )
        # Dots beside each other where many cases score alike: a fixed seed, the same picture again.
        jitter = np.random.default_rng(0).uniform(-0.17, 0.17, len(row.dice))
        axes.scatter(row.dice, height + jitter, s=9, color="black", alpha=0.55, zorder=3)
    names = [f"{row.label}  (n = {len(row.dice)})" for row in shown]
    axes.set_yticks(heights, names)
    axes.set_ylim(0.4, len(shown) + 0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("Dice")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    _save(figure, path)


def plot_confusion(
    path: Path, counts: Sequence[Sequence[int]], names: Sequence[str], title: str
) -> None:
    """Rows truth, columns answer; shares of the row as shades, counts as numbers."""
    table = np.array(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.6 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(title, fontsize=10)
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.5 else "black"
        text = str(int(table[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=ink)
    _save(figure, path)


def plot_examples(path: Path, examples: Sequence[Example], scheme: LabelScheme, title: str) -> None:
    """Cases beside each other; the truth's outline is a solid line, the answer's a dashed one."""
    rows = -(-len(examples) // COLUMNS)
    figure = Figure(figsize=(3.6 * COLUMNS, 3.9 * rows + 0.9), layout="constrained")
    for place, example in enumerate(examples, start=1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        axes.imshow(example.pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(example.title, fontsize=8)
        axes.set_axis_off()
        for label in scheme.labels:
            for labels_HW, style in ((example.truth_HW, "solid"), (example.answer_HW, "dashed")):
                _outline(axes, labels_HW == label.index, label.color, style)
    drawn = {
        index
        for example in examples
        for labels_HW in (example.truth_HW, example.answer_HW)
        for index in np.unique(labels_HW).tolist()
    }
    handles = [
        Line2D([], [], color=label.color, label=label.name)
        for label in scheme.labels
        if label.index in drawn
    ]
    handles += [
        Line2D([], [], color="grey", linestyle="solid", label="truth"),
        Line2D([], [], color="grey", linestyle="dashed", label="answer"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _outline(axes: Axes, mask_HW: NDArray[np.bool_], color: str, style: str) -> None:
    if not mask_HW.any():
        return
    padded = np.pad(mask_HW.astype(np.float32), 1)  # so that a mask at the border is closed
    rows = np.arange(-1, mask_HW.shape[0] + 1)
    columns = np.arange(-1, mask_HW.shape[1] + 1)
    axes.contour(
        columns, rows, padded, levels=[0.5], colors=[color], linestyles=[style], linewidths=[1.3]
    )


def _save(figure: Figure, path: Path) -> None:
    with _quiet():
        FigureCanvasAgg(figure).print_figure(path, dpi=DPI)


@contextmanager
def _quiet() -> Iterator[None]:
    """Names in a script that the font lacks are drawn as boxes; nobody can mend that here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield
