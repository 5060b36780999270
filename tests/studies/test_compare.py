"""Models compared: figures over seeds by hand, paired tests, and a whole comparison that survives a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.evaluation.repeats import apart, summarise_runs
from cmssd_core.models import MODELS
from cmssd_core.report.comparison import render
from cmssd_core.studies import compare as room
from cmssd_core.studies.compare import CompareSettings, compare, recipe_of
from cmssd_core.training.recipe import DrawSettings, Stage, TrainSettings
from cmssd_core.types import InputError

RECIPE = TrainSettings(
    stages=(
        Stage(name="slide alone", steps=1, learning_rate=1e-3, hide="mri", slices=1, patches=1),
        Stage(name="MRI alone", steps=1, learning_rate=1e-3, hide="he", slices=1, patches=1),
        Stage(name="both", steps=2, learning_rate=1e-3, slices=1, patches=1),
    ),
    batch=2,
    warmup=1,
    validate_every=100,
    checkpoint_every=1,
    threads=1,
    amp="off",
    n4=False,
    draw=DrawSettings(modality_dropout=1.0, artefacts=0.0),  # the strictest test of models that need a modality
)
PROGRAM = Settings(n4=False, threads=1)


def frame(p: list[float], dice: list[float] | None = None, **columns: object) -> pd.DataFrame:
    """A run's answers on cases c0, c1, ... of which the first half are malignant."""
    n = len(p)
    rows = {
        "case_id": [f"c{i}" for i in range(n)],
        "patient_id": [f"p{i}" for i in range(n)],
        "malignant": [1.0] * (n // 2) + [0.0] * (n - n // 2),
        "p_malignant": p,
        "dice": dice or [np.nan] * n,
        "maps": dice is not None,
        "severity_true": 40.0,
        "severity_pct": 30.0,
    }
    return pd.DataFrame(rows | columns)


def drawn(seed: int, n: int = 60, shift: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n) + shift * np.where(np.arange(n) < n // 2, 1, -1)
    return frame((1 / (1 + np.exp(-logit))).tolist(), rng.uniform(0.5, 1, n).tolist())


def test_a_figure_is_the_mean_over_runs_with_their_spread() -> None:
    runs = [drawn(seed) for seed in range(3)]
    told = summarise_runs(runs)
    right = [np.mean((run["p_malignant"] >= 0.5) == (run["malignant"] == 1)) for run in runs]
    assert told["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert told["accuracy"]["sd"] == pytest.approx(np.std(right, ddof=1))
    assert told["accuracy"]["runs"] == pytest.approx(right)
    areas = [roc_auc_score(run["malignant"], run["p_malignant"]) for run in runs]
    assert told["auc"]["value"] == pytest.approx(np.mean(areas))
    assert told["auc"]["sd"] == pytest.approx(np.std(areas, ddof=1))
    dice = np.mean([run["dice"] for run in runs])
    assert told["dice"]["value"] == pytest.approx(dice)
    assert told["dice"]["low"] < dice < told["dice"]["high"]
    assert told["dice_malignant_only"]["n"] == 30
    assert told["severity_mae"]["value"] == pytest.approx(10.0)


def test_one_run_has_no_spread_and_no_maps_no_dice() -> None:
    told = summarise_runs([frame([0.9] * 5 + [0.1] * 5)])
    assert told["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 10, "sd": None, "runs": [1.0]}
    for name in ("dice", "severity_mae"):
        assert told[name]["value"] is None
        assert told[name]["reason"]


def test_a_difference_is_paired_by_case() -> None:
    """Two models that err on the same hard cases differ by little, with an interval narrower than either's own."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, 80)
    one = frame([0.6] * 80, dice=hard.tolist())
    other = frame([0.4] * 80, dice=(hard - 0.01 + 0.001 * rng.normal(size=80)).tolist())
    found = apart([one], [other])["difference"]["dice"]
    assert found["value"] == pytest.approx(0.01, abs=0.001)
    assert 0 < found["low"] < found["high"] < 0.02


def test_tests_are_made_run_by_run_and_the_largest_p_is_told() -> None:
    ones, others = [drawn(seed, shift=2.0) for seed in (1, 2)], [drawn(seed, shift=0.2) for seed in (3, 4)]
    told = apart(ones, others)
    p = []
    for one, other in zip(ones, others, strict=True):
        a, b = ((run["p_malignant"] >= 0.5) == (run["malignant"] == 1) for run in (one, other))
        p.append(binomtest(int((a & ~b).sum()), int((a != b).sum())).pvalue)
    assert [test["mcnemar"]["p"] for test in told["tests"]] == pytest.approx(p)
    assert told["largest_p"]["mcnemar"] == pytest.approx(max(p))
    assert told["largest_p"]["auc"] == max(test["auc_difference"]["p"] for test in told["tests"])


def test_a_model_does_not_differ_from_itself() -> None:
    runs = [drawn(seed) for seed in range(2)]
    told = apart(runs, runs)
    assert all(figure["value"] in (0.0, None) for figure in told["difference"].values())
    assert told["largest_p"] == {"mcnemar": 1.0, "auc": 1.0}


def test_only_cases_that_all_runs_answered_are_compared() -> None:
    whole = drawn(0)
    told = apart([whole], [drawn(1).iloc[5:]])
    assert told["difference"]["accuracy"]["n"] == 55


def test_without_a_label_there_is_no_test_and_no_number() -> None:
    runs = [drawn(seed).assign(malignant=np.nan) for seed in range(2)]
    told = apart(runs[:1], runs[1:])
    assert told["largest_p"] == {"mcnemar": None, "auc": None}
    assert told["difference"]["accuracy"]["value"] is None
    assert summarise_runs(runs)["auc"]["value"] is None
    assert told["difference"]["dice"]["value"] is not None


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_for_the_same_number_of_steps_and_none_stops_early(name: str) -> None:
    recipe = recipe_of(name, 2, CompareSettings(models=("cmssd", name), steps=40, recipe=RECIPE))
    assert (recipe.model, recipe.seed, recipe.steps) == (name, 2, 40)
    assert recipe.patience >= recipe.steps
    assert all(set(MODELS[name].needs) - {stage.hide} for stage in recipe.stages)
    assert (recipe.draw.modality_dropout == 0) == (not MODELS[name].optional)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"models": ("cmssd",)}, "expected at least two"),
        ({"models": ("late", "late")}, "each once"),
        ({"models": ("cmssd", "vgg")}, "no model vgg"),
        ({"size": "huge"}, "of size huge"),
        ({"steps": 2}, "2 steps came"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, object], match: str, tmp_path: Path) -> None:
    chosen = replace(CompareSettings(models=("cmssd", "late"), recipe=RECIPE), **change)
    with pytest.raises(InputError, match=match):
        compare(tmp_path, tmp_path / "out", chosen=chosen)


@pytest.fixture(scope="module")
def parted(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort with its cases on all three splits."""
    folder = tmp_path_factory.mktemp("parted") / "cohort"
    shutil.copytree(cohort, folder)
    table = pd.read_csv(folder / "cohort.csv", dtype=str)
    table["split"] = ["train", "train", "val", "test"]
    table.to_csv(folder / "cohort.csv", index=False)
    return folder


CHOSEN = CompareSettings(models=("cmssd", "resnet50", "osnet"), seeds=2, steps=4, recipe=RECIPE)


@pytest.fixture(scope="module")
def finished(parted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared")
    compare(parted, out, chosen=CHOSEN, program=PROGRAM, workers=1)
    return out


def test_a_comparison_leaves_its_runs_and_what_it_found(finished: Path) -> None:
    told = json.loads((finished / "comparison.json").read_text(encoding="utf-8"))
    assert set(told["models"]) == {"cmssd", "resnet50", "osnet"}
    assert set(told["against"]) == {"resnet50", "osnet"}
    assert set(told["models"]["cmssd"]["by_modality"]) == {"mri_only", "he_only"}
    assert told["models"]["osnet"]["by_modality"] == {}
    assert told["models"]["osnet"]["figures"]["dice"]["value"] is None
    assert told["models"]["resnet50"]["figures"]["dice"]["value"] is not None
    assert len(told["models"]["osnet"]["figures"]["accuracy"]["runs"]) == 2
    assert told["steps"] == {"cmssd": 4, "resnet50": 4, "osnet": 4}
    for name in CHOSEN.models:
        for seed in (1, 2):
            run = finished / f"{name}-seed{seed}"
            assert {"config.json", "metrics.csv", "weights.safetensors"} <= {p.name for p in run.iterdir()}
            assert len((run / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 5


def test_runs_that_read_the_same_share_the_prepared_cases(finished: Path) -> None:
    folders = [len(list(folder.glob("*.safetensors"))) for folder in finished.glob("prepared/*")]
    assert folders == [3, 3, 3]  # three models that read MRI and slide, MRI alone, slide alone; two seeds each
    assert (finished / "osnet-seed2" / "prepared").resolve() == (finished / "prepared").resolve()


def test_the_page_holds_the_numbers_their_doubt_and_the_banner(finished: Path) -> None:
    page = (finished / "comparison.html").read_text(encoding="utf-8")
    told = json.loads((finished / "comparison.json").read_text(encoding="utf-8"))
    assert "Research use only" in page
    assert f"{told['models']['cmssd']['figures']['brier']['value']:.3f}" in page
    assert "too few for an interval" in page
    assert "Given H&amp;E slide alone" in page
    assert "<script" not in page
    assert "http" not in page


def test_a_comparison_that_was_killed_goes_on_and_gives_the_same(
    finished: Path, parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    shutil.copytree(finished, out, symlinks=True)
    (out / "osnet-seed2" / "weights.safetensors").unlink()  # killed before its end
    (out / "comparison.json").unlink()
    trained: list[str] = []
    real = room.training.train

    def noted(*arguments: object, **settings: object) -> Path:
        trained.append(str(arguments[1]))
        return real(*arguments, **settings)

    monkeypatch.setattr(room.training, "train", noted)
    compare(parted, out, chosen=CHOSEN, program=PROGRAM, workers=1)
    assert trained == [str(out / "osnet-seed2")]
    assert (out / "comparison.json").read_text(encoding="utf-8") == (finished / "comparison.json").read_text(
        encoding="utf-8"
    )


def test_a_folder_with_runs_of_other_settings_is_refused(finished: Path, parted: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    shutil.copytree(finished, out, symlinks=True)
    with pytest.raises(InputError, match="other settings"):
        compare(parted, out, chosen=replace(CHOSEN, steps=6), program=PROGRAM, workers=1)


def test_a_folder_with_runs_of_other_cases_is_refused(finished: Path, parted: Path, tmp_path: Path) -> None:
    table = cohorts.read(parted)
    for name in ("cases", "synth.json"):
        (tmp_path / name).symlink_to(parted / name)
    cohorts.write_table(table.assign(split=["train", "val", "train", "test"]), tmp_path / "cohort.csv")
    out = tmp_path / "other"
    shutil.copytree(finished, out, symlinks=True)
    with pytest.raises(
        InputError, match="2 train and 1 val cases came whose rows are not those of the 2 and 1 that cmssd-seed1 was"
    ):
        compare(tmp_path, out, chosen=CHOSEN, program=PROGRAM, workers=1)


def test_the_page_of_a_comparison_without_figures_says_none(finished: Path) -> None:
    told = json.loads((finished / "comparison.json").read_text(encoding="utf-8"))
    told["models"]["osnet"]["figures"] = None
    told["against"]["osnet"] = None
    assert "osnet" in render(told)
