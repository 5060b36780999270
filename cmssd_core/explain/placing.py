"""Maps back where the images lie: on the source volume's grid, and in the patches' boxes of level-0 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from cmssd_core.types import Affine, BoolArray, Case, FloatArray, InputError, PatchBag, Volume, frozen
from cmssd_core.volume.mask import place
from cmssd_core.volume.prepare import onto


@dataclass(frozen=True, eq=False)
class Place:
    """Maps as Attribution.maps says, and where they lie."""

    maps: Mapping[str, FloatArray]
    affine: Affine | None
    patch_xy: npt.NDArray[np.int64] | None
    patch_size_px: float | None


def place_maps(inputs: Mapping[str, FloatArray], case: Case | None, prepared: Case | None) -> Place:
    """Maps with the shapes of a case's inputs, "mri" (slice, contrast, y, x) and "he" (patch, y, x), put back."""
    maps: dict[str, FloatArray] = {}
    affine = xy = size = None
    volume, grid = (None if c is None else c.inputs.get("mri") for c in (case, prepared))
    bag = None if prepared is None else prepared.inputs.get("he")
    if "mri" in inputs:
        summed = inputs["mri"].sum(axis=1, dtype=np.float32)
        if isinstance(volume, Volume) and isinstance(grid, Volume):
            maps["mri"], affine = frozen(onto(summed, grid.affine, like=volume)), volume.affine
        else:
            maps["mri"] = frozen(summed)
    if "he" in inputs:
        maps["he"] = inputs["he"]
        if isinstance(bag, PatchBag):
            xy, size = bag.xy, bag.patches.shape[1] * bag.mpp / bag.slide_mpp
    return Place(maps, affine, xy, size)


def region_on(region: BoolArray | None, case: Case, prepared: Case) -> BoolArray | None:
    """A region drawn on the scan as it came, bool (z, y, x), on the prepared grid (slice, y, x).

    Raises InputError where there is no MRI, where its shape is another, or where nothing of it is left.
    """
    volume, grid = case.inputs.get("mri"), prepared.inputs.get("mri")
    if region is None:
        return None
    if not isinstance(volume, Volume) or not isinstance(grid, Volume):
        raise InputError("a region came for a case without MRI; choose a target of the whole case")
    if region.shape != volume.voxels.shape[1:]:
        raise InputError(
            f"a region of {region.shape} voxels came for an MRI of {volume.voxels.shape[1:]}; draw it on this very MRI"
        )
    moved = on_grid(region, volume.affine, like=grid)
    if not moved.any():
        raise InputError("the region lies outside what the model reads of this MRI; draw another")
    return moved


def on_grid(mask: BoolArray, affine: Affine, *, like: Volume) -> BoolArray:
    """A mask (z, y, x) on another grid; one too thin to fill half a voxel there is every voxel it touches."""
    moved = place(mask, affine, like=like)
    if moved.any() or not mask.any():
        return moved
    index = np.indices(like.voxels.shape[1:]).reshape(3, -1)[::-1]
    way = np.linalg.inv(affine) @ like.affine
    at = (way[:3, :3] @ index + way[:3, 3:])[::-1]
    touched: BoolArray = map_coordinates(mask.astype(np.float32), at, order=1).reshape(like.voxels.shape[1:]) > 0
    return touched
