"""The guides are followed word by word: the model of one is trained and asked, the page of the other is opened."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest
import showcase
import streamlit as st
from places import ROOT
from streamlit.testing.v1 import AppTest
from tiny import tiny_cohort

from cmssd_core.config import Settings, settings
from cmssd_core.inference import predict as inference
from cmssd_core.models import MODELS
from cmssd_core.training import loop
from cmssd_core.training.recipe import Stage, TrainSettings
from dashboard import rights


def code_of(guide: str) -> str:
    """The Python of a guide: its one code block of that language."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / guide).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    return blocks[0]


def row_of(guide: str) -> str:
    """The row that a guide has one add to a table: the first code block without a language."""
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8").partition("## 2. The row")[2]
    return text.split("```")[1].strip().rstrip(",")


def test_the_model_of_the_guide_trains_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small_map.py"
    path.write_text(code_of("add-a-model.md"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("small_map", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ((name, kind),) = eval(f"{{{row_of('add-a-model.md')}}}", vars(module)).items()  # the row as it stands there
    monkeypatch.setitem(MODELS, name, kind)
    cohort = tiny_cohort(tmp_path / "cohort", split="train")
    run = TrainSettings(
        model=name, size="compact", batch=2, n4=False, threads=1, amp="off",
        stages=(Stage(name="one", steps=1, learning_rate=1e-3, slices=2),),
    )  # fmt: skip
    program = Settings(n4=False, threads=1)
    weights = loop.train(cohort, tmp_path / "run", settings=run, program=program)
    predictor = inference.load(weights, settings=program)
    case = showcase.case(tmp_path, he=False)
    found = inference.predict(replace(case), predictor, settings=program)
    assert set(found.maps) == {"tumour"}
    assert found.answers == {}


def test_the_page_of_the_guide_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((title, page),) = eval(f"{{{row_of('add-a-page.md')}}}", {"Page": rights.Page}).items()
    path = tmp_path / page.file
    path.write_text(code_of("add-a-page.md"), encoding="utf-8")
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    settings.cache_clear()
    st.cache_resource.clear()
    monkeypatch.setitem(rights.PAGES, title, replace(page, file=str(path)))
    try:
        app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120).run()
        assert not app.exception
        monkeypatch.setattr(rights, "PAGES", {title: rights.PAGES[title]})
        app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=120).run()
        assert not app.exception
        assert app.title[0].value == title
        assert "random weights for tests" in " ".join(str(text.value) for text in app.markdown)
    finally:
        settings.cache_clear()
        st.cache_resource.clear()
