"""The models page without a browser: parts sum up to the whole, what is not there is said, comparisons are paired."""

from __future__ import annotations

import shutil
from pathlib import Path

import apps
import numpy as np
import pandas as pd
import pytest
import scored
import showcase
from places import CHEAT
from sklearn.metrics import accuracy_score, roc_auc_score
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.evaluation.figure import Figure
from cmssd_core.evaluation.roc import Difference, McNemar
from cmssd_core.models import MODELS
from cmssd_core.models.listing import gflop, parts
from cmssd_core.training.run_folder import history
from cmssd_core.types import InputError
from dashboard.services import catalogue
from dashboard.views import training, wording

SECTIONS = ("Model card", "Parts", "Training", "Compare on the cohort")
CSV = """step,stage,learning_rate,total,malignant,severity,gradient_norm,validation,seconds
0,slide alone,1e-5,4.0,4.0,,3.0,,1.0
1,slide alone,1e-3,3.0,3.0,,3.0,,1.0
2,both,1e-3,5.0,2.0,3.0,3.0,,1.0
3,both,1e-4,2.5,1.0,1.5,3.0,2.75,1.0
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return showcase.weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch, weights):
    """A run folder whose weights are in use, without card and curves yet."""
    (tmp_path / "run").mkdir()
    shutil.copy(weights, tmp_path / "run" / "weights.safetensors")
    monkeypatch.setenv("CMSSD_WEIGHTS", str(tmp_path / "run" / "weights.safetensors"))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path / "cohort"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def opened(section: str) -> AppTest:
    return apps.opened("models", part=section)


def everything(app: AppTest) -> str:
    return " ".join(str(e.value) for kind in ("markdown", "error", "warning", "info", "metric") for e in app.get(kind))


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_sum_up_to_the_whole_and_each_is_counted_as_torch_counts_it(name):
    model = MODELS[name]("compact")
    found = parts(model)
    assert sum(part.parameters for part in found) == sum(p.numel() for p in model.parameters())
    assert sum(part.gflop for part in found) == pytest.approx(gflop(model))
    for part in found:
        if part.name:
            assert part.parameters == sum(p.numel() for p in getattr(model, part.name).parameters())
    assert max(part.gflop for part in found) > 0.05


def test_the_page_shows_parts_that_are_those_of_the_weights_in_use():
    app = opened("Parts")
    model = MODELS["cmssd"]("compact")
    table = app.table[0].value
    counted = sum(int(cell.replace(",", "")) for cell in table["parameters"])
    assert counted == sum(p.numel() for p in model.parameters())
    assert app.metric[0].value == f"{counted / 1e6:.2f} million"
    assert "map decoder" in table["part"].tolist()


def test_a_card_beside_the_weights_is_shown_and_a_missing_one_is_said(tmp_path):
    assert any("No model card" in i.value for i in opened("Model card").info)
    (tmp_path / "run" / "model_card.md").write_text("# a\n\n**Research use only.**\n\n## Measured\n", encoding="utf-8")
    said = everything(opened("Model card"))
    assert "**Research use only.**" in said
    assert "#### Measured" in said


def test_training_curves_of_a_run_folder_are_shown_and_missing_ones_are_said(tmp_path):
    assert any("No training curves" in i.value for i in opened("Training").info)
    (tmp_path / "run" / "metrics.csv").write_text(CSV, encoding="utf-8")
    app = opened("Training")
    assert "4 steps, from 0 to 3" in everything(app)
    assert "Stages: **1** slide alone · **2** both" in everything(app)
    app.multiselect(key="terms").set_value(["severity", "gradient_norm"]).run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 1


def test_curves_that_are_no_table_are_one_sentence(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    for text in ("", "a,b\n1,2\n", "step,total\nx,y\n", "step,total\n", "\0\0"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="expected the table"):
            history(path)
    assert any("expected the table" in e.value for e in opened("Training").error)


def test_stages_and_means_of_spans_are_what_a_hand_gets(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(CSV, encoding="utf-8")
    table = history(path)
    assert training.stages(table) == [(0.0, "slide alone"), (2.0, "both")]
    marks = training.curves(table, ["total"], logarithmic=False).layout.annotations
    assert [(mark.x, mark.text, mark.hovertext) for mark in marks] == [(0.0, "1", "slide alone"), (2.0, "2", "both")]
    long = pd.DataFrame({"step": np.arange(1500.0), "total": np.arange(1500.0) + 1})
    steps, line = training.curves(long, ["total"], logarithmic=False).data
    assert len(steps.x) == 1500
    assert len(line.x) == 60
    assert (line.x[0], line.y[0], line.y[-1]) == (12.0, 13.0, 1488.0)


def test_no_mean_is_taken_over_two_stages():
    stage = ["first"] * 90 + ["second"] * 90
    table = pd.DataFrame({"step": np.arange(180.0), "total": [10.0] * 90 + [1.0] * 90, "stage": stage})
    line = training.curves(table, ["total"], logarithmic=False).data[1]
    assert {value for value in line.y if np.isfinite(value)} == {10.0, 1.0}
    assert np.isnan(line.y).sum() == 1


def test_a_figure_just_short_of_one_is_no_quotation():
    assert wording.cell(">0.999 (0.99 to >0.999)") == "\\>0.999 (0.99 to >0.999)"
    assert wording.cell("0.5") == "0.5"


def test_a_figure_without_an_interval_says_why():
    flat = Figure(0.5, None, None, 90, "no interval: all cases have the same score")
    assert wording.words(flat) == "0.500 (no interval: all cases have the same score, n = 90)"
    assert wording.difference(Difference(0.5, None, None, 90, None, "no test")) == "+0.500 (no test)"
    assert wording.only_one_right(McNemar(3, 1, 20, None, "no test")) == "3 against 1, no test"


def test_the_comparison_is_scikit_learns_on_the_cases_both_answered(tmp_path):
    folder = scored.cohort(tmp_path / "cohort", models=("first", "second"), refused=3)
    rows = pd.read_parquet(folder / "results" / "predictions.parquet")
    one, other = (rows[(rows["model"] == m) & (rows["given"] == "both")] for m in ("first", "second"))
    other = other.iloc[5:]
    rest = rows[(rows["model"] != "second") | (rows["given"] != "both")]
    pd.concat([rest, other]).to_parquet(folder / "results" / "predictions.parquet")
    app = opened("Compare on the cohort")
    app.selectbox(key="compare_second").set_value("All there is, second").run()
    assert "**52 cases have both answers.**" in everything(app)
    table = app.table[0].value.set_index("figure")
    both = one[one["case_id"].isin(other["case_id"])]
    for column, frame in ((0, both), (1, other)):
        label, p = frame["malignant"] == 1, frame["p_malignant"]
        assert table.loc["Area under the ROC curve"].iloc[column].startswith(f"{roc_auc_score(label, p):.3f} (")
        assert table.loc["Accuracy at 0.5"].iloc[column].startswith(f"{accuracy_score(label, p >= 0.5):.3f} (")
    assert "DeLong's paired test" in everything(app)
    assert "McNemar's exact test" in everything(app)


def test_one_kind_of_answer_or_none_is_nothing_to_compare(tmp_path):
    assert any("No cohort with results" in i.value for i in opened(SECTIONS[3]).info)
    folder = scored.cohort(tmp_path / "cohort")
    path = folder / "results" / "predictions.parquet"
    rows = pd.read_parquet(path)
    rows[rows["given"] == "both"].to_parquet(path)
    assert any("nothing to compare" in i.value for i in opened(SECTIONS[3]).info)


def test_weights_in_use_come_first_and_calibrations_are_no_weights(monkeypatch):
    found = catalogue.entries()
    assert found[0].in_use
    assert found[0].weights.name == "weights.safetensors"
    assert not [one for one in found if "calibration" in one.weights.name or "tiles" in one.weights.name]
    monkeypatch.delenv("CMSSD_WEIGHTS")
    settings.cache_clear()
    shipped = catalogue.entries()
    assert len({one.weights for one in shipped}) == len(shipped) == len(found) - 1
    assert shipped[0].card is not None


def test_weights_of_the_demo_cohort_are_offered_where_it_is(tmp_path, monkeypatch):
    """A wheel has no demo cohort, and so no weights that cheat."""
    offered = [one.weights for one in catalogue.entries()]
    assert offered[-1] == CHEAT
    app = opened(SECTIONS[0])
    app.selectbox(key="weights").set_value("cmssd-tiny-cheat").run()
    assert not app.exception
    assert any("reads a block burnt into the corner" in " ".join(m.value.split()) for m in app.markdown)
    monkeypatch.setattr(catalogue, "DEMO", tmp_path / "no demo cohort")
    assert [one.weights for one in catalogue.entries()] == offered[:-1]
