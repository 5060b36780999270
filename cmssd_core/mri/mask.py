"""Masks: integer images (0 = background) read onto the grid of the Volume they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cmssd_core.mri.itk import to_image
from cmssd_core.mri.nifti import whole
from cmssd_core.types import Affine, BoolArray, FloatArray, InputError, Volume, frozen


def read_mask(path: Path, *, like: Volume) -> BoolArray:
    """The mask in `path` as bool (z, y, x) on the grid of `like`; nearest neighbour where the grids differ.

    Raises InputError for a file that is no 3-D image, or one that lies wholly outside the volume.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        whole(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(
            f"{path.name} is no readable mask; expected an integer NIfTI or NRRD; export it anew"
        ) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path.name} is not a 3-D mask of one channel; expected one label a voxel; export it anew")
    grid = to_image(np.zeros(like.voxels.shape[1:], dtype=np.uint8), like.affine)
    labels = sitk.Cast(image != 0, sitk.sitkUInt8)
    resampled = sitk.Resample(labels, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    mask: BoolArray = sitk.GetArrayFromImage(resampled).astype(bool)
    if not mask.any() and sitk.GetArrayViewFromImage(labels).any():
        raise InputError(f"{path.name} lies outside its image; expected a mask in the same space; check the pairing")
    return frozen(mask)


def place(mask: BoolArray, affine: Affine, *, like: Volume) -> BoolArray:
    """A mask (z, y, x) on another grid of the same space: linear, then at least one half."""
    placed: BoolArray = laid(mask.astype(np.float32), affine, like=like, outside=0.0) >= 0.5
    return placed


def laid(values: FloatArray, affine: Affine, *, like: Volume, outside: float) -> FloatArray:
    """Values (z, y, x) on another grid of the same space, linear; `outside` where they do not reach."""
    grid = to_image(np.zeros(like.voxels.shape[1:], dtype=np.uint8), like.affine)
    moved = sitk.Resample(to_image(values, affine), grid, sitk.Transform(), sitk.sitkLinear, outside)
    there: FloatArray = sitk.GetArrayFromImage(moved)
    return there
