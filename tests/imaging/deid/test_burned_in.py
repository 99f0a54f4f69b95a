"""Text in pixels is found on whatever slice it stands, and bodies are not taken for text."""

from importlib.util import find_spec

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from imaging.deid.burned_in import find_burned_in, is_suspicious
from imaging.deid.reader import Box, Reading
from imaging.deid.redact import boxes_on_grid, redact
from imaging.io.dicom.geometry import Placing
from tests.phi import DATA, SERIES, planted_record, require

pytestmark = pytest.mark.skipif(find_spec("rapidocr") is None, reason="rapidocr is not installed")
Slice = NDArray[np.uint8]


def header(**elements: object) -> Dataset:
    made = Dataset()
    made.Modality = "MR"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def as_seen(dataset: Dataset) -> list[Slice]:
    """Frames of an object as grey pictures, darkest to brightest percentile."""
    pixels = np.asarray(dataset.pixel_array, dtype=np.float32)
    if dataset.get("SamplesPerPixel", 1) == 3:
        pixels = pixels.mean(axis=-1)
    low, high = np.percentile(pixels, [0.5, 99.5])
    grey = np.clip((pixels - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    return [grey] if grey.ndim == 2 else list(grey)


def planted(pixels: Slice, text: str, at: tuple[int, int], value: int, size: int = 14) -> Slice:
    page = Image.fromarray(pixels)
    ImageDraw.Draw(page).text(at, text, fill=value, font=ImageFont.load_default(size))
    return np.asarray(page)


def brain() -> list[Slice]:
    folder = DATA / "mr_brain_t1_t2_dicom" / "patient07" / "T2"
    require(folder)
    files = sorted(folder.iterdir())
    return [as_seen(pydicom.dcmread(path))[0] for path in files]


def test_the_planted_file_is_found_and_its_eleven_neighbours_are_not() -> None:
    require(SERIES)
    burned = planted_record()["burned_in_files"]
    files = sorted(SERIES.glob("*.dcm"))
    datasets = [pydicom.dcmread(path) for path in files]
    slices = [as_seen(dataset)[0] for dataset in datasets]
    found = find_burned_in([header()] * 12, slices)  # by its pixels alone
    assert found is not None and found.reason == "text was read on 1 of 12 slices"
    assert [f"series/{files[number].name}" for number in found.boxes] == burned
    (number,) = found.boxes
    top, left, bottom, right = np.array(found.boxes[number]).T
    assert top.min() < 6 and bottom.max() < 60 and left.min() < 6 and right.max() > 150
    assert found.picture.shape == (slices[number].shape[0], slices[number].shape[1] + 4, 3)
    assert (found.picture == (255, 48, 48)).all(axis=-1).any()


def test_a_flag_in_any_header_is_enough_and_shows_a_slice() -> None:
    slices = [np.full((64, 48), value, dtype=np.uint8) for value in (9, 99, 199)]
    found = find_burned_in([header(), header(BurnedInAnnotation="YES"), header()], slices)
    assert found is not None and not found.boxes
    assert found.reason == "the header says that text is burned in; none was read"
    assert found.picture.shape == (64, 52, 3) and (found.picture[:, :48] == 99).all()
    assert find_burned_in([header(BurnedInAnnotation="YES")], []) is not None


def test_no_slices_and_no_flag_are_no_suspicion() -> None:
    assert find_burned_in([], []) is None
    assert find_burned_in([header(BurnedInAnnotation="NO")], []) is None


def test_text_on_one_slice_of_a_long_stack_is_located_and_can_be_blanked() -> None:
    stack = brain()
    stack[14] = planted(stack[14], "SMITH JOHN 1961", (4, 190), 255)
    done: list[None] = []
    found = find_burned_in([header()] * 26, iter(stack), lambda: done.append(None), looks=13)
    assert found is not None and set(found.boxes) == {14}
    assert len(done) == 7  # blocks of four
    blanked = np.stack(stack[13:16])
    redact(blanked, {1: found.boxes[14]})
    assert find_burned_in([header()] * 3, blanked) is None
    assert (blanked[0] == stack[13]).all() and (blanked[1] != stack[14]).any()


def test_the_picture_never_says_what_was_read() -> None:
    found = find_burned_in([header()], [planted(brain()[9], "SMITH JOHN", (4, 190), 255)])
    assert found is not None and "SMITH" not in found.reason


@pytest.mark.parametrize(
    "text",
    ["R", "L", "LPH", "[R]", "10 cm", "1.5cm", "120 mm", "12", "350", "O", "000", "- ", "I.I"],
)
def test_markers_and_units_are_no_suspicion(text: str) -> None:
    assert not is_suspicious(Reading(text, 0.99, Box(0, 0, 12, 60)))


@pytest.mark.parametrize(
    "text", ["Kim", "Ng 45Y", "SMITH", "19610314", "4711", "王伟", "12.03.61", "Иванов", "M12L"]
)
def test_names_numbers_and_dates_are_a_suspicion(text: str) -> None:
    assert is_suspicious(Reading(text, 0.9, Box(0, 0, 12, 60)))


def test_what_the_reader_doubts_must_be_longer() -> None:
    assert not is_suspicious(Reading("08a", 0.44, Box(0, 0, 12, 60)))
    assert is_suspicious(Reading("08a7b", 0.44, Box(0, 0, 12, 60)))
    assert not is_suspicious(Reading("lle", 0.9, Box(0, 0, 23, 23)))  # a vertebra


def test_pictures_of_any_shape_can_be_looked_at() -> None:
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (8, 8), (3, 700), (700, 3), (40, 30, 3)]
    noise = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in shapes]
    find_burned_in([header()] * len(noise), noise)


def test_redaction_blanks_boxes_and_nothing_else() -> None:
    voxels_SHW = np.arange(4 * 40 * 50, dtype=np.int16).reshape(4, 40, 50) - 1000
    before = voxels_SHW.copy()
    redact(voxels_SHW, {2: (Box(10, 20, 16, 30),), 9: (Box(0, 0, 5, 5),)})
    assert (voxels_SHW[2, 8:18, 18:32] == -1000).all()
    voxels_SHW[2, 8:18, 18:32] = before[2, 8:18, 18:32]
    assert (voxels_SHW == before).all()


def test_an_overlay_is_blanked_on_every_slice() -> None:
    voxels_SHW = np.ones((9, 40, 50), dtype=np.float32)
    redact(voxels_SHW, {n: (Box(10, 5 * n, 16, 5 * n + 4),) for n in (0, 4, 8)}, background=-3)
    assert all((one[10:16, 5 * n : 5 * n + 4] == -3).all() for one in voxels_SHW for n in (0, 4, 8))


HARD = (
    "big_endian", "charset", "compressed", "dicomdir", "gantry_tilt", "implicit_vr",
    "missing_slices", "multiframe", "orientation", "plain", "rt_sr", "synthetic_series", "color",
)  # fmt: skip
# Looked at by eye: ultrasound pages with names of hospitals, dates and settings on them.
HAVE_TEXT = {
    "OBXXXX1A_rle_2frame.dcm", "examples_palette.dcm", "examples_rgb_color.dcm",
    "examples_ybr_color.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "US1_J2KR.dcm",
    "GDCMJ2K_TextGBR.dcm",
}  # fmt: skip


FOLDERS = (
    "ct_head_gantry_tilt_dicom",
    "multiorgan_ct_mr/example_ct_dicom",
    *(f"mr_brain_t1_t2_dicom/patient{n}/{s}" for n in ("07", "19") for s in ("T1", "T2", "FLAIR")),
    "dicom_seg_rt_sr/dcmqi_ct3",
    "dicom_seg_rt_sr/dcmqi_23x38x3",
    "dicom_seg_rt_sr/rtutils_phantom_ct_rtstruct",
    *(f"dicom_hard_cases/{name}" for name in HARD),
)


def test_boxes_on_images_of_another_matrix_are_places_on_the_grid() -> None:
    """Image 1 has twice the rows and columns; slice 2 of the grid lies between images 1 and 2."""
    placing = Placing(
        rows=np.array([[0, 1], [0.5, 2], [0, 1]], dtype=float),
        columns=np.array([[0, 1], [0.5, 2], [-4, 1]], dtype=float),
        slices=np.array([0, 1, 1.5, 2]),
    )
    found = boxes_on_grid({1: (Box(10, 20, 20, 40),), 2: (Box(5, 5, 9, 9),)}, placing)
    assert found == {
        1: (Box(4, 9, 10, 20),),
        2: (Box(4, 9, 10, 20), Box(5, 9, 9, 13)),
        3: (Box(5, 9, 9, 13),),
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", FOLDERS)
def test_no_series_without_text_is_suspected(folder: str) -> None:
    require(DATA / folder)
    files = sorted(path for path in (DATA / folder).rglob("*") if path.is_file())
    suspected = set()
    for path in files[:: 4 if "synthetic" in folder else 1]:
        try:
            dataset = pydicom.dcmread(path)
            slices = as_seen(dataset)[:4]
        except Exception:  # not an image, or meant to be broken: others test what becomes of it
            continue
        if find_burned_in([dataset], slices):
            suspected.add(path.name)
    assert suspected <= HAVE_TEXT
    assert len(suspected) == len(HAVE_TEXT & {path.name for path in files})


@pytest.mark.slow
def test_most_text_over_anatomy_is_found() -> None:
    """Sizes from 10 px, bright, grey and dark, in corners and in the middle of a real head."""
    folder = DATA / "ct_head_gantry_tilt_dicom"
    require(folder)
    slices = [as_seen(pydicom.dcmread(path))[0] for path in sorted(folder.glob("*.dcm"))[:3]]
    tried = missed = 0
    for number, (size, value) in enumerate((s, v) for s in (10, 14, 20) for v in (255, 200, 0)):
        for text, at in (("Muster^Anna", (6, 6)), ("19610314", (380, 470)), ("A-4711", (210, 250))):
            pixels = slices[number % 3]
            if value == 0 and at != (210, 250):
                continue  # black on black
            tried += 1
            missed += find_burned_in([header()], [planted(pixels, text, at, value, size)]) is None
    assert tried == 21 and missed <= 2
