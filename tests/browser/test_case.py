"""The Case page in a real Chromium: both viewers draw pixels, follow keys and mouse, move each other and answer."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from seen import click_at, mri, pixels, settled, slide, until
from served import CHROMIUM, NEEDS_CHROMIUM, WAIT_MS, WEBGL_FLAGS, pick, served, still

from dashboard.viewers import bundle

CASE, SITE_MM = "synth-00000", (6.83, -0.69, 15.88)  # as data_samples/cohort.csv says

pytestmark = [
    *NEEDS_CHROMIUM,
    pytest.mark.skipif(not bundle.ready(), reason="the viewers are not built: python -m dashboard.viewers.build"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served")) as here:
        yield here.address


@pytest.fixture(scope="module")
def page(server):
    """A page that reads one case; the tests below go on from one another's state only where they say so."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=WEBGL_FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 1500})
        opened.set_default_timeout(WAIT_MS)
        opened.fetched, opened.faults = [], []
        opened.on("request", lambda request: opened.fetched.append(request.url))
        opened.on("pageerror", lambda fault: opened.faults.append(str(fault)))
        opened.goto(f"{server}/case")
        pick(opened, opened.get_by_test_id("stSelectbox").locator("input").first, CASE)
        opened.locator(".stage[data-ready]").wait_for()
        opened.locator(".stage[data-tiles]").wait_for()
        opened.get_by_text("Take it with you").wait_for()
        settled(opened)
        yield opened
        assert opened.faults == []
        assert not [url for url in opened.fetched if url.startswith("http") and not url.startswith(server)]
        assert not [url for url in opened.fetched if CASE in url], "no address names a case"
        browser.close()


def crosshair(page) -> np.ndarray:
    return np.array([float(part) for part in mri(page).get_attribute("data-mm").split(",")])


def test_voxels_and_tiles_are_drawn(page):
    voxels, tiles = pixels(mri(page)), pixels(slide(page))
    grey = voxels[np.ptp(voxels, axis=2) < 12].mean(axis=-1)
    assert ((grey > 60) & (grey < 250)).sum() > 0.05 * voxels[..., 0].size, "an MRI has greys"
    assert len(np.unique(grey.round())) > 60
    assert (np.ptp(tiles, axis=2) > 40).mean() > 0.3, "H&E has colours"
    assert tiles.std() > 20
    tag = slide(page).locator(".tag.scale").inner_text()
    assert re.fullmatch(r"[125]0{0,2} (µm|mm)", tag.strip())
    assert re.fullmatch(r"[125]0{0,2} mm", mri(page).locator(".tag.scale").inner_text().strip())


def test_the_mri_follows_its_keys_while_it_has_the_focus(page):
    stage = mri(page)
    click_at(page, stage, 0.3, 0.35)
    start, scale = crosshair(page), float(stage.get_attribute("data-px-per-mm"))
    page.keyboard.press("ArrowUp")
    until(page, lambda: np.linalg.norm(crosshair(page) - start) > 0.5, "the slice key moves the crosshair")
    before = pixels(stage)
    page.keyboard.press("+")
    page.keyboard.press("+")
    until(page, lambda: float(stage.get_attribute("data-px-per-mm")) > 1.3 * scale, "zoom")
    settled(page)
    assert np.abs(pixels(stage) - before).mean() > 3
    window = stage.get_attribute("data-window")
    page.keyboard.press("3")
    until(page, lambda: stage.get_attribute("data-window") != window, "a window preset")
    page.keyboard.press(" ")
    until(page, lambda: stage.get_attribute("data-window") == window, "space resets")
    page.keyboard.press("c")
    page.wait_for_timeout(300)
    assert not page.get_by_text("Clear caches").is_visible(), "Streamlit's own keys do not hear the viewer's"


def test_a_click_in_the_mri_comes_back_with_voxel_mm_and_value(page):
    said = page.get_by_text(re.compile(r"Marked: voxel \d+, \d+, \d+ \(x, y, z\), RAS\+ .* mm, T1: [\d.]+")).first

    def told() -> list[float]:
        return [float(part) for part in re.search(r"RAS\+ (.*) mm", said.inner_text())[1].split(", ")]

    # The click that gave the focus to the test above has marked a place of its own.
    before = crosshair(page)
    click_at(page, mri(page), 0.35, 0.4)
    until(page, lambda: not np.allclose(crosshair(page), before, atol=1), "the click moves the crosshair")
    said.wait_for()
    until(page, lambda: np.allclose(told(), crosshair(page), atol=0.06), "the place that is told is the crosshair's")
    first = said.inner_text()
    click_at(page, mri(page), 0.3, 0.3)
    until(page, lambda: said.inner_text() != first, "the second click comes back too")


def test_another_contrast_and_an_overlay_change_the_picture(page):
    before = pixels(mri(page))
    page.get_by_role("button", name="T2", exact=True).click()
    until(page, lambda: np.abs(pixels(mri(page)) - before).mean() > 5, "T2 is another picture")
    page.get_by_role("button", name="T1", exact=True).click()
    settled(page)
    before = pixels(mri(page))
    page.locator("[data-layer='Gate'] input[type=checkbox]").check()
    until(page, lambda: np.abs(pixels(mri(page)) - before).mean() > 5, "the gate is laid over")
    page.locator("[data-layer='Gate'] input[type=range]").fill("0")
    until(page, lambda: np.abs(pixels(mri(page)) - before).mean() < 2, "opacity 0 shows none of it")
    page.locator("[data-layer='Gate'] input[type=checkbox]").uncheck()


def test_masks_of_equal_content_are_each_drawn_in_their_own_colour(page):
    def like(rgb: tuple[int, int, int]) -> int:
        return int((np.abs(pixels(mri(page)) - rgb).max(axis=2) < 40).sum())

    def opacity(layer: str, value: str) -> None:
        page.locator(f"[data-layer='{layer}'] input[type=range]").fill(value)

    pink, orange = (229, 100, 160), (230, 159, 0)  # of the known tumour, which is all of this case's known lesion
    page.get_by_text("Show the known answer of the cohort").click()
    page.locator("[data-layer='Known lesion']").wait_for()
    settled(page)
    for other in ("Tumour probability", "Known bone", "Known cortical destruction"):
        page.locator(f"[data-layer='{other}'] input[type=checkbox]").uncheck()
    opacity("Known tumour", "1")
    opacity("Known lesion", "0")
    until(page, lambda: like(pink) > 500 and not like(orange), "the tumour is drawn as the tumour")
    opacity("Known lesion", "1")
    opacity("Known tumour", "0")
    until(page, lambda: like(orange) > 500 and not like(pink), "the lesion is drawn as the lesion")
    page.locator("[data-layer='Tumour probability'] input[type=checkbox]").check()
    page.get_by_text("Show the known answer of the cohort").click()
    page.locator("[data-layer='Known lesion']").wait_for(state="detached")
    settled(page)


def test_a_criterion_is_outlined_on_the_slide_at_its_own_opacity(page):
    def green() -> int:
        return int((np.abs(pixels(slide(page)) - (0, 190, 140)).max(axis=2) < 30).sum())

    known = page.get_by_text("Show the known answer of the cohort")
    assert green() < 50
    known.click()
    row = page.locator("[data-layer='Known osteoid']")
    row.wait_for()
    until(page, lambda: green() > 1000, "the osteoid is outlined")
    row.locator("input[type=range]").fill("0")
    until(page, lambda: green() < 50, "opacity 0 shows none of it")
    settled(page)
    known.click()
    row.wait_for(state="detached")
    settled(page)


def test_the_slide_zooms_and_pans_until_finer_tiles_are_drawn(page):
    stage = slide(page)
    click_at(page, stage, 0.5, 0.3)
    settled(page)
    before, fetched = pixels(stage), len([url for url in page.fetched if url.endswith(".jpg")])
    for _ in range(4):
        page.keyboard.press("+")
    settled(page)
    closer = pixels(stage)
    assert np.abs(closer - before).mean() > 5
    assert len([url for url in page.fetched if url.endswith(".jpg")]) > fetched, "finer tiles were fetched"
    page.keyboard.press("ArrowRight")
    settled(page)
    assert np.abs(pixels(stage) - closer).mean() > 5
    assert (np.ptp(pixels(stage), axis=2) > 40).mean() > 0.3
    page.keyboard.press(" ")
    settled(page)
    assert np.abs(pixels(stage) - before).mean() < 5, "space shows the whole slide again"


def test_pointing_at_a_patch_moves_the_crosshair_to_its_place(page):
    click_at(page, mri(page), 0.25, 0.2)
    assert np.linalg.norm(crosshair(page) - SITE_MM) > 10
    box = slide(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.45)
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    until(page, lambda: np.linalg.norm((crosshair(page) - SITE_MM)[[0, 1]]) < 3, "the crosshair moves to the site")
    assert np.linalg.norm(crosshair(page) - SITE_MM) < 4, "on the slice nearest to it"
    said = page.get_by_text(re.compile(r"patch \d+.*Attention.*on the MRI at")).first.inner_text()
    assert re.search(r"Attention 0\.\d+", said)


def test_a_click_on_a_patch_comes_back_with_its_value_and_place(page):
    click_at(page, slide(page), 0.5, 0.5)
    said = page.get_by_text(re.compile(r"Chosen: patch \d+, attention [\d.]+, RAS\+ .* mm")).first
    said.wait_for()


def test_the_stain_normalised_window_moves_with_the_original(page):
    page.get_by_role("button", name="Stain-normalised beside").click()
    panes = slide(page).locator(".windows > div")
    until(page, lambda: panes.count() == 2, "a second window")
    settled(page)
    click_at(page, slide(page), 0.25, 0.5)
    for _ in range(3):
        page.keyboard.press("+")
    settled(page)
    left, right = (pixels(panes.nth(n)) for n in (0, 1))
    assert right.std() > 20
    scales = [panes.nth(n).locator(".tag.power").inner_text() for n in (0, 1)]
    assert scales[0] == scales[1]
    inner = np.s_[150:-60, 10:-10]
    shape = np.minimum(left.shape, right.shape)[:2]
    grey = [each[: shape[0], : shape[1]].mean(axis=-1)[inner].ravel() for each in (left, right)]
    assert np.corrcoef(grey)[0, 1] > 0.6, "the same place in other colours"
    page.get_by_role("button", name="Stain-normalised beside").click()
    until(page, lambda: panes.count() == 1, "one window again")


def test_a_bar_of_the_areas_moves_the_crosshair_to_its_slice(page):
    chart = page.get_by_test_id("stPlotlyChart").first
    still(page)
    chart.scroll_into_view_if_needed()
    settled(page)
    still(page)
    before = crosshair(page)
    points = chart.locator(".scatterlayer .points path")
    box = points.nth(2).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    # Slices of this scan are 4.5 mm apart, along one of the patient's axes.
    until(page, lambda: np.abs(crosshair(page) - before).max() > 4, "the crosshair moves to the slice")


@pytest.mark.slow  # four cases are computed; test_gate.py holds what mends it
def test_after_many_cases_the_browser_still_has_connections(page, server):
    """Buttons that offer a file ask whether it is there; an answer left unread would hold a connection each."""
    opened = page.context.browser.new_page(accept_downloads=True)
    opened.set_default_timeout(WAIT_MS)
    opened.goto(f"{server}/case")
    for number in (7, 10, 11, 13):
        pick(opened, opened.get_by_test_id("stSelectbox").locator("input").first, f"synth-{number:05d}")
        opened.get_by_role("button", name="All files (zip)").wait_for()
        still(opened)
    asked = "Promise.race([fetch('/health').then(r => r.status), new Promise(f => setTimeout(() => f(0), 15000))])"
    assert opened.evaluate(asked) == 200
    with opened.expect_download() as download:
        opened.get_by_role("button", name="All files (zip)").click()
    assert zipfile.is_zipfile(download.value.path())
    opened.close()


def test_another_browser_is_served_nothing(page, server):
    images = [url for url in page.fetched if "/held/" in url]
    assert {url.rsplit(".", 1)[1] for url in images} >= {"nii", "jpg"}
    for url in (next(u for u in images if u.endswith(".nii")), next(u for u in images if u.endswith(".jpg"))):
        assert page.request.get(url).status == 200
        stranger = page.context.browser.new_context()
        assert stranger.request.get(url).status == 404
        stranger.request.get(f"{server}/case", headers={"Accept": "text/html"})
        assert stranger.request.get(url).status == 404, "nor one with a cookie of its own"
        stranger.close()


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_page_fits_the_screen_and_is_legible(page, width):
    page.set_viewport_size({"width": width, "height": 1500})
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    small = page.evaluate(
        """() => { const found = []; const look = (root) => root.querySelectorAll("*").forEach((e) => {
             if (e.shadowRoot) look(e.shadowRoot);
             if (e.getClientRects().length && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
                 && !["STYLE", "SCRIPT"].includes(e.tagName) && parseFloat(getComputedStyle(e).fontSize) < 12)
               found.push(e.textContent); });
           look(document); return found; }"""
    )
    assert small == []
