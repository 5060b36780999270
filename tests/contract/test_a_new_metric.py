"""A metric is a function, a row of METRICS and a name among FIGURES: files, terminal, reports, pages then show it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import apps
import numpy as np
import pandas as pd
import pytest
import scored
import showcase
from sklearn.metrics import balanced_accuracy_score
from streamlit.testing.v1 import AppTest

from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings, settings
from cmssd_core.evaluation.metrics import FIGURES, METRICS, Digits, Metric, OfMasks, OfScores
from cmssd_core.evaluation.repeats import apart, summarise_runs
from cmssd_core.models import weights as weights_file
from cmssd_core.report import notebook
from cmssd_core.report.evaluation import words
from cmssd_core.studies import evaluate as evaluation
from cmssd_core.studies import one_modality
from cmssd_core.studies.run import RunSettings
from dashboard.services import catalogue
from dashboard.services import performance as service

FAST = Settings(n4=False, max_patches=2)


def balanced(malignant: np.ndarray, p: np.ndarray) -> float | None:
    """Mean of sensitivity and specificity at one half."""
    if malignant.all() or not malignant.any():
        return None
    return float(((p >= 0.5)[malignant].mean() + (p < 0.5)[~malignant].mean()) / 2)


def share_found(found: np.ndarray, truth: np.ndarray, _spacing_mm: tuple[float, ...]) -> float:
    """How much of the mask the map holds, in percent."""
    return 100.0 * float((found & truth).sum()) / max(int(truth.sum()), 1)


BALANCED = Metric(
    label="Balanced accuracy", short="balanced accuracy", how=OfScores(balanced), better="higher",
    nothing="no case has a label", place="main",
)  # fmt: skip
FOUND = Metric(
    label="Tumour found", short="tumour found", unit="%", how=OfMasks(share_found), better="higher",
    bounds=(0.0, 100.0), nothing="no case has both a map and a mask", digits=Digits(report=1, narrow=0, line=0),
)  # fmt: skip


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "balanced", BALANCED)
    monkeypatch.setitem(FIGURES, "class", (*FIGURES["class"], "balanced"))
    monkeypatch.setitem(METRICS, "found_pct", FOUND)
    monkeypatch.setitem(FIGURES, "map", (*FIGURES["map"], "found_pct"))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cohort of answers whose rows have the new metric of maps, opened in the dashboard."""
    folder = scored.cohort(tmp_path / "cohort", models=("first", "second"))
    path = folder / "results" / "predictions.parquet"
    rows = pd.read_parquet(path)
    rows.assign(found_pct=100 * rows["dice"]).to_parquet(path, index=False)
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_COHORT", str(folder))
    settings.cache_clear()
    yield folder
    settings.cache_clear()


def opened(section: str) -> AppTest:
    return apps.opened("performance", section=section)


@pytest.mark.usefixtures("added")
def test_a_new_metric_of_a_label_stands_in_every_file_of_an_evaluation(cohort: Path, tmp_path: Path) -> None:
    told = evaluation.evaluate(cohort, tmp_path, chosen=RunSettings(split="all", workers=1), settings=FAST)
    kept = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(tmp_path / "predictions.parquet")
    for given, part in {
        "both": kept,
        "mri": kept["by_modality"]["mri_only"],
        "he": kept["by_modality"]["he_only"],
    }.items():
        mine = rows[rows["given"] == given]
        theirs = balanced_accuracy_score(mine["malignant"] == 1, mine["p_malignant"] >= 0.5)
        assert part["balanced"]["value"] == pytest.approx(theirs)
    assert kept["found_pct"]["value"] == pytest.approx(rows[rows["given"] == "both"]["found_pct"].mean())
    lines = evaluation.in_words(told)
    assert "Balanced accuracy" in lines[0]
    assert words(told["balanced"]) in lines[1]
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    assert "<td>Balanced accuracy</td>" in page
    assert "Balanced accuracy" in notebook.metrics(told)


@pytest.mark.usefixtures("added")
def test_a_new_metric_of_maps_stands_in_every_file_of_scans_with_masks(cohort: Path, tmp_path: Path) -> None:
    for _, row in cohorts.read(cohort).iterrows():
        place = tmp_path / "pairs" / str(row["case_id"])
        place.mkdir(parents=True)
        shutil.copy(cohort / row["mri_t1"], place / "MR_T1_image.nii.gz")
        shutil.copy(cohort / row["lesion_mask"], place / "MR_T1_mask.nii.gz")
    out = tmp_path / "out"
    told = one_modality.evaluate(
        tmp_path / "pairs", out, kind="pairs", weights=weights_file.DEFAULT, settings=FAST
    )  # fmt: skip
    kept = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    each = pd.read_parquet(out / "predictions.parquet")["found_pct"]
    assert kept["found_pct"]["value"] == pytest.approx(each.mean())
    assert kept["found_pct"]["high"] <= 100  # the bounds are its own
    lines = one_modality.in_words(told)
    assert f"tumour found {each[0]:.0f} %" in lines[0]
    assert any(line.startswith(f"Tumour found, %: {each.mean():.3f}") for line in lines)
    assert "<td>Tumour found, %</td>" in (out / "evaluation.html").read_text(encoding="utf-8")
    assert kept["balanced"]["reason"]  # such a cohort has no label


@pytest.mark.usefixtures("added")
def test_a_new_metric_is_judged_on_the_performance_page(results: Path) -> None:
    table = pd.read_parquet(results / "results" / "predictions.parquet")
    mine = table[(table["model"] == "first") & (table["given"] == "both")]
    scope = service.Scope(results / "cohort.csv", service.Answers("first", "both"))
    theirs = balanced_accuracy_score(mine["malignant"] == 1, mine["p_malignant"] >= 0.5)
    assert service.whole_figure(scope, "balanced", 0.5).value == pytest.approx(theirs)
    assert service.by_group(scope, "sex", "balanced", 0.5)["f"].low is not None
    assert service.map_figure(scope, "found_pct", False).value == pytest.approx(mine["found_pct"].mean())
    assert service.worst(scope, "found_pct")["case_id"].iloc[0] == mine.loc[mine["found_pct"].idxmin(), "case_id"]


@pytest.mark.usefixtures("added", "results")
def test_a_new_metric_is_shown_on_the_performance_page() -> None:
    groups = opened("Subgroups")
    assert "Balanced accuracy" in groups.segmented_control(key="group_figure").options
    groups.segmented_control(key="group_figure").set_value("balanced").run()
    assert not groups.exception
    assert any(m.value.startswith("**Balanced accuracy** by") for m in groups.markdown)
    assert any(m.value.startswith("**Tumour found, %**: mean ") for m in opened("Maps and severity").markdown)
    assert "Smallest tumour found" in opened("Failures").segmented_control(key="worst_by").options


@pytest.mark.usefixtures("added")
def test_models_are_compared_in_a_new_metric(results: Path) -> None:
    table = pd.read_parquet(results / "results" / "predictions.parquet")
    one, other = (table[(table["model"] == m) & (table["given"] == "both")] for m in ("first", "second"))
    a, b = (balanced(run["malignant"].to_numpy() == 1, run["p_malignant"].to_numpy()) for run in (one, other))
    assert summarise_runs([one])["balanced"]["value"] == pytest.approx(a)
    assert apart([one], [other])["difference"]["balanced"]["value"] == pytest.approx(a - b)
    scope = service.Scope(results / "cohort.csv", service.Answers("first", "both"))
    told = catalogue.compare_models(scope, service.Answers("second", "both"))
    assert told.other["balanced"]["value"] == pytest.approx(b)
