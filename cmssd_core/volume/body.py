"""Body mask: which voxels are patient and not air."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cmssd_core.types import BoolArray, FloatArray, Volume
from cmssd_core.volume.contrasts import CONTRASTS

#: The mask needs no finer grid than this; a coarser one is faster and averages the noise of air.
_COARSE_MM = 2.0
#: Air lies below this share of the way from the darkest to the bright voxels; bone's cortex may too, and is filled in.
_AIR = 0.1


def body_of(volume: Volume) -> tuple[BoolArray, str]:
    """The body in all of a raw volume, bool (z, y, x), and, where it is not told from MR, what it was told from.

    Every MR image that shows anatomy counts, whatever a model reads of them. Without one an MR map does, without that
    the first contrast whose row says over which value tissue lies: CT before PET.
    """
    rows = [CONTRASTS[name] for name in volume.contrasts]
    told_from_scan = [i for i, row in enumerate(rows) if row.body_above is None]
    # An ADC map is noise in air and holes in bone; an anatomical contrast, where there is one, says where the body is.
    anatomy = [i for i in told_from_scan if not rows[i].quantitative] or told_from_scan
    words = ""
    if not anatomy:
        first = min(range(len(rows)), key=lambda i: list(CONTRASTS).index(volume.contrasts[i]))
        anatomy, words = [first], f" over {rows[first].body_above:g} {rows[first].unit} of {rows[first].label}"
    masks = [body_mask(volume.voxels[i], volume.spacing_mm, above=rows[i].body_above) for i in anatomy]
    body: BoolArray = np.logical_or.reduce(masks)
    return body, words


def body_mask(voxels: FloatArray, spacing_mm: tuple[float, float, float], *, above: float | None = None) -> BoolArray:
    """The largest piece of body in one contrast, bool (z, y, x), its dark inside filled; spacing_mm in (x, y, z).

    above: the value over which tissue lies; None = told from the range of the voxels. Everything is body where no air
    can be told from it, as in a scan cropped inside the patient.
    """
    steps = [max(1, round(_COARSE_MM / spacing)) for spacing in reversed(spacing_mm)]
    coarse = blocks(voxels, steps)
    least = above
    if least is None:
        low, high = np.percentile(coarse, [0.5, 98])
        least = low + _AIR * (high - low)
    # Bright alone and with its neighbours: the one drops the halo of the other, the other the specks of the one.
    mask = (coarse > least) & (ndimage.uniform_filter(coarse, size=[3 if n > 8 else 1 for n in coarse.shape]) > least)
    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    for axis in range(3):
        planes = np.moveaxis(mask, axis, 0)
        # Plane by plane, because a marrow cavity that leaves the field of view is open in three dimensions.
        planes[...] = np.stack([ndimage.binary_fill_holes(plane) for plane in planes])
    share = float(mask.mean())
    if share < 0.02 or share > 0.97:
        return np.ones(voxels.shape, dtype=bool)
    for axis, step in enumerate(steps):
        mask = np.repeat(mask, step, axis=axis)
    z, y, x = voxels.shape
    return np.ascontiguousarray(mask[:z, :y, :x])


def blocks(voxels: FloatArray, steps: list[int]) -> FloatArray:
    """Means over blocks of `steps` voxels along (z, y, x); the last block of an axis is filled up with its edge."""
    if all(step == 1 for step in steps):
        return voxels
    pad = [(0, -n % step) for n, step in zip(voxels.shape, steps, strict=True)]
    full = np.pad(voxels, pad, mode="edge") if any(after for _, after in pad) else voxels
    z, y, x = (n // step for n, step in zip(full.shape, steps, strict=True))
    means: FloatArray = full.reshape(z, steps[0], y, steps[1], x, steps[2]).mean((1, 3, 5), dtype=np.float32)
    return means
