"""Masks: what is 1 in an image of 0 and 1, or at least one half in one of fractions, on the grid of its Volume."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine, BoolArray, InputError, Volume, frozen
from cmssd_core.volume.files.door import BEHIND, MASK_FLOOR, read_voxels
from cmssd_core.volume.files.geometry import SEVERE_DEG, SEVERE_MM, apart
from cmssd_core.volume.files.header import Header
from cmssd_core.volume.itk import to_image

#: Of a mask's volume; nearest neighbour on a coarser grid changes less.
LOST_SHARE = 0.15
#: Interpolating splines shoot over 0 and 1 by less.
_OVERSHOOT = 0.25
_NAMED = 6


def read_mask(path: Path, *, like: Volume, limit_mb: int = 4096) -> BoolArray:
    """The mask in `path` as bool (z, y, x) on the grid of `like`; nearest neighbour where the grids differ.

    Raises InputError for a file that is no 3-D image, for labels other than 0 and 1, for a mask of the very size of the
    volume that its header puts elsewhere, and for one of which a part would be lost on the volume's grid.
    """
    header, raw = read_voxels(path, limit_mb=limit_mb, floor=MASK_FLOOR)
    drawn = _drawn(header, raw, name=path.name)
    for _, what in header.remarks:
        if what.endswith(BEHIND):  # then it is not certain which bytes are the voxels
            raise InputError(f"{path.name}: {what}; expected a mask of the size its header says; export it anew")
    if drawn.shape == like.voxels.shape[1:]:
        mm, degrees = apart(like.affine, header.affine, header.size)
        if mm < 0.01 * min(header.spacing_mm):
            return frozen(drawn)
        if mm <= SEVERE_MM and degrees <= SEVERE_DEG:
            return frozen(_moved(drawn, header, like=like, name=path.name))
        _refuse_unless_reordered(header, like=like, mm=mm, degrees=degrees, name=path.name)
    for level, what in header.remarks:
        if level != "info":  # on the grid of its image a mask needs no header; elsewhere nothing else places it
            raise InputError(
                f"{path.name} is not on the grid of its image, and {what}; expected a mask on that grid; resample it, "
                "or save it with the image's header"
            )
    return frozen(_moved(drawn, header, like=like, name=path.name))


def _refuse_unless_reordered(header: Header, *, like: Volume, mm: float, degrees: float, name: str) -> None:
    """Raises InputError for a mask of its image's size that lies elsewhere, unless its voxels are the image's in
    another order; where a header mirrored by mistake would say the same, that cannot be known."""
    turn = np.linalg.inv(like.affine) @ header.affine
    far = np.array([*header.size, 1.0]) - [1, 1, 1, 0]
    ends = np.stack([turn[:3, 3], (turn @ far)[:3]])
    whole = np.abs(np.abs(turn[:3, :3]) - np.eye(3)).max() < 1e-3
    same = whole and np.allclose(ends.min(0), 0, atol=0.01) and np.allclose(ends.max(0), far[:3], atol=0.01)
    if not same:
        raise InputError(
            f"{name} has the size of its image, but its header puts it {mm:.1f} mm and {degrees:.0f} degrees "
            "elsewhere; expected a mask drawn on this image; check the pairing, or save it with the image's header"
        )
    for signs in product((1, -1), repeat=3):
        mirrored = np.diag([*signs, 1]) @ like.affine
        if -1 in signs and apart(mirrored, header.affine, header.size)[0] <= SEVERE_MM:
            raise InputError(
                f"{name} has the size of its image and the same place, but its header turns it round: its voxels may "
                "be stored in another order, or its header mirrored by mistake; save it with the image's header"
            )


def place(mask: BoolArray, affine: Affine, *, like: Volume) -> BoolArray:
    """A mask (z, y, x) on another grid of the same space: linear, then at least one half."""
    import SimpleITK as sitk

    grid = to_image(np.zeros(like.voxels.shape[1:], dtype=np.uint8), like.affine)
    moved = sitk.Resample(to_image(mask.astype(np.float32), affine), grid, sitk.Transform(), sitk.sitkLinear, 0.0)
    placed: BoolArray = sitk.GetArrayFromImage(moved) >= 0.5
    return placed


def _drawn(header: Header, raw: npt.NDArray[Any], *, name: str) -> BoolArray:
    """What the mask marks, on its own grid."""
    values = raw if (header.slope, header.inter) == (1.0, 0.0) else header.values(raw, np.float64)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{name} holds voxels that are no finite numbers (NaN or infinite); export it anew")
    odd = values[(values != 0) & (values != 1)]
    if not odd.size:
        ones: BoolArray = values == 1
        return ones
    if odd.dtype.kind != "f" or np.array_equal(odd, np.rint(odd)):
        labels = np.unique(values)
        say = ", ".join(f"{v:g}" for v in labels[:_NAMED]) + (
            f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        )
        raise InputError(
            f"{name} holds the labels {say}; expected 0 and 1; save the one to be read as 1, the rest as 0"
        )
    low, high = float(odd.min()), float(odd.max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise InputError(
            f"{name} holds fractions from {low:.3g} to {high:.3g}; expected labels 0 and 1, or fractions from 0 to 1; "
            "export it anew"
        )
    drawn: BoolArray = values >= 0.5
    if not drawn.any():
        raise InputError(f"{name} marks no voxel: its fractions end at {high:.3g}, below one half; export it anew")
    return drawn


def _moved(drawn: BoolArray, header: Header, *, like: Volume, name: str) -> BoolArray:
    """A mask on the volume's grid. Raises InputError where a part of it would be lost there."""
    import SimpleITK as sitk

    grid = to_image(np.zeros(like.voxels.shape[1:], dtype=np.uint8), like.affine)
    labels = to_image(drawn.astype(np.uint8), header.affine)
    moved = sitk.Resample(labels, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    mask: BoolArray = sitk.GetArrayFromImage(moved).astype(bool)
    if not mask.any() and drawn.any():
        raise InputError(f"{name} lies outside its image; expected a mask in the same space; check the pairing")
    one_ml, other_ml = (float(np.prod(spacing)) / 1000 for spacing in (header.spacing_mm, like.spacing_mm))
    before, kept = int(drawn.sum()) * one_ml, int(mask.sum()) * other_ml
    if abs(kept - before) > max(LOST_SHARE * before, 10 * other_ml):
        theirs, ours = ("x".join(map(str, size)) for size in (header.size, like.voxels.shape[:0:-1]))
        raise InputError(
            f"{name} has a grid of {theirs} voxels, its image one of {ours}, and of {before:.1f} mL drawn "
            f"{kept:.1f} mL lie on the image; expected a mask drawn on this image; check the pairing, or resample it"
        )
    return mask
