"""Laws of masks: what is tumour, and on which image it lies."""

from __future__ import annotations

from dataclasses import replace

import awkward_images as made
import nibabel as nib
import numpy as np
import pytest

from cmssd_core.types import InputError, Volume
from cmssd_core.volume.mask import read_mask

LIKE = Volume(voxels=np.zeros((1, *made.WIDE[::-1]), np.float32), affine=made.WIDE_GRID, contrasts=("t1",))


def read(tmp_path, mask, affine=made.WIDE_GRID):
    return read_mask(made.nifti(tmp_path / "mask.nii.gz", mask, affine), like=LIKE)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "f4", "f8"])
def test_ones_are_the_mask_whatever_their_type(tmp_path, dtype):
    assert np.array_equal(read(tmp_path, made.tumour().astype(dtype)), made.tumour().T == 1)


def test_an_empty_mask_is_empty(tmp_path):
    assert not read(tmp_path, made.tumour() * 0).any()


def test_fractions_that_shoot_over_a_little_are_read_at_one_half(tmp_path):
    soft = made.tumour() * 1.1 - 0.05
    assert np.array_equal(read(tmp_path, soft.astype(np.float32)), made.tumour().T == 1)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (made.tumour() * 2, "labels 0, 2;"),
        (made.tumour() * 255, "labels 0, 255;"),
        (made.tumour().astype(np.int16) - 1, "labels -1, 0;"),
        (np.arange(made.tumour().size).reshape(made.WIDE) % 99, "0, 1, 2, 3, 4, 5 and 93 more"),
        (made.tumour() * 2.5, "fractions from 2.5"),
        (made.tumour() * 100.5, "fractions from 100"),
        (made.tumour() * 0.4, "below one half"),
        (made.tumour() * np.float32(np.nan), "no finite numbers"),
    ],
)
def test_other_labels_and_fractions_are_refused_and_named(tmp_path, values, why):
    values = values.astype(np.int16 if values.dtype.kind in "iu" else np.float32)
    with pytest.raises(InputError, match=why):
        read(tmp_path, values)


@pytest.mark.parametrize("shift_mm", [3.0, 50.0])
def test_the_images_size_elsewhere_is_refused(tmp_path, shift_mm):
    away = made.WIDE_GRID.copy()
    away[1, 3] += shift_mm
    with pytest.raises(InputError, match=f"puts it {shift_mm:.1f} mm and 0 degrees elsewhere"):
        read(tmp_path, made.tumour(), away)


def test_headers_that_round_do_not_part_a_mask_from_its_image(tmp_path):
    near = made.WIDE_GRID.copy()
    near[:3, 3] += 0.02
    assert np.array_equal(read(tmp_path, made.tumour(), near), made.tumour().T == 1)


def test_a_finer_grid_of_the_same_space_is_resampled(tmp_path):
    fine = made.WIDE_GRID @ np.diag([0.5, 0.5, 1, 1])
    fine[:2, 3] = made.WIDE_GRID[:2, 3] - 0.75
    mask = read(tmp_path, made.tumour().repeat(2, 0).repeat(2, 1), fine)
    assert np.array_equal(mask, made.tumour().T == 1)


def test_a_mask_of_which_a_part_would_be_lost_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"of 42\.3 mL drawn"):
        read(tmp_path, np.pad(made.tumour(), ((0, 4), (0, 0), (0, 0))), made.WIDE_GRID @ _shift(40))


def _shift(voxels):
    moved = np.eye(4)
    moved[2, 3] = voxels / 5
    return moved


def off_centre():
    """An image that lies as scans do: no side of it is the mirror image of the other."""
    affine = made.WIDE_GRID.copy()
    affine[:3, 3] += (17.0, -11.0, 23.0)
    return replace(LIKE, affine=affine)


@pytest.mark.parametrize("axes", [("x",), ("y", "z"), ("x", "y", "z")])
def test_an_image_in_another_storage_order_is_where_it_was(tmp_path, axes):
    """As nibabel's as_closest_canonical turns a mask."""
    like, mask = off_centre(), made.tumour()
    image = nib.Nifti1Image(mask, like.affine)
    turn = np.array([[n, -1 if "xyz"[n] in axes else 1] for n in range(3)])
    nib.save(image.as_reoriented(turn), tmp_path / "mask.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", like=like), mask.T == 1)


def test_what_may_be_a_header_mirrored_by_mistake_is_refused(tmp_path):
    """On a field of view about the origin both are one file."""
    turned = nib.Nifti1Image(made.tumour(), made.WIDE_GRID).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nib.save(turned, tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="its header turns it round"):
        read_mask(tmp_path / "mask.nii.gz", like=LIKE)


def test_a_mask_on_another_grid_needs_a_header_without_a_doubt(tmp_path):
    """Cropped, as 3D Slicer does; on its image's own grid nothing has to be asked."""
    cropped, affine = made.tumour()[30:], made.WIDE_GRID @ nib.affines.from_matvec(np.eye(3), (30, 0, 0))
    image = nib.Nifti1Image(cropped, affine)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "mask.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", like=LIKE), made.tumour().T == 1)
    image.set_sform(np.diag([-1, 1, 1, 1]) @ affine, 1)
    nib.save(image, tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="is not on the grid of its image, and the header holds two geometries"):
        read_mask(tmp_path / "mask.nii.gz", like=LIKE)
    whole = nib.Nifti1Image(made.tumour(), made.WIDE_GRID)
    whole.set_qform(np.diag([-1, 1, 1, 1]) @ made.WIDE_GRID, 1)
    nib.save(whole, tmp_path / "mask.nii.gz")
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", like=LIKE), made.tumour().T == 1)


def test_a_mask_with_bytes_behind_its_voxels_is_refused(tmp_path):
    path = made.nifti(tmp_path / "mask.nii", made.tumour(), made.WIDE_GRID)
    content = path.read_bytes()
    path.write_bytes(content[:352] + bytes(7168) + content[352:])
    with pytest.raises(InputError, match="7168 bytes after its voxels"):
        read_mask(path, like=LIKE)
