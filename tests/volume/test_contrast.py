"""Laws of names: what is no weighted image is never taken for one, and what is one stays one."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from cmssd_core.types import InputError
from cmssd_core.volume.contrast import Appearance, classify, name_contrast
from cmssd_core.volume.read import read

NO_IMAGE = (
    "t1_mask", "T1_brainmask", "t1_seg", "t1Seg", "sub-01_T1w_dseg", "t2_seg-manual", "t1_label", "t1-label", "gtv_t1",
    "t1_prob", "sub-01_T1w_probseg", "t1_brain_pve_0", "t1_uncertainty", "t1_bias_field", "t1_n4_biasfield", "t1_bias",
    "t1_warp", "t1_1InverseWarp", "t1_jacobian", "t1_fa", "t1_md", "t1_swi", "MTR_t1", "perfusion_t2", "adc_mask",
    "T2_FLAIR", "t2flair", "t2_dark-fluid", "T1_map",
)  # fmt: skip
IMAGES = {
    "t1": ("MR_T1_image", "sub-01_T1w", "t1_masked", "t1_brain", "t1_warped", "t1_unwarp", "t1_bias_corrected",
           "t1_bias_field_corrected", "t1_biasfieldcorrected", "t1_denoised", "t1_noise_removed", "T1_FLAIR", "dce_t1",
           "t1_vibe_fa15", "t1_fa_15", "MD_001_T1", "T1_std", "sub-mask01_T1w", "sub-01_T1w_desc-preproc", "t1_post",
           "bone_lesion_007_t1", "t1_in_phase"),
    "t2": ("t2_tse", "T2w", "t2_fs"),
    "stir": ("knee-STIR",),
    "adc": ("ADC", "dwi_adc", "adc_map"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_IMAGE)
def test_the_name_of_no_weighted_image_says_no_contrast(name: str) -> None:
    assert name_contrast([name]) is None
    assert name_contrast([name, "t1"]) is None  # nor does its folder


@pytest.mark.parametrize(("contrast", "name"), [(contrast, name) for contrast in IMAGES for name in IMAGES[contrast]])
def test_the_name_of_a_weighted_image_says_its_contrast(contrast: str, name: str) -> None:
    assert name_contrast([name]) == contrast


@pytest.mark.parametrize(
    ("name", "said"),
    [("t1_seg", "computed from an image"), ("T2_FLAIR", "a FLAIR image"), ("t1_swi", "susceptibility")],
)
def test_a_file_that_is_no_weighted_image_is_asked_about_and_read_where_it_was_declared(tmp_path, name, said) -> None:
    path = tmp_path / f"{name}.nii.gz"
    voxels = np.random.default_rng(0).normal(300, 40, (40, 40, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 4.0, 1.0])), path)
    with pytest.raises(InputError, match=rf"cannot be told from its name, which says .*{said}.* say which of") as asked:
        read(path)
    assert asked.value.field == "contrast"
    assert read(contrasts={"t2": path}).value.contrasts == ("t2",)


@pytest.mark.parametrize(
    ("description", "contrast"),
    [("t1_fl2d_seg", "t1"), ("Sag T1 FLAIR", "t1"), ("Ax T2 FLAIR", None), ("t2_swi3d", None), ("t2_tse_tra", "t2")],
)
def test_a_series_of_a_scanner_is_told_by_words_of_scanners(description: str, contrast: str | None) -> None:
    assert classify(Appearance(modality="MR", descriptions=(description,)))[0] == contrast
