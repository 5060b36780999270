"""Training: learns, survives a kill at any moment, resumes bit-exact, is the same in parts and by two processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_cohort

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.split import use_fold
from cmssd_core.config import Settings
from cmssd_core.models.cmssd import CMSSD
from cmssd_core.models.weights import load
from cmssd_core.report import curves
from cmssd_core.training import draws, recipe, run_folder, samples
from cmssd_core.training.loop import _draw, pick_cases, train
from cmssd_core.training.losses import LossSettings
from cmssd_core.training.recipe import DrawSettings, Stage, TrainSettings, for_needs, rate, scale_steps, settings_from
from cmssd_core.training.run_folder import CHECKPOINT
from cmssd_core.training.samples import Sample
from cmssd_core.types import InputError

ALONE = (
    Stage(name="damage", steps=1, learning_rate=1e-3, slices=1, patches=1, alone="damage"),
    Stage(name="slide", steps=1, learning_rate=1e-3, hide="mri", slices=1, patches=1),
    Stage(name="windows", steps=2, learning_rate=1e-3, hide="he", slices=1, patches=1, crop_px=32),
    Stage(name="both", steps=3, learning_rate=1e-3, slices=1, patches=1, slow_rate=0.2),
)
TINY_RUN = TrainSettings(
    stages=ALONE, batch=2, checkpoint_every=2, validate_every=2, warmup=2, n4=False, amp="off", threads=1
)
SPEC = CMSSD("compact").spec
ONE_SLICE = Stage(name="one", steps=1, learning_rate=1e-3, slices=1, patches=1)
STILL = DrawSettings(
    modality_dropout=0,
    contrast_dropout=0,
    site_dropout=0,
    artefacts=0,
    gain=0,
    shift=0,
    stain=0,
    mirror=False,
)


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(cohort, out, settings=TINY_RUN)
    return out


def tensors(out: Path) -> dict[str, torch.Tensor]:
    return load_file(str(out / CHECKPOINT))


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "metrics.csv").open(encoding="utf-8")))


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    expected = {
        "config.json",
        "cohort.json",
        "environment.json",
        "metrics.csv",
        "truths.json",
        "weights.safetensors",
        CHECKPOINT,
    }
    assert expected <= {p.name for p in finished.iterdir()}
    assert [int(row["step"]) for row in rows_of(finished)] == list(range(7))
    assert [row["stage"] for row in rows_of(finished)] == ["damage", "slide", *["windows"] * 2, *["both"] * 3]
    _, info, _ = load(finished / "weights.safetensors")
    assert info.trained == "4 synthetic cases (preset paper), research use only"
    curves.write(finished)
    page = (finished / "curves.html").read_text(encoding="utf-8")
    assert "Research use only" in page
    assert "damage, steps 0 to 0; slide, steps 1 to 1; windows, steps 2 to 3; both, steps 4 to 6" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    truths = json.loads((finished / "truths.json").read_text(encoding="utf-8"))
    everyone = dict.fromkeys(("tumour", "bone", "malignant", "severity_pct"), 4)
    assert truths == {"cases": 4, "with_truth": everyone, "left_out": []}
    told = json.loads((finished / "environment.json").read_text(encoding="utf-8"))
    assert told["libraries"]["torch"] == torch.__version__


def test_a_run_killed_at_any_moment_resumes_bit_exact(finished: Path, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(recipe.text_of(TINY_RUN), encoding="utf-8")
    command = [sys.executable, "-m", "cmssd_core.cli", "train", str(cohort), "--config", str(tmp_path / "config.json")]
    command += ["--size", "compact", "--out", str(tmp_path / "run")]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / CHECKPOINT).exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert (tmp_path / "run" / CHECKPOINT).exists()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    expected, found = tensors(finished), tensors(tmp_path / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    assert [int(row["step"]) for row in rows_of(tmp_path / "run")] == list(range(7))


TWO = """
import sys
from pathlib import Path
from cmssd_core.training.recipe import settings_from
from cmssd_core.training.loop import train
if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), settings=settings_from(Path(sys.argv[3]).read_text(encoding="utf-8")))
"""


# Well-conditioned, so that rounding stays rounding: no window so small that a norm divides noise by noise, and steps so
# small that a rectifier on its kink, which some processors round otherwise, moves no weight by 1e-5.
CONDITIONED = replace(
    TINY_RUN,
    stages=tuple(replace(s, learning_rate=3e-5, slices=2, patches=2, crop_px=2 * s.crop_px) for s in ALONE),
    batch=4,
)


def assert_same(one: Path, other: Path) -> None:
    """The same weights but for rounding, after steps that changed them far more than that."""
    expected = {k: t for k, t in tensors(one).items() if k.startswith("model.")}
    torch.manual_seed(CONDITIONED.seed)
    fresh = CMSSD(CONDITIONED.size).state_dict()
    learned = max(float((expected[f"model.{k}"] - t).abs().max()) for k, t in fresh.items() if k.startswith("decoder."))
    assert learned > 5e-5, "far more than the two may differ by"
    found = tensors(other)
    assert max(float((expected[name] - found[name]).abs().max()) for name in expected) < 1e-5


def test_one_process_in_parts_trains_the_same_weights(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "one", settings=CONDITIONED)
    train(cohort, tmp_path / "parts", settings=replace(CONDITIONED, accumulate=3))
    assert_same(tmp_path / "one", tmp_path / "parts")


@pytest.mark.slow
def test_two_processes_train_the_same_weights(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "one", settings=CONDITIONED)
    (tmp_path / "two.py").write_text(TWO, encoding="utf-8")
    (tmp_path / "config.json").write_text(recipe.text_of(CONDITIONED), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [str(tmp_path / "two.py"), str(cohort), str(tmp_path / "two"), str(tmp_path / "config.json")]
    here = {**os.environ, "OMP_NUM_THREADS": "1", "CMSSD_DEVICE": "cpu"}
    subprocess.run([*launch, *words], check=True, capture_output=True, timeout=240, env=here)
    assert_same(tmp_path / "one", tmp_path / "two")
    assert len(rows_of(tmp_path / "two")) == 7
    assert json.loads((tmp_path / "two" / "environment.json").read_text(encoding="utf-8"))["processes"] == 2


def test_a_run_folder_is_not_overwritten_without_resume(finished: Path, cohort: Path) -> None:
    with pytest.raises(InputError, match="holds a run already"):
        train(cohort, finished, settings=TINY_RUN)
    with pytest.raises(InputError, match="other settings"):
        train(cohort, finished, settings=replace(TINY_RUN, seed=2), resume=True)


def test_a_run_begun_before_a_setting_was_invented_goes_on(finished: Path, cohort: Path, tmp_path: Path) -> None:
    old = tmp_path / "run"
    shutil.copytree(finished, old)
    config = json.loads((old / "config.json").read_text(encoding="utf-8"))
    (old / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "inputs"}), encoding="utf-8")
    assert run_folder.is_done(old, TINY_RUN, cohorts.read(cohort))
    (old / "weights.safetensors").unlink()
    assert train(cohort, old, settings=TINY_RUN, resume=True) == old / "weights.safetensors"


def test_a_run_goes_on_with_its_own_cases_alone(finished: Path, cohort: Path, tmp_path: Path) -> None:
    table, out = cohorts.read(cohort), tmp_path / "run"
    out.mkdir()
    for name in ("config.json", "cohort.json", "weights.safetensors"):
        shutil.copy(finished / name, out)
    others = {
        "a case less": table.iloc[1:],
        "another order": table.iloc[::-1],
        "another label": table.assign(malignant=1 - table["malignant"]),
        "another split": table.assign(split=["val", *table["split"][1:]]),
        "another fold": use_fold(table.assign(fold=[1.0, 2.0, 3.0, 3.0]), 1, val=True),
    }
    for other in others.values():
        counts = other["split"].value_counts()
        said = f"{counts.get('train', 0)} train and {counts.get('val', 0)} val cases came whose rows are not"
        for going_on in (run_folder.is_done, partial(run_folder.open_run, resume=True)):
            with pytest.raises(InputError, match=said) as mistake:
                going_on(out, TINY_RUN, other)
            assert len(str(mistake.value).splitlines()) == 1
    tested = pd.concat([table, table.assign(split="test")])
    for same in (table, tested, table.assign(fold=2.0, note="the user's own")):
        assert run_folder.is_done(out, TINY_RUN, same)
        run_folder.open_run(out, TINY_RUN, same, resume=True)
    (out / "cohort.json").unlink()  # a run of before its cases were kept
    assert run_folder.is_done(out, TINY_RUN, others["a case less"])
    run_folder.open_run(out, TINY_RUN, table, resume=True)
    assert (out / "cohort.json").read_text() == (finished / "cohort.json").read_text()


def test_a_cohort_without_training_cases_is_refused(cohort: Path, tmp_path: Path) -> None:
    empty = dict.fromkeys((*cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS, "slide"))
    cohorts.read(cohort).assign(split="test", **empty).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match="no row with split = train"):
        train(tmp_path, tmp_path / "run", settings=TINY_RUN)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[1]",
        '{"speed": 1}',
        '{"draw": {"depth": 1}}',
        '{"batch": "x"}',
        '{"batch": true}',
        '{"amp": "fp8"}',
        '{"accumulate": 0}',
        '{"stages": []}',
        '{"loss": {"speed": 1}}',
        '{"loss": {"severity": "5"}}',
        '{"loss": {"weights": {"severity": 5}}}',
        '{"stages": [{"name": "a", "steps": "x", "learning_rate": 1}]}',
    ],
)
def test_a_config_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="does not fit"):
        settings_from(text)


def test_a_config_says_all_of_a_run() -> None:
    run = replace(TINY_RUN, draw=STILL, aggo=False)
    assert settings_from(recipe.text_of(run)) == run


def test_the_loss_of_a_config_is_one_flat_table() -> None:
    told = json.loads(recipe.text_of(replace(TINY_RUN, loss=LossSettings(focal_gamma=0.5, weights={"severity": 3.0}))))
    assert told["loss"] == {"focal_gamma": 0.5, "severity": 3.0}
    read = settings_from(json.dumps({"loss": {"severity": 3, "gate": 0}})).loss
    assert read == LossSettings(weights={"severity": 3.0, "gate": 0.0})
    assert [read.weight(term) for term in ("severity", "gate", "tumour")] == [3.0, 0.0, 1.0]
    assert [LossSettings().weight(term) for term in ("severity", "gate", "tumour")] == [5.0, 2.0, 1.0]


def test_a_config_of_version_0_1_is_read_as_what_it_meant() -> None:
    """Then a stage said "damage_only", and the weight of every term stood in the table."""
    then = {
        "tumour": 1.0, "severity": 5.0, "focal_gamma": 1.0, "lesion": 1.0, "bone": 1.0, "destruction": 1.0,
        "dice": 1.0, "malignant": 1.0, "gate": 2.0, "damage": 1.0,
    }  # fmt: skip
    stage = {"name": "a", "steps": 3, "learning_rate": 1e-3}
    stages = [stage | {"damage_only": True}, stage | {"damage_only": False}]
    read = settings_from(json.dumps({"stages": stages, "loss": then}))
    assert [one.alone for one in read.stages] == ["damage", None]
    assert read.loss == LossSettings()  # so that a run begun then goes on now


def test_the_learning_rate_warms_up_and_falls_as_a_cosine_in_each_stage() -> None:
    stage = Stage(name="a", steps=110, learning_rate=1.0)
    run = TrainSettings(stages=(stage, replace(stage, learning_rate=0.5)), warmup=10)
    assert rate(0, run) == pytest.approx(0.1)
    assert rate(9, run) == 1.0
    assert rate(60, run) == pytest.approx(0.5)
    assert rate(110 + 60, run) == pytest.approx(0.25)
    torch_says = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), T_max=100
    )
    for step in range(10, 110):
        assert rate(step, run) == pytest.approx(torch_says.get_last_lr()[0], abs=1e-6)
        torch_says.optimizer.step()
        torch_says.step()


def test_a_recipe_keeps_its_budget_when_scaled_or_fitted_to_one_modality() -> None:
    run = TrainSettings()
    assert scale_steps(run, 101).steps == 101
    alone = for_needs(run, ("he",), ())
    assert alone.steps == run.steps - run.stages[0].steps  # without the judgement of damage
    assert all(stage.hide != "he" and stage.slow_rate == 1.0 for stage in alone.stages)
    assert alone.draw.modality_dropout == 0.0
    assert for_needs(run, ("mri", "he"), ("mri", "he"), extra_terms=("gate", "damage")) == run
    assert not any(stage.alone for stage in for_needs(run, ("mri", "he"), ("mri", "he")).stages)


def test_every_epoch_shows_every_case_once() -> None:
    run = TrainSettings(batch=4)
    seen = [i for step in range(5) for i in pick_cases(step, 10, run)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def path_of(finished: Path) -> Path:
    return sorted((finished / "prepared").glob("*/*.safetensors"))[0]


def test_what_is_drawn_of_a_case_does_not_depend_on_its_company(finished: Path) -> None:
    paths = sorted((finished / "prepared").glob("*/*.safetensors"))
    alone, _ = _draw(paths, [1], 7, ONE_SLICE, TINY_RUN, spec=SPEC)
    among, _ = _draw(paths, [0, 1, 2], 7, ONE_SLICE, TINY_RUN, spec=SPEC)
    assert torch.equal(alone.inputs["mri"][0], among.inputs["mri"][1])
    assert torch.equal(alone.inputs["he"][0], among.inputs["he"][1])
    later, _ = _draw(paths, [1], 8, ONE_SLICE, TINY_RUN, spec=SPEC)
    assert not torch.equal(alone.inputs["mri"], later.inputs["mri"])


def drawn(sample: Sample, stage: Stage = ONE_SLICE, settings: DrawSettings = STILL, seed: int = 0) -> Sample:
    return draws.draw(sample, stage=stage, settings=settings, rng=np.random.default_rng(seed))


def test_a_whole_sample_is_what_inference_sees(finished: Path, cohort: Path) -> None:
    from cmssd_core.cases.collate import collate
    from cmssd_core.cases.prepare import prepare

    path = path_of(finished)
    row = cohorts.read(cohort).set_index("case_id").loc[path.stem]
    prepared = prepare(cohorts.admit_row(row, cohort), spec=SPEC, settings=Settings(n4=False))
    stored = samples.load(path)
    expected = collate([prepared], SPEC)
    whole = Stage(
        name="all", steps=1, learning_rate=0.0, slices=len(stored["input.mri"]), patches=len(stored["input.he"])
    )
    found, targets = draws.batch_samples([drawn(stored, whole)], (path.stem,), spec=SPEC)
    torch.testing.assert_close(found.inputs["mri"], expected.inputs["mri"], atol=2e-2, rtol=1e-3)  # half precision
    torch.testing.assert_close(found.inputs["he"], expected.inputs["he"], atol=1 / 255, rtol=0)
    assert found.geometry.keys() == expected.geometry.keys()
    for name in found.geometry:
        torch.testing.assert_close(found.geometry[name], expected.geometry[name], atol=1e-3, rtol=0)
    assert targets.masks.keys() == {"tumour", "bone", "lesion", "destruction"}
    assert targets.labels.keys() == {"malignant", "severity_pct"}


def test_a_window_shows_the_same_pixels_of_image_and_masks(finished: Path) -> None:
    stored = samples.load(path_of(finished))
    stored["mask.lesion"] = (stored["input.mri"][:, 0] > 0.5).to(torch.uint8)
    stage = replace(ONE_SLICE, slices=2, crop_px=32)
    for seed in range(5):
        found = drawn(stored, stage, seed=seed)
        assert found["input.mri"].shape[-2:] == (32, 32)
        assert torch.equal(found["mask.lesion"] > 0, found["input.mri"][:, 1, 0] > 0.5)


def hidden(finished: Path, runs: int, settings: TrainSettings) -> float:
    paths: Sequence[Path] = [path_of(finished)]
    batches = [_draw(list(paths), [0], step, ONE_SLICE, settings, spec=SPEC)[0] for step in range(runs)]
    assert all(bool(b.present["mri"] | b.present["he"]) for b in batches)
    return float(np.mean([not bool(b.present["mri"] & b.present["he"]) for b in batches]))


def test_modality_dropout_hides_one_modality_in_the_stated_share_of_batches(finished: Path) -> None:
    assert hidden(finished, 400, replace(TINY_RUN, draw=replace(STILL, modality_dropout=0.15))) == pytest.approx(
        0.15, abs=0.06
    )
    assert hidden(finished, 20, replace(TINY_RUN, draw=STILL)) == 0


def test_contrast_dropout_always_leaves_one_contrast(finished: Path) -> None:
    found = drawn(samples.load(path_of(finished)), settings=replace(STILL, contrast_dropout=1.0))
    assert int(found["input.mri"].flatten(3).any(-1).any(1).any(0).sum()) == 1


def test_a_damaged_prepared_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "synth-1.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="synth-1"):
        samples.load(tmp_path / "synth-1.safetensors")


def test_training_lowers_the_loss(cohort: Path, tmp_path: Path) -> None:
    stage = Stage(name="mri", steps=40, learning_rate=2e-3, hide="he", slices=1, patches=1)
    plain = LossSettings(focal_gamma=0.0)
    run = replace(TINY_RUN, stages=(stage,), batch=4, checkpoint_every=40, draw=STILL, loss=plain)
    train(cohort, tmp_path, settings=run)
    loss = [float(row["bone"]) for row in rows_of(tmp_path)]
    assert np.mean(loss[-8:]) < 0.7 * np.mean(loss[:3])


def test_the_weights_of_a_run_are_the_best_of_its_looks_at_the_validation_split(tmp_path: Path) -> None:
    folder = tiny_cohort(tmp_path / "cohort", cases=6, split="train")
    table = cohorts.read(folder)
    table.assign(split=["train"] * 4 + ["val"] * 2).to_csv(folder / "cohort.csv", index=False)
    stage = replace(ALONE[3], steps=30, learning_rate=0.3)  # far too fast: it soon gets worse
    out = tmp_path / "run"
    train(folder, out, settings=replace(TINY_RUN, size="tiny", stages=(stage,), validate_every=1, patience=1, warmup=1))
    looks = [float(row["validation"]) for row in rows_of(out)]
    best = int(np.argmin(looks))
    assert len(looks) < 30
    assert len(looks) == best + 2  # patience 1: the first look without improvement ends it
    kept = load_file(str(out / "best.safetensors"))
    shipped = load_file(str(out / "weights.safetensors"))
    assert all(torch.equal(kept[name].half(), shipped[name]) for name in kept)


def test_which_slices_are_drawn_does_not_depend_on_the_label(finished: Path) -> None:
    benign = samples.load(path_of(finished))
    malignant = {**benign, "mask.tumour": benign["mask.bone"], "label.malignant": torch.tensor(1.0)}
    for seed in range(20):
        one, other = (drawn(s, replace(ONE_SLICE, slices=2, crop_px=32), seed=seed) for s in (benign, malignant))
        assert torch.equal(one["input.mri"], other["input.mri"])


def test_cases_prepared_for_another_size_or_cohort_are_not_taken_for_these(finished: Path, cohort: Path) -> None:
    from cmssd_core.models.cmssd import SPECS
    from cmssd_core.training.loop import _prepared_as

    table = cohorts.read(cohort)
    names = {
        _prepared_as(table, SPECS["compact"], Settings(n4=False)),
        _prepared_as(table, SPECS["reference"], Settings(n4=False)),
        _prepared_as(table, SPECS["compact"], Settings(n4=True)),
        _prepared_as(table.iloc[:2], SPECS["compact"], Settings(n4=False)),
    }
    assert len(names) == 4
    assert [p.name for p in (finished / "prepared").iterdir()] == [
        _prepared_as(table, SPECS["compact"], Settings(n4=False))
    ]


def test_a_prepared_case_is_made_anew_of_other_files_or_in_another_way(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def prepared(path: Path, key: str, *_: object) -> None:
        made.append(path.stem)
        save_file({"x": torch.zeros(1)}, str(path), metadata={"made_of": key})

    monkeypatch.setattr(samples, "_prepare_row", prepared)
    monkeypatch.setattr(samples, "pool", ThreadPoolExecutor)
    shutil.copytree(cohort, tmp_path / "cohort")
    table = cohorts.read(tmp_path / "cohort")

    def again() -> list[str]:
        made.clear()
        spec = CMSSD("compact").spec
        samples.prepare_cohort(table, tmp_path / "cohort", tmp_path / "kept", spec=spec, settings=Settings())
        return list(made)

    assert again() == table["case_id"].tolist()
    assert again() == []
    mask = tmp_path / "cohort" / table["tumour_mask"][2]  # corrected under the same name
    os.utime(mask, ns=(mask.stat().st_atime_ns, mask.stat().st_mtime_ns + 1000))
    assert again() == [table["case_id"][2]]
    save_file({"x": torch.zeros(1)}, str(tmp_path / "kept" / f"{table['case_id'][1]}.safetensors"))  # of before
    assert again() == [table["case_id"][1]]
    monkeypatch.setattr(samples, "PIPELINE", samples.PIPELINE + 1)
    assert again() == table["case_id"].tolist()


def test_a_run_can_start_from_other_weights(finished: Path, cohort: Path, tmp_path: Path) -> None:
    stage = replace(ONE_SLICE, learning_rate=0.0)
    run = replace(TINY_RUN, stages=(stage,))
    train(cohort, tmp_path / "run", settings=run, init=finished / "weights.safetensors")
    one, other = (load(folder / "weights.safetensors")[0].state_dict() for folder in (finished, tmp_path / "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(InputError, match="holds cmssd-compact, expected cmssd-reference"):
        train(
            cohort,
            tmp_path / "other",
            settings=replace(run, size="reference"),
            init=finished / "weights.safetensors",
        )


def test_a_run_may_read_the_pixels_of_another_size(cohort: Path, tmp_path: Path) -> None:
    """The weights say so, and so what reads them prepares the same pixels."""
    other = replace(TINY_RUN, stages=ALONE[:1], inputs="reference")
    _, info, _ = load(train(cohort, tmp_path / "run", settings=other))
    assert info.name == "cmssd-compact"
    assert info.spec == CMSSD("reference").spec != CMSSD("compact").spec
    for size in ("huge", "tiny"):  # the one there is not, the other reads fewer contrasts
        with pytest.raises(InputError, match=f"inputs came as {size}, expected a size of cmssd that reads t1, t2"):
            train(cohort, tmp_path / size, settings=replace(TINY_RUN, inputs=size))
        assert not (tmp_path / size).exists()
