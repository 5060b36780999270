"""Image files and masks that public reports of bugs describe: right, remarked, or refused by its name."""

from __future__ import annotations

import awkward_images as made
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cmssd_core.cohort.table import admit_row
from cmssd_core.types import InputError
from cmssd_core.volume.read import read


def remarks(reading, level):
    return " | ".join(finding.what for finding in reading.findings if finding.level == level)


def mask_of(folder):
    return admit_row(pd.read_csv(folder / "cohort.csv").iloc[0], folder).truth.masks["tumour"]


def marker(volume):
    """Where the bright block's middle lies, RAS mm."""
    z, y, x = np.argwhere(volume.voxels[0] > 1000).mean(axis=0)
    return (volume.affine @ [x, y, z, 1])[:3]


def test_two_sides_in_one_header_are_a_severe_finding_that_names_both_and_the_used_one(tmp_path):
    reading = read(made.qform_sform_side(tmp_path))
    said = remarks(reading, "severe")
    assert "sform (aligned) and qform (scanner) differ by 60.0 mm and 180.0 degrees" in said
    assert "sform (aligned) is used" in said
    assert np.allclose(marker(reading.value), made.world(made.mirrored(made.grid())), atol=1e-3)


def test_a_mask_saved_with_nibabels_affine_lies_where_it_was_drawn(tmp_path):
    mask = mask_of(made.mask_of_nibabel_on_qform_sform(tmp_path))
    assert mask.sum() == made.TUMOUR_VOXELS
    assert tuple(np.argwhere(mask).mean(axis=0)[::-1]) == made.TUMOUR_CENTRE


@pytest.mark.parametrize(("build", "other"), [(made.pixdim_not_sform, "1 x 1 x 1"), (made.pixdim_z, "1.5 x 1.5 x 3.3")])
def test_the_sform_says_the_spacing_and_a_pixdim_that_differs_is_a_severe_finding(tmp_path, build, other):
    reading = read(build(tmp_path))
    assert np.allclose(reading.value.spacing_mm, made.SPACING)
    assert f"1.5 x 1.5 x 4 mm by sform, {other} mm by pixdim; sform is used" in remarks(reading, "severe")
    assert np.allclose(marker(reading.value), made.world(made.grid()), atol=1e-3)


def test_a_sheared_sform_is_refused_by_that_name(tmp_path):
    with pytest.raises(InputError, match=r"sheared axes.*11\.3 degrees"):
        read(made.sheared_sform(tmp_path))


def test_micron_that_make_a_speck_of_a_patient_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"0\.06 x .*smaller than a patient; check the units"):
        read(made.nifti_micron(tmp_path))


def test_an_nrrd_without_orientation_is_remarked_as_a_nifti_is(tmp_path):
    reading = read(made.nrrd_no_orientation(tmp_path))
    assert "NRRD header says no orientation: left and right cannot be trusted" in remarks(reading, "warning")
    assert np.allclose(reading.value.spacing_mm, made.SPACING)


def test_an_nrrd_without_voxel_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="says no voxel size"):
        read(made.nrrd_no_spacing(tmp_path))


def test_an_nrrd_in_cm_is_converted_and_that_is_said(tmp_path):
    reading = read(made.nrrd_cm(tmp_path))
    assert np.allclose(reading.value.spacing_mm, made.SPACING)
    assert "in cm; they are converted to mm" in remarks(reading, "info")
    # LPS (-30, -26, -22) mm and the marker's voxel, by hand.
    assert np.allclose(marker(reading.value), [-15, -10, 10], atol=1e-3)


def test_a_packed_mha_cut_with_a_header_that_fits_the_cut_is_refused(tmp_path):
    with pytest.raises(InputError, match="cut short"):
        read(made.mha_cut(tmp_path))


def test_a_mask_of_fractions_is_what_reaches_one_half(tmp_path):
    mask = mask_of(made.mask_halo(tmp_path))
    drawn = nib.load(tmp_path / "mask.nii.gz").get_fdata() >= 0.5
    assert np.array_equal(mask, drawn.T)
    assert mask.sum() * 36 / 1000 == pytest.approx(42.3, rel=0.12)


@pytest.mark.parametrize(("build", "labels"), [(made.mask_minus_one, "-1, 0, 1"), (made.mask_255, "0, 1, 255")])
def test_a_mask_of_other_labels_is_refused_and_they_are_named(tmp_path, build, labels):
    with pytest.raises(InputError, match=f"holds the labels {labels}; expected 0 and 1"):
        mask_of(build(tmp_path))


def test_a_mask_of_the_images_size_in_another_place_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the size of its image.*its header turns it round"):
        mask_of(made.mask_mirrored_header(tmp_path))
