"""The What-if page without a browser: controls become a change, the original stays pinned, doubt is said."""

from __future__ import annotations

import pytest
import showcase
import streamlit as st
from places import ROOT
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.corruptions.table import CORRUPTIONS
from dashboard.views import what_if as views


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch, cohort):
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_COHORT", str(cohort))
    monkeypatch.setenv("CMSSD_MAX_PATCHES", "4")
    settings.cache_clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()


def opened(*, row: int | None = 0) -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=240).run()
    app.switch_page("../pages/what_if.py").run()
    if row is not None:
        app.selectbox[0].set_value(app.selectbox[0].options[row]).run()
    assert not app.exception
    assert not app.error
    return app


def by(app: AppTest, kind: str, name: str):
    """The control whose key ends in the name, whatever case it belongs to."""
    return next(each for each in app.get(kind) if each.key and each.key.endswith(name))


def figures(app: AppTest) -> dict[str, tuple[str, str, str]]:
    """name -> original, changed, difference, as the table says them."""
    table = app.table[0].value
    return {str(row.iloc[0]): tuple(str(each) for each in row.iloc[1:4]) for _, row in table.iterrows()}


def said(app: AppTest) -> str:
    return " ".join(str(each.value) for kind in ("markdown", "info", "error") for each in app.get(kind))


def test_without_a_case_the_page_says_how_to_get_one():
    assert "Choose a case" in said(opened(row=None))


def test_nothing_changed_shows_the_original_twice():
    app = opened()
    assert "Nothing is changed yet" in said(app)
    for before, after, by_how_much in figures(app).values():
        assert before == after
        assert by_how_much in ("0", "–")


def test_taking_an_input_away_moves_the_numbers_and_says_what_they_are_worth():
    app = opened()
    before = figures(app)
    by(app, "toggle", "_he").set_value(False).run()
    after = figures(app)
    assert not app.exception
    assert "H&E slide taken away" in said(app)
    assert {name: row[0] for name, row in after.items() if name in before} == {n: row[0] for n, row in before.items()}
    assert after["Mean gate"][1] == "1.000"
    assert after["Probability of malignancy"][2] not in ("0", "–")
    assert "Nothing was calibrated for this answer" in said(app)
    assert "the gate is 1 by definition" in said(app)
    by(app, "toggle", "_he").set_value(True).run()
    assert figures(app) == before


def test_without_the_mri_severity_is_missing_not_zero():
    app = opened()
    by(app, "toggle", "_mri").set_value(False).run()
    assert figures(app)["Severity"][1:] == ("–", "–")
    assert "Without an MRI there is no map" in said(app)


def test_every_artefact_has_a_slider_and_back_to_the_original_takes_all_back():
    app = opened()
    names = {each.key.split("_level_")[1] for each in app.slider if each.key and "_level_" in each.key}
    assert names == set(CORRUPTIONS)
    before = figures(app)
    by(app, "slider", "_level_fold").set_value(4.0)
    by(app, "slider", "_level_gamma").set_value(2.0).run()
    assert "tissue fold at level 4 of 5; contrast bent by a power at level 2 of 5" in said(app)
    assert figures(app) != before
    by(app, "button", "wib_reset").click().run()
    assert figures(app) == before
    assert by(app, "slider", "_level_fold").value == 0


def test_what_was_changed_outlives_a_visit_to_another_page():
    app = opened()
    by(app, "slider", "_level_fold").set_value(3.0).run()
    changed = figures(app)
    app.switch_page("../pages/overview.py").run()
    app.switch_page("../pages/what_if.py").run()
    assert by(app, "slider", "_level_fold").value == 3.0
    assert figures(app) == changed


def test_a_site_outside_the_mri_is_one_sentence_and_the_page_lives_on():
    app = opened()
    by(app, "toggle", "_move").set_value(True).run()
    by(app, "number_input", "_site_z").set_value(900.0).run()
    assert "expected one inside the MRI" in app.error[0].value
    by(app, "number_input", "_site_z").set_value(0.0).run()
    assert not app.error
    assert "biopsy site moved to" in said(app)


def test_another_patients_slide_stands_in():
    app = opened()
    chosen = by(app, "selectbox", "_donor")
    assert len(chosen.options) == 3  # all but the own one
    chosen.set_value(chosen.options[0]).run()
    assert "in place of the own one" in said(app)
    assert "The other patient's slide" in said(app)


def test_taking_every_contrast_away_is_refused_in_words():
    app = opened()
    pills = by(app, "button_group", "_contrasts")
    pills.set_value([]).run()
    assert "every contrast was taken away" in app.error[0].value


def test_the_gates_question_is_answered_by_the_cases_own_numbers():
    app = opened()
    assert "the mean gate goes" not in said(app)
    by(app, "selectbox", "_sweep").set_value("brightness").run()
    by(app, "button", "wib_sweep").click().run()
    assert not app.exception
    assert "Does the gate lean to the MRI as the slide degrades?" in said(app)
    assert "at level 5" in said(app)
    assert "proves nothing of the model" in said(app)


def test_the_answer_is_split_with_its_baseline_named():
    app = opened()
    by(app, "button", "wib_shares").click().run()
    assert not app.exception
    assert "of the absolute shares" in said(app)
    assert "another baseline gives other shares" in said(app)
    assert "Interaction of both" in said(app)


def test_a_difference_is_coloured_around_nothing():
    import numpy as np

    volume = showcase.volume()
    delta = np.zeros(showcase.SHAPE, np.float32)
    delta[4, 10:20, 10:20], delta[4, 30:40, 30:40] = 0.4, -0.1
    figure = views.difference_slice(volume, delta, index=4, contrast="t1", opacity=0.8, name="tumour")
    axis = figure.layout.coloraxis
    assert axis.cmin == -axis.cmax == pytest.approx(-0.4)
    assert views.limit_of(np.zeros((2, 2), np.float32)) > 0
    assert "from -0.10 to +0.40" in views.difference_alt(delta, volume, index=4, name="tumour")
