"""Tissue, pen and bare glass: which pixels of an overview are what, by colour alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cmssd_core.types import BoolArray, Uint8Array

GLASS = 243  # grey of an empty slide
#: Pen is wider than this; darkest nuclei and pigment, which share its colours, hardly ever are.
_STROKE_UM = 5.0
_NUCLEUS_UM = 12.0

# Colour spread (max - min of R, G, B). Below the floor lies JPEG noise on glass; above the ceiling Otsu would drop
# pale stroma on slides with much blood or bone.
_CHROMA_FLOOR, _CHROMA_CEILING = 14, 28


def tissue_mask(rgb: Uint8Array) -> BoolArray:
    """Where tissue lies in an overview.

    rgb: uint8 (y, x, 3), any resolution; gives bool (y, x), all False on blank glass. A pixel is tissue when its
    colour spread exceeds Otsu's threshold (N. Otsu, IEEE Trans. SMC 9, 1979), held between a floor and a ceiling, and
    it is neither pen nor near-black; single pixels are dropped.
    """
    low, high = rgb.min(-1), rgb.max(-1)
    spread = high - low
    threshold = min(max(otsu(spread), _CHROMA_FLOOR), _CHROMA_CEILING)
    return _without_specks((spread > threshold) & (high > 40) & ~pen_mask(rgb))


def pen_mask(rgb: Uint8Array) -> BoolArray:
    """Where a marker pen of any colour covers an overview: bool (y, x) for uint8 (y, x, 3)."""
    return np.asarray(np.logical_or.reduce(list(pen_colours(rgb).values())))


def pen_colours(rgb: Uint8Array) -> dict[str, BoolArray]:
    """Masks bool (y, x) of green, blue, black and red pen.

    Green and cyan hues, and saturated blue, do not occur in H&E; black is dark without colour. Red ink overlaps with
    eosin on bone and with blood: only its most saturated part is told apart, so much of a red stroke is missed.
    """
    r, g, b = (rgb[..., c].astype(np.int16) for c in range(3))
    high = np.maximum(np.maximum(r, g), b)
    spread = high - np.minimum(np.minimum(r, g), b)
    return {
        "green": (g > r + 20) & (g + 10 >= b) & (spread > 40),
        "blue": (b == high) & (g > r + 10) & (spread * 10 > high * 6) & (high > 50),
        "black": (high < 70) & (spread < 25),
        "red": (r == high) & (spread * 10 > high * 8) & (r > 90) & (np.abs(g - b) < 60),
    }


def ink_mask(patches: Uint8Array, *, mpp: float) -> BoolArray:
    """Where pen lies on patches at full resolution, with its soft edge: bool (patch, y, x) for uint8 (patch, y, x, 3).

    mpp: microns per pixel. Green, blue and black strokes at least 5 microns wide, grown into what is tinted around them
    and closed over nuclei; of 45 real osteosarcoma tiles none is marked on more than 0.01 % of its pixels. Red is left
    alone: from so near, eosin on bone and blood have its colour.
    """
    stroke, nucleus = _disk(_STROKE_UM / mpp), _disk(_NUCLEUS_UM / mpp)
    edge = len(nucleus)
    found = np.zeros(patches.shape[:3], dtype=bool)
    for i, patch in enumerate(patches):
        pen, tinted = _pen_or_tinted(patch)
        if pen.any() and (sure := ndimage.binary_opening(pen, stroke)).any():
            grown = ndimage.binary_propagation(sure, mask=sure | tinted)
            wide = np.pad(grown, edge, mode="edge")  # a nucleus under the pen may be too dark for any colour
            whole = ndimage.binary_closing(wide, nucleus)[edge:-edge, edge:-edge]
            found[i] = ndimage.binary_dilation(whole, stroke)
    return found


def _pen_or_tinted(rgb: Uint8Array) -> tuple[BoolArray, BoolArray]:
    """Pen for certain, and colours that neither stain gives and pen over tissue does; each bool (y, x).

    Blue is certain where it is bright as well: nuclei reach the colour on a slide with a blue cast, under a dark lamp
    or in a fold, but never the brightness that pen has over pale tissue.
    """
    r, g, b = (rgb[..., c].astype(np.int16) for c in range(3))
    colours, blue = pen_colours(rgb), b > 3 * r
    bright = (colours["blue"] | blue) & (b > 150) & (2 * b > 5 * r)
    return colours["green"] | colours["black"] | bright, np.asarray((g > r + 8) | (blue & (b > 40)))


def _disk(diameter_px: float) -> BoolArray:
    radius = max(1, round((diameter_px - 1) / 2))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(y**2 + x**2 <= (radius + 0.5) ** 2)


def grey(rgb: Uint8Array) -> npt.NDArray[np.float32]:
    """Luma of Rec. 601 in [0, 255]: float32 (..., y, x) for uint8 (..., y, x, 3)."""
    return np.asarray(rgb, dtype=np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def otsu(values: Uint8Array) -> int:
    """Otsu's threshold of uint8 values: the split of the histogram with the largest between-class variance."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * np.arange(256))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = below * above * (total / below - (total[-1] - total) / above) ** 2
    return int(np.argmax(np.nan_to_num(variance)))


def _without_specks(mask: BoolArray) -> BoolArray:
    """The mask's 3x3 majority vote."""
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5)
