"""The dashboard in real Chromium: upload DICOM and a slide, run, look, take the report away, survive a broken file."""

from __future__ import annotations

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import showcase
from served import CHROMIUM, FLAGS, NEEDS_CHROMIUM, ROOT, WAIT_MS, launched, still
from uploads import choose_files, upload

SLIDE = ROOT / "data_samples" / "cases" / "synth-00000" / "slide.tif"  # a pyramid that knows its microns per pixel

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def page(server):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
        opened.set_default_timeout(WAIT_MS)
        outside: list[str] = []
        opened.on("request", lambda r: outside.append(r.url) if r.url.startswith("http") else None)
        yield opened
        browser.close()
    assert not [url for url in outside if not url.startswith(server[0])], "the screen asked the internet"
    assert not [url for url in outside if "Mueller" in url]


def run(page) -> None:
    button = page.get_by_role("button", name="Run")
    button.click()
    page.get_by_test_id("stExpander").filter(has_text=re.compile("Done|Stopped")).first.wait_for()


def test_a_case_from_upload_to_report(page, server, tmp_path):
    choose_files(page, server)
    (tmp_path / "series").mkdir()
    upload(page, 0, *showcase.dicom(tmp_path / "series"))
    upload(page, 1, SLIDE)
    run(page)
    page.get_by_role("heading", name="Result").wait_for()
    severity = page.get_by_test_id("stMetricValue").first.inner_text()
    assert re.fullmatch(r"\d+\.\d %|undefined", severity)
    page.get_by_text("Research use only").first.wait_for()

    charts = page.get_by_test_id("stPlotlyChart")
    charts.nth(3).wait_for()
    slider = page.get_by_test_id("stSlider").filter(has_text="Slice").locator("input")
    start = int(slider.input_value())
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.locator(f'[aria-label*="slice {start + 1} of 12"]').first.wait_for()
    assert page.get_by_test_id("stMetricValue").first.inner_text() == severity

    still(page)
    map_box = charts.first.bounding_box()
    page.mouse.move(map_box["x"] + map_box["width"] / 2, map_box["y"] + map_box["height"] * 0.4)
    told = re.compile(r"T1 [\d.]+.*tumour [01]\.\d{3}")
    charts.first.locator(".hoverlayer text").filter(has_text=told).first.wait_for()

    with page.expect_download() as download:
        page.get_by_role("button", name="Report (HTML)").click()
    assert "Mueller" not in download.value.suggested_filename
    download.value.save_as(tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text("utf-8")
    assert "Research use only" in report
    assert severity.removesuffix(" %") in report
    assert "Mueller" not in report
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)")


def test_a_broken_upload_is_a_sentence_and_the_page_lives_on(page, server):
    choose_files(page, server)
    upload(page, 0, server[1] / "broken_t1.nii.gz")
    run(page)
    sentence = page.get_by_test_id("stAlert").filter(has_text="broken_t1.nii.gz")
    sentence.wait_for()
    assert "Traceback" not in page.content()
    page.get_by_role("button", name="Remove broken_t1.nii.gz").click()
    upload(page, 0, server[1] / "Mueller_Anna_t1.nii.gz")
    run(page)
    page.get_by_role("heading", name="Result").wait_for()


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_fits_the_screen_and_is_legible(page, server, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(server[0])
    page.get_by_text("This installation").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    small = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(e => e.offsetParent !== null
             && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
             && parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.textContent)"""
    )
    assert small == []


def test_a_taken_port_is_a_sentence(server):
    port = server[0].rsplit(":", 1)[1]
    done = launched(server[1], "--port", port, weights=str(server[1] / "random.safetensors"))
    said, _ = done.communicate(timeout=60)
    assert done.returncode == 2
    assert said.startswith(f"port {port} is taken")
    assert len(said.strip().splitlines()) == 1


def test_a_page_elsewhere_frames_its_own_but_never_ours(page, tmp_path, server):
    """An upload into a frame would go where the framing site says."""
    (tmp_path / "own.html").write_text("<p>framed</p>", encoding="utf-8")
    (tmp_path / "index.html").write_text(
        f'<iframe src="own.html"></iframe><iframe src="{server[0]}/analyse"></iframe>', encoding="utf-8"
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        opened = page.context.browser.new_page()
        opened.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
        own, ours = opened.frames[1:]
        assert own.locator("p").inner_text() == "framed"
        assert ours.url == "chrome-error://chromewebdata/"
        assert ours.locator("input[type=file]").count() == 0
        elsewhere.shutdown()
