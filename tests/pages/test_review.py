"""The review page without a browser: blind means blind, what is saved is kept, agreement knows too few."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import showcase
import streamlit as st
from places import ROOT
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.reviews.agreement import MALIGNANT
from cmssd_core.reviews.record import Reading, Verdict
from cmssd_core.reviews.store import open_at
from cmssd_core.types import Case, Prediction
from dashboard.config import dashboard_settings
from dashboard.services import model as models
from dashboard.services import reviews as service
from dashboard.services.model import Progress
from dashboard.viewers import bundle

ROWS = 3
CRITERIA = ("malignant tumour", "osteoid", "cortical destruction")


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    """Random weights, a database and a cohort of three cases whose names tell all."""
    lines = ["case_id,mri_t1,slide,slide_mpp,malignant"]
    for n in range(ROWS):
        showcase.nifti(tmp_path / f"t1_{n}.nii.gz", contrast=("t1", "t2", "t1")[n])
        (tmp_path / f"tile_{n}.png").write_bytes(showcase.tile(side=256, seed=n))
        lines.append(f"malignant_mueller_{n},t1_{n}.nii.gz,tile_{n}.png,0.5,1")
    (tmp_path / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_REVIEWS", str(tmp_path / "reviews.sqlite"))
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path))
    monkeypatch.setenv("CMSSD_N4", "false")
    settings.cache_clear()
    dashboard_settings.cache_clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()
    dashboard_settings.cache_clear()


def opened(reader: str = "Reader One") -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120).run()
    app.switch_page("../pages/review.py").run()
    if reader:
        app.text_input(key="review_reader_typed").set_value(reader).run()
    assert not app.exception
    return app


def everything(app: AppTest) -> str:
    kinds = ("markdown", "error", "warning", "info", "success", "metric", "caption")
    return " ".join(f"{e.value} {getattr(e, 'label', '')}" for kind in kinds for e in app.get(kind))


def button(app: AppTest, label: str):
    return next(b for b in app.button if b.label == label)


def fill(app: AppTest, *, severity: float = 40.0, mark: str = "present", unseen: bool = True) -> None:
    app.number_input[0].set_value(severity)
    for criterion in CRITERIA:
        next(c for c in app.get("button_group") if c.label == criterion.capitalize()).set_value(mark)
    if unseen:
        next(c for c in app.checkbox if "seen neither" in c.label).set_value(True)


def read(app: AppTest, **answers) -> AppTest:
    fill(app, **answers)
    button(app, "Save my reading").click().run()
    assert not app.exception
    assert not app.error, app.error[0].value
    return app


def kept() -> tuple[tuple[Reading, ...], tuple[Verdict, ...]]:
    return service.reviews().readings(), service.reviews().verdicts()


def test_before_the_reading_is_saved_the_model_is_not_even_asked(monkeypatch):
    monkeypatch.setattr(service, "answer", lambda *_: pytest.fail("the model was asked before the reading was saved"))
    app = opened()
    said = everything(app)
    assert not app.metric
    for leak in ("probability", "tumour volume", "gate", "attention", "malignant_mueller", "Mean "):
        assert leak not in said.lower().replace("malignant tumour takes", "")
    shown = str(app.main)
    assert "mueller" not in shown
    assert "tumour probability" not in shown


def test_the_order_of_cases_is_the_readers_own_and_says_nothing():
    cohort = Path(settings().cache_dir).parent / "cohort.csv"
    mine = service.queue(cohort, "reader one")
    assert mine == service.queue(cohort, "reader one")
    orders = {tuple(ref.case_id for ref in service.queue(cohort, f"reader {n}")) for n in range(60)}
    assert len(orders) == 6  # all orders of three cases


def test_a_reading_is_kept_and_then_the_answer_is_shown_and_judged():
    app = read(opened())
    (one,), none = kept()
    assert (one.reader, one.severity_pct, one.blind, none) == ("reader one", 40.0, True, ())
    assert one.marks == dict.fromkeys(CRITERIA, "present")
    assert one.model_id == models.model().model_id
    assert [m.label for m in app.metric] == ["Severity", "Probability of malignancy", "Tumour volume", "Mean gate"]
    next(c for c in app.get("button_group") if c.label == "Do you agree?").set_value("override")
    button(app, "Save my verdict").click().run()
    assert "reason" in app.error[0].value
    app.text_area[0].set_value("the breach is missed")
    button(app, "Save my verdict").click().run()
    assert not app.error
    _, (verdict,) = kept()
    assert (verdict.reading, verdict.answer, verdict.reason) == (one.token, "override", "the breach is missed")
    assert verdict.model_p_malignant is not None
    assert "the breach is missed" in everything(app)
    button(app, "Next unread case").click().run()
    assert not app.metric
    assert any(b.label == "Save my reading" for b in app.button)


def test_what_is_left_open_is_named_and_nothing_is_kept():
    app = opened()
    app.number_input[0].set_value(10.0)
    button(app, "Save my reading").click().run()
    assert app.error[0].value == "Still to answer: malignant tumour, osteoid, cortical destruction."
    assert kept() == ((), ())


def test_a_reader_who_saw_the_answer_before_is_told_apart():
    app = opened()
    read(app, unseen=False)
    assert [r.blind for r in kept()[0]] == [False]
    app = opened("reader two")
    ref = service.queue(Path(settings().cache_dir).parent / "cohort.csv", "reader two")[0]
    app.session_state["cmssd_seen"] = {service.case_of(ref).id}
    app.run()
    assert any("kept as not blind" in w.value for w in app.warning)
    read(app, unseen=False)
    assert [r.blind for r in kept()[0]] == [False, False]
    app.get("button_group")[0].set_value("Agreement").run()
    assert "2 more were not blind" in everything(app)


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_after_the_reading_a_registered_slide_has_its_place_on_the_mri(tmp_path):
    table = pd.read_csv(tmp_path / "cohort.csv")
    table[["site_x_mm", "site_y_mm", "site_z_mm"]] = showcase.SITE_MM
    table.to_csv(tmp_path / "cohort.csv", index=False)
    app = read(opened())
    sent = next(s for s in (json.loads(e.proto.json) for e in app.get("bidi_component")) if "tiles" in s)
    places = np.array(sent["patches"]["places"])
    assert len(places) == len(sent["patches"]["xy"])
    assert np.linalg.norm(places.mean(axis=0) - showcase.SITE_MM) < max(showcase.SPACING)


def test_a_model_without_a_gate_is_judged_too(monkeypatch):
    asked = service.answer

    def gateless(case: Case, progress: Progress) -> Prediction:
        told = asked(case, progress)
        maps = {name: values for name, values in told.maps.items() if name != "attention"}
        return replace(told, maps=maps, gate_mean=None, gate_at_site=None, patch_attention=None)

    monkeypatch.setattr(service, "answer", gateless)
    app = read(opened())
    assert [metric.label for metric in app.metric] == ["Severity", "Probability of malignancy", "Tumour volume"]
    assert any(b.label == "Save my verdict" for b in app.button)


def test_a_pinned_case_was_seen_too(tmp_path):
    def pinned() -> None:
        import showcase

        from dashboard import state

        case, prediction = showcase.case(state.folder()), showcase.prediction()
        state.set_pinned_result(state.Result(None, case, prediction, b"", b""))
        state.set_pinned_result(None)

    app = AppTest.from_function(pinned).run()
    assert not app.exception
    assert app.session_state["cmssd_seen"] == {showcase.case(tmp_path).id}


def test_a_database_that_is_gone_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("", encoding="utf-8")
    monkeypatch.setenv("CMSSD_REVIEWS", str(tmp_path / "blocked" / "reviews.sqlite"))
    settings.cache_clear()
    dashboard_settings.cache_clear()
    app = opened()
    assert "the reviews cannot be kept in" in app.error[0].value


def test_agreement_is_shown_with_its_interval_and_few_cases_say_so():
    reviews = open_at(dashboard_settings().reviews.get_secret_value())
    for reader, flip in (("anna", 0), ("berta", 1), ("carl", 2)):
        for n in range(5 if reader == "carl" else 20):
            mark = "present" if (n + (flip and n % 5 == 0)) % 2 else "absent"
            one = Reading(reader, f"{n:064x}", "m", 5.0 * n, {MALIGNANT: mark, "osteoid": mark}, True)
            reviews.add_reading(one)
            reviews.add_verdict(Verdict(one.token, "m", 5.0 * n, 0.9, "agree"))
    app = opened("")
    app.get("button_group")[0].set_value("Agreement").run()
    assert not app.exception
    tables = {d.value["question"].iloc[0]: d.value for d in app.dataframe}
    assert tables
    pair = next(d.value for d in app.dataframe if len(d.value) == 4 and "too few" not in str(d.value))
    osteoid = pair.set_index("question").loc["osteoid"]
    assert osteoid["same answer"].startswith("0.80 (")
    assert "n = 20" in osteoid["kappa"]
    assert "n = 20" in osteoid["Gwet's AC1"]
    few = next(d.value for d in app.dataframe if "n = 5" in str(d.value)).set_index("question")
    assert few.loc["osteoid", "kappa"].startswith("too few")
    assert few.loc["severity, percent", "ICC(A,1)"].startswith("too few")
    table = list(csv.DictReader(StringIO(service.table().split("\r\n", 1)[0] + "\r\n")))
    assert table == []
    assert len(service.table().splitlines()) == 1 + 45
