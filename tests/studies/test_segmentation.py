"""Segmentation alone: pairs are found as people lay them out, maps become masks, masks figures with intervals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score, jaccard_score
from torch import nn

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.pairs import are_pairs, find_pairs
from cmssd_core.config import Settings
from cmssd_core.models import MODELS
from cmssd_core.models.weights import WeightsInfo, save
from cmssd_core.studies import segmentation as segment
from cmssd_core.types import InputError

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
    table = find_pairs(lay_out(cohort, tmp_path, layout))
    assert table["case_id"].tolist() == [f"STS_00{n}" for n in range(4)]
    assert list(table.columns) == list(cohorts.COLUMNS)
    case = cohorts.admit_row(table.iloc[0], tmp_path)
    assert case.truth.masks["tumour"].any()
    cohorts.write_table(table, tmp_path / "cohort.csv")
    assert cohorts.read(tmp_path)["mri_t1"].tolist() == table["mri_t1"].tolist()


def test_ct_and_images_without_a_mask_are_passed_over(cohort: Path, tmp_path: Path) -> None:
    folder = lay_out(cohort, tmp_path, "a folder a patient")
    (folder / "STS_000/MR_T1_mask.nii.gz").unlink()
    for kind in ("image", "mask"):
        shutil.copy(folder / "STS_001/MR_T1_image.nii.gz", folder / f"STS_001/CT_{kind}.nii.gz")
    table = find_pairs(folder)
    assert table["case_id"].tolist() == ["STS_001", "STS_002", "STS_003"]
    assert table["ct"].isna().all()
    assert table["tumour_mask"].iloc[0] == "STS_001/MR_T1_mask.nii.gz"


def test_no_pair_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no MRI with a mask; expected .*; rename"):
        find_pairs(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        find_pairs(tmp_path / "nowhere")


def test_pairs_are_scored_with_intervals_over_patients(cohort: Path, weights: Path, tmp_path: Path) -> None:
    folder = lay_out(cohort, tmp_path, "a folder a patient")
    found = segment.evaluate(folder, weights, program=QUICK)
    json.dumps(found, allow_nan=False)
    assert are_pairs(folder)
    assert not are_pairs(cohort)
    assert "(0." in segment.in_words(found)[-3]
    assert found["kind"] == "segmentation"
    assert found["dice"]["n"] == 4
    dices = [case["dice"] for case in found["cases"]]
    assert found["dice"]["value"] == pytest.approx(np.mean(dices))
    for name in ("dice", "iou"):
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 1
    keys = {"kind", "model_id", "trained", "dice", "iou", "hd95_mm", "remarks", "cases", "refused"}
    assert set(found) == keys
    assert set(found["cases"][0]) == {"case_id", "patient_id", "dice", "iou", "hd95_mm", "ml_found", "ml_true"}


def test_scans_with_masks_are_scored_by_named_weights_alone(cohort: Path, weights: Path, tmp_path: Path) -> None:
    folder = lay_out(cohort, tmp_path, "a folder a patient")
    with pytest.raises(InputError, match=r"no weights came for scans .*; pass the weights to score") as refusal:
        segment.evaluate(folder, program=QUICK)
    assert "--" not in str(refusal.value)
    by_setting = segment.evaluate(folder, program=QUICK.model_copy(update={"weights": weights}))
    assert by_setting == segment.evaluate(folder, weights, program=QUICK)


def test_a_mask_is_scored_as_scikit_learn_scores_its_voxels(cohort: Path) -> None:
    case = cohorts.admit_row(cohorts.read(cohort).iloc[0], cohort)
    truth, volume = case.truth.masks["bone"], case.inputs["mri"]
    found = np.roll(truth, 2, axis=2)
    scores = segment.overlap(found, truth, volume)
    assert scores["dice"] == pytest.approx(f1_score(truth.ravel(), found.ravel()))
    assert scores["iou"] == pytest.approx(jaccard_score(truth.ravel(), found.ravel()))
    assert scores["ml_true"] == pytest.approx(truth.sum() * np.prod(volume.spacing_mm) / 1000)


def test_a_map_mirrored_back_lies_where_it_lay(cohort: Path, weights: Path) -> None:
    """A network that says what it sees in one pixel gives the same map through mirrors."""
    from cmssd_core.inference import predict as inference

    predictor = inference.load(weights, settings=QUICK)

    class Pixelwise(nn.Module):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            from cmssd_core.types import ModelOutput

            logits = batch.inputs["mri"][:, :, 1, 0]
            return ModelOutput(heads={"tumour": logits})

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
