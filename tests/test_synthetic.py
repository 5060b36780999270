"""Laws of the synthetic cohort: same seed same bytes, known oracles, masks that mean what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY, tiny_cohort

from cmssd_core.synthetic.cohort import write
from cmssd_core.synthetic.fields import gaussian_field
from cmssd_core.synthetic.histology import section
from cmssd_core.synthetic.latents import PREVALENCE, Latent, draw, oracles
from cmssd_core.synthetic.phantom import TISSUE, ScanSettings, scan
from cmssd_core.types import InputError

SMALL = ScanSettings(shape=(8, 48, 48), in_plane_mm=3.0, slice_mm=8.0)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(cohort: Path, tmp_path: Path) -> None:
    again = tiny_cohort(tmp_path / "again", split="train")
    assert files(again) == files(cohort)
    other = tiny_cohort(tmp_path / "other", split="train", cases=1, seed=6)
    assert (other / "cases/synth-00000/t1.nii.gz").read_bytes() != (cohort / "cases/synth-00000/t1.nii.gz").read_bytes()


def test_a_killed_run_goes_on_and_gives_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    folder = tiny_cohort(tmp_path / "c", split="train")
    for name in ("cohort.csv", "synth.json"):
        (folder / name).unlink()
    for path in (folder / "cases/synth-00002").iterdir():
        path.unlink()
    (folder / "cases/synth-00002").rmdir()
    left = folder / "cases/.synth-00002.1"  # what a killed process leaves
    left.mkdir()
    (left / "t1.nii.gz").write_bytes(b"half")
    tiny_cohort(folder, split="train")
    made = {name: content for name, content in files(folder).items() if "/." not in name}
    assert made == files(cohort)


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    tiny_cohort(tmp_path, cases=1)
    with pytest.raises(InputError, match="other settings"):
        write(tmp_path, settings=replace(TINY, cases=2))


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "easy"},
        {"cases": 0},
        {"seed": -1},
        {"split": "exam"},
        {"scan": replace(TINY.scan, contrasts=("dwi",))},
    ],
)
def test_impossible_settings_are_refused_with_a_sentence(change: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected"):
        write(tmp_path / "x", settings=replace(TINY, **change))
    assert not (tmp_path / "x").exists()


def test_no_workers_or_a_file_in_the_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 workers came"):
        write(tmp_path / "x", settings=TINY, workers=0)
    (tmp_path / "x").write_text("a file")
    with pytest.raises(InputError, match="x is a file, expected a folder"):
        write(tmp_path / "x", settings=TINY)


def test_an_oracle_of_one_class_is_none(tmp_path: Path) -> None:
    benign = Latent(False, 0.2, 0.2, 0.5, 30.0)
    assert oracles([benign, benign]) == {"auc_mri": None, "auc_he": None, "auc_both": None}
    tiny_cohort(tmp_path, cases=1)
    assert json.loads((tmp_path / "synth.json").read_text())["oracle"]["auc_both"] is None
    assert "NaN" not in (tmp_path / "synth.json").read_text()


def test_the_oracles_reach_the_papers_single_modality_figures() -> None:
    """Seed 000, section 3.6: AUC 0.941 from MRI, 0.963 from H&E; both together always know."""
    rng = np.random.default_rng(0)
    latents = [draw("paper", rng) for _ in range(40_000)]
    found = oracles(latents)
    assert found["auc_mri"] == pytest.approx(0.941, abs=0.006)
    assert found["auc_he"] == pytest.approx(0.963, abs=0.006)
    assert found["auc_both"] == 1.0
    assert np.mean([latent.malignant for latent in latents]) == pytest.approx(PREVALENCE, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.floats(0, 1), st.sampled_from([0.2, 0.9]))
def test_tumour_is_malignant_tissue_only_and_severity_follows_equation_4(
    seed: int, malignant: bool, size: float, sign: float
) -> None:
    aggressive = sign if malignant else 0.2
    body = scan(Latent(malignant, aggressive, 0.2, size, 12.0), settings=SMALL, rng=np.random.default_rng(seed))
    assert body.bone.any()
    assert body.tumour.any() <= malignant
    assert body.severity_pct == pytest.approx(100 * (body.tumour & body.bone).sum() / body.bone.sum())
    assert body.destruction.any() <= (aggressive > 0.5)
    assert not (body.destruction & ~body.bone).any()
    if malignant and aggressive < 0.5:  # hidden on MRI: nothing beyond the envelope
        assert not (body.tumour & ~body.bone).any()
    for image in body.images.values():
        assert np.isfinite(image).all()
        assert image.min() >= 0


def test_a_hidden_malignancy_looks_exactly_like_a_benign_lesion_on_the_mri() -> None:
    def images(malignant: bool) -> dict:
        return scan(Latent(malignant, 0.3, 0.9, 0.5, 30.0), settings=SMALL, rng=np.random.default_rng(3)).images

    for contrast, image in images(True).items():
        np.testing.assert_array_equal(image, images(False)[contrast])


def test_osteoid_shows_only_where_the_slide_has_the_sign() -> None:
    rng = np.random.default_rng(2)
    assert not section(Latent(True, 0.9, 0.3, 0.5, 30), size_px=256, rng=rng).osteoid.any()
    assert section(Latent(True, 0.3, 0.9, 0.5, 30), size_px=256, rng=rng).osteoid.mean() > 0.01


def test_fat_is_brighter_than_muscle_on_t1_and_water_on_t2() -> None:
    rho, t1, t2 = TISSUE[:, 0], TISSUE[:, 1], TISSUE[:, 2]
    on_t1 = rho * (1 - np.exp(-500 / t1)) * np.exp(-12 / t2)
    on_t2 = rho * (1 - np.exp(-4000 / t1)) * np.exp(-85 / t2)
    fat, muscle, cortex, lesion = 1, 2, 3, 6
    assert on_t1[fat] > on_t1[lesion] > on_t1[cortex]
    assert on_t2[lesion] > on_t2[muscle] > on_t2[cortex]


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 20), st.integers(30, 60), st.floats(0.5, 6))
def test_fields_have_zero_mean_unit_variance_and_the_asked_correlation(n: int, m: int, sigma: float) -> None:
    field = gaussian_field((n, m, m), sigma, np.random.default_rng(n))
    assert field.mean() == pytest.approx(0, abs=1e-6)
    assert field.std() == pytest.approx(1, abs=1e-6)


def test_a_field_is_correlated_as_a_smoothed_white_noise_is() -> None:
    field = gaussian_field((512, 512), 4.0, np.random.default_rng(0))
    lag = 8
    measured = (field[:, lag:] * field[:, :-lag]).mean()
    assert measured == pytest.approx(np.exp(-(lag**2) / (4 * 4.0**2)), abs=0.05)


def test_files_carry_the_geometry_of_the_scan(cohort: Path) -> None:
    row = pd.read_csv(cohort / "cohort.csv").iloc[0]
    image, mask = (sitk.ReadImage(str(cohort / row[c])) for c in ("mri_t1", "bone_mask"))
    assert image.GetSpacing() == pytest.approx((2.5, 2.5, 8.0))
    assert mask.GetDirection() == image.GetDirection()
    site = (-row["site_x_mm"], -row["site_y_mm"], row["site_z_mm"])
    assert mask.GetPixel(image.TransformPhysicalPointToIndex(site)) == 1  # the biopsy is in the bone
    stated = json.loads((cohort / "synth.json").read_text())
    assert stated["settings"]["cases"] == 4
    tumour = sitk.GetArrayFromImage(sitk.ReadImage(str(cohort / row["tumour_mask"]))) > 0
    bone = sitk.GetArrayFromImage(mask) > 0
    assert row["severity_pct"] == pytest.approx(100 * (tumour & bone).sum() / bone.sum(), abs=0.01)
