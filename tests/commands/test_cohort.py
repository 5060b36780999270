"""The commands about a cohort from outside: killed and gone on with, one modality alone, awkward cohorts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import showcase
from command import run
from places import ROOT
from tiny import tiny_cohort

from cmssd_core import config
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.tiles import find_tiles
from cmssd_core.inference import calibration as calibration_file
from cmssd_core.inference import predict as inference
from cmssd_core.inference.tile_head import fit_head, head_of, save_head, tile_features, tile_patches
from cmssd_core.models import weights as weights_file
from cmssd_core.studies.one_modality import kind_of, promised

pytestmark = pytest.mark.usefixtures("few_patches")


@pytest.fixture
def few_patches(quick_commands: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMSSD_MAX_PATCHES", "2")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cohort(tmp_path_factory.mktemp("source"), cases=26, seed=11)


def cohort_of(source: Path, folder: Path, rows: int = 26, **columns: object) -> Path:
    """The first cases of a cohort under a changed table, files linked."""
    folder.mkdir()
    (folder / "cases").symlink_to(source / "cases")
    table = pd.read_csv(source / "cohort.csv").head(rows)
    table.assign(**columns).to_csv(folder / "cohort.csv", index=False)
    return folder


def killed_and_resumed(*arguments: str | Path, out: Path) -> None:
    """Run a command, kill it after its first parts, run it again; what was done is not done anew."""
    command = [sys.executable, "-m", "cmssd_core.cli", *map(str, arguments), "--workers", "1", "--out", str(out)]
    running = subprocess.Popen(
        command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("parts/[!.]*.json")) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("parts/[!.]*.json")}
    assert kept
    assert run(*arguments, "--workers", "1", "--out", out) == 0
    assert len(list(out.glob("parts/[!.]*.json"))) > len(kept)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


@pytest.mark.slow  # tests/studies/test_evaluate.py kills one too
def test_calibrate_and_evaluate_go_on_where_they_were_killed(source: Path, tmp_path: Path, capsys) -> None:
    cohort = cohort_of(source, tmp_path / "cohort", split=["val"] * 22 + ["test"] * 4)
    weights = showcase.weights(tmp_path, size="tiny")
    killed_and_resumed("calibrate", cohort, "--weights", weights, out=tmp_path / "fit")
    made = calibration_file.path_of(weights)
    assert calibration_file.load(weights, inference.load(weights).model_id) is not None
    assert str(made) in capsys.readouterr().out
    killed_and_resumed("evaluate", cohort, "--weights", weights, "--corruptions", "off", out=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert told["cases"] == 4
    assert told["uncertainty"]["set_single"]["n"] == 4  # the calibration was used
    before = made.read_bytes()
    small = cohort_of(source, tmp_path / "small", rows=4, split="val")
    assert run("calibrate", small, "--weights", weights, "--out", tmp_path / "again", "--workers", "1") == 2
    assert made.read_bytes() == before  # a cohort that will not do takes nothing away


@pytest.fixture(scope="module")
def pairs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for _, row in cohorts.read(source).head(4).iterrows():
        place = folder / str(row["case_id"])
        place.mkdir()
        shutil.copy(source / row["mri_t1"], place / "MR_T1_image.nii.gz")
        shutil.copy(source / row["lesion_mask"], place / "MR_T1_mask.nii.gz")
    return folder


def test_scans_with_masks_are_evaluated_by_the_same_command(source: Path, pairs: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(pairs, tmp_path / "pairs")
    (tmp_path / "pairs" / "synth-00003" / "MR_T1_image.nii.gz").write_bytes(b"no image")
    assert run("evaluate", tmp_path / "pairs", "--out", tmp_path / "out") == 2
    refusal = capsys.readouterr().err
    assert "no weights came for scans with tumour masks" in refusal
    assert refusal.rstrip().endswith("(--weights)")
    named = ("--weights", weights_file.DEFAULT)
    assert run("evaluate", tmp_path / "pairs", *named, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "Dice: " in said
    assert "refused synth-00003" in said
    told = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert set(told) >= {*promised(), "model_id", "trained"}
    assert told["dice"]["n"] == 3
    assert "neither a label" in told["auc"]["reason"]
    assert len(pd.read_parquet(tmp_path / "out" / "predictions.parquet")) == 3
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "Research use only" in page
    assert "http" not in page
    empty = dict.fromkeys(("slide", "malignant", "severity_pct", "bone_mask"))
    table = cohort_of(source, tmp_path / "table", rows=3, split=["train", "train", "test"], **empty)
    assert run("evaluate", table, *named, "--out", tmp_path / "of_table", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dice"]["n"] == 1


def test_tiles_are_evaluated_by_the_same_command(source: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "tiles").mkdir()
    names = ("Non-Tumor", "Non-Viable-Tumor", "Viable")
    for number, slide in enumerate(cohorts.read(source)["slide"].head(6)):
        shutil.copy(source / slide, tmp_path / "tiles" / f"{names[number % 3]}___Case-{number // 3}-{number}.tif")
    weights = tmp_path / "weights.safetensors"
    shutil.copy(weights_file.DEFAULT, weights)
    given = ("evaluate", tmp_path / "tiles", "--weights", weights, "--out", tmp_path / "out", "--mpp", "1.0")
    assert run(*given) == 2
    assert "no tile classes at weights.tiles.safetensors" in capsys.readouterr().err
    predictor = inference.load(weights)
    table, root = find_tiles(tmp_path / "tiles", mpp=1.0)
    bags = tile_patches(table, root, predictor, program=config.settings())
    seen = np.stack([tile_features(bag, predictor) for bag in bags if bag is not None])
    head = fit_head(seen, table["tissue_class"].tolist(), model_id=predictor.model_id, trained="six tiles")
    save_head(head, head_of(weights))
    assert run(*given) == 0
    told = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert set(told) >= {*promised(), "tumour_accuracy", "confusion"}
    assert told["accuracy"] == told["tumour_accuracy"]
    assert told["dice"]["value"] is None
    assert "called non-viable" in (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert run(*given[:-2]) == 2
    assert "0.25 for 40x (--mpp)" in capsys.readouterr().err
    assert run(*given, "--drop", "mri") == 2


def test_what_a_cohort_is_is_told_from_what_lies_there(source: Path, pairs: Path, tmp_path: Path) -> None:
    assert kind_of(source) == "cases"
    assert kind_of(pairs) == "pairs"
    (pairs / "preview.png").write_bytes(b"a picture beside the scans")
    assert kind_of(pairs) == "pairs"
    assert kind_of(tmp_path / "nowhere") == "cases"
    assert kind_of(tmp_path) == "cases"


def test_a_cohort_is_divided_and_a_fold_of_it_tested(source: Path, tmp_path: Path, capsys) -> None:
    cohort = cohort_of(source, tmp_path / "cohort", rows=6, split=None)
    assert run("split", cohort, "--seed", "3", "--folds", "3") == 0
    assert "fold 1 2, fold 2 2, fold 3 2" in capsys.readouterr().out
    assert run("split", cohort, "--seed", "3", "--folds", "3") == 0
    assert run("split", cohort, "--seed", "4") == 2
    assert "--replace" in capsys.readouterr().err
    out = tmp_path / "out"
    assert run("evaluate", cohort, "--fold", "2", "--corruptions", "off", "--workers", "1", "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 2
    assert run("train", cohort, "--fold", "7", "--out", tmp_path / "run") == 2
    assert "fold 7 came, the cohort has [1, 2, 3]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "rows", "command", "said"),
    [
        ({"split": None}, 0, "evaluate", "no rows with a case_id"),
        ({"split": None}, 0, "calibrate", "no rows with a case_id"),
        ({"split": None}, 0, "split", "no rows with a case_id"),
        ({"split": "train"}, 1, "evaluate", "no row with split = test"),
        ({"split": None}, 2, "calibrate", "no row with split = val"),
        ({"split": None}, 2, "train", "no row with split = train"),
        ({"split": "val", "malignant": None}, 1, "calibrate", "0 labelled cases"),
    ],
)
def test_an_awkward_cohort_is_one_sentence(
    columns: dict, rows: int, command: str, said: str, source: Path, tmp_path: Path, capsys
) -> None:
    cohort = cohort_of(source, tmp_path / "cohort", rows=rows, **columns)
    weights = tmp_path / "weights.safetensors"
    shutil.copy(weights_file.DEFAULT, weights)
    more = {"calibrate": ("--weights", weights, "--workers", "1"), "split": ()}.get(command, ())
    out = () if command == "split" else ("--out", tmp_path / "out")
    assert run(command, cohort, *more, *out) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert "Traceback" not in told


def test_results_are_not_written_where_a_file_stands(source: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("the user's own", encoding="utf-8")
    cohort = cohort_of(source, tmp_path / "cohort", rows=1, split=None)
    assert run("evaluate", cohort, "--out", tmp_path / "notes.txt", "--workers", "1") == 2
    assert "choose another" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "the user's own"
