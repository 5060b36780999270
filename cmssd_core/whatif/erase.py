"""Erasing a drawn region of an MRI: which voxels it means, and what stands there instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cmssd_core.types import BoolArray, FloatArray, InputError, Volume, frozen
from cmssd_core.volume.body import body_mask
from cmssd_core.volume.mask import place
from cmssd_core.volume.orient import radiological
from cmssd_core.whatif.change import Fill, Region

RING_PX = 3


def mask_of(volume: Volume, region: Region) -> BoolArray:
    """The voxels of a region, bool (z, y, x) on the volume's own grid: those whose centre lies inside the polygon.

    Raises InputError where the region lies on no slice of the volume or holds no voxel.
    """
    _, z, y, x = volume.voxels.shape
    layout = radiological(volume.affine, (z, y, x))
    slices, rows, columns = layout.shape((z, y, x))
    if not 0 <= region.slice_index < slices:
        raise InputError(f"a region on slice {region.slice_index + 1} came, expected 1 to {slices}; draw it anew")
    moved = layout.affine(volume.affine, (z, y, x))
    column_mm, row_mm = (float(v) for v in np.linalg.norm(moved[:3, :2], axis=0))
    plane = _inside(region.corners_mm, (np.arange(rows) + 0.5) * row_mm, (np.arange(columns) + 0.5) * column_mm)
    if not plane.any():
        raise InputError("the drawn region holds no voxel of the slice; draw a larger one, inside the picture")
    middle = slices - 1 - region.slice_index if layout.flips[0] else region.slice_index
    shown = np.zeros((slices, rows, columns), dtype=bool)
    shown[max(0, middle - region.reach) : middle + region.reach + 1] = plane
    mask: BoolArray = layout.invert(shown)
    return mask


def erase_prepared(prepared: Volume, source: Volume, region: Region) -> Volume:
    """A prepared volume without a region drawn on its source; bias field and z-score stay those of the whole scan."""
    mask = place(mask_of(source, region), source.affine, like=prepared)
    out = prepared.voxels.copy()
    for voxels in out:
        _fill(voxels, mask, region.fill, average=0.0)
    return replace(prepared, voxels=frozen(out))


def erase_shown(source: Volume, region: Region) -> Volume:
    """The source without the region, by the same rule in the scanner's units: for the eye, the model reads `erased`."""
    mask = mask_of(source, region)
    _, z, y, x = source.voxels.shape
    layout = radiological(source.affine, (z, y, x))
    turned, out = layout.apply(mask), []
    for voxels in source.voxels:
        slices = layout.apply(voxels).copy()
        average = float(voxels[body_mask(voxels, source.spacing_mm)].mean()) if region.fill == "average" else 0.0
        _fill(slices, turned, region.fill, average=average)
        out.append(layout.invert(slices))
    return replace(source, voxels=frozen(np.stack(out)))


def _fill(slices: FloatArray, mask: BoolArray, rule: Fill, *, average: float) -> None:
    """Writes over (slice, row, column), where the mask is set, what the rule says."""
    air = float(np.percentile(slices, 0.5)) if rule == "air" else average
    for pixels, hole in zip(slices, mask, strict=True):
        if not hole.any():
            continue
        ring = ndimage.binary_dilation(hole, iterations=RING_PX) & ~hole
        pixels[hole] = np.median(pixels[ring]) if rule == "surroundings" and ring.any() else air


def _inside(
    corners: tuple[tuple[float, float], ...], y: npt.NDArray[np.floating[Any]], x: npt.NDArray[np.floating[Any]]
) -> BoolArray:
    """Whether each point of the grid y, x lies inside the polygon, by the even-odd rule."""
    found = np.zeros((len(y), len(x)), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if y0 == y1:
            continue
        crossed = (y < y0) != (y < y1)
        at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        found ^= crossed[:, None] & (x[None] < at[:, None])
    return found
