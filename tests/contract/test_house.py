"""What the house must take as one class and one row: trained one step, predicted, evaluated, reported, opened."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import toys
from tiny import tiny_cohort

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.explain.methods import METHODS, explain
from cmssd_core.inference import predict as inference
from cmssd_core.report import files
from cmssd_core.studies import evaluate as evaluation
from cmssd_core.studies.conditions import subsets
from cmssd_core.studies.run import RunSettings
from cmssd_core.training import loop
from cmssd_core.training.recipe import Stage, TrainSettings
from cmssd_core.types import Case, InputError, Volume

QUICK = Settings(n4=False, max_patches=4, threads=1)
ONE_STEP = TrainSettings(
    stages=(Stage(name="one step", steps=1, learning_rate=1e-3, slices=2, patches=2),),
    size="only", batch=3, warmup=0, n4=False, threads=1, amp="off",
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small patients with a CT beside T1 and T2, a slide, a profile, masks and follow-up; all train and test."""
    folder = tiny_cohort(tmp_path_factory.mktemp("house"), cases=8, seed=11, split="train")
    table = pd.read_csv(folder / "cohort.csv", dtype=str)
    for row, name in table["mri_t1"].items():
        image = nibabel.load(folder / name)
        values = np.asarray(image.dataobj, dtype=np.float64)
        ct = (values / values.max() * 1400 - 1000).astype(np.int16)  # air at -1000 HU
        path = Path(name).with_name("ct.nii.gz")
        nibabel.save(nibabel.Nifti1Image(ct, image.affine), folder / path)
        table.loc[row, "ct"] = str(path)
    table["event"] = [str(i % 2) for i in range(len(table))]
    table["time_months"] = [str(10.0 + 3 * i) for i in range(len(table))]
    table.to_csv(folder / "cohort.csv", index=False)
    return folder


@pytest.fixture(params=toys.TOYS)
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    toys.register(monkeypatch)
    return str(request.param)


@pytest.fixture
def trained(toy: str, cohort: Path, tmp_path: Path) -> Path:
    return loop.train(cohort, tmp_path / "run", settings=replace(ONE_STEP, model=toy), program=QUICK)


def wrong_words(page: str) -> list[str]:
    """What a page shows where a number should be and none is."""
    shown = re.sub(r"<[^>]*>", " ", page.split("<main>")[1])
    return re.findall(r"\b(?:nan|None|undefined)\b", shown)


@pytest.fixture
def trained_rna(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    toys.register(monkeypatch)
    return toys.save_toy("rna_third", tmp_path)


def first_case(cohort: Path, kind: type) -> Case:
    row = cohorts.read(cohort).iloc[0]
    return cohorts.admit_row(row, cohort, reads=kind.needs)


def test_survival_without_an_event_is_refused_by_name(cohort, tmp_path, monkeypatch):
    toys.register(monkeypatch)
    table = pd.read_csv(cohort / "cohort.csv", dtype=str)
    shutil.copytree(cohort, tmp_path / "cohort")
    table.assign(event="0").to_csv(tmp_path / "cohort" / "cohort.csv", index=False)
    with pytest.raises(InputError, match=r"no training case has a truth for .*expected masks, labels or events"):
        loop.train(
            tmp_path / "cohort", tmp_path / "run", settings=replace(ONE_STEP, model="slide_survival"), program=QUICK
        )


@pytest.mark.parametrize("lack", ["one", "all"])
def test_a_profile_that_may_be_missing_is_missing_in_training(lack, cohort, tmp_path, monkeypatch):
    toys.register(monkeypatch)
    table = pd.read_csv(cohort / "cohort.csv", dtype=str)
    shutil.copytree(cohort, tmp_path / "cohort")
    table.loc[table.index[: 1 if lack == "one" else None], "rna"] = None
    table.to_csv(tmp_path / "cohort" / "cohort.csv", index=False)
    train = partial(
        loop.train, tmp_path / "cohort", tmp_path / "run", settings=replace(ONE_STEP, model="rna_third"), program=QUICK
    )
    if lack == "one":
        assert train().is_file()
        return
    with pytest.raises(InputError, match=r"RNA|profile"):
        train()


def test_a_profile_that_cannot_be_read_is_refused_with_its_case(cohort, tmp_path, monkeypatch):
    toys.register(monkeypatch)
    shutil.copytree(cohort, tmp_path / "cohort")
    row = cohorts.read(cohort).iloc[2]
    (tmp_path / "cohort" / row["rna"]).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=f"case {row['case_id']}: "):
        loop.train(tmp_path / "cohort", tmp_path / "run", settings=replace(ONE_STEP, model="rna_third"), program=QUICK)


class OwnSeverity(toys.SegmentOnly):
    """A toy that says its own severity and draws no bone for equation 4."""

    tasks = ("tumour", "severity_pct")

    def forward(self, batch):
        output = super().forward(batch)
        return replace(output, heads={**output.heads, "severity_pct": torch.full((len(batch.ids),), 42.0)})


def test_a_severity_of_the_models_own_is_its_answer(cohort, tmp_path, monkeypatch):
    monkeypatch.setitem(toys.TOYS, "own_severity", OwnSeverity)
    toys.register(monkeypatch)
    predictor = inference.load(toys.save_toy("own_severity", tmp_path), settings=QUICK)
    found = inference.predict(first_case(cohort, OwnSeverity), predictor, settings=QUICK)
    assert found.severity_pct == pytest.approx(42.0)


def test_one_step_changes_the_weights_and_the_run_says_what_taught_it(toy, trained, cohort):
    model = inference.load(trained, settings=QUICK).model
    torch_start = toys.TOYS[toy]("only")
    moved = [name for name, value in model.state_dict().items() if value.shape != torch_start.state_dict()[name].shape]
    assert moved == []
    row = pd.read_csv(trained.parent / "metrics.csv").iloc[0]
    told = json.loads((trained.parent / "truths.json").read_text(encoding="utf-8"))
    term = {"segment_only": "tumour", "slide_survival": "risk", "rna_third": "malignant"}[toy]
    assert row[term] > 0
    assert row["gradient_norm"] > 0
    taught = 4 if toy == "slide_survival" else 8  # half of the patients had the event
    assert told["with_truth"] == dict.fromkeys(model.tasks, taught)
    assert told["left_out"] == []


def test_a_prediction_answers_its_tasks_and_nothing_else(toy, trained, cohort, tmp_path):
    predictor = inference.load(trained, settings=QUICK)
    case = first_case(cohort, toys.TOYS[toy])
    found = inference.predict(case, predictor, settings=QUICK)
    answered = {"segment_only": set(), "slide_survival": {"risk"}, "rna_third": {"malignant"}}[toy]
    assert set(found.answers) == answered
    assert set(found.maps) == ({"tumour"} if toy == "segment_only" else set())
    assert (found.p_malignant is not None) == (toy == "rna_third")
    assert (found.tumour_ml is not None) == (toy == "segment_only")
    assert found.severity_pct is None
    files.write(found, case, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "prediction.json").read_text(encoding="utf-8"))
    assert ("risk" in told) == (toy == "slide_survival")
    assert (told["p_malignant"] is None) == (toy != "rna_third")
    assert told["severity_pct"] is None
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "does not answer severity" in page
    assert ("Probability of malignancy" in page) == (toy == "rna_third")
    assert ("Log hazard" in page) == (toy == "slide_survival")
    assert ("No MRI was given" in page) == (toy == "slide_survival")
    assert wrong_words(page) == []


def test_an_evaluation_has_the_figures_of_its_tasks_and_reasons_for_the_others(toy, trained, cohort, tmp_path):
    chosen = RunSettings(split="all", workers=1)
    told = evaluation.evaluate(cohort, tmp_path / "out", weights=trained, chosen=chosen, settings=QUICK)
    assert told["predicted"] == 8
    assert (told["dice"]["value"] is not None) == (toy == "segment_only")
    assert (told["auc"]["value"] is not None) == (toy == "rna_third")
    assert ("c_index" in told) == (toy == "slide_survival")
    if toy == "slide_survival":
        assert told["n_events"] == 4
        assert 0 <= told["c_index"]["value"] <= 1
    if toy != "rna_third":
        assert told["accuracy"]["reason"] == "the model does not answer malignancy"
    if toy == "rna_third":  # every smaller selection of three modalities, by name
        wanted = {"mri+he", "mri", "he", "rna", "mri+rna", "he+rna"}
        assert {f"{name}_only" for name in wanted} <= set(told["by_modality"])
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert wrong_words(page) == []


def test_every_selection_a_model_can_answer_from_is_listed_once():
    assert subsets(toys.SegmentOnly) == (("mri",),)
    assert subsets(toys.RnaThird) == (
        ("mri", "he", "rna"), ("mri", "he"), ("mri", "rna"), ("he", "rna"), ("mri",), ("he",), ("rna",),
    )  # fmt: skip


def test_a_ct_is_prepared_for_a_model_that_reads_it_and_never_a_channel_of_zeros(cohort, monkeypatch):
    toys.register(monkeypatch)
    case = first_case(cohort, toys.SegmentOnly)
    spec = toys.SegmentOnly().spec
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    prepared, _, steps = MODALITIES["mri"].prepare(volume, spec["mri"], QUICK)
    assert prepared.contrasts == ("t1", "ct")
    assert float(np.ptp(prepared.voxels[1])) > 0
    assert any(step.startswith("ct:") and "HU" in step for step in steps)


def test_a_volume_without_a_contrast_the_model_reads_is_refused_by_name(cohort, monkeypatch):
    toys.register(monkeypatch)
    row = cohorts.read(cohort).iloc[0].copy()
    row["mri_t1"] = row["ct"] = None
    case = cohorts.admit_row(row, cohort)
    with pytest.raises(InputError, match=r"T2.*T1.*CT|t2.*t1.*ct"):
        MODALITIES["mri"].prepare(case.inputs["mri"], toys.SegmentOnly().spec["mri"], QUICK)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_takes_no_profile_says_so(method, trained_rna, cohort):
    predictor = inference.load(trained_rna, settings=QUICK)
    case = first_case(cohort, toys.RnaThird)
    try:
        found = explain(case, predictor, method, program=QUICK)
    except InputError as refused:
        sentence = str(refused)
    else:
        assert found.maps or found.shares
        return
    assert sentence.count("\n") == 0
