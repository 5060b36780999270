"""Laws of the geometry in NIfTI headers: one rule, and what disagrees is named."""

from __future__ import annotations

import awkward_images as made
import nibabel as nib
import numpy as np
import pytest

from cmssd_core.types import InputError
from cmssd_core.volume.image import read_image


def read(path):
    return read_image(path, contrast="t1", limit_mb=64)


def moved(mm=0.0, degrees=0.0):
    turn = np.eye(4)
    turn[:3, :3] = nib.eulerangles.euler2mat(np.radians(degrees))
    turn[0, 3] = mm
    return turn @ made.grid()


@pytest.mark.parametrize(("mm", "level"), [(0, None), (0.05, None), (0.5, "warning"), (1.5, "severe"), (40, "severe")])
def test_two_geometries_are_severe_from_1_mm_on(tmp_path, mm, level):
    stack = read(made.nifti(tmp_path / "t1.nii", made.scan(), made.grid(), moved(mm)))
    assert [f.level for f in stack.findings] == ([level] if level else [])
    assert np.allclose(stack.affine, made.grid())


def test_two_directions_are_severe_from_5_degrees_on(tmp_path):
    """Four voxels at the origin: 6 degrees move no corner by 1 mm."""
    data = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    small = np.diag([1.0, 1, 1, 1])
    turned = np.eye(4)
    turned[:3, :3] = nib.eulerangles.euler2mat(np.radians(6))
    stack = read(made.nifti(tmp_path / "t1.nii", data, small, turned))
    assert [f.level for f in stack.findings] == ["severe"]
    assert "6.0 degrees" in stack.findings[0].what


def test_qform_alone_is_used_and_nothing_is_said(tmp_path):
    stack = read(made.nifti(tmp_path / "t1.nii", made.scan(), made.mirrored(made.grid()), codes=(0, 1)))
    assert np.allclose(stack.affine, made.mirrored(made.grid()), atol=1e-4)
    assert stack.findings == ()


def test_neither_form_is_read_as_nibabel_reads_it_and_remarked(tmp_path):
    path = made.nifti(tmp_path / "t1.nii", made.scan(), made.grid(), codes=(0, 0))
    assert np.allclose(read(path).affine, nib.load(path).affine)
    assert "no orientation" in read(path).findings[0].what


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (2, 1.0), (3, 1e3), (0, 1.0)])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0)])
def test_lengths_in_other_units_become_mm(tmp_path, unit, factor, codes):
    affine = made.grid()
    affine[:3] *= factor
    stack = read(made.nifti(tmp_path / "t1.nii", made.scan(), affine, codes=codes, unit=unit))
    assert np.allclose(stack.affine, made.grid(), rtol=1e-4)
    assert [f.what for f in stack.findings if "two " in f.what] == []
    assert any("converted to mm" in f.what for f in stack.findings) == (factor != 1)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"unit": 5}, "unit NIfTI does not know"),
        ({"unit": 1}, "larger than a patient"),
        ({"codes": (0, 1), "pixdim": (0, 1, 1)}, "no usable voxel size"),
        ({"codes": (0, 1), "pixdim": (np.nan, 1, 1)}, "no usable voxel size"),
        ({"codes": (0, 0), "pixdim": (-1, 1, 1)}, "no usable voxel size"),
        ({"codes": (0, 1), "patch": lambda h: h.__setitem__("quatern_b", 1.4)}, "no usable voxel size"),
        ({"patch": lambda h: h.__setitem__("srow_x", [0, 0, 0, 0])}, "no usable voxel size"),
        ({"patch": lambda h: h.__setitem__("srow_x", [np.inf, 0, 0, 0])}, "no usable voxel size"),
        ({"patch": lambda h: (h.__setitem__("scl_slope", 1), h.__setitem__("scl_inter", np.inf))}, "intercept"),
    ],
)
def test_what_says_no_grid_or_scale_is_refused(tmp_path, options, why):
    with pytest.raises(InputError, match=why):
        read(made.nifti(tmp_path / "t1.nii", made.scan(), made.grid(), **options))
