"""Each page of the dashboard in a real browser on the demo cohort: first paint of a warm server, and a rerun.

    python -m benchmarks.pages [--turns 5]

First paint: from asking for the page until its script has ended, everything it sent stands on the page and its charts
are drawn, in a browser that has never seen the program, and in one that has seen it twice (then Chromium keeps the
compiled scripts), each once it has come to rest. Rerun: from the key R until the server says that the script has ended
and the browser has drawn a picture after that. The server has shown each page once before.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
AIM_PAINT_S, AIM_RERUN_S = 1.5, 0.3
ENDED = '[data-testid="stApp"][data-test-script-state="notRunning"]'
#: Whether every chart is drawn and nothing stands for what is still to come.
_DRAWN = """() => !document.querySelector('[data-testid="stSpinner"], [data-testid="stSkeleton"]') &&
  [...document.querySelectorAll('[data-testid="stPlotlyChart"]')].every(chart => chart.querySelector('svg.main-svg'))"""
_A_PICTURE = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@contextmanager
def served(cohort: Path = ROOT / "data_samples") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The dashboard on a cohort with an empty cache of its own: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as cache:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.launch", "--headless", "--port", str(port), "--cohort", str(cohort)],
            cwd=ROOT, env=os.environ | {"CMSSD_CACHE_DIR": cache}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        address, opener = f"http://127.0.0.1:{port}", build_opener(ProxyHandler({}))
        try:
            for _ in range(240):
                try:
                    opener.open(f"{address}/health", timeout=5).close()
                    break
                except OSError as problem:
                    if process.poll() is not None:
                        raise SystemExit("the dashboard ended before it answered") from problem
                    time.sleep(0.5)
            yield address, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def pages(page: Any, address: str) -> dict[str, str]:
    """Title -> address of every page in the navigation."""
    page.goto(address)
    page.locator(ENDED).wait_for()
    links = page.get_by_test_id("stSidebarNavLink")
    links.first.wait_for()
    return {link.inner_text().split("\n")[-1].strip(): link.get_attribute("href") for link in links.all()}


def settle(page: Any) -> None:
    """Waits until the page's script has ended, nothing is computed any more and the charts are drawn."""
    page.locator(ENDED).wait_for()
    page.wait_for_function(_DRAWN)


def rerun_s(page: Any, socket: Any) -> float:
    """Seconds from the key R to the end of the script and a picture after it; socket: the page's to the server."""
    began = time.perf_counter()
    with socket.expect_event("framereceived", predicate=_ended):
        page.keyboard.press("r")
    page.evaluate(_A_PICTURE)
    return time.perf_counter() - began


def _ended(frame: bytes | str) -> bool:
    message = ForwardMsg()
    message.ParseFromString(frame if isinstance(frame, bytes) else frame.encode())
    return message.WhichOneof("type") == "script_finished"


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    with served() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        first = browser.new_page()
        first.set_default_timeout(180_000)
        found = pages(first, address)
        print("| page | first paint, a new browser | its third visit | rerun |\n|---|---|---|---|")
        for title, path in found.items():
            where = f"{address}{path}" if path.startswith("/") else path
            first.goto(where)
            settle(first)
            paints, again, reruns = [], [], []
            for _ in range(turns):
                page = browser.new_context().new_page()
                page.set_default_timeout(180_000)
                sockets: list[Any] = []
                page.on("websocket", lambda opened, kept=sockets: kept.append(opened))
                for seconds in (paints, [], again):
                    began = time.perf_counter()
                    page.goto(where, wait_until="commit")
                    settle(page)
                    seconds.append(time.perf_counter() - began)
                    page.wait_for_timeout(1000)
                for _ in range(3):
                    reruns.append(rerun_s(page, sockets[-1]))
                    page.wait_for_timeout(500)
                page.context.close()
            new, known, rerun = (statistics.median(seconds) for seconds in (paints, again, reruns))
            marks = "" if known <= AIM_PAINT_S and rerun <= AIM_RERUN_S else " (beyond the aim)"
            print(f"| {title} | {new:.2f} | {known:.2f} | {rerun:.2f} |{marks}", flush=True)
        browser.close()
    print(f"\nMedians in seconds. Aims: paint {AIM_PAINT_S} s, rerun {AIM_RERUN_S} s.")


if __name__ == "__main__":
    main()
