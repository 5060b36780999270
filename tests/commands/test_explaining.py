"""`cmssd explain` as scripts see it: files, one JSON object, the number that prediction gives, words for mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from command import run
from places import CHEAT

pytestmark = pytest.mark.usefixtures("quick_commands")


def inputs(cohort: Path) -> list[str | Path]:
    source = cohort / "cases/synth-00000"
    return ["--contrast", f"t1={source}/t1.nii.gz", "--he", source / "slide.tif", "--mpp", "1.0", "--weights", CHEAT]


def test_explain_writes_maps_on_the_scan_and_explains_what_predict_answers(cohort: Path, tmp_path: Path, capsys):
    out = tmp_path / "maps"
    assert run("explain", *inputs(cohort), "--method", "gradcam", "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert json.loads((out / "attribution.json").read_text(encoding="utf-8")) == told
    assert {path.name for path in out.iterdir()} == {
        "attribution.json", "attribution.npz", "attribution_mri.nii.gz", "attribution_mri.png",
        "attribution_he.geojson", "attribution_he.png",
    }  # fmt: skip
    drawn, scan = (SimpleITK.ReadImage(str(p)) for p in (
        out / "attribution_mri.nii.gz", cohort / "cases/synth-00000/t1.nii.gz"))  # fmt: skip
    assert np.isfinite(SimpleITK.GetArrayFromImage(drawn)).all()
    centres = [np.array(i.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in i.GetSize()]))
               for i in (drawn, scan)]  # fmt: skip
    assert np.abs(centres[0] - centres[1]).max() < max(drawn.GetSpacing())
    assert run("predict", *inputs(cohort), "--out", tmp_path / "answer", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert told["model_id"] == answer["model_id"]
    assert (told["value"] > 0) == (answer["p_malignant"] > 0.5), "a temperature keeps the sign"


def test_explain_in_words_names_baseline_training_and_use(cohort: Path, tmp_path: Path, capsys):
    assert run("explain", *inputs(cohort), "--method", "modality_shapley", "--out", tmp_path / "maps") == 0
    said = capsys.readouterr().out
    for words in ("baseline", "trained on", "Research use only", "MRI", "slide"):
        assert words in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--method", "nonsense"], "gradcam"),
        (["--target", "nonsense"], "malignant"),
        (["--he", "missing.tif"], "missing"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(cohort: Path, tmp_path: Path, capsys, changed, words):
    assert run("explain", *inputs(cohort), *changed, "--out", tmp_path / "maps") == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "maps").exists()
