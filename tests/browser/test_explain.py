"""Explain and Review in a real Chromium: a map on both viewers, a verdict, an opened gate, a review, agreement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import audited
import numpy as np
import pytest
from seen import click_at, mri, pixels, settled, slide, until
from served import CHROMIUM, NEEDS_CHROMIUM, ROOT, WAIT_MS, WEBGL_FLAGS, pick, served

from cmssd_core.reviews.store import open_at
from dashboard import selection
from dashboard.viewers import bundle

CASE = "synth-00000"

pytestmark = [
    *NEEDS_CHROMIUM,
    pytest.mark.skipif(not bundle.ready(), reason="the viewers are not built: python -m dashboard.viewers.build"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The demo cohort and the shipped weights, with an audit of a cheat where the page looks for one."""
    folder = tmp_path_factory.mktemp("served")
    key = selection.cohort_key(ROOT / "data_samples" / "cohort.csv")
    names = [f"synth-{n:05d}" for n in range(24)]
    audited.write(folder / "cache" / "cohorts" / key / "audit", names, cheat=True)
    with served(folder, reviews=str(folder / "reviews.sqlite"), max_patches="12") as here:
        yield here.address, folder
    assert "Traceback" not in here.log


@pytest.fixture(scope="module")
def page(server):
    """One page; the tests below go on from one another's state."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=WEBGL_FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 1500})
        opened.set_default_timeout(WAIT_MS)
        opened.fetched, opened.faults = [], []
        opened.on("request", lambda request: opened.fetched.append(request.url))
        opened.on("pageerror", lambda fault: opened.faults.append(str(fault)))
        opened.goto(f"{server[0]}/explain")
        opened.get_by_role("heading", name="Explain").wait_for()
        yield opened
        assert opened.faults == []
        assert not [url for url in opened.fetched if url.startswith("http") and not url.startswith(server[0])]
        assert not [url for url in opened.fetched if CASE in url], "no address names a case"
        browser.close()


def choose(page, label: str, value: str) -> None:
    pick(page, page.get_by_test_id("stSelectbox").filter(has_text=label).locator("input").first, value)


def drawn(page) -> None:
    page.locator(".stage[data-ready]").first.wait_for()
    page.locator(".stage[data-tiles]").first.wait_for()
    settled(page)


def test_a_chosen_method_is_drawn_on_both_viewers(page):
    pick(page, page.get_by_test_id("stSelectbox").locator("input").first, CASE)
    page.get_by_text("promises no sum").wait_for()
    drawn(page)
    for stage, number in ((mri(page), 0), (slide(page), 1)):
        box = page.locator("[data-layer='GradCAM'] input[type=checkbox]").nth(number)
        with_it = pixels(stage)
        box.uncheck()
        until(
            page, lambda s=stage, w=with_it: np.abs(pixels(s) - w).mean() > 0.3, "without the map it is another picture"
        )
        box.check()


def test_a_place_that_is_clicked_says_what_the_model_says_of_it(page):
    click_at(page, mri(page), 0.3, 0.35)
    page.get_by_text(re.compile(r"Voxel \d+, \d+, \d+")).first.wait_for()
    page.get_by_test_id("stTable").first.locator("tr").nth(3).wait_for()


def test_the_verdict_is_read_and_a_gate_opened(page):
    page.get_by_role("radio", name="Audit").or_(page.get_by_role("button", name="Audit")).first.click()
    page.get_by_text("The gates of one verdict").wait_for()
    page.get_by_text("FAIL").first.wait_for()
    page.get_by_text(re.compile("a marker in the corner moves the answer")).first.wait_for()
    page.get_by_test_id("stExpander").filter(has_text="The map lies on the criterion").locator("summary").click()
    page.get_by_text("Beside its controls").wait_for()
    page.locator('[aria-label*="the map 1.0"]').first.wait_for()
    page.get_by_text("Cases to look at").wait_for()


@pytest.mark.slow  # tests/pages/test_review.py without a browser
def test_a_review_is_sent_and_agreement_read(page, server):
    page = page.context.browser.new_page(viewport={"width": 1280, "height": 1500})  # that saw no answer
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{server[0]}/review")
    page.get_by_role("textbox", name="You read as").fill("Reader One")
    page.keyboard.press("Enter")
    page.get_by_text("Your reading").wait_for()
    assert page.get_by_text("Tumour probability").count() == 0, "blind"
    page.get_by_label("Severity, %").fill("35")
    page.get_by_text("I have seen neither").wait_for()
    for group in page.get_by_test_id("stButtonGroup").filter(has_text="Not assessable").all():
        group.get_by_text("Present", exact=True).click()
    page.get_by_text("I have seen neither").click()
    page.get_by_role("button", name="Save my reading").click()
    page.get_by_text("Your verdict on the model's answer").wait_for()
    page.get_by_test_id("stMetricValue").nth(2).wait_for()
    page.get_by_text("Agree", exact=True).click()
    page.get_by_role("button", name="Save my verdict").click()
    page.get_by_text("Your verdict is kept").wait_for()
    kept = open_at(str(server[1] / "reviews.sqlite"))
    (reading,), (verdict,) = kept.readings(), kept.verdicts()
    kept.close()
    assert (reading.reader, reading.severity_pct, reading.blind) == ("reader one", 35.0, True)
    assert (verdict.answer, verdict.reading) == ("agree", reading.token)
    page.get_by_text("Agreement", exact=True).click()
    page.get_by_text("Blind readings").wait_for()
    page.get_by_text("Agreement needs two readers").wait_for()
    page.get_by_role("heading", name="With the model").wait_for()


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_pages_fit_the_screen_and_are_legible(page, width):
    page.set_viewport_size({"width": width, "height": 1200})
    for name in ("Explain", "Review"):
        page.get_by_role("link", name=name).click()
        page.get_by_role("heading", name=name).first.wait_for()
        page.wait_for_timeout(1000)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        small = page.evaluate(
            """() => [...document.querySelectorAll("body *")].filter(e => e.offsetParent !== null
                 && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
                 && parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.textContent)"""
        )
        assert small == []
