"""What a model says of each patch alone: the answer to a slide of that patch, whatever else is on the slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import showcase
import streamlit as st
from places import ROOT
from streamlit.testing.v1 import AppTest

from cmssd_core.config import Settings, settings
from cmssd_core.inference import predict as inference
from cmssd_core.inference.patchwise import doubt, patchwise
from cmssd_core.models import MODELS
from cmssd_core.types import Case


def test_a_slide_of_one_patch_is_answered_as_that_patch(tmp_path: Path) -> None:
    chosen = inference.load(showcase.weights(tmp_path), settings=Settings())
    one = Settings(max_patches=1)
    case = showcase.case(tmp_path)
    slide = Case("ab" * 32, {"he": case.inputs["he"]})
    said = patchwise(case, chosen, settings=one)
    assert said is not None
    assert said.shape == (1,)
    assert said[0] == pytest.approx(inference.predict(slide, chosen, settings=one).p_malignant, abs=1e-5)


def test_patches_are_asked_one_by_one_in_the_order_of_the_prediction(tmp_path: Path, monkeypatch) -> None:
    chosen, case = inference.load(showcase.weights(tmp_path), settings=Settings()), showcase.case(tmp_path)
    prediction, said = inference.predict(case, chosen, settings=Settings()), patchwise(case, chosen)
    assert said is not None
    assert said.shape == (len(prediction.patch_xy),)
    assert len(np.unique(said)) > 1
    monkeypatch.setattr("cmssd_core.inference.patchwise.TOGETHER", 1)
    np.testing.assert_allclose(patchwise(case, chosen), said, atol=1e-5)


def test_without_a_slide_or_from_a_model_that_reads_no_slide_nothing_is_said(tmp_path: Path) -> None:
    chosen = inference.load(showcase.weights(tmp_path), settings=Settings())
    assert patchwise(showcase.case(tmp_path, he=False), chosen) is None
    blind = inference.Predictor(MODELS["resnet50"]("compact").eval(), "-", chosen.info, chosen.device, "")
    assert patchwise(showcase.case(tmp_path), blind) is None


def test_doubt_is_entropy_in_bits() -> None:
    np.testing.assert_allclose(doubt(np.array([0.5, 0.25, 0.0, 1.0])), [1.0, 0.811278, 0.0, 0.0], atol=1e-6)


def test_the_case_page_draws_it_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_MAX_PATCHES", "4")
    monkeypatch.delenv("CMSSD_COHORT", raising=False)
    settings.cache_clear()
    st.cache_resource.clear()
    from dashboard.viewers import slide

    drawn = []
    monkeypatch.setattr(slide, "viewer", lambda shown, layers, **_: drawn.append({e.name: e for e in layers}))
    try:
        app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=180).run()
        app.switch_page("../pages/case.py").run()
        app.selectbox[0].set_value("synth-00001").run()
        assert list(drawn[-1]) == ["Attention"]
        next(t for t in app.toggle if t.label == "What each patch says by itself").set_value(True).run()
        assert not app.exception
        assert not app.error
        assert list(drawn[-1]) == ["Attention", "Patch probability", "Patch uncertainty"]
        values = drawn[-1]["Patch probability"].values
        assert values.shape == (4,)
        np.testing.assert_allclose(drawn[-1]["Patch uncertainty"].values, doubt(values))
    finally:
        st.cache_resource.clear()
        settings.cache_clear()
