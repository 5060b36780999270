"""How a case is shown: radiological layout, grey window, slices worth seeing, colours with numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine, FloatArray, Prediction, Uint8Array, Volume
from cmssd_core.volume.orient import Orientation, radiological

#: Maps are drawn from this probability up, at this opacity; the masks behind every figure start at MASK.
SHOWN_FROM, OPACITY, MASK = 0.05, 0.4, 0.5
ATTENTION_TITLE = "where the gate weighted the MRI - not evidence"

#: Ten anchors of matplotlib's perceptually uniform tables (CC0), the same ten that Plotly draws on screen; and Cynthia
#: Brewer's purple to orange, which colour-blind readers tell apart, for values of either sign.
_ANCHORS = {
    "magma": "000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf",
    "puor": "2d004b 542788 8073ac b2abd2 d8daeb f7f7f7 fee0b6 fdb863 e08214 b35806 7f3b08",
    "viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
}


@dataclass(frozen=True, eq=False)
class Layout:
    """One grid as a radiologist looks at it: patient's right on the screen's left.

    letters: what lies at the picture's (left, right, top, bottom). row_mm, col_mm: height and width of one pixel.
    count: how many slices there are; they keep the source's order and number, from 0.
    """

    orientation: Orientation
    letters: tuple[str, str, str, str]
    row_mm: float
    col_mm: float
    count: int

    def slice_of(self, array: FloatArray, index: int) -> FloatArray:
        """One slice (row, column) of an array (z, y, x)."""
        # A slice is cut out before it is turned: turning the whole volume for each picture costs a copy of it.
        turned: FloatArray = self.orientation.apply(array.take([index], axis=self.orientation.axes[0]))[0]
        return turned


def lay_out(affine: Affine, shape_zyx: tuple[int, ...]) -> Layout:
    """The radiological layout of a grid; `affine` maps voxel (x, y, z) to RAS+ mm."""
    z, y, x = shape_zyx
    orientation = radiological(affine, (z, y, x))
    spacing = [float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)]
    _, rows, columns = orientation.axes
    count = orientation.shape((z, y, x))[0]
    return Layout(orientation, orientation.edges, spacing[2 - rows], spacing[2 - columns], count)


def lut(name: str) -> Uint8Array:
    """A colour table, uint8 (256, 3): "magma", "viridis" or "puor"."""
    anchors = np.array([[int(h[i : i + 2], 16) for i in (0, 2, 4)] for h in _ANCHORS[name].split()], float)
    at = np.linspace(0, len(anchors) - 1, 256)
    return (
        np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], 1).round().astype(np.uint8)
    )


def colour_values(values: npt.NDArray[Any], name: str, *, limits: tuple[float, float] = (0.0, 1.0)) -> Uint8Array:
    """Values as RGB, uint8 (..., 3), from one end of `limits` to the other."""
    low, high = limits
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return lut(name)[np.nan_to_num(share * 255).round().astype(np.uint8)]


def window(voxels: FloatArray) -> tuple[float, float]:
    """Robust grey limits of one contrast: its 2nd and 98th percentile."""
    finite = voxels[np.isfinite(voxels)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite[:: max(1, finite.size // 2_000_000)], (2, 98)))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return low, high if high > low else low + 1.0


def most_tumour(prediction: Prediction) -> int:
    """The slice with the largest tumour area; without tumour the middle one that shows bone. Counts from 0."""
    areas = prediction.slices
    if any(s.tumour_mm2 > 0 for s in areas):
        return max(areas, key=lambda s: s.tumour_mm2).index
    bony = [s.index for s in areas if s.bone_mm2 > 0] or [s.index for s in areas]
    return bony[len(bony) // 2] if bony else 0


def choose_slices(prediction: Prediction, *, count: int = 5) -> list[int]:
    """Slices for a strip: spread evenly over the tumour's extent (or the bone's), the largest one always among them."""
    areas = prediction.slices
    seen = [s.index for s in areas if s.tumour_mm2 > 0] or [s.index for s in areas if s.bone_mm2 > 0]
    seen = seen or [s.index for s in areas]
    if not seen:
        return []
    best = most_tumour(prediction)
    spread = {seen[round(i)] for i in np.linspace(0, len(seen) - 1, min(count, len(seen)))}
    if best not in spread:
        spread.remove(min(spread, key=lambda i: abs(i - best)))
        spread.add(best)
    return sorted(spread)


def contrast_index(volume: Volume, contrast: str | None = None) -> int:
    """Index of a contrast by name; None takes the first."""
    return 0 if contrast is None else volume.contrasts.index(contrast)


def rim(mask: npt.NDArray[np.bool_], *, width: int = 1) -> npt.NDArray[np.bool_]:
    """The inner edge of a mask (row, column), `width` pixels wide."""
    inner = mask
    for _ in range(width):
        padded = np.pad(inner, 1, constant_values=False)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def round_length(longest: float) -> float:
    """The largest of 1, 2, 5 x 10^n that is not longer than `longest`: lengths for scale bars."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))
