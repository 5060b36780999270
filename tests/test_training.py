"""Training: learns, survives a kill at any moment, resumes bit-exact, refuses what it cannot train on."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cmssd_core import cohort as cohorts
from cmssd_core import samples
from cmssd_core.config import Settings
from cmssd_core.models.cmssd import CMSSD
from cmssd_core.training import CHECKPOINT, TrainSettings, rate, settings_from, train
from cmssd_core.types import InputError
from cmssd_core.weights_file import load

TINY_RUN = TrainSettings(
    steps=6,
    batch=2,
    checkpoint_every=2,
    warmup=2,
    n4=False,
    pretrain_he=1,
    pretrain_mri=1,
    draw=samples.DrawSettings(slices=1, patches=1),
    threads=2,
)
CONFIG = json.dumps(
    {
        "steps": 6,
        "batch": 2,
        "checkpoint_every": 2,
        "warmup": 2,
        "n4": False,
        "pretrain_he": 1,
        "pretrain_mri": 1,
        "threads": 2,
        "draw": {"slices": 1, "patches": 1},
    }
)


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(cohort, out, settings=TINY_RUN)
    return out


def tensors(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(str(out / CHECKPOINT))


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    assert {"config.json", "metrics.csv", "weights.safetensors", CHECKPOINT} <= {p.name for p in finished.iterdir()}
    rows = list(csv.DictReader((finished / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(6))
    _, info, _ = load(finished / "weights.safetensors")
    assert info.trained == "4 synthetic cases (preset paper), research use only"


def test_a_run_killed_at_any_moment_resumes_bit_exact(finished: Path, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    command = [sys.executable, "-m", "cmssd_core.cli", "train", str(cohort), "--config", str(tmp_path / "config.json")]
    command += ["--size", "compact", "--out", str(tmp_path / "run")]
    environment = {"PATH": "/usr/bin:/bin"}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / CHECKPOINT).exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert (tmp_path / "run" / CHECKPOINT).exists()
    subprocess.run([*command, "--resume"], env=environment, check=True, capture_output=True)
    expected, found = tensors(finished), tensors(tmp_path / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(6))


def test_a_run_folder_is_not_overwritten_without_resume(finished: Path, cohort: Path) -> None:
    with pytest.raises(InputError, match="holds a run already"):
        train(cohort, finished, settings=TINY_RUN)
    with pytest.raises(InputError, match="other settings"):
        train(cohort, finished, settings=replace(TINY_RUN, seed=2), resume=True)


def test_a_cohort_without_training_cases_is_refused(cohort: Path, tmp_path: Path) -> None:
    empty = dict.fromkeys((*cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS, "slide"))
    cohorts.read(cohort).assign(split="test", **empty).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match="no row with split = train"):
        train(tmp_path, tmp_path / "run", settings=TINY_RUN)


@pytest.mark.parametrize(
    "text",
    ["not json", '{"speed": 1}', '{"draw": {"depth": 1}}', "[1]", '{"steps": "x"}', '{"steps": 5, "pretrain_he": 9}'],
)
def test_a_config_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="does not fit"):
        settings_from(text)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    run = TrainSettings(steps=110, warmup=10, learning_rate=1.0, pretrain_he=0, pretrain_mri=0)
    assert rate(0, run) == pytest.approx(0.1)
    assert rate(9, run) == 1.0
    assert rate(60, run) == pytest.approx(0.5)
    torch_says = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), T_max=100
    )
    for step in range(10, 110):
        assert rate(step, run) == pytest.approx(torch_says.get_last_lr()[0], abs=1e-6)
        torch_says.optimizer.step()
        torch_says.step()


def sample(finished: Path) -> samples.Sample:
    return samples.load(sorted((finished / "prepared").glob("*/*.safetensors"))[0])


def test_what_a_step_draws_depends_on_seed_and_step_alone(finished: Path) -> None:
    one, other = (
        samples.draw([sample(finished)], ("a",), rng=np.random.default_rng([1, 7]), settings=samples.DrawSettings())
        for _ in range(2)
    )
    assert torch.equal(one[0].inputs["mri"], other[0].inputs["mri"])
    assert torch.equal(one[0].inputs["he"], other[0].inputs["he"])
    assert torch.equal(one[1].tumour, other[1].tumour)


def test_a_whole_sample_is_what_inference_sees(finished: Path, cohort: Path) -> None:
    from cmssd_core.cases import collate, prepare

    spec = CMSSD("compact").spec
    path = sorted((finished / "prepared").glob("*/*.safetensors"))[0]
    row = cohorts.read(cohort).set_index("case_id").loc[path.stem]
    prepared = prepare(cohorts.admit_row(row, cohort), spec=spec, settings=Settings(n4=False))
    stored = samples.load(path)
    still = samples.DrawSettings(
        slices=len(stored["mri"]),
        patches=len(stored["he"]),
        modality_dropout=0,
        contrast_dropout=0,
        site_dropout=0,
        gain=0,
        shift=0,
        stain=0,
        mirror=False,
    )
    expected = collate([prepared], spec)
    found, _ = samples.draw([stored], (path.stem,), rng=np.random.default_rng(0), settings=still)
    torch.testing.assert_close(found.inputs["mri"], expected.inputs["mri"], atol=2e-2, rtol=1e-3)  # half precision
    torch.testing.assert_close(found.inputs["he"], expected.inputs["he"], atol=1 / 255, rtol=0)
    torch.testing.assert_close(found.site_voxel, expected.site_voxel, atol=1e-3, rtol=0)
    assert bool(found.present["site"]) == bool(expected.present["site"])


def test_modality_dropout_hides_one_modality_in_the_stated_share_of_batches(finished: Path) -> None:
    settings = samples.DrawSettings(slices=1, patches=1)
    hidden = []
    for step in range(400):
        batch, _ = samples.draw([sample(finished)], ("a",), rng=np.random.default_rng(step), settings=settings)
        assert bool(batch.present["mri"] | batch.present["he"])
        hidden.append(not bool(batch.present["mri"] & batch.present["he"]))
    assert np.mean(hidden) == pytest.approx(0.15, abs=0.06)


def test_contrast_dropout_always_leaves_one_contrast(finished: Path) -> None:
    settings = samples.DrawSettings(slices=1, patches=1, contrast_dropout=1.0, modality_dropout=0)
    batch, _ = samples.draw([sample(finished)], ("a",), rng=np.random.default_rng(0), settings=settings)
    assert int(batch.inputs["mri"].flatten(4).any(-1).any(2).sum()) == 1


def test_a_damaged_prepared_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "synth-1.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="synth-1"):
        samples.load(tmp_path / "synth-1.safetensors")


def test_training_lowers_the_loss(cohort: Path, tmp_path: Path) -> None:
    run = replace(TINY_RUN, steps=40, batch=4, checkpoint_every=40, learning_rate=2e-3, pretrain_he=0, pretrain_mri=0)
    train(cohort, tmp_path, settings=run)
    rows = [row for row in csv.DictReader((tmp_path / "metrics.csv").open()) if row["tumour"]]
    loss = [float(row["bone"]) for row in rows]
    assert np.mean(loss[-8:]) < 0.7 * np.mean(loss[:8])


def test_which_slices_are_drawn_does_not_depend_on_the_label(finished: Path) -> None:
    benign = sample(finished)
    malignant = {**benign, "tumour": benign["bone"], "malignant": torch.tensor(1.0)}
    for step in range(20):
        drawn = [
            samples.draw([s], ("a",), rng=np.random.default_rng(step), settings=samples.DrawSettings(slices=2))[0]
            for s in (benign, malignant)
        ]
        assert torch.equal(drawn[0].inputs["mri"], drawn[1].inputs["mri"])


def test_cases_prepared_for_another_size_or_cohort_are_not_taken_for_these(finished: Path, cohort: Path) -> None:
    from cmssd_core.models.cmssd import SPECS
    from cmssd_core.training import _prepared_as

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


def test_a_run_can_start_from_other_weights(finished: Path, cohort: Path, tmp_path: Path) -> None:
    run = replace(TINY_RUN, steps=1, pretrain_he=0, pretrain_mri=0, learning_rate=0.0)
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
