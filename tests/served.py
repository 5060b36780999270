"""A dashboard served for a browser test, and the Chromium that looks at it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from places import ROOT

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
FLAGS = [*QUIET, "--disable-gpu"]
WEBGL_FLAGS = [*QUIET, "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WAIT_MS = 240_000  # the machine may be shared, and its browser draws without a graphics card

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install Debian's chromium to run browser tests"),
]


@dataclass
class Served:
    """A dashboard that answers at `address`; log is what it printed, once it has stopped."""

    address: str
    log: str = ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launched(folder: Path, *arguments: str, **settings: str | None) -> subprocess.Popen[str]:
    """`python -m dashboard.launch` with caches and uploads below `folder`; settings: CMSSD_<NAME>, None = unset."""
    environment = os.environ | {
        "CMSSD_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
    }
    for name in ("CMSSD_COHORT", "CMSSD_WEIGHTS"):  # unless told: the demo cohort and the shipped weights
        environment.pop(name, None)
    environment |= {f"CMSSD_{name.upper()}": value for name, value in settings.items() if value is not None}
    return subprocess.Popen(
        [sys.executable, "-m", "dashboard.launch", "--headless", *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@contextmanager
def served(folder: Path, *, port: int | None = None, **settings: str | None) -> Iterator[Served]:
    """A dashboard on a free port, or the one named, from when it answers until the block ends."""
    port = port or free_port()
    process = launched(folder, "--port", str(port), **settings)
    here, opener = Served(f"http://127.0.0.1:{port}"), build_opener(ProxyHandler({}))
    try:
        for _ in range(240):
            try:
                with opener.open(f"{here.address}/health", timeout=5) as answer:
                    assert json.load(answer)["status"] == "ok"
                break
            except OSError:
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
                time.sleep(0.5)
        else:
            pytest.fail("the dashboard did not answer within two minutes")
        yield here
    finally:
        process.send_signal(signal.SIGTERM)
        here.log, _ = process.communicate(timeout=30)


def pick(page, field, words: str) -> None:
    """Chooses in a select box by its words, once they are on offer: Enter before that would choose nothing.

    A rerun that draws the box anew shuts its list, so it is opened until the list stays.
    """
    from playwright.sync_api import TimeoutError as TooLate

    option = page.get_by_role("option").filter(has_text=words).first
    for _ in range(12):
        still(page)
        field.click()
        field.fill(words)
        try:
            option.click(timeout=20_000)
        except TooLate:
            page.keyboard.press("Escape")
            continue
        return
    pytest.fail(f"{words} was not on offer")


def still(page) -> None:
    """Until Streamlit runs nothing and no chart was drawn anew or moved for half a second."""
    places = """() => JSON.stringify([...document.querySelectorAll("[data-testid=stPlotlyChart] .main-svg")]
        .map(e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }))"""
    before = None
    for _ in range(WAIT_MS // 500):
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        now = page.evaluate(places)
        if now == before:
            return
        before = now
        page.wait_for_timeout(500)
    pytest.fail("the page does not come to rest")
