"""Behind nginx, under a path: both viewers draw on each page that has them, and a file is taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import showcase
from behind_nginx import NGINX, behind_nginx
from seen import mri, pixels, settled, slide
from served import CHROMIUM, NEEDS_CHROMIUM, WAIT_MS, WEBGL_FLAGS, pick, served
from uploads import upload

from dashboard import holdings
from dashboard.viewers import bundle

CASE, PATH = "synth-00000", "/cmssd"

pytestmark = [
    *NEEDS_CHROMIUM,
    pytest.mark.skipif(NGINX is None, reason="no nginx: install Debian's nginx-light to run this test"),
    pytest.mark.skipif(not bundle.ready(), reason="the viewers are not built: python -m dashboard.viewers.build"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("proxied")
    with (
        served(folder, base_path=PATH, max_patches="8", weights=str(showcase.weights(folder))) as here,
        behind_nginx(folder, here.address, PATH) as outside,
    ):
        yield outside


def test_each_page_draws_both_viewers_and_gives_files_to_its_own_browser_alone(address: str, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=WEBGL_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1500}, accept_downloads=True)
        page.set_default_timeout(WAIT_MS)
        faults: list[str] = []
        fetched: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(f"{address}/")
        page.get_by_test_id("stSidebarNavLink").filter(has_text="Case").click()  # an address that the page made
        pick(page, page.get_by_test_id("stSelectbox").locator("input").first, CASE)
        _assert_drawn(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Report (HTML)").click()
        download.value.save_as(tmp_path / "report.html")
        assert "Research use only" in (tmp_path / "report.html").read_text("utf-8")
        held = [url for url in fetched if "/held/" in url]
        assert {url.rsplit(".", 1)[1] for url in held} >= {"nii", "jpg"}
        for url in (download.value.url, *held[:1], *held[-1:]):
            mine = page.context.request.get(url)
            assert mine.ok
            assert mine.headers["cache-control"] == "private, no-store"
            assert browser.new_context().request.get(url).status == 404, "no cookie"
            other = browser.new_page()
            other.goto(f"{address}/")
            assert other.context.cookies()
            assert other.context.request.get(url).status == 404, "another browser"
        page.get_by_test_id("stSidebarNavLink").filter(has_text="Explain").click()
        page.get_by_role("heading", name="Explain").wait_for()
        _assert_drawn(page)
        page.get_by_test_id("stSidebarNavLink").filter(has_text="Review").click()
        page.get_by_role("textbox", name="You read as").fill("reader 1")
        page.keyboard.press("Enter")
        _assert_drawn(page)
        page.get_by_test_id("stSidebarNavLink").filter(has_text="Analyse").click()
        page.get_by_text("Your files").click()
        upload(page, 0, showcase.nifti(tmp_path / "uploaded_t1.nii.gz"))
        page.get_by_role("button", name="Run").click()
        page.get_by_role("heading", name="Result").wait_for()
        cookies = {each["name"]: each["path"] for each in page.context.cookies()}
        assert cookies[holdings.COOKIE] == PATH
        browser.close()
    assert faults == []
    assert [url for url in fetched if url.startswith("http") and not url.startswith(f"{address}/")] == []


def _assert_drawn(page) -> None:
    page.locator(".stage[data-ready]").wait_for()
    page.locator(".stage[data-tiles]").wait_for()
    settled(page)
    grey = pixels(mri(page))
    assert len(np.unique(grey[np.ptp(grey, axis=2) < 12].mean(axis=-1).round())) > 60, "an MRI has greys"
    assert (np.ptp(pixels(slide(page)), axis=2) > 40).mean() > 0.3, "H&E has colours"
