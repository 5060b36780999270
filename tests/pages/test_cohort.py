"""The Cohort page without a browser: what it says of cohorts that are whole, bare, tiny, broken or not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import showcase
import streamlit as st
from places import ROOT
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from dashboard import selection
from dashboard.parts import cohort as parts
from dashboard.services import cohort as cohorts

DEMO = ROOT / "data_samples" / "cohort.csv"


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return showcase.weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch, random_weights):
    monkeypatch.setenv("CMSSD_WEIGHTS", str(random_weights))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CMSSD_COHORT", raising=False)
    settings.cache_clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()


def opened(monkeypatch=None, cohort: Path | None = None, query: dict[str, str] | None = None) -> AppTest:
    if monkeypatch is not None:
        monkeypatch.setenv("CMSSD_COHORT", str(cohort))
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
    app.switch_page("../pages/cohort.py")
    for name, value in (query or {}).items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def at_the_door(app: AppTest) -> AppTest:
    """The page with "Open another cohort" unfolded: what is behind it is only made then."""
    app.session_state["cohort_door"] = True
    return app.run()


def said(app: AppTest) -> str:
    return " ".join(str(e.value) for kind in ("markdown", "error", "warning", "info") for e in app.get(kind))


def widget(app: AppTest, kind: str, ending: str):
    return next(w for w in app.get(kind) if (w.key or "").endswith(ending))


def table(app: AppTest) -> pd.DataFrame:
    return app.dataframe[0].value


def link(app: AppTest) -> dict[str, str]:
    return dict(app.query_params)


def test_the_demo_cohort_is_drawn_with_what_its_answers_rest_on():
    app = opened()
    text = said(app)
    assert not app.error
    assert "Research use only" in text
    assert "**24** of 24 cases shown; **0 selected**" in text
    assert "Trained on" in text
    assert "not of the model in use now" in text  # the weights here are random
    assert len(table(app)) == 24
    assert len(app.get("plotly_chart")) == 2
    assert "of the 24 cases shown lack it" in text


def test_a_filter_keeps_what_it_says_and_stands_in_the_link():
    app = opened()
    widget(app, "multiselect", "_f_malignant").set_value(["malignant"]).run()
    assert "**9** of 24 cases shown" in said(app)
    assert set(table(app)["malignant"]) == {"malignant"}
    assert link(app)["filter"] == "malignant:1"
    widget(app, "text_input", "_contains").set_value("00012").run()
    assert table(app)["case_id"].tolist() == ["synth-00012"]
    assert not any("00012" in value for value in link(app).values())
    widget(app, "text_input", "_contains").set_value("nobody").run()
    assert "No case passes these filters" in said(app)
    assert not app.exception


def test_sorting_by_severity_puts_the_missing_last():
    app = opened()
    widget(app, "selectbox", "_sort").set_value("severity_pct").run()
    widget(app, "toggle", "_down").set_value(True).run()
    severity = table(app)["severity_pct"]
    assert severity.iloc[:-1].is_monotonic_decreasing
    assert pd.isna(severity.iloc[-1])
    assert link(app)["sort"] == "severity_pct-"


def test_a_view_comes_back_from_its_link():
    told = {
        "cohort": cohorts.fingerprint(DEMO),
        "filter": "malignant:1;severity_pct:1~50",
        "sort": "severity_pct-",
        "cases": "0.2",
        "case": "8",
        "given": "mri",
    }
    app = opened(query=told)
    assert "**2 selected**" in said(app)
    assert table(app)["case_id"].tolist()[:1] == ["synth-00000"]
    assert "synth-00008" in said(app)
    assert link(app) == told


def test_a_link_of_another_cohort_is_a_sentence():
    app = opened(query={"cohort": "00000000", "cases": "0-3"})
    assert "cannot be brought back" in said(app)
    assert "**0 selected**" in said(app)


def test_selecting_all_inverting_and_clearing():
    app = opened()
    widget(app, "multiselect", "_f_malignant").set_value(["malignant"]).run()
    app.button(key="cohort_all").click().run()
    assert "**9 selected**" in said(app)
    widget(app, "multiselect", "_f_malignant").set_value([]).run()
    app.button(key="cohort_invert").click().run()
    assert "**15 selected**" in said(app)
    assert set(table(app)["malignant"].iloc[:15]) == {"benign"}  # selected ones stand first
    app.button(key="cohort_clear").click().run()
    assert "**0 selected**" in said(app)


def test_a_slice_is_saved_and_brought_back():
    app = opened()
    widget(app, "multiselect", "_f_malignant").set_value(["malignant"]).run()
    app.button(key="cohort_all").click().run()
    widget(app, "text_input", "cohort_slice_name").set_value("all malignant")
    next(b for b in app.button if "Save the 9" in b.label).click().run()
    assert not app.error
    saved = selection.slices(DEMO)
    assert [(one.name, len(one.case_keys)) for one in saved] == [("all malignant", 9)]
    app.button(key="cohort_clear").click().run()
    app.button(key=f"cohort_take_{saved[0].id}").click().run()
    assert "**9 selected**" in said(app)
    app.button(key=f"cohort_drop_{saved[0].id}").click().run()
    assert selection.slices(DEMO) == ()


def test_a_selection_too_scattered_for_the_link_is_linked_by_a_slice_of_these_very_cases_or_not(monkeypatch):
    monkeypatch.setattr(parts, "LONGEST_LINK", 3)
    app = opened()
    widget(app, "multiselect", "_f_malignant").set_value(["malignant"]).run()
    app.button(key="cohort_all").click().run()
    assert "too scattered" in said(app)
    assert "slice" not in link(app)
    widget(app, "text_input", "cohort_slice_name").set_value("all malignant")
    next(b for b in app.button if "Save the 9" in b.label).click().run()
    saved = selection.slices(DEMO)[0]
    assert link(app.run())["slice"] == saved.id
    widget(app, "multiselect", "_f_malignant").set_value([]).run()
    app.button(key="cohort_invert").click().run()
    assert "slice" not in link(app)
    assert "too scattered" in said(app)


def test_the_current_case_is_told_with_those_like_it():
    app = opened()
    app.session_state["cmssd_current"] = selection.CaseRef(DEMO, "synth-00012")
    app.run()
    assert "**`synth-00012`**: malignant" in said(app)
    assert "most like it" in said(app)
    like = app.dataframe[1].value
    assert "synth-00012" not in like["case_id"].tolist()
    assert like["distance"].is_monotonic_increasing
    assert link(app)["case"] == "12"


def test_a_cohort_without_results_says_so_and_offers_to_compute_them(tmp_path, monkeypatch):
    made = tmp_path / "study"
    made.mkdir()
    pd.DataFrame({"case_id": ["a", "b", "c"], "malignant": [1, 0, None], "age_years": [10, None, 30]}).to_csv(
        made / "cohort.csv", index=False
    )
    app = opened(monkeypatch, made)
    assert "has no results yet" in said(app)
    assert app.button(key="compute_results")
    assert "not evaluated yet" in said(app)
    assert pd.isna(table(app)["malignant"].iloc[2])
    assert not app.error


def test_one_row_is_drawn(tmp_path, monkeypatch):
    pd.DataFrame({"case_id": ["a"], "age_years": [10]}).to_csv(tmp_path / "cohort.csv", index=False)
    app = opened(monkeypatch, tmp_path / "cohort.csv")
    assert "**1** case of **1** patient" in said(app)
    assert len(table(app)) == 1
    assert not app.error


def test_one_case_with_results_cannot_be_put_on_a_plane(tmp_path, monkeypatch):
    shutil.copytree(DEMO.parent / "results", tmp_path / "results")
    pd.read_csv(DEMO).head(2).drop(columns=["mri_t1", "mri_t2", "slide"]).filter(regex="^(?!.*mask)").to_csv(
        tmp_path / "cohort.csv", index=False
    )
    app = opened(monkeypatch, tmp_path / "cohort.csv")
    assert "a plane of them needs 3" in said(app)
    assert not app.error


def test_an_empty_table_is_a_sentence_and_the_page_lives(tmp_path, monkeypatch):
    (tmp_path / "cohort.csv").write_text("case_id,malignant\n", encoding="utf-8")
    app = at_the_door(opened(monkeypatch, tmp_path / "cohort.csv"))
    assert "has no rows with a case\\_id" in said(app)
    assert widget(app, "text_input", "cohort_folder")


def test_no_cohort_at_all_is_a_sentence(tmp_path, monkeypatch):
    app = opened(monkeypatch, tmp_path / "nothing")
    assert "No cohort is open" in said(app)
    assert not app.error


def test_a_broken_result_is_a_sentence(tmp_path, monkeypatch):
    pd.DataFrame({"case_id": ["a", "b"]}).to_csv(tmp_path / "cohort.csv", index=False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics.json").write_text("{", encoding="utf-8")
    (tmp_path / "results" / "predictions.parquet").write_bytes(b"none")
    app = opened(monkeypatch, tmp_path / "cohort.csv")
    assert "cannot be read; evaluate the cohort anew" in said(app)


def test_a_folder_is_examined_and_opened(tmp_path):
    pd.DataFrame({"case_id": ["x", "y"], "age_years": ["4", "old"]}).to_csv(tmp_path / "cohort.csv", index=False)
    app = at_the_door(opened())
    widget(app, "text_input", "cohort_folder").set_value(str(tmp_path))
    next(b for b in app.button if b.label == "Check the folder").click().run()
    problems = app.dataframe[-1].value
    assert (3, "age_years") in set(zip(problems["row"], problems["column"], strict=True))
    assert "must be mended" in said(app)
    pd.DataFrame({"case_id": ["x", "y"], "age_years": ["4", "5"]}).to_csv(tmp_path / "cohort.csv", index=False)
    widget(app, "text_input", "cohort_folder").set_value(str(tmp_path))
    next(b for b in app.button if b.label == "Check the folder").click().run()
    app.button(key="cohort_open_new").click().run()
    assert not app.exception
    assert "**2** cases of **2** patients" in said(app)
    assert widget(app, "selectbox", "cohort_open").value == tmp_path / "cohort.csv"


def test_an_uploaded_table_is_examined_and_its_missing_images_are_not_blamed():
    app = at_the_door(opened())
    text = "case_id,mri_t1,malignant\nMueller_Anna,a/t1.nii,1\nb,a/t2.nii,7\n"
    app.file_uploader(key="cohort_upload").set_value(("Mueller.csv", text.encode(), "text/csv")).run()
    assert not app.exception
    problems = app.dataframe[-1].value
    assert problems[["row", "column"]].to_numpy().tolist() == [[3, "malignant"]]
    assert "not looked for" in said(app)
    assert not any(b.key == "cohort_open_new" for b in app.button)
