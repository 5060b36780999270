"""The Cohort page on 100,000 made-up rows: first paint, filter and selection, on the server and in a real browser."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def made(folder: Path, cases: int, *, features: int = 64, seed: int = 0) -> Path:
    """A cohort of rows without meaning, all naming the same two empty files, with results; gives its table."""
    rng = np.random.default_rng(seed)
    malignant = rng.integers(0, 2, cases)
    p = np.clip(rng.normal(0.25 + 0.5 * malignant, 0.2, cases), 0.001, 0.999)
    severity = np.where(malignant == 1, rng.gamma(2.0, 12.0, cases).clip(0, 100), 0.0)
    names = [f"case-{n:06d}" for n in range(cases)]
    (folder / "t1.nii").touch()
    (folder / "slide.tif").touch()
    table = pd.DataFrame(
        {
            "case_id": names,
            "patient_id": [f"patient-{n // 2:06d}" for n in range(cases)],
            "mri_t1": np.where(rng.random(cases) < 0.95, "t1.nii", None),
            "slide": np.where(rng.random(cases) < 0.95, "slide.tif", None),
            "malignant": pd.array(np.where(rng.random(cases) < 0.97, malignant, -1), "Int64"),
            "severity_pct": severity.round(2),
            "age_years": rng.uniform(4, 85, cases).round(1),
            "sex": rng.choice(["f", "m"], cases),
            "centre": rng.choice([f"centre-{n:02d}" for n in range(12)], cases),
            "scanner": rng.choice(["synthetic 1.5 T", "synthetic 3 T"], cases),
            "split": "test",
        }
    )
    table["malignant"] = table["malignant"].replace(-1, pd.NA)
    table.to_csv(folder / "cohort.csv", index=False)
    results = folder / "results"
    results.mkdir()
    answers = pd.DataFrame(
        {
            "case_id": names,
            "model": "made-up",
            "given": "both",
            "p_malignant": p,
            "severity_pct": np.where(rng.random(cases) < 0.95, (severity + rng.normal(0, 4, cases)).clip(0), np.nan),
            "severity_true": severity,
            "dice": rng.beta(8, 2, cases),
            "uncertainty_ood_mri": rng.gamma(4, 1, cases),
            "corruption": None,
            "problem": None,
        }
    )
    answers.to_parquet(results / "predictions.parquet", index=False)
    seen = rng.normal(0, 1, (cases, features)).astype(np.float32)
    seen[:, :4] += 3 * malignant[:, None]
    pd.DataFrame({"case_id": names, "model": "made-up", "fused": list(seen)}).to_parquet(
        results / "features.parquet", index=False
    )
    told = {"model": "made-up", "model_id": "made-up-000000000000", "trained": "nothing: numbers drawn at random"}
    (results / "metrics.json").write_text(json.dumps(told | {"cases": cases}), encoding="utf-8")
    return folder / "cohort.csv"


def weights(folder: Path) -> Path:
    """A model with random weights: the page only asks which model is in use."""
    from cmssd_core.models import MODELS
    from cmssd_core.models import weights as weights_file

    model, path = MODELS["cmssd"]("compact"), folder / "random.safetensors"
    info = weights_file.WeightsInfo(model="cmssd", size="compact", trained="nothing: random weights", spec=model.spec)
    weights_file.save(model, path, info=info)
    return path


def on_server(table: Path, turns: int) -> dict[str, float]:
    """Seconds of the page's script: with nothing cached, again, after a filter, after a sort.

    "processor": of this process alone, which is what an idle machine would take at most.
    """
    os.environ |= {"CMSSD_COHORT": str(table), "CMSSD_CACHE_DIR": str(table.parent / "cache")}
    from streamlit.testing.v1 import AppTest

    import cmssd_core.cohort  # noqa: F401 - imports are the server's start, not the page's first paint
    from dashboard.services import model

    model.model()
    source = f"import runpy; runpy.run_path({str(ROOT / 'pages' / 'cohort.py')!r})"
    names = ("cold", "another session", "rerun", "filter", "sort")
    found: dict[str, list[float]] = {name: [] for name in names}
    worked_s: dict[str, list[float]] = {name: [] for name in names}

    def timed(name: str, run: object) -> None:
        started, worked = time.perf_counter(), time.process_time()
        app = run()  # type: ignore[operator]
        found[name].append(time.perf_counter() - started)
        worked_s[name].append(time.process_time() - worked)
        assert not app.exception, app.exception
        assert not app.error, app.error

    timed("cold", lambda: AppTest.from_string(source, default_timeout=300).run())
    for _ in range(turns):
        app = AppTest.from_string(source, default_timeout=300)
        timed("another session", app.run)
        timed("rerun", app.run)
        box = next(w for w in app.multiselect if (w.key or "").endswith("_f_malignant"))
        timed("filter", box.set_value(["malignant"]).run)
        sort = next(w for w in app.selectbox if (w.key or "").endswith("_sort"))
        timed("sort", sort.set_value("p_malignant").run)
    both = {name: median(values) for name, values in found.items()}
    return both | {f"{name}, processor": median(values) for name, values in worked_s.items()}


def in_browser(table: Path, turns: int) -> dict[str, float]:
    """Seconds until one Chromium has drawn: the page (table and plane), and a filter (the count of cases follows).

    Cold: neither server nor browser has seen it. Later: the third visit and on, when compiled scripts are kept.
    """
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = os.environ | {"CMSSD_COHORT": str(table), "CMSSD_CACHE_DIR": str(table.parent / "cache")}
    command = [sys.executable, "-m", "dashboard.launch", "--headless", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    found: defaultdict[str, list[float]] = defaultdict(list)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            for turn in range(turns + 2):
                _reached(page, f"http://127.0.0.1:{port}/")
                page.get_by_text("This installation", exact=True).wait_for(timeout=120_000)
                started = time.perf_counter()
                page.get_by_role("link", name="Cohort", exact=True).click()
                page.locator("[data-testid=stDataFrame] canvas").first.wait_for(timeout=120_000)
                page.locator("[data-testid=stPlotlyChart] .scatterlayer .point").first.wait_for(timeout=120_000)
                names = ("first paint, cold", "first paint, second visit", "first paint, later")
                found[names[min(turn, 2)]].append(time.perf_counter() - started)
                page.wait_for_timeout(1500)
                before = page.get_by_text("cases shown").first.inner_text()
                page.locator("[data-testid=stMultiSelect]").filter(has_text="Label").last.locator("input").click()
                option = page.get_by_role("option", name="malignant (")
                option.wait_for()
                started = time.perf_counter()
                option.click()
                page.wait_for_function(
                    "before => ![...document.querySelectorAll('p')].some(p => p.innerText === before)", arg=before
                )
                found["filter"].append(time.perf_counter() - started)
            browser.close()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    return {name: median(values) for name, values in found.items()}


def _reached(page: object, address: str) -> None:
    for _ in range(240):
        try:
            page.goto(address)  # type: ignore[attr-defined]
            return
        except Exception:  # the server is still starting
            time.sleep(0.5)
    raise TimeoutError(address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = made(Path(folder), given.cases)
        os.environ["CMSSD_WEIGHTS"] = str(weights(Path(folder)))
        print(f"{given.cases:,} cases, {table.stat().st_size / 1e6:.1f} MB; medians of {given.turns}, seconds")
        rows = {f"server: {name}": s for name, s in on_server(table, given.turns).items()}
        if CHROMIUM.exists():
            rows |= {f"browser: {name}": s for name, s in in_browser(table, given.turns).items()}
        print("| what | s |\n|---|---|")
        print("\n".join(f"| {name} | {seconds:.2f} |" for name, seconds in rows.items()))


if __name__ == "__main__":
    main()
