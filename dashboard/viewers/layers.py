"""What a viewer lays over an image, and what a click in it says: frozen, drawn by the JavaScript beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cmssd_core.report.display import lut
from cmssd_core.types import BoolArray, FloatArray, InputError

#: magma, viridis: from little to much. diverging: blue, transparent at 0, red, for signed values. The rest: one colour
#: for a mask.
Colormap = Literal["magma", "viridis", "diverging", "white", "cyan", "yellow", "orange", "green", "pink"]
Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlay:
    """One map over an MRI.

    name: shown, and unique among a viewer's overlays. values: (z, y, x) on the volume's grid, or a mask.
    meaning: one sentence for the legend: what it is and what it is not.
    limits: values of the colour scale's ends; None = the values' own, symmetric around 0 where signed, (0, 1) for a
    mask. shown_from: what is nearer to 0 than this is transparent. opacity: 0 to 1. shown: drawn at first, or only
    after a click on its name. unit: after the number under the cursor.
    """

    name: str
    values: FloatArray | BoolArray
    meaning: str = ""
    colormap: Colormap = "magma"
    limits: tuple[float, float] | None = None
    shown_from: float = 0.0
    opacity: float = 0.4
    signed: bool = False
    shown: bool = True
    unit: str = ""

    def range(self) -> tuple[float, float]:
        """The colour scale's ends: `limits`, or what the values say."""
        return _range(self.values, self.limits, self.signed)


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchLayer:
    """One value a patch, drawn as its square, never blurred; fields as in Overlay, values (patch,), NaN = not known."""

    name: str
    values: FloatArray
    meaning: str = ""
    colormap: Colormap = "viridis"
    limits: tuple[float, float] | None = None
    opacity: float = 0.4
    signed: bool = False
    shown: bool = True
    unit: str = ""

    def range(self) -> tuple[float, float]:
        """The colour scale's ends: `limits`, or what the values say."""
        return _range(self.values, self.limits, self.signed)


@dataclass(frozen=True, eq=False, kw_only=True)
class Patches:
    """Where the patches of a slide lie, and where each lies on the MRI.

    xy: (patch, 2) top-left corners and size_px the edge, level-0 px. places_mm: (patch, 3) RAS+ mm, None where the
    slide is unregistered.
    """

    xy: npt.NDArray[np.int64]
    size_px: float
    places_mm: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Outlines:
    """Annotations over a slide: a GeoJSON FeatureCollection as QuPath writes it, in level-0 px.

    meaning: one sentence for the legend.
    """

    name: str
    geojson: Mapping[str, Any]
    meaning: str = ""
    colormap: Colormap = "yellow"
    shown: bool = True


@dataclass(frozen=True)
class VolumeClick:
    """Where a reader clicked on the MRI: voxel index (x, y, z), RAS+ mm, and the shown contrast's value there."""

    voxel: tuple[int, int, int]
    mm: Point
    value: float | None
    contrast: str


@dataclass(frozen=True)
class PatchClick:
    """Where a reader clicked on the slide: level-0 px, the patch there and its place on the MRI (RAS+ mm), or None."""

    xy_px: tuple[float, float]
    patch: int | None
    mm: Point | None


def refuse_twins(names: list[str]) -> None:
    """Layers are told apart by name; raises InputError where two share one."""
    if len(set(names)) < len(names):
        raise InputError(f"layers need names of their own, got {', '.join(names)}; rename one")


#: One colour, RGB, for a mask or an outline; told apart by those who see no red or no green (Okabe and Ito, 2008).
_PLAIN = {
    "white": (255, 255, 255), "cyan": (86, 204, 242), "yellow": (240, 228, 66), "orange": (230, 159, 0),
    "green": (0, 190, 140), "pink": (229, 100, 160),
}  # fmt: skip
_RED = ((253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43))  # ColorBrewer's RdBu, from its middle outward
_BLUE = ((209, 229, 240), (146, 197, 222), (67, 147, 195), (33, 102, 172))

Table = list[list[int]]


def colours(colormap: Colormap, *, signed: bool) -> tuple[Table, Table | None]:
    """The colour table from 0 (or the low end) up, and for signed values the one from 0 down; RGB of 0 to 255."""
    if signed or colormap == "diverging":
        return [list(each) for each in _RED], [list(each) for each in _BLUE]
    if colormap in _PLAIN:
        return [list(_PLAIN[colormap])], None
    return lut(colormap)[np.linspace(0, 255, 18).round().astype(int)].tolist(), None


def _range(values: npt.NDArray[Any], limits: tuple[float, float] | None, signed: bool) -> tuple[float, float]:
    if limits is not None:
        return float(limits[0]), float(limits[1])
    if values.dtype == np.bool_:
        return 0.0, 1.0
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if signed:
        most = max(abs(low), abs(high)) or 1.0
        return -most, most
    low = min(low, 0.0) if low < 0 else 0.0
    return low, high if high > low else low + 1.0
