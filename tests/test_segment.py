"""Segmentation alone: pairs are found as people lay them out, maps become masks, masks figures with intervals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cmssd_core import cohort as cohorts
from cmssd_core import segment
from cmssd_core.config import Settings
from cmssd_core.finetune import FineTuneSettings, Scan, draw, fine_tune
from cmssd_core.models import MODELS
from cmssd_core.types import InputError
from cmssd_core.weights_file import WeightsInfo, save

QUICK = Settings(n4=False, device="cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = MODELS["cmssd"]("compact")
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save(model, path, info=WeightsInfo(model="cmssd", size="compact", trained="not trained", spec=model.spec))
    return path


LAYOUTS = {
    "a folder a patient": ("{n}/MR_T1_image.nii.gz", "{n}/MR_T1_mask.nii.gz"),
    "all in one folder": ("{n}_image.nii.gz", "{n}_mask.nii.gz"),
    "decathlon": ("imagesTr/{n}.nii.gz", "labelsTr/{n}.nii.gz"),
    "nnU-Net": ("imagesTr/{n}_0000.nii.gz", "labelsTr/{n}.nii.gz"),
    "only the mask says so": ("{n}.nii.gz", "{n}_seg.nii.gz"),
}


def lay_out(cohort: Path, folder: Path, layout: str) -> Path:
    for _, row in cohorts.read(cohort).iterrows():
        for pattern, column in zip(LAYOUTS[layout], ("mri_t1", "bone_mask"), strict=True):
            place = folder / pattern.format(n=str(row["case_id"]).replace("synth-0000", "STS_00"))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(cohort / row[column], place)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_found_as_people_lay_them_out(layout: str, cohort: Path, tmp_path: Path) -> None:
    table = segment.pairs(lay_out(cohort, tmp_path, layout))
    assert table["case_id"].tolist() == [f"STS_00{n}" for n in range(4)]
    assert list(table.columns) == list(cohorts.COLUMNS)
    case = cohorts.admit_row(table.iloc[0], tmp_path)
    assert case.truth.tumour is not None
    assert case.truth.tumour.any()
    cohorts.write_table(table, tmp_path / "cohort.csv")
    assert cohorts.read(tmp_path)["mri_t1"].tolist() == table["mri_t1"].tolist()


def test_ct_and_images_without_a_mask_are_passed_over(cohort: Path, tmp_path: Path) -> None:
    folder = lay_out(cohort, tmp_path, "a folder a patient")
    (folder / "STS_000/MR_T1_mask.nii.gz").unlink()
    for kind in ("image", "mask"):
        shutil.copy(folder / "STS_001/MR_T1_image.nii.gz", folder / f"STS_001/CT_{kind}.nii.gz")
    table = segment.pairs(folder)
    assert table["case_id"].tolist() == ["STS_001", "STS_002", "STS_003"]
    assert table["ct"].isna().all()
    assert table["tumour_mask"].iloc[0] == "STS_001/MR_T1_mask.nii.gz"


def test_no_pair_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no MRI with a mask; expected .*; rename"):
        segment.pairs(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        segment.pairs(tmp_path / "nowhere")


def test_pairs_are_scored_with_intervals_over_patients(cohort: Path, weights: Path, tmp_path: Path) -> None:
    folder = lay_out(cohort, tmp_path, "a folder a patient")
    found = segment.evaluate(folder, weights, program=QUICK)
    json.dumps(found, allow_nan=False)
    assert segment.are_pairs(folder)
    assert not segment.are_pairs(cohort)
    assert "(0." in segment.in_words(found)[-3]
    assert found["kind"] == "segmentation"
    assert found["dice"]["n"] == 4
    dices = [case["dice"] for case in found["cases"]]
    assert found["dice"]["value"] == pytest.approx(np.mean(dices))
    for name in ("dice", "iou"):
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 1


def test_a_map_mirrored_back_lies_where_it_lay(cohort: Path, weights: Path) -> None:
    """A network that says what it sees in one pixel gives the same map through mirrors."""
    from cmssd_core import inference

    predictor = inference.load(weights, settings=QUICK)

    class Pixelwise(nn.Module):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            from cmssd_core.types import ModelOutput

            logits = batch.inputs["mri"][:, :, 1, 0]
            return ModelOutput(logits, None, logits.new_zeros(len(logits)), None)

    from dataclasses import replace

    seer = replace(predictor, model=Pixelwise())
    case = cohorts.admit_row(cohorts.read(cohort).iloc[0], cohort)
    one, other = (segment.tumour_map(case, seer, program=QUICK, mirrored=m) for m in (False, True))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert one.std() > 0.01


def test_the_largest_piece_is_kept_and_filled() -> None:
    probability = np.zeros((4, 12, 12), dtype=np.float32)
    probability[1:3, 1:7, 1:7] = 0.9
    probability[1:3, 3, 3] = 0.1
    probability[2, 10, 10] = 0.9
    whole = segment.mask_of(probability, settings=segment.SegmentSettings(largest=False))
    assert whole.sum() == 2 * 36 - 2 + 1
    probability[0, 3, 3] = probability[3, 3, 3] = 0.9  # the hole is closed above and below
    kept = segment.mask_of(probability, settings=segment.SegmentSettings())
    assert kept.sum() == 2 * 36 + 2
    assert not segment.mask_of(probability * 0, settings=segment.SegmentSettings()).any()


def test_the_interval_over_patients_is_students() -> None:
    values = [0.2, 0.5, 0.6, 0.9, 0.4]
    figure = segment.patient_mean(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (figure.value, figure.low, figure.high) == pytest.approx((np.mean(values), low, high))
    assert segment.patient_mean([0.9, 0.1]).low is None


def disc(n: int, *, shift: int = 0) -> Scan:
    y, x = np.mgrid[:32, :32]
    mask = np.stack([(y - 16 - shift) ** 2 + (x - 14) ** 2 < 36] * n)
    mask[0] = False
    image = torch.tensor(np.where(mask, 2.0, -0.5), dtype=torch.float32)
    return Scan(image, torch.tensor(mask), torch.where(torch.tensor(mask), 3.0, -2.0))


STILL = FineTuneSettings(gamma=0, shade=0, noise=0, slices=8)


def test_masks_move_with_their_images() -> None:
    for seed in range(8):
        images, masks, known = draw([disc(5), disc(5, shift=4)], rng=np.random.default_rng(seed), settings=STILL)
        assert images.shape[0] * images.shape[1] == 8
        assert images.shape[2] == 3
        for case_images, case_masks in zip(images, masks, strict=True):
            bright = case_images[:, 1]
            middle = (bright.max() + bright.min()) / 2
            if case_masks.any():
                assert ((bright > middle) != (case_masks > 0.5)).float().mean() < 0.02
        assert ((known > 0.5) != (masks > 0.5)).float().mean() < 0.02


def test_what_a_step_draws_depends_on_its_generator_alone() -> None:
    scans = [disc(5), disc(7)]
    one, other = (draw(scans, rng=np.random.default_rng(4), settings=FineTuneSettings()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_fine_tuning_learns_a_bright_disc() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def drawer(slices: torch.Tensor) -> torch.Tensor:
        return network(slices.flatten(0, 1)).unflatten(0, slices.shape[:2])[:, :, 0]

    steps = FineTuneSettings(steps=80, warmup=5, learning_rate=0.02, gamma=0.1, shade=0.05)
    curve = fine_tune(network, drawer, [disc(5), disc(6, shift=3)], settings=steps)
    assert len(curve) == 80
    assert np.mean(curve[-10:]) < 0.5 * np.mean(curve[:5])
    assert not network.training


def test_what_one_fine_tunes_is_the_map_one_scores(cohort: Path, weights: Path) -> None:
    from cmssd_core import inference
    from cmssd_core.cases import collate, prepare
    from cmssd_core.types import Case

    predictor = inference.load(weights, settings=QUICK)
    whole = cohorts.admit_row(cohorts.read(cohort).iloc[0], cohort)
    volume = cohorts.admit_row(cohorts.read(cohort).iloc[0][["case_id", "mri_t1"]], cohort).inputs["mri"]
    prepared = prepare(Case(whole.id, {"mri": volume}), spec=predictor.spec, settings=QUICK)
    batch = collate([prepared], predictor.spec)
    with torch.inference_mode():
        scored = segment.disease(predictor.model(batch))
        taught = segment.drawer(predictor.model, contrast="t1")(batch.inputs["mri"][:, :, :, 0])
    torch.testing.assert_close(scored, taught, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="ct came, the model reads"):
        segment.drawer(predictor.model, contrast="ct")
