"""The performance page in a real Chromium: the threshold moves the matrix, a click on a field selects its cases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import scored
import showcase
from served import CHROMIUM, FLAGS, NEEDS_CHROMIUM, WAIT_MS, served, still

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("judged")
    weights, cohort = showcase.weights(folder), scored.cohort(folder / "cohort", models=("first", "second"))
    with served(folder, weights=str(weights), cohort=str(cohort)) as here:
        yield here.address, folder / "cohort"


@pytest.fixture
def page(server):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 1400})
        opened.set_default_timeout(WAIT_MS)
        outside: list[str] = []
        opened.on("request", lambda r: outside.append(r.url) if r.url.startswith("http") else None)
        yield opened
        browser.close()
    assert not [url for url in outside if not url.startswith(server[0])], "the screen asked the internet"


def answers(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "results" / "predictions.parquet")
    return rows[(rows["given"] == "both") & (rows["model"] == "first")]


def matrix(page):
    return page.locator('[aria-label^="Confusion matrix"]').first


def counts(rows: pd.DataFrame, threshold: float) -> str:
    called, malignant = rows["p_malignant"] >= threshold, rows["malignant"] == 1
    told = {
        "rightly malignant": (malignant & called).sum(),
        "missed malignant": (malignant & ~called).sum(),
        "false alarm": (~malignant & called).sum(),
        "rightly benign": (~malignant & ~called).sum(),
    }
    return "Confusion matrix: " + ", ".join(f"{count} {name}" for name, count in told.items())


def fields(page) -> list[str]:
    """What is drawn in the four fields, not what is told beside them."""
    page.locator('[data-testid="stPlotlyChart"] .barlayer text').nth(3).wait_for()
    return page.locator('[data-testid="stPlotlyChart"] .barlayer text').all_text_contents()


def test_moving_the_threshold_moves_the_matrix_and_the_address_restores_it(page, server):
    rows = answers(server[1])
    page.goto(f"{server[0]}/performance")
    page.locator(f'[aria-label="{counts(rows, 0.5)}"]').first.wait_for()
    before = fields(page)
    slider = page.get_by_test_id("stSlider").filter(has_text="Called malignant").locator("input")
    slider.focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.locator(f'[aria-label="{counts(rows, 0.42)}"]').first.wait_for()
    assert len(before) == 4
    page.wait_for_function("before => JSON.stringify([...document.querySelectorAll('.barlayer text')]"
                           ".map(t => t.textContent)) !== before", arg=json.dumps(before))  # fmt: skip
    page.wait_for_url(re.compile("threshold=0.42"))
    page.goto(page.url)
    page.locator(f'[aria-label="{counts(rows, 0.42)}"]').first.wait_for()


@pytest.mark.slow
def test_a_click_on_a_field_selects_its_cases_and_a_second_one_lets_go(page, server):
    rows = answers(server[1])
    alarms = int(((rows["malignant"] == 0) & (rows["p_malignant"] >= 0.5)).sum())
    assert alarms
    page.goto(f"{server[0]}/performance")
    matrix(page).wait_for()
    page.locator(".barlayer text").nth(3).wait_for()
    still(page)
    box = matrix(page).locator(".barlayer .point").nth(2).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.85
    page.mouse.click(x, y)
    page.get_by_text(f"{alarms} selected: false alarm").wait_for()
    page.locator('.barlayer .point path[style*="stroke-width: 5px"]').wait_for()  # the new chart marks the field
    still(page)
    page.mouse.click(x, y)
    page.get_by_text(f"{alarms} selected: false alarm").wait_for(state="detached")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1920, "dark")])
def test_every_section_fits_the_screen_and_is_legible(page, server, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(f"{server[0]}/performance")
    for section in ("Calibration and benefit", "Maps and severity", "Subgroups", "Discrimination"):
        page.get_by_role("tab", name=section).click()
        page.locator('[role=tabpanel]:visible [data-testid="stPlotlyChart"] .main-svg').first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), section
        small = page.evaluate(
            """() => [...document.querySelectorAll("body *")].filter(e => e.getClientRects().length
                 && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
                 && parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.textContent)"""
        )
        assert small == [], section


@pytest.mark.slow
def test_the_models_page_walks_through_card_parts_and_comparison(page, server):
    page.goto(f"{server[0]}/models")
    page.get_by_text(re.compile("No model card lies beside")).wait_for()
    page.get_by_role("tab", name="Parts").click()
    page.get_by_text("map decoder").first.wait_for()
    page.get_by_role("tab", name="Compare on the cohort").click()
    page.get_by_text("60 cases have both answers").wait_for()
