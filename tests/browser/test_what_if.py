"""The What-if page in a real Chromium: take a modality away, damage, draw, and see the numbers move."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import showcase
from served import CHROMIUM, FLAGS, NEEDS_CHROMIUM, WAIT_MS, pick, served, still
from tiny import tiny_cohort

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("asked")
    tiny_cohort(folder / "cohort", cases=2)
    weights = str(showcase.weights(folder))
    with served(folder, weights=weights, cohort=str(folder / "cohort"), max_patches="4") as here:
        yield here.address


@pytest.fixture(scope="module")
def opened(address):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 2400})
        opened.set_default_timeout(WAIT_MS)
        opened.goto(f"{address}/what_if")
        pick(opened, opened.get_by_test_id("stSelectbox").first.locator("input"), "synth-00000")
        opened.get_by_test_id("stTable").first.get_by_text("Gate at the biopsy site").wait_for()
        yield opened
        browser.close()


@pytest.fixture
def page(opened):
    """The page with nothing changed."""
    still(opened)
    back = opened.get_by_role("button", name="Back to the original")
    if back.is_enabled():
        back.click()
    opened.get_by_text("Nothing is changed yet").wait_for()
    still(opened)
    return opened


def row(page, name: str) -> list[str]:
    """Original, changed and difference of one figure, as the table shows them."""
    cells = page.get_by_test_id("stTable").first.locator("tr").filter(has_text=name).first.locator("td, th")
    return [text.strip() for text in cells.all_inner_texts()][1:]


def test_taking_the_slide_away_moves_the_numbers_and_the_original_stays(page):
    before = row(page, "Probability of malignancy")
    assert before[0] == before[1]
    page.get_by_test_id("stCheckbox").filter(has_text="H&E slide").locator("label").first.click()
    page.get_by_text("H&E slide taken away").wait_for()
    still(page)
    after = row(page, "Probability of malignancy")
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert re.match(r"[+−]\d", after[2])
    assert row(page, "Mean gate")[1] == "1.000"
    page.get_by_role("button", name="Back to the original").click()
    page.get_by_text("Nothing is changed yet").wait_for()
    still(page)
    assert row(page, "Probability of malignancy") == before


def test_a_slider_damages_the_slide_and_a_difference_is_drawn(page):
    slider = page.get_by_test_id("stSlider").filter(has_text="Another laboratory's stain").get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    page.get_by_text("another laboratory's stain at level 5 of 5").first.wait_for()
    page.get_by_role("heading", name="Difference").wait_for()
    page.get_by_text("Patches as the model reads them, damaged").wait_for()


def test_a_box_drawn_on_the_original_is_erased_and_put_back(page):
    picture = page.get_by_test_id("stPlotlyChart").first
    picture.locator(".nsewdrag").first.wait_for()
    still(page)
    picture.scroll_into_view_if_needed()
    still(page)
    place = picture.locator(".nsewdrag").first.bounding_box()
    across, down = place["x"] + place["width"] * 0.4, place["y"] + place["height"] * 0.4
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across + place["width"] * 0.2, down + place["height"] * 0.2, steps=6)
    page.mouse.up()
    page.get_by_text("erased, filled with the median").first.wait_for()
    still(page)
    page.get_by_role("button", name="Put the region back").click()
    page.get_by_text("Nothing is changed yet").wait_for()
