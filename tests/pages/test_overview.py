"""Overview, its tour and the jobs on it: real results in the words of the tour, no patient's id, every role its own."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from apps import everything, opened
from places import ROOT
from signed_in import SIGN_IN, user
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.studies.jobs import Ask, Job
from dashboard.config import dashboard_settings
from dashboard.parts import tour
from dashboard.services import jobs
from dashboard.services import tour as toured


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    """The shipped weights, whose results come with the demo cohort, and a cache of its own."""
    monkeypatch.delenv("CMSSD_WEIGHTS", raising=False)
    monkeypatch.delenv("CMSSD_COHORT", raising=False)
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    settings.cache_clear()
    dashboard_settings.cache_clear()
    yield
    settings.cache_clear()
    dashboard_settings.cache_clear()


def said(app: AppTest) -> str:
    html = " ".join(str(each.proto.body) for each in app.get("html"))
    return f"{everything(app)} {' '.join(t.value for t in app.title)} {html}"


def test_the_tour_goes_six_steps_on_and_back_and_names_no_patient():
    app = opened("overview")
    app.button(key="tour_start").click().run()
    headings = []
    for number in range(1, 7):
        assert not app.exception
        assert not app.error, app.error[0].value
        assert app.query_params["tour"] in (str(number), [str(number)])
        headings.append(app.title[0].value)
        assert "synth-" not in said(app)
        assert app.get("plotly_chart")
        if number < 6:
            app.button(key="tour_next").click().run()
    assert headings == [step.heading for step in tour.STEPS]
    app.button(key="tour_back").click().run()
    assert app.title[0].value == headings[4]
    app.button(key="tour_end").click().run()
    assert app.title[0].value == "CM-SSD"


def test_the_tour_says_what_the_shipped_results_say():
    rows = pd.read_parquet(ROOT / "data_samples" / "results" / "predictions.parquet").set_index(["case_id", "given"])
    known = pd.read_csv(ROOT / "data_samples" / "cohort.csv").set_index("case_id")
    whole, missed = rows.loc[(toured.WHOLE, "both")], rows.loc[(toured.MISSED, "both")]
    severity = tour._say_severity()
    assert f"says {whole['severity_pct']:.0f} %" in severity
    assert f"({whole['severity_low']:.0f} to {whole['severity_high']:.0f} %)" in severity
    assert f"answer is {known.loc[toured.WHOLE, 'severity_pct']:.0f} %" in severity
    wrong = tour._say_missed()
    assert f"takes {known.loc[toured.MISSED, 'severity_pct']:.0f} % of the bone" in wrong
    assert f"probability of {missed['p_malignant']:.2f}" in wrong
    assert f"would have said {rows.loc[(toured.MISSED, 'mri'), 'p_malignant']:.2f}" in wrong

    both = rows.xs("both", level="given")
    mistakes = ((both["p_malignant"] >= 0.5) != (both["malignant"] == 1)).sum()
    assert f"Of the 24 demo patients, {mistakes} fall" in tour._say_probability()
    alone = pd.concat({given: rows.xs(given, level="given")["p_malignant"] for given in ("both", "mri", "he")}, axis=1)
    alone = alone[both["malignant"] == 1].dropna()
    least, most = alone[["mri", "he"]].min(axis=1), alone[["mri", "he"]].max(axis=1)
    words = tour._say_alone()
    assert f"the {len(alone)} malignant patients who have both" in words
    assert f"called {((least < 0.5) & (alone['both'] >= 0.5)).sum()} of them benign" in words
    assert f"and {((alone['both'] < 0.5) & (most >= 0.5)).sum()} the other way round" in words


def test_a_step_that_is_none_shows_the_overview():
    for wrong in ("0", "7", "x", "-1", ""):
        app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120)
        app.query_params["tour"] = wrong
        assert app.run().title[0].value == "CM-SSD"


def test_a_cohort_is_opened_by_its_folder_or_refused_in_a_sentence(cohort: Path):
    app = opened("overview")
    app.text_input(key="overview_folder").set_value(str(cohort))
    submit = next(b for b in app.button if b.label == "Open")
    submit.click().run()
    assert "4 cases are open" in app.success[0].value
    app.text_input(key="overview_folder").set_value(str(cohort / "nowhere"))
    next(b for b in app.button if b.label == "Open").click().run()
    assert not app.success
    assert len(app.error) == 1


def test_who_sees_summaries_alone_is_offered_nothing_else(monkeypatch):
    for name, value in SIGN_IN.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    dashboard_settings.cache_clear()
    monkeypatch.setattr("streamlit.user_info._get_user_info", lambda: user("students"))
    app = opened("overview")
    assert not app.exception
    assert not app.text_input
    assert not app.get("page_link")
    assert app.button(key="tour_start")


def job(state: str, **more: object) -> Job:
    asked = Ask(cohort=Path("/data/study/cohort.csv"), weights=Path("w"), out=Path("out"))
    told = {"done": 14, "of": 24, "sentence": None, "refused": None} | more
    return Job(id="0123456789abcdef", ask=asked, state=state, started_s=time.time() - 600, **told)


@pytest.mark.parametrize(
    ("one", "says", "buttons"),
    [
        (job("running"), "Running.", {"Stop"}),
        (job("stopping"), "are being finished", {"Stop"}),
        (job("stopped"), "what was done is kept", {"Go on", "Forget"}),
        (job("interrupted"), "ended from outside", {"Go on", "Forget"}),
        (
            job("failed", sentence="the disk is full; free some space and go on"),
            "the disk is full",
            {"Go on", "Forget"},
        ),
        (job("done", done=24, refused=2), "24 cases, 2 refused", {"Again", "Forget"}),
    ],
)
def test_every_state_of_a_job_has_its_words_and_buttons(one, says, buttons, monkeypatch):
    one = replace(one, started_s=time.time() - 600)  # of now: the table above is made when tests are gathered
    monkeypatch.setattr(jobs, "list_jobs", lambda: (one,))
    app = opened("overview")
    assert not app.exception
    assert says in everything(app)
    assert "10 min ago" in everything(app)
    assert {b.label for b in app.button} & {"Stop", "Go on", "Again", "Forget"} == buttons
    if one.state == "stopping":
        assert app.button(key=f"stop_{one.id}").disabled


def test_a_button_stops_a_job_and_another_goes_on_with_it(monkeypatch):
    done: list[str] = []
    for verb in ("stop", "again", "remove"):
        monkeypatch.setattr(jobs, verb, lambda one, verb=verb: done.append(f"{verb} {one.id}"))
    monkeypatch.setattr(jobs, "list_jobs", lambda: (job("stopped"),))
    app = opened("overview")
    app.button(key="go_0123456789abcdef").click().run()
    app.button(key="forget_0123456789abcdef").click().run()
    monkeypatch.setattr(jobs, "list_jobs", lambda: (job("running"),))
    app = opened("overview")
    app.button(key="stop_0123456789abcdef").click().run()
    assert done == [f"{verb} 0123456789abcdef" for verb in ("again", "remove", "stop")]


def test_without_the_demo_cohort_the_tour_is_not_offered(monkeypatch, tmp_path):
    monkeypatch.setattr(toured, "COHORT", tmp_path / "cohort.csv")
    st.cache_resource.clear()
    app = opened("overview")
    assert not app.exception
    assert "which is not here" in everything(app)
