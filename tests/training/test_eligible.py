"""Training on what a case has: a modality it lacks, a truth it lacks, and runs in which a task has no truth at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny import tiny_cohort

from cmssd_core.cohort import table as cohorts
from cmssd_core.models import MODELS
from cmssd_core.models.cmssd import CMSSD
from cmssd_core.models.weights import load
from cmssd_core.training import draws, run_folder
from cmssd_core.training.loop import train
from cmssd_core.training.losses import LossSettings, sum_losses
from cmssd_core.training.recipe import DrawSettings, Stage, TrainSettings
from cmssd_core.training.run_folder import TRUTHS, history
from cmssd_core.training.samples import Sample
from cmssd_core.types import InputError

STAGE = Stage(name="both", steps=2, learning_rate=1e-3, slices=1, patches=1)
RUN = TrainSettings(stages=(STAGE,), batch=2, warmup=1, n4=False, amp="off", threads=1, size="tiny")
SLIDE = ["slide", "slide_mpp", "site_x_mm", "site_y_mm", "site_z_mm"]
MRI = ["mri_t1", "mri_t2", "tumour_mask", "bone_mask", "lesion_mask", "cortical_destruction_mask"]
EVERY_STAGE = (
    replace(STAGE, name="damage", steps=1, alone="damage"),
    replace(STAGE, name="slide alone", steps=1, hide="mri"),
    replace(STAGE, name="MRI alone", steps=1, hide="he", crop_px=32),
    STAGE,
)


def changed(folder: Path, **columns: object) -> Path:
    """A tiny cohort for training with some columns replaced."""
    tiny_cohort(folder, split="train")
    table = pd.read_csv(folder / "cohort.csv", dtype=str)
    table.assign(**columns).to_csv(folder / "cohort.csv", index=False)
    return folder


def blank(names: list[str], rows: slice, folder: Path) -> Path:
    """A tiny cohort for training whose cases `rows` lack the columns `names`."""
    tiny_cohort(folder, split="train")
    table = pd.read_csv(folder / "cohort.csv", dtype=str)
    table.loc[table.index[rows], [name for name in names if name in table]] = None
    table.to_csv(folder / "cohort.csv", index=False)
    return folder


def truths(out: Path) -> dict:
    return json.loads((out / TRUTHS).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "lacks"), [("resnet50", SLIDE), ("osnet", MRI)])
def test_a_model_of_one_modality_trains_where_nobody_has_the_other(name: str, lacks: list[str], tmp_path: Path) -> None:
    cohort = blank(lacks, slice(None), tmp_path / "cohort")
    weights = train(cohort, tmp_path / "run", settings=replace(RUN, model=name, size="compact"))
    _, info, _ = load(weights)
    assert info.name == f"{name}-compact"
    assert truths(tmp_path / "run") == {
        "cases": 4, "with_truth": dict.fromkeys(MODELS[name].tasks, 4), "left_out": []
    }  # fmt: skip
    assert bool(history(tmp_path / "run" / "metrics.csv")["total"].gt(0).all())


def test_a_case_without_what_the_model_needs_is_left_out_and_named(tmp_path: Path) -> None:
    cohort = blank(SLIDE, slice(0, 1), tmp_path / "cohort")
    first = str(cohorts.read(cohort)["case_id"][0])
    train(cohort, tmp_path / "run", settings=replace(RUN, model="osnet", size="compact"))
    assert truths(tmp_path / "run") == {"cases": 3, "with_truth": {"malignant": 3}, "left_out": [first]}


def test_nobody_with_what_the_model_needs_is_refused_by_name(tmp_path: Path) -> None:
    cohort = blank(SLIDE, slice(None), tmp_path / "cohort")
    with pytest.raises(InputError, match="no training case has what the model reads; expected a slide"):
        train(cohort, tmp_path / "run", settings=replace(RUN, model="osnet", size="compact"))


@pytest.mark.parametrize(
    ("lacks", "rows"),
    [
        ("slide", slice(0, 2)),
        pytest.param("slide", slice(None), marks=pytest.mark.slow),
        pytest.param("MRI", slice(0, 2), marks=pytest.mark.slow),
    ],
)
def test_cmssd_trains_through_every_stage_where_some_or_all_lack_a_modality(
    lacks: str, rows: slice, tmp_path: Path
) -> None:
    """Whole batches without a slide among them, and stages that would hide the only thing a case has."""
    cohort = blank(SLIDE if lacks == "slide" else MRI, rows, tmp_path / "cohort")
    run = replace(RUN, stages=EVERY_STAGE, draw=DrawSettings(modality_dropout=1.0))
    train(cohort, tmp_path / "run", settings=run)
    table = history(tmp_path / "run" / "metrics.csv")
    assert len(table) == run.steps
    assert bool(table["total"].notna().all())
    told = truths(tmp_path / "run")
    assert told["cases"] == 4
    assert told["with_truth"]["tumour"] == (4 if lacks == "slide" else 2)
    assert told["with_truth"]["malignant"] == 4


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"tumour_mask": None, "severity_pct": None}, "tumour map and severity"),
        ({"malignant": None}, "malignancy"),
    ],
)
def test_a_task_that_no_case_teaches_is_refused_by_name(columns: dict, words: str, tmp_path: Path) -> None:
    cohort = changed(tmp_path / "cohort", **columns)
    with pytest.raises(InputError, match=f"no training case has a truth for {words}, which this model answers"):
        train(cohort, tmp_path / "run", settings=RUN)


def test_a_truth_that_some_cases_lack_is_counted_and_masked_out_of_the_loss(tmp_path: Path) -> None:
    cohort = blank(["malignant", "tumour_mask", "severity_pct"], slice(0, 3), tmp_path / "cohort")
    train(cohort, tmp_path / "run", settings=RUN)
    assert truths(tmp_path / "run")["with_truth"] == {"tumour": 1, "bone": 4, "malignant": 1, "severity_pct": 1}


def test_a_step_whose_cases_teach_nothing_changes_nothing_and_has_no_loss(tmp_path: Path) -> None:
    cohort = blank(["malignant"], slice(0, 3), tmp_path / "cohort")
    run = replace(RUN, model="osnet", size="compact", batch=1, stages=(replace(STAGE, steps=4),))
    train(cohort, tmp_path / "run", settings=run)
    totals = history(tmp_path / "run" / "metrics.csv")["total"]
    assert totals.notna().tolist().count(True) == 1  # four cases, one a step, one of them taught
    assert bool(totals.dropna().gt(0).all())


def test_a_case_with_other_contrasts_than_the_models_is_left_out_and_named(tmp_path: Path) -> None:
    cohort = blank([], slice(0), tmp_path / "cohort")
    table = pd.read_csv(cohort / "cohort.csv", dtype=str)
    table.loc[0, "ct"] = table.loc[0, "mri_t1"]
    table.loc[0, ["mri_t1", "mri_t2"]] = None
    table.to_csv(cohort / "cohort.csv", index=False)
    train(cohort, tmp_path / "run", settings=RUN)
    assert truths(tmp_path / "run")["left_out"] == [table["case_id"][0]]


def sample(*names: str, truth: bool = True) -> Sample:
    """A prepared case of two slices and two patches."""
    rng = torch.Generator().manual_seed(len(names))
    made: Sample = {}
    if "mri" in names:
        made |= {
            "input.mri": torch.randn(2, 2, 32, 32, generator=rng).half(),
            "mri.spacing_mm": torch.tensor(2.0), "mri.site_voxel": torch.tensor([1.0, 9.0, 9.0]),
            "mri.site_known": torch.tensor("he" in names),
        }  # fmt: skip
    if "he" in names:
        made |= {"input.he": torch.full((2, 32, 32, 3), 99, dtype=torch.uint8), "he.patch_mm": torch.ones(2, 2)}
        made["input.he"] = made["input.he"].permute(0, 3, 1, 2).contiguous()
    if truth:
        made["label.malignant"] = torch.tensor(1.0)
        if "mri" in names:
            made |= {f"mask.{name}": torch.ones(2, 32, 32, dtype=torch.uint8) for name in ("tumour", "bone")}
    return made


def batch_of(*rows: Sample, hide: str | None = None) -> tuple:
    import numpy as np

    stage = replace(STAGE, slices=2, patches=2, hide=hide)
    seen = [draws.draw(row, stage=stage, settings=DrawSettings(), rng=np.random.default_rng(0)) for row in rows]
    ids = tuple(str(n) for n in range(len(rows)))
    return draws.batch_samples(seen, ids, spec=CMSSD("tiny").spec, hide=hide)


def test_a_drawn_batch_says_of_every_modality_of_the_model_who_has_it() -> None:
    batch, targets = batch_of(sample("mri"), sample("mri"))
    assert set(batch.present) == set(batch.valid) == {"mri", "he"}
    assert batch.present["he"].tolist() == [False, False]
    assert "he" not in batch.inputs
    assert batch.geometry["mri.spacing_mm"].tolist() == [2.0, 2.0]
    mixed, _ = batch_of(sample("mri", "he"), sample("mri"), sample("he"))
    assert mixed.present["mri"].tolist() == [True, True, False]
    assert mixed.present["he"].tolist() == [True, False, True]
    assert mixed.geometry["mri.spacing_mm"].tolist() == [2.0, 2.0, 1.0]
    assert set(targets.masks) == {"tumour", "bone"}


@pytest.mark.parametrize("hide", ["mri", "he"])
def test_what_a_stage_hides_is_shown_of_a_case_that_has_nothing_else(hide: str) -> None:
    other = "he" if hide == "mri" else "mri"
    batch, _ = batch_of(sample("mri", "he"), sample(hide), sample(other), hide=hide)
    assert batch.present[hide].tolist() == [False, True, False]
    assert batch.present[other].tolist() == [True, False, True]
    assert bool(torch.stack(list(batch.present.values())).any(0).all())


def test_a_truth_that_a_case_lacks_moves_no_gradient() -> None:
    """The loss of a batch in which one case has no truth is that of its others, and its answer has no gradient."""
    batch, targets = batch_of(sample("mri", "he"), sample("mri", "he", truth=False))
    assert bool(targets.masks["tumour"][1].isnan().all())
    assert targets.labels["malignant"].isnan().tolist() == [False, True]
    assert targets.labels["severity_pct"].isnan().tolist() == [False, True]
    torch.manual_seed(0)
    model = CMSSD("tiny")
    output = model(batch)
    for head in output.heads.values():
        head.retain_grad()
    # Not the maps as such: P(tumour here) = P(lesion here) P(malignant), and severity is measured on them.
    terms = sum_losses(output, targets, batch, extra={}, settings=LossSettings())
    assert {"malignant", "tumour", "bone", "dice", "severity"} <= set(terms)
    terms["total"].backward()
    for name in ("tumour", "bone", "malignant", "severity_pct"):
        gradient = output.heads[name].grad
        assert gradient is not None
        assert bool(gradient.isfinite().all())
        assert float(gradient[1].abs().sum()) == 0.0, name
        assert float(gradient[0].abs().sum()) > 0.0, name


def test_the_start_of_training_is_not_fitted_to_slides_that_are_not_there() -> None:
    torch.manual_seed(0)
    one = CMSSD("tiny")
    two = CMSSD("tiny")
    two.load_state_dict(one.state_dict())
    alone, _ = batch_of(sample("mri", "he"), sample("mri", "he"))
    among, _ = batch_of(sample("mri", "he"), sample("mri", "he"), sample("mri"))
    for model, batch in ((one, alone), (two, among)):
        torch.manual_seed(1)
        model.fit_start(batch)
    torch.testing.assert_close(one.phi_he.state_dict(), two.phi_he.state_dict())
    torch.testing.assert_close(one.damage_he.state_dict(), two.damage_he.state_dict())


def test_a_run_whose_cases_lost_a_modality_is_another_run(tmp_path: Path) -> None:
    cohort = blank(SLIDE, slice(0, 2), tmp_path / "cohort")
    train(cohort, tmp_path / "run", settings=RUN)
    assert run_folder.is_done(tmp_path / "run", RUN, cohorts.read(cohort))
    table = cohorts.read(cohort)
    table.loc[2, SLIDE] = None
    with pytest.raises(InputError, match="whose rows are not those"):
        run_folder.is_done(tmp_path / "run", RUN, table)
