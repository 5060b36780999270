"""Masks: integer images (0 = background) read onto the grid of the Volume they belong to; and grids as SimpleITK's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from cmssd_core.types import Affine, BoolArray, InputError, Volume, frozen

LPS = np.diag([-1.0, -1.0, 1.0])


def to_image(zyx: npt.NDArray[np.generic], affine: Affine) -> sitk.Image:
    """An array (z, y, x) with its voxel -> RAS+ mm affine as a SimpleITK image, which is LPS+."""
    image = sitk.GetImageFromArray(zyx)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((LPS @ affine[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin((LPS @ affine[:3, 3]).tolist())
    return image


def read_mask(path: Path, *, like: Volume) -> BoolArray:
    """The mask in `path` as bool (z, y, x) on the grid of `like`; nearest neighbour where the grids differ.

    Raises InputError for a file that is no 3-D image, or one that lies wholly outside the volume.
    """
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
    grid = to_image(np.zeros(like.voxels.shape[1:], dtype=np.uint8), like.affine)
    share = to_image(mask.astype(np.float32), affine)
    moved = sitk.GetArrayFromImage(sitk.Resample(share, grid, sitk.Transform(), sitk.sitkLinear, 0.0))
    placed: BoolArray = moved >= 0.5
    return placed
