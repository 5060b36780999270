"""What cropping gives away: the mean mask by hand, a cut that moves the tumour off the middle, each patient once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cmssd_core.cohort import table as cohorts
from cmssd_core.models.weights import DEFAULT
from experiments import real_mri


def test_a_mean_mask_is_the_mean_of_masks_and_their_mirror_images() -> None:
    corner = np.zeros(real_mri.GRID, dtype=bool)
    corner[0, 0, 0] = True
    none = np.zeros(real_mri.GRID, dtype=bool)
    mean = real_mri.mean_mask([corner, none])
    ends = [mean[z, y, x] for z in (0, -1) for y in (0, -1) for x in (0, -1)]
    assert ends == pytest.approx([1 / 16] * 8)  # half the masks, an eighth at each corner
    assert mean.sum() == pytest.approx(0.5)


def test_a_mask_stretched_over_its_frame_keeps_its_place() -> None:
    mask = np.zeros((20, 60, 90), dtype=bool)
    mask[5:15, 15:45, 30:60] = True
    back = real_mri.stretched(real_mri.mean_mask([mask]), mask.shape) >= 0.5
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.95


@pytest.fixture(scope="module")
def pairs(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for number, (_, row) in enumerate(cohorts.read(cohort).iterrows()):
        shutil.copy(cohort / row["mri_t1"], folder / f"P{number}_t1_image.nii.gz")
        shutil.copy(cohort / row["lesion_mask"], folder / f"P{number}_t1_mask.nii.gz")
    return folder


def test_an_off_centre_cut_keeps_the_tumour_in_its_place_in_space(pairs: Path) -> None:
    for case in real_mri.cases_of(pairs).values():
        cut = real_mri.off_centre(case)
        ends = []
        for each in (case, cut):
            z, y, x = ndimage.center_of_mass(each.truth.masks["tumour"])
            ends.append(each.inputs["mri"].affine @ [x, y, z, 1])
        np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
        assert cut.truth.masks["tumour"].sum() == case.truth.masks["tumour"].sum()
        assert cut.inputs["mri"].voxels.shape[1:] == cut.truth.masks["tumour"].shape
        assert cut.truth.masks["tumour"].size < case.truth.masks["tumour"].size


def test_each_arm_is_scored_once_a_patient_and_goes_on_after_a_stop(pairs: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    real_mri.run(pairs, DEFAULT, out, arms=list(real_mri.ARMS), patients=["P0"])
    first = {path: path.stat().st_mtime_ns for path in out.glob("mri/*/*.json")}
    assert len(first) == 2
    real_mri.run(pairs, DEFAULT, out, arms=["prior"], patients=[])
    assert len(list(out.glob("mri/prior-mirrored/*.json"))) == 4
    assert all(path.stat().st_mtime_ns == when for path, when in first.items())
    dices = [json.loads(path.read_text())["dice"] for path in out.glob("mri/prior-mirrored/*.json")]
    rows = [line for line in real_mri.table(out).splitlines() if line.startswith("| prior")]
    assert f"| {np.mean(dices):.2f} (" in rows[0]
