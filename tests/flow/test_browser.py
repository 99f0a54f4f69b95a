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

from imaging.labels import LabelScheme
from imaging.labelstudio.results import (
    label_map_from_results,
    results_from_classes,
    results_from_label_map,
)
from imaging.layout import TaskFolder
from imaging.task import TaskConfig, parse_task
from services.ingest.project import ProjectLinks, ensure_project
from tests.flow.conftest import RealLabelStudio

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SHAPE_HW = (96, 160)
VERSION = "model-20260314T093101Z-41ac"
HEART = parse_task({"kind": "segmentation", "labels": ["lv", "rv"]}, where="test")
CHEST = parse_task({"kind": "classification", "labels": ["normal", "pneumonia"]}, where="test")


@pytest.fixture(scope="module")
def browser_page(label_studio: RealLabelStudio) -> Iterator[Page]:
    """A page whose user has logged in with the generated password."""
    if CHROMIUM is None or find_library("atomic") is None:  # the driver's Node.js links to it
        pytest.skip("no Chromium, or no libatomic, here: apt-get install chromium libatomic1")
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which containers and root shells often lack.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
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
