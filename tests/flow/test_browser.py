"""What an annotator sees and does, in a real browser: Chromium on the real labelling page."""

import shutil
import time
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from imaging.dataset.cases import CaseRecord, CaseSource, VolumeFacts
from imaging.labels import LabelScheme
from imaging.labelstudio.brush import decode_rle
from imaging.labelstudio.plane import plane_of
from imaging.labelstudio.results import (
    label_map_from_results,
    results_from_classes,
    results_from_label_map,
)
from imaging.labelstudio.stack import (
    items_of,
    label_volume_from_results,
    results_from_label_volume,
)
from imaging.labelstudio.tasks import task_payload
from imaging.layout import TaskFolder
from imaging.preview import window_of, write_slices
from imaging.task import TaskConfig, VolumePolicy, parse_task
from imaging.volume import Volume, grid_of, to_ras
from services.ingest.project import ProjectLinks, ensure_project
from tests.flow.conftest import RealLabelStudio

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SHAPE_HW = (96, 160)
VERSION = "model-20260314T093101Z-41ac"
HEART = parse_task({"kind": "segmentation", "labels": ["lv", "rv"]}, where="test")
KIDNEYS = parse_task(
    {"kind": "segmentation", "labels": ["kidney", "tumour"], "modality": "CT"}, where="test"
)
CHEST = parse_task({"kind": "classification", "labels": ["normal", "pneumonia"]}, where="test")


@pytest.fixture(scope="module")
def browser_page(label_studio: RealLabelStudio) -> Iterator[Page]:
    """A page whose user has logged in with the generated password."""
    if CHROMIUM is None or find_library("atomic") is None:  # the driver's Node.js links to it
        pytest.skip("no Chromium, or no libatomic, here: apt-get install chromium libatomic1")
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which containers and root shells often lack.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(f"{label_studio.url}/user/login/")
        page.fill("input[name=email]", label_studio.username)
        page.fill("input[name=password]", label_studio.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "login" not in url)
        yield page
        browser.close()


@pytest.fixture
def guess_HW() -> NDArray[np.uint8]:
    """Two labels, one of them in two pieces, without any symmetry."""
    labels_HW = np.zeros(SHAPE_HW, dtype=np.uint8)
    labels_HW[20:60, 30:90] = 1
    labels_HW[10:14, 5:9] = 1
    labels_HW[62:80, 100:131] = 2
    return labels_HW


def add_task(
    label_studio: RealLabelStudio,
    task: TaskFolder,
    config: TaskConfig,
    results: list[dict[str, object]],
) -> tuple[int, int]:
    """A project with one picture that carries a guess: (project, task)."""
    case = task.case("case-0")
    case.mkdir(parents=True)
    shade_HW = np.add.outer(np.arange(SHAPE_HW[0]), np.arange(SHAPE_HW[1])).astype(np.uint8)
    Image.fromarray(shade_HW).save(case / "image.png")
    client = label_studio.client
    links = ProjectLinks("", "", "", "")
    project = ensure_project(client, label_studio.nas, task.name, config, links).id
    address = f"/data/local-files/?d=dataset/{task.name}/cases/case-0/image.png"
    [number] = client.import_tasks(project, [{"data": {"image": address, "case": "case-0"}}])
    guess = {"task": number, "model_version": VERSION, "score": 0.5, "result": results}
    client.import_predictions(project, [guess])
    client.select_model_version(project, VERSION)
    return project, number


def open_stream(page: Page, label_studio: RealLabelStudio, project: int) -> None:
    """Press "Label All Tasks"."""
    page.goto(f"{label_studio.url}/projects/{project}/data?labeling=1")
    page.get_by_role("button", name="Submit current annotation").wait_for()


def submit(page: Page) -> None:
    page.get_by_role("button", name="Submit current annotation").click()
    page.get_by_text("Annotation saved successfully").first.wait_for()


def answered_map(
    label_studio: RealLabelStudio, task: int, scheme: LabelScheme
) -> NDArray[np.uint8]:
    [annotation] = label_studio.client.call("GET", f"/api/tasks/{task}/annotations/")
    return label_map_from_results(annotation["result"], scheme, SHAPE_HW)


def test_a_guess_that_is_submitted_as_it_is_comes_back_pixel_by_pixel(
    browser_page: Page,
    label_studio: RealLabelStudio,
    task_folder: TaskFolder,
    guess_HW: NDArray[np.uint8],
) -> None:
    results = results_from_label_map(guess_HW, HEART.scheme)
    project, task = add_task(label_studio, task_folder, HEART, results)
    open_stream(browser_page, label_studio, project)
    for name in ("lv", "rv"):  # listed as regions, beside the labels one can choose
        browser_page.locator(".lsf-outliner").get_by_text(name, exact=True).wait_for()
    submit(browser_page)
    np.testing.assert_array_equal(answered_map(label_studio, task, HEART.scheme), guess_HW)


def test_what_is_drawn_with_the_mouse_lands_on_the_pixels_under_it(
    browser_page: Page,
    label_studio: RealLabelStudio,
    task_folder: TaskFolder,
    guess_HW: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    results = results_from_label_map(guess_HW, HEART.scheme)
    project, task = add_task(label_studio, task_folder, HEART, results)
    open_stream(browser_page, label_studio, project)
    box = picture_box(browser_page, tmp_path / "page.png")
    scale = box["width"] / SHAPE_HW[1]
    browser_page.keyboard.press("8")  # the rectangle row's rv
    corners = [(110, 10), (150, 40)]  # column, row
    (x1, y1), (x2, y2) = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in corners]
    browser_page.mouse.move(x1, y1)
    browser_page.mouse.down()
    browser_page.mouse.move((x1 + x2) / 2, (y1 + y2) / 2, steps=5)
    browser_page.mouse.move(x2, y2, steps=5)
    browser_page.mouse.up()
    submit(browser_page)
    expected_HW = guess_HW.copy()
    expected_HW[10:40, 110:150] = 2
    found_HW = answered_map(label_studio, task, HEART.scheme)
    rows, columns = np.nonzero(found_HW != expected_HW)
    on_the_edge = [
        abs(r - 10) <= 1 or abs(r - 40) <= 1 or abs(c - 110) <= 1 or abs(c - 150) <= 1
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    assert all(on_the_edge), f"{len(on_the_edge)} pixels differ from what was drawn"
    assert (found_HW[12:38, 112:148] == 2).all()


def picture_box(page: Page, screenshot: Path) -> dict[str, float]:
    """Where on the page the picture is drawn: the largest canvas."""
    canvas = page.locator("canvas").first
    canvas.wait_for()
    deadline, box = time.monotonic() + 30, canvas.bounding_box()
    while (box is None or box["width"] < SHAPE_HW[1]) and time.monotonic() < deadline:
        page.wait_for_timeout(200)
        box = canvas.bounding_box()
    page.screenshot(path=screenshot)
    assert box is not None, f"no picture on the page, see {screenshot}"
    return dict(box)


def test_a_guessed_class_is_ticked_and_can_be_changed(
    browser_page: Page, label_studio: RealLabelStudio, task_folder: TaskFolder
) -> None:
    results = results_from_classes(["normal"])
    project, task = add_task(label_studio, task_folder, CHEST, results)
    open_stream(browser_page, label_studio, project)
    assert browser_page.get_by_role("checkbox", name="normal").is_checked()
    browser_page.keyboard.press("2")
    submit(browser_page)
    [annotation] = label_studio.client.call("GET", f"/api/tasks/{task}/annotations/")
    assert [one["value"]["choices"] for one in annotation["result"]] == [["pneumonia"]]


@pytest.fixture
def scan() -> Volume:
    """A CT of six thick slices, each darker than the one before; stored as DICOM stores it."""
    stored_IJK = np.full((48, 40, 6), -900, dtype=np.int16)
    for index in range(6):
        stored_IJK[6:42, 5:35, index] = 150 - 50 * index
    grid = grid_of(stored_IJK.shape, np.diag([-2.0, -2.0, 5.0, 1.0]))
    return Volume(to_ras(stored_IJK, grid)[None], grid, modality="CT")


def add_stack(
    label_studio: RealLabelStudio, task: TaskFolder, scan: Volume, guess_XYZ: NDArray[np.uint8]
) -> tuple[int, int, CaseRecord]:
    """A project with one volume that carries a guess: (project, task, case)."""
    plane = plane_of(scan.grid)
    facts = VolumeFacts(scan.grid, ("image.nii.gz",), ("CT",), "CT", plane, tuple(range(6)))
    case = CaseRecord(
        *("case-0", task.name, "p-0", "image.nii.gz", "slices", plane.shape_HW, 1, 16),
        source=CaseSource("scan", "00", 1),
        created_at="2026-03-14T09:15:02.123456Z",
        volume=facts,
    )
    slices = task.case("case-0") / "slices"
    slices.mkdir(parents=True)
    write_slices(slices, scan.voxels_CXYZ[0], plane, window_of(scan, VolumePolicy()))
    client = label_studio.client
    links = ProjectLinks("", "", "", "")
    project = ensure_project(client, label_studio.nas, task.name, KIDNEYS, links).id
    payload = task_payload(task.name, case)
    [number] = client.import_tasks(project, [payload])
    shown = items_of(payload["data"])
    results = results_from_label_volume(guess_XYZ, KIDNEYS.scheme, plane, shown)
    guess = {"task": number, "model_version": VERSION, "score": 0.5, "result": results}
    client.import_predictions(project, [guess])
    client.select_model_version(project, VERSION)
    return project, number, case


def test_a_stroke_on_one_slice_of_a_volume_is_all_that_its_label_map_gains(
    browser_page: Page,
    label_studio: RealLabelStudio,
    task_folder: TaskFolder,
    scan: Volume,
    tmp_path: Path,
) -> None:
    guess_XYZ = np.zeros(scan.grid.shape_XYZ, dtype=np.uint8)
    guess_XYZ[8:18, 10:22, 2:5] = 1  # the patient's left, on slices 2 to 4
    project, task, case = add_stack(label_studio, task_folder, scan, guess_XYZ)
    assert case.volume is not None
    plane = case.volume.plane
    open_stream(browser_page, label_studio, project)
    box = picture_box(browser_page, tmp_path / "slice-0.png")
    assert not share_of_red(browser_page, box, tmp_path), "the guess begins on slice 2"
    for _ in range(3):
        browser_page.locator(".lsf-pagination__btn_arrow-right").first.click()
    browser_page.locator(".lsf-pagination").get_by_text("4").wait_for()
    box = picture_box(browser_page, tmp_path / "slice-3.png")
    scale = box["width"] / plane.shape_HW[1]
    drawn_HW = plane.screen(guess_XYZ, 3) == 1
    assert share_of_red(browser_page, box, tmp_path) == pytest.approx(drawn_HW.mean(), rel=0.1)

    browser_page.keyboard.press("2")  # the brush's tumour
    row, columns = 180, (60, 220)
    (x1, y1), (x2, y2) = [(box["x"] + x * scale, box["y"] + row * scale) for x in columns]
    browser_page.mouse.move(x1, y1)
    browser_page.mouse.down()
    browser_page.mouse.move(x2, y2, steps=20)
    browser_page.mouse.up()
    browser_page.screenshot(path=tmp_path / "stroke.png")
    submit(browser_page)

    [annotation] = label_studio.client.call("GET", f"/api/tasks/{task}/annotations/")
    data = label_studio.client.call("GET", f"/api/tasks/{task}/")["data"]
    found_XYZ = label_volume_from_results(
        annotation["result"], KIDNEYS.scheme, plane, items_of(data)
    )
    [stroke] = [one for one in annotation["result"] if one["value"]["brushlabels"] == ["tumour"]]
    assert stroke["item_index"] == 3
    alpha_HW = decode_rle(stroke["value"]["rle"], plane.shape_HW)
    # Each voxel is 6 × 6 pixels; the stroke covers half of one row of them.
    share_UA = (alpha_HW > 127).reshape(40, 6, 48, 6).mean((1, 3))
    expected_XYZ = guess_XYZ.copy()
    expected_XYZ[..., 3][share_UA.T[::-1, ::-1] >= 0.5] = 2
    np.testing.assert_array_equal(found_XYZ, expected_XYZ)
    rows_seen, columns_seen = np.nonzero(plane.screen(found_XYZ, 3) == 2)
    assert rows_seen.min() <= row <= rows_seen.max() and np.ptp(rows_seen) < 12
    assert abs(int(columns_seen.min()) - columns[0]) < 6
    assert abs(int(columns_seen.max()) - columns[1]) < 6


def share_of_red(page: Page, box: dict[str, float], folder: Path) -> float:
    """How much of the picture on the screen is tinted with the first label's red."""
    shown = page.viewport_size or {"width": 0, "height": 0}
    height = min(box["height"], shown["height"] - box["y"])
    clip = {"x": box["x"], "y": box["y"], "width": box["width"], "height": height}
    path = folder / "picture.png"
    page.screenshot(path=path, clip=clip)
    pixels_HWC = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red_HW = pixels_HWC[..., 0] - pixels_HWC[..., 1] > 30
    return float(red_HW.sum() / (box["width"] * box["height"]))
