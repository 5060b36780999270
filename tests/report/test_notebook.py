"""Nouns in a notebook say their doubt, and the notebooks run from the first cell to the last."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import showcase
from places import ROOT

from cmssd_core.report import notebook
from cmssd_core.studies import evaluate
from cmssd_core.types import InputError

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_a_prediction_shows_its_number_with_its_doubt():
    html = notebook.prediction(showcase.prediction())
    for said in (
        "37.2 % (interval not calibrated)",
        "0.814",
        "unvalidated",
        "a phantom: never trained",
        "Research use",
    ):
        assert said in html
    assert "20.0 to 55.5 %" in notebook.prediction(
        showcase.answering(showcase.prediction(), severity_interval=(20.0, 55.5))
    )
    assert len(html) < 4000


def test_a_prediction_without_mri_says_why_there_is_no_severity():
    html = notebook.prediction(showcase.prediction(mri=False))
    assert "none: no MRI was given" in html
    assert "0.0 %" not in html
    assert "None" not in html


def test_a_case_shows_what_was_given_and_a_small_picture_of_each(tmp_path):
    html = notebook.case(showcase.case(tmp_path))
    assert "t1, t2; 80 x 96 x 12 voxels of 1.2 x 0.8 x 4 mm" in html
    assert "slide of 512 x 512 pixels, 0.5 microns a pixel; biopsy site known" in html
    assert html.count("<img alt=") == 2
    assert str(tmp_path) not in html
    assert len(html) < 250_000
    (tmp_path / "tile.png").unlink()
    assert notebook.case(showcase.case(tmp_path, he=False)).count("<img alt=") == 1


def test_text_from_outside_is_no_markup():
    html = notebook.prediction(replace(showcase.prediction(), trained="<script>alert(1)</script>"))
    assert "<script>" not in html


def test_results_show_figures_with_interval_and_n():
    told = evaluate.load_metrics(ROOT / "data_samples" / "results")
    html = told._repr_html_()
    auc = told["auc"]
    assert f"({auc['low']:.3f} to" in html
    assert f"n = {auc['n']}" in html
    assert "mri only" in html
    assert json.loads(json.dumps(told)) == told


def test_a_folder_without_results_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"holds no metrics\.json"):
        evaluate.load_metrics(tmp_path)


def test_nouns_are_drawn_only_where_a_notebook_asks():
    with pytest.raises(RuntimeError, match="no IPython session"):
        notebook.install()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_no_output(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("CMSSD_WEIGHTS", raising=False)
    client = nbclient.NotebookClient(
        nbformat.read(path, as_version=4), timeout=300, resources={"metadata": {"path": str(path.parent)}}
    )
    done = client.execute()
    shown = [
        out["data"] for cell in done.cells if cell["cell_type"] == "code" for out in cell["outputs"] if "data" in out
    ]
    assert sum("text/html" in data and "Research use only" in data["text/html"] for data in shown) >= 2
