"""The performance page without a browser: the threshold moves what hangs on it, and doubt is never left out."""

from __future__ import annotations

import re
from pathlib import Path

import apps
import numpy as np
import pandas as pd
import pytest
import scored
import showcase
import streamlit as st
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from dashboard import rights, selection
from dashboard.parts import errors as parts
from dashboard.services import performance as service
from dashboard.views import errors as views

SECTIONS = ("Discrimination", "Calibration and benefit", "Maps and severity", "Subgroups", "Failures")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return showcase.weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch, weights):
    monkeypatch.setenv("CMSSD_WEIGHTS", str(weights))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path / "cohort"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def opened(section: str = SECTIONS[0]) -> AppTest:
    return apps.opened("performance", section=section)


def everything(app: AppTest) -> str:
    kinds = ("markdown", "error", "warning", "info", "success", "metric")
    told = " ".join(str(e.value) for kind in kinds for e in app.get(kind))
    return told + " ".join(t.value.to_string() for t in app.get("table"))


def on(app: AppTest):
    return next(each for each in app.selectbox if each.label == "On")


def labels_and_p(folder: Path, *, given: str = "both", model: str = "first") -> tuple[np.ndarray, np.ndarray]:
    rows = pd.read_parquet(folder / "results" / "predictions.parquet")
    mine = rows[(rows["given"] == given) & (rows["model"] == model)]
    return mine["malignant"].to_numpy() == 1, mine["p_malignant"].to_numpy()


def cells(app: AppTest) -> tuple[int, ...]:
    """tn, fp, fn, tp as the buttons under the matrix say."""
    told = {o.rpartition(" (")[0]: int(o.rpartition(" (")[2][:-1]) for o in app.segmented_control(key="cell").options}
    return tuple(told[name] for name in ("rightly benign", "false alarm", "missed malignant", "rightly malignant"))


def test_the_matrix_and_its_shares_are_scikit_learns_at_every_threshold(tmp_path):
    label, p = labels_and_p(scored.cohort(tmp_path / "cohort"))
    app = opened()
    for threshold in (0.5, 0.2, 0.8):
        app.slider(key="threshold").set_value(threshold).run()
        tn, fp, fn, tp = confusion_matrix(label, p >= threshold).ravel()
        assert cells(app) == (tn, fp, fn, tp)
        shares = app.table[0].value
        assert shares.iloc[0, 1].startswith(f"{100 * tp / (tp + fn):.1f} %")
        assert f"n = {label.sum()}" in shares.iloc[0, 1]


def test_a_threshold_chosen_on_these_cases_says_so_and_what_it_is_worth_on_others(tmp_path):
    label, p = labels_and_p(scored.cohort(tmp_path / "cohort"))
    app = opened()
    app.segmented_control(key="rule").set_value("Youden").run()
    warned = next(w.value for w in app.warning if "chosen on these very 60 cases" in w.value)
    assert "optimistic" in warned
    assert "chosen without that patient" in warned
    fpr, tpr, _ = roc_curve(label, p, drop_intermediate=False)
    tn, fp, fn, tp = cells(app)
    assert tp / (tp + fn) - fp / (fp + tn) == pytest.approx((tpr - fpr).max())


def test_a_fixed_sensitivity_and_a_cost_ratio_move_the_matrix(tmp_path):
    scored.cohort(tmp_path / "cohort")
    app = opened()
    app.segmented_control(key="rule").set_value("Fixed sensitivity").run()
    app.slider(key="sensitivity").set_value(1.0).run()
    assert cells(app)[2] == 0
    app.segmented_control(key="rule").set_value("Cost ratio").run()
    app.select_slider(key="cost").set_value(0.1).run()
    strict = cells(app)
    app.select_slider(key="cost").set_value(100.0).run()
    assert cells(app)[1] > strict[1]
    assert cells(app)[2] <= strict[2]


def test_the_area_is_scikit_learns_and_bears_interval_and_n(tmp_path):
    label, p = labels_and_p(scored.cohort(tmp_path / "cohort"))
    app = opened()
    assert app.metric[0].value == f"{roc_auc_score(label, p):.3f}"
    assert any("n = 60" in m.value and "95 %" in m.value for m in app.markdown)
    against = app.table[1].value
    for row, given in enumerate(("mri", "he")):
        assert against.iloc[row, 1].startswith(f"{roc_auc_score(*labels_and_p(tmp_path / 'cohort', given=given)):.3f}")
        assert "p " in against.iloc[row, 2]


def test_the_cases_of_a_field_are_selected_and_follow_the_threshold(tmp_path):
    label, p = labels_and_p(scored.cohort(tmp_path / "cohort"))
    app = opened()
    app.segmented_control(key="cell").set_value("fp").run()
    names = np.array([f"case-{i:04d}" for i in range(60)])

    def chosen() -> selection.Selected:
        return app.session_state["cmssd_selected"]

    assert chosen().case_ids == set(names[~label & (p >= 0.5)])
    assert chosen().by == selection.MATRIX
    app.slider(key="threshold").set_value(0.3).run()
    assert chosen().case_ids == set(names[~label & (p >= 0.3)])
    app.segmented_control(key="cell").set_value(None).run()
    assert not chosen()


COHORTS = {
    "all there is": {},
    "one class": {"malignant": 0.0},
    "malignant alone": {"malignant": 1.0},
    "few": {"n": 6},
    "no labels": {"malignant": None},
    "no maps": {"maps": False},
    "several cases a patient": {"per_patient": 3},
    "refused": {"refused": 2},
    "two models": {"models": ("first", "second")},
    "four models": {"models": ("first", "second", "third", "fourth")},
}


@pytest.mark.parametrize("kind", COHORTS)
def test_every_section_has_an_answer_or_a_reason(tmp_path, kind):
    scored.cohort(tmp_path / "cohort", **COHORTS[kind])
    app = opened()
    for section in SECTIONS:
        app.session_state["section"] = section
        app.run()
        assert not app.exception, section
        assert not app.error, section
        assert not re.search(r"\bnan\b|None", everything(app)), section


def test_one_class_has_no_curve_no_chosen_threshold_and_a_matrix(tmp_path):
    scored.cohort(tmp_path / "cohort", malignant=0.0)
    app = opened()
    assert "one label only" in everything(app)
    assert app.metric[0].value == "–"
    assert "no malignant case" in app.table[0].value.iloc[0, 1]
    app.segmented_control(key="rule").set_value("Youden").run()
    assert not app.exception
    assert any("no threshold can be chosen" in i.value for i in app.info)


def test_too_few_cases_are_said_to_be_too_few(tmp_path):
    scored.cohort(tmp_path / "cohort", n=6)
    app = opened()
    assert [m.value for m in app.metric] == ["too few"] * 4
    assert "No band: too few" in everything(app)
    app.session_state["section"] = "Subgroups"
    assert "too few" in everything(app.run())


def test_a_small_centre_is_too_few(tmp_path):
    folder = scored.cohort(tmp_path / "cohort")
    scope = service.Scope(folder / "cohort.csv", service.Answers("first", "both"))
    found = service.by_group(scope, "centre", "accuracy", 0.5)
    assert found["small"].reason == "too few"
    assert found["large"].low is not None


def test_named_slices_are_groups_and_scopes(tmp_path):
    folder = scored.cohort(tmp_path / "cohort") / "cohort.csv"
    ids = [f"case-{i:04d}" for i in range(20)]
    selection.save_slice(folder, "first twenty", ids)
    scope = service.Scope(folder, service.Answers("first", "both"))
    assert service.by_group(scope, None, "accuracy", 0.5)["first twenty"].n == 20
    app = opened()
    on(app).set_value("Slice: first twenty").run()
    assert not app.exception
    assert "**20 cases of 20 patients**" in everything(app)


def test_the_selected_cases_stay_those_that_were_selected_when_they_were_chosen(tmp_path):
    scored.cohort(tmp_path / "cohort")
    app = opened()
    app.session_state["cmssd_selected"] = selection.Selected(frozenset(f"case-{i:04d}" for i in range(30)), "table", 1)
    on(app).set_value("The selected cases").run()
    assert "**30 cases of 30 patients**" in everything(app)
    app.segmented_control(key="cell").set_value("tp").run()
    assert 0 < len(app.session_state["cmssd_selected"]) < 30
    assert "**30 cases of 30 patients**" in everything(app)


def test_the_cases_it_is_on_outlive_a_visit_to_another_page(tmp_path):
    folder = scored.cohort(tmp_path / "cohort") / "cohort.csv"
    made = selection.save_slice(folder, "first twenty", [f"case-{i:04d}" for i in range(20)])
    app = opened()
    for name, many in (("Slice: first twenty", 20), ("The selected cases", 30)):
        app.session_state["cmssd_selected"] = selection.Selected(
            frozenset(f"case-{i:04d}" for i in range(30)), "table", 1
        )
        on(app).set_value(name).run()
        app.switch_page("../pages/overview.py").run()
        app.switch_page("../pages/performance.py").run()
        assert on(app).value == name
        assert f"**{many} cases of {many} patients**" in everything(app)
    app.session_state["cmssd_selected"] = selection.Selected(frozenset(["case-0001", "case-0002"]), "table", 2)
    app.run()
    next(b for b in app.button if b.label == "Take the 2 selected now").click().run()
    assert "**2 cases of 2 patients**" in everything(app)
    on(app).set_value("Slice: first twenty").run()
    selection.delete_slice(folder, made.id)
    app.run()
    assert not app.exception
    assert on(app).value == "All cases"


def test_nothing_selected_is_said_and_not_judged(tmp_path):
    scored.cohort(tmp_path / "cohort")
    app = opened()
    on(app).set_value("The selected cases").run()
    assert not app.exception
    assert any("No case is selected" in i.value for i in app.info)
    app.session_state["cmssd_selected"] = selection.Selected(frozenset(["case-0001", "case-0002"]), "table", 1)
    assert "**2 cases of 2 patients**" in everything(app.run())


def test_a_cohort_without_results_or_no_cohort_says_what_to_do(tmp_path, monkeypatch):
    scored.cohort(tmp_path / "cohort", results=False)
    assert any("not evaluated yet" in i.value for i in opened().info)
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path / "nowhere"))
    assert any("No cohort is open" in i.value for i in opened().info)


def test_broken_results_are_a_sentence(tmp_path):
    folder = scored.cohort(tmp_path / "cohort")
    (folder / "results" / "predictions.parquet").write_bytes(b"no table")
    app = opened()
    assert any("evaluate the cohort anew" in e.value for e in app.error)


def test_refused_and_training_cases_are_told(tmp_path):
    scored.cohort(tmp_path / "cohort", refused=2, split="train")
    said = everything(opened())
    assert "2 case(s) could not be read" in said
    assert "58 of these cases are of the cohort's training split" in said


def test_another_model_is_named_and_compared(tmp_path):
    scored.cohort(tmp_path / "cohort", models=("first", "second"))
    app = opened()
    assert list(app.table[1].value.iloc[:3, 0]) == ["MRI alone", "H&E slide alone", "All there is, second"]
    app.selectbox(key="answers").set_value("All there is, second").run()
    label, p = labels_and_p(tmp_path / "cohort", model="second")
    assert app.metric[0].value == f"{roc_auc_score(label, p):.3f}"


def test_failures_name_the_surest_mistakes_first_and_open_their_case(tmp_path):
    label, p = labels_and_p(scored.cohort(tmp_path / "cohort"))
    app = opened("Failures")
    listed = app.dataframe[0].value
    wrong = np.flatnonzero((p >= 0.5) != label)
    surest = sorted(wrong, key=lambda i: p[i] if label[i] else 1 - p[i])
    assert listed["case_id"].tolist() == [f"case-{i:04d}" for i in surest]
    assert app.button(key="wrong_open").disabled


def test_a_bar_of_a_distribution_holds_the_cases_it_counts(tmp_path):
    folder = scored.cohort(tmp_path / "cohort")
    rows = pd.read_parquet(folder / "results" / "predictions.parquet")
    values = rows[(rows["given"] == "both")]["hd95_mm"].to_numpy()
    ids = pd.Series([f"case-{i:04d}" for i in range(60)])
    edges = views.edges_of(values, top=10.0)
    bars = views.distribution(values, np.zeros(60), title="HD95", top=10.0).data[0]
    for place, count in zip(bars.customdata, bars.y, strict=True):
        assert len(parts._bin(ids, values, edges, [{"customdata": [place]}])) == count
    assert sum(bars.y) == 60
    assert bars.y[-1] >= (values > 10).sum()


def test_selected_points_are_listed_once(tmp_path):
    scored.cohort(tmp_path / "cohort")
    app = opened("Maps and severity")
    app.session_state["cmssd_selected"] = selection.Selected(frozenset({"case-0001", "case-0002"}), selection.PLOT, 1)
    app.run()
    assert not app.exception
    assert len(app.dataframe) == 1
    assert set(app.dataframe[0].value["case_id"]) == {"case-0001", "case-0002"}


def test_who_may_see_summaries_only_sees_no_case(tmp_path, monkeypatch):
    scored.cohort(tmp_path / "cohort")
    monkeypatch.setattr(rights, "session_may", lambda right: right == "summaries")
    for section in SECTIONS:
        app = opened(section)
        assert "case-00" not in everything(app)
        assert not app.dataframe
        for chart in app.get("plotly_chart"):
            assert "case-00" not in chart.proto.spec


def test_results_of_other_weights_than_those_in_use_say_so(tmp_path):
    folder = scored.cohort(tmp_path / "cohort")
    told = (folder / "results" / "metrics.json").read_text("utf-8").replace("first-0123", "cmssd-compact-0123")
    (folder / "results" / "metrics.json").write_text(told, encoding="utf-8")
    assert any("other weights" in i.value for i in opened().info)


def test_a_scope_is_another_one_when_its_results_change(tmp_path):
    folder = scored.cohort(tmp_path / "cohort") / "cohort.csv"
    answers = service.Answers("first", "both")
    before = service.Scope(folder, answers)
    area = service.discrimination(before).auc.value
    st.cache_resource.clear()
    scored.cohort(tmp_path / "cohort", seed=5)
    after = service.Scope(folder, answers)
    assert after.key != before.key
    assert service.discrimination(after).auc.value != area
