"""PNG: pictures and masks that every program opens.

images/<split>/<case>.png         what trains; of a volume <case>/0007.png, slice 7 as annotators
                                  see it: windowed to 8 bits, on square pixels
masks/<split>/<case>.png          the same place; a palette PNG: the pixel's value is the label's
                                  index, its colour the label's colour
legend.csv, legend.png            index, name and colour of each label
itksnap.txt                       the same as ITK-SNAP reads it
"""

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imaging.export.folder import Export, ExportCase, Fill, Progress
from imaging.export.views import drawn_slices, views_of
from imaging.io.itksnap import label_description
from imaging.io.png import png_grey
from imaging.labels import LabelScheme
from imaging.task import VolumePolicy

BLACK = (0, 0, 0)
LINE_PX, MARGIN_PX, TEXT_PX = 28, 8, 16  # of the legend's picture


def fill_png(export: Export, cases: Sequence[ExportCase], progress: Progress) -> None:
    """Write pictures and masks.

    Raises:
        ExportError: a case has no label map, or no slices to show.
    """
    scheme = export.snapshot.scheme
    for done, case in enumerate(cases, start=1):
        for view in views_of(case):
            place = f"{case.frozen.split}/{case.name}"
            if view.index is not None:
                place += f"/{view.index:04d}"
            source, sha256 = (view.image, view.sha256) if view.index is not None else case.images[0]
            export.link(f"images/{place}.png", source, sha256)
            export.write(f"masks/{place}.png", palette_png(view.labels_HW, scheme))
        progress(done, len(cases))
    _describe(export, scheme)


def _describe(export: Export, scheme: LabelScheme) -> None:
    export.write("legend.csv", _legend(scheme))
    export.write("legend.png", legend_picture(scheme))
    export.write("itksnap.txt", label_description(scheme).encode())


def fill_drawn(shown: VolumePolicy, channel: int = 0) -> Fill:
    """What writes slices that annotators do not have: another axis, window or channel.

    Args:
        shown: which way slices are cut, and in which window they are drawn.
        channel: of a multi-modal case, from 0.
    """

    def fill(export: Export, cases: Sequence[ExportCase], progress: Progress) -> None:
        scheme = export.snapshot.scheme
        for done, case in enumerate(cases, start=1):
            for index, (grey_HW, labels_HW) in enumerate(drawn_slices(case, shown, channel)):
                place = f"{case.frozen.split}/{case.name}/{index:04d}.png"
                export.write(f"images/{place}", png_grey(grey_HW))
                export.write(f"masks/{place}", palette_png(labels_HW, scheme))
            progress(done, len(cases))
        _describe(export, scheme)

    return fill


def palette_png(labels_HW: NDArray[np.uint8], scheme: LabelScheme) -> bytes:
    """A label map as a PNG whose values are the indices and whose palette holds the colours."""
    image = Image.fromarray(np.ascontiguousarray(labels_HW))
    image.putpalette([*BLACK, *(value for label in scheme.labels for value in label.rgb)])
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=False)
    return stream.getvalue()


def legend_picture(scheme: LabelScheme) -> bytes:
    """A PNG with a line for each label: its colour, its index, its name."""
    font = ImageFont.load_default(TEXT_PX)
    texts = [f"{label.index}  {label.name}" for label in scheme.labels]
    width = max(int(font.getlength(text)) for text in texts) + LINE_PX + 3 * MARGIN_PX
    image = Image.new("RGB", (width, LINE_PX * len(texts) + 2 * MARGIN_PX), "white")
    draw = ImageDraw.Draw(image)
    for line, (label, text) in enumerate(zip(scheme.labels, texts, strict=True)):
        top = MARGIN_PX + line * LINE_PX
        square = (MARGIN_PX, top + 3, MARGIN_PX + LINE_PX - 6, top + LINE_PX - 3)
        draw.rectangle(square, fill=label.rgb, outline="black")
        draw.text((LINE_PX + 2 * MARGIN_PX, top + LINE_PX // 2), text, "black", font, anchor="lm")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _legend(scheme: LabelScheme) -> bytes:
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(("index", "name", "color"))
    table.writerow((0, "background", "#000000"))
    table.writerows((label.index, label.name, label.color) for label in scheme.labels)
    return stream.getvalue().encode()
