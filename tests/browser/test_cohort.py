"""The Cohort page in a real Chromium: what is drawn around in a plot is ticked in the table; a link brings it back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlparse

import pytest
import showcase
from served import CHROMIUM, NEEDS_CHROMIUM, WAIT_MS, WEBGL_FLAGS, served, still

from dashboard.widgets import NO_CSV

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder, weights=str(showcase.weights(folder))) as here:
        yield here.address
    assert "synth-000" not in here.log, "a case's name stands in the log"


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=WEBGL_FLAGS)
        yield browser
        browser.close()


def arrived(chromium, address: str):
    page = chromium.new_context(viewport={"width": 1280, "height": 2000}).new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.locator("[data-testid=stPlotlyChart] .scatterlayer .point").first.wait_for()
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    return page


def ticked(page) -> list[str]:
    """The cases whose rows are ticked in the table, by what it tells a screen reader."""
    rows = page.locator("[data-testid=stDataFrame]").first.locator("[role=row][aria-selected=true]")
    return [re.search(r"synth-\d{5}", row.inner_text() or row.text_content()).group() for row in rows.all()]


def all_ticked(page, expected: list[str]) -> None:
    """Waits for as many ticked rows as expected (the table draws itself after the count is said); these, no other."""
    page.wait_for_function(
        "n => document.querySelectorAll('[data-testid=stDataFrame]')[0]"
        ".querySelectorAll('[role=row][aria-selected=true]').length === n",
        arg=len(expected),
    )
    assert sorted(ticked(page)) == expected


def box(page, chart: int, left: float, right: float) -> None:
    """Draws a box over a part of a chart, in shares of its width."""
    area = page.locator("[data-testid=stPlotlyChart]").nth(chart).locator(".nsewdrag").first
    still(page)
    area.scroll_into_view_if_needed()
    still(page)
    frame = area.bounding_box()
    x, y = [frame["x"] + frame["width"] * part for part in (left, right)], frame["y"]
    page.mouse.move(x[0], y + frame["height"] * 0.03)
    page.mouse.down()
    page.mouse.move(sum(x) / 2, y + frame["height"] * 0.5, steps=4)
    page.mouse.move(x[1], y + frame["height"] * 0.97, steps=4)
    page.mouse.up()


def count(page, words: str) -> None:
    page.get_by_text(re.compile(words)).first.wait_for()


@pytest.mark.slow
def test_a_box_in_the_plane_ticks_its_cases_in_the_table_and_the_link_brings_them_back(chromium, address):
    page = arrived(chromium, f"{address}/cohort")
    assert ticked(page) == []
    box(page, 0, 0.02, 0.6)
    page.wait_for_url(re.compile("cases="))
    rows = parse_qs(urlparse(page.url).query)["cases"][0]
    numbers = [n for part in rows.split(".") for n in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)]
    expected = [f"synth-{n:05d}" for n in numbers]
    count(page, rf"{len(expected)} selected")
    all_ticked(page, expected)
    assert "synth" not in page.url
    # Who may not take data away is not offered the table as a file.
    save = page.locator("[data-testid=stDataFrame]").first.get_by_role("button", name=re.compile("^Download as CSV"))
    page.locator("[data-testid=stDataFrame]").first.hover()
    save.wait_for()
    page.add_style_tag(content=re.sub("</?style>", "", NO_CSV))
    save.wait_for(state="hidden")
    # The same address in another browser, which knows nothing of this session.
    again = arrived(chromium, page.url)
    count(again, rf"{len(expected)} selected")
    all_ticked(again, expected)
    for each in (page, again):
        each.context.close()


@pytest.mark.slow
def test_a_clicked_cell_becomes_the_current_case_and_a_box_in_the_distribution_selects(chromium, address):
    page = arrived(chromium, f"{address}/cohort")
    still(page)
    grid = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(grid["x"] + 90, grid["y"] + 36 * 2 - 12)  # the first row's name
    page.wait_for_url(re.compile(r"case=0"))
    page.get_by_text("cases most like it").wait_for()
    box(page, 1, 0.5, 0.99)
    page.wait_for_url(re.compile("cases="))
    page.get_by_text(re.compile("selected, n = ")).first.wait_for()
    page.get_by_role("button", name="Clear", exact=True).click()
    count(page, "0 selected")
    page.wait_for_url(lambda url: "cases=" not in url)
    page.context.close()
