"""What adapted weights know before they look: a frame by hand, when it is used, and that it says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmssd_core import adapted, one_modality, segment
from cmssd_core import cohort as cohorts
from cmssd_core.adapted import GRID, Adapted
from cmssd_core.config import Settings
from cmssd_core.models import MODELS
from cmssd_core.types import InputError, Volume
from cmssd_core.weights_file import WeightsInfo, load, save

QUICK = Settings(n4=False, device="cpu")


def test_a_frame_is_the_mean_of_masks_and_their_mirror_images() -> None:
    corner = np.zeros(GRID, dtype=bool)
    corner[0, 0, 0] = True
    none = np.zeros(GRID, dtype=bool)
    frame = adapted.frame_of([corner, none])
    ends = [frame[z, y, x] for z in (0, -1) for y in (0, -1) for x in (0, -1)]
    assert ends == pytest.approx([1 / 16] * 8)  # half the masks, an eighth at each corner
    assert frame.sum() == pytest.approx(0.5)


def test_a_mask_stretched_over_its_frame_keeps_its_place() -> None:
    mask = np.zeros((20, 60, 90), dtype=bool)
    mask[5:15, 15:45, 30:60] = True
    back = adapted.stretched(adapted.frame_of([mask]), mask.shape) >= 0.5
    assert segment.dice(back, mask) > 0.95


@given(st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_joined_odds_are_bayes_rule(p: float, q: float) -> None:
    found = adapted.joined(np.array([p]), adapted.log_odds(np.array([q])))[0]
    p, q = np.clip(p, 1e-4, 1 - 1e-4), np.clip(q, adapted.LEAST, 1 - adapted.LEAST)
    assert found == pytest.approx(p * q / (p * q + (1 - p) * (1 - q)), abs=1e-5)


def block(*, air: dict[str, int], size: int = 80, mm: float = 1.5) -> Volume:
    """A block of body with so much air at its left, right, top and bottom."""
    body = np.zeros((8, size, size), np.float32)
    rows = slice(air.get("top", 0), size - air.get("bottom", 0))
    columns = slice(air.get("left", 0), size - air.get("right", 0))
    rng = np.random.default_rng(0)
    body[:, rows, columns] = 100 + 20 * rng.random(body[:, rows, columns].shape)
    return Volume(body[None], np.diag([mm, mm, 5.0, 1.0]), ("t1",))


def test_a_scan_is_cut_where_the_body_leaves_it_both_ways() -> None:
    around = {"left": 10, "right": 10, "top": 10, "bottom": 10}
    assert not adapted.is_cut(block(air=around))
    assert not adapted.is_cut(block(air={**around, "top": 0, "bottom": 0}))  # a long bone, sagittal
    assert adapted.is_cut(block(air={**around, "top": 0, "right": 0}))
    assert adapted.is_cut(block(air={"left": 10}))
    assert not adapted.is_cut(block(air={"left": 10}, mm=5.0))  # a whole trunk


@pytest.fixture(scope="module")
def cut_pairs(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four synthetic scans cut close around the tumour, as pairs; the first twice, once as T2."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, (_, row) in enumerate(cohorts.read(cohort).iterrows()):
        mask = nibabel.load(cohort / row["bone_mask"])
        where = [np.flatnonzero(np.asarray(mask.dataobj).any(tuple({0, 1, 2} - {a}))) for a in range(2)]
        box = tuple(slice(int(w.min()), int(w.max()) + 1) for w in where)
        for role, file in (("image", row["mri_t1"]), ("mask", row["bone_mask"])):
            whole = nibabel.load(cohort / file)
            cut = nibabel.Nifti1Image(np.asarray(whole.dataobj)[box], whole.affine)
            nibabel.save(cut, folder / f"P{number}_t1_{role}.nii.gz")
    for role in ("image", "mask"):
        shutil.copy(folder / f"P0_t1_{role}.nii.gz", folder / f"P9_t2_{role}.nii.gz")
    return folder


def known_beside(weights: Path, folder: Path) -> Path:
    """Weights drawn at random, with a frame that knows the middle and has learned from P1."""
    torch.manual_seed(0)
    model = MODELS["cmssd"]("compact")
    save(model, weights, info=WeightsInfo(model="cmssd", size="compact", trained="not trained", spec=model.spec))
    row = segment.pairs(folder).set_index("case_id").loc["P1"]
    truth = cohorts.admit_row(row.rename("P1").to_frame().T.assign(case_id="P1").iloc[0], folder).truth.tumour
    frame = np.full(GRID, 0.01, np.float32)
    frame[:, 8:24, 8:24] = 0.9
    left = Adapted(
        frame=frame, contrast="t1", learned_from=(adapted.fingerprint(truth),), model_id=load(weights)[2]
    )  # fmt: skip
    adapted.save(left, adapted.path_of(weights))
    return weights


def test_the_frame_is_used_and_said_with_the_figure_without_it(cut_pairs: Path, tmp_path: Path) -> None:
    weights = known_beside(tmp_path / "w.safetensors", cut_pairs)
    told = one_modality.evaluate(cut_pairs, tmp_path / "out", kind="pairs", weights=weights, settings=QUICK)
    kept = json.loads((tmp_path / "out/metrics.json").read_text())
    assert kept["dice_image_alone"]["n"] == kept["dice"]["n"] == 5
    assert kept["dice"]["value"] != kept["dice_image_alone"]["value"]
    by_name = {case["case_id"]: case for case in told["cases"]}
    assert all(case["cut"] for case in told["cases"])
    assert [name for name, case in by_name.items() if case["learned_from"]] == ["P1"]
    assert [name for name, case in by_name.items() if case["other_contrast"]] == ["P9"]
    words = "\n".join(one_modality.in_words(told))
    page = (tmp_path / "out/evaluation.html").read_text()
    for said in ("1 of 5 scans are among those", "5 of 5 scans look cut", "1 of 5 scans have no t1"):
        assert said in words
        assert said in page


def test_a_whole_limb_is_read_without_a_frame(cohort: Path, cut_pairs: Path, tmp_path: Path) -> None:
    weights = known_beside(tmp_path / "w.safetensors", cut_pairs)
    for number, (_, row) in enumerate(cohorts.read(cohort).iterrows()):
        for role, column in (("image", "mri_t1"), ("mask", "bone_mask")):
            shutil.copy(cohort / row[column], tmp_path / f"Q{number}_t1_{role}.nii.gz")
    told = segment.evaluate(tmp_path, weights, program=QUICK)
    assert not any(case["cut"] for case in told["cases"])
    assert told["dice"] == told["dice_image_alone"]
    assert told["remarks"] == []


def test_what_belongs_to_other_weights_or_is_damaged_is_refused(cut_pairs: Path, tmp_path: Path) -> None:
    weights = known_beside(tmp_path / "w.safetensors", cut_pairs)
    beside = adapted.path_of(weights)
    assert adapted.load(tmp_path / "none", model_id="any") is None
    with pytest.raises(InputError, match=r"belongs to cmssd-compact-.*, the weights are other"):
        adapted.load(beside, model_id="other")
    beside.write_bytes(beside.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be read"):
        segment.evaluate(cut_pairs, weights, program=QUICK)
