"""One rule of geometry for images and masks: what a grid must be, and how far two accounts of it differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine, InputError
from cmssd_core.volume.files.header import Remark

#: Half a degree that axes stand off the right angle moves a corner of a 250 mm image by 2 mm; headers round by less.
_SHEAR_DEG = 0.1
#: Two accounts of one grid differ by rounding up to here.
_ROUNDING_MM = 0.1
SEVERE_MM, SEVERE_DEG = 1.0, 5.0
_LONGEST_MM, _WIDEST_MM, _NARROWEST_MM = 100.0, 4000.0, 3.0
_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "millimetres": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimeters": 10.0, "centimetre": 10.0, "centimetres": 10.0,
    "m": 1000.0, "meter": 1000.0, "meters": 1000.0, "metre": 1000.0, "metres": 1000.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "micrometers": 1e-3,
    "micrometre": 1e-3, "micrometres": 1e-3,
}  # fmt: skip

NO_ORIENTATION = "the {kind} header says no orientation{why}: left and right cannot be trusted"
NO_POSITION = "the {kind} header says no position{why}: the image is taken to begin at 0 mm"
_UNUSABLE = "'{name}' says no usable voxel size or direction in its header; export it again"


def usable(affine: Affine, size: Sequence[int], *, name: str) -> None:
    """Raises InputError for a grid no patient lies on: not finite, flat, sheared, too small or too large.

    size: voxels along (x, y, z).
    """
    if not np.all(np.isfinite(affine)):
        raise InputError(_UNUSABLE.format(name=name))
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    # Axes that fall together name no volume, whatever their lengths.
    if spacing.min() <= 0 or abs(float(np.linalg.det(axes / spacing))) <= 1e-3:
        raise InputError(_UNUSABLE.format(name=name))
    cosines = axes / spacing
    off = np.degrees(np.arcsin(np.clip(np.abs(cosines.T @ cosines - np.eye(3)).max(), 0, 1)))
    if off > _SHEAR_DEG:
        raise InputError(
            f"'{name}' has sheared axes: two of them stand {off:.1f} degrees off the right angle; "
            "resample it onto a rectangular grid and export it again"
        )
    extent = np.asarray(size, dtype=float) * spacing
    if spacing.max() > _LONGEST_MM or extent.max() > _WIDEST_MM:
        raise _no_patient(name, spacing, extent, "larger")
    if extent.max() < _NARROWEST_MM:
        raise _no_patient(name, spacing, extent, "smaller")


def _no_patient(name: str, spacing: Affine, extent: Affine, how: str) -> InputError:
    sides, widths = (" x ".join(f"{float(s):.3g}" for s in row) for row in (spacing, extent))
    return InputError(
        f"'{name}' says voxels of {sides} mm and an image of {widths} mm, {how} than a patient; "
        "check the units in its header"
    )


def apart(one: Affine, other: Affine, size: Sequence[int]) -> tuple[float, float]:
    """How far two grids of one size lie apart: mm at the farthest corner, degrees between their axes."""
    x, y, z = (max(n - 1, 0) for n in size)
    corners = np.array([[i, j, k, 1] for i in (0, x) for j in (0, y) for k in (0, z)], dtype=float).T
    mm = float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())
    cosines = [axes / np.linalg.norm(axes, axis=0) for axes in (one[:3, :3], other[:3, :3])]
    degrees = float(np.degrees(np.arccos(np.clip((cosines[0] * cosines[1]).sum(0), -1, 1))).max())
    return mm, degrees


def compare(used: Affine, other: Affine, size: Sequence[int], *, names: tuple[str, str]) -> list[Remark]:
    """The remark that a header holds two geometries, of which the first is used; none where they agree."""
    first, second = names
    if not np.all(np.isfinite(other)) or np.linalg.norm(other[:3, :3], axis=0).min() <= 0:
        return [("warning", f"the header's {second} is no usable geometry; {first} is used")]
    mm, degrees = apart(used, other, size)
    if mm <= _ROUNDING_MM and degrees <= SEVERE_DEG:
        return []
    level = "severe" if mm > SEVERE_MM or degrees > SEVERE_DEG else "warning"
    what = f"the header holds two geometries: {first} and {second} differ by {mm:.1f} mm and {degrees:.1f} degrees"
    return [("severe" if level == "severe" else "warning", f"{what}; {first} is used")]


def compare_spacing(
    used: npt.ArrayLike, other: npt.ArrayLike, size: Sequence[int], *, names: tuple[str, str]
) -> list[Remark]:
    """The remark that a header says two voxel sizes, of which the first is used; none where they agree."""
    first, second = names
    with np.errstate(all="ignore"):
        ours, theirs = np.abs(np.asarray(used, float)), np.abs(np.asarray(other, float))
        mm = np.abs(ours - theirs) * np.maximum(np.asarray(size) - 1, 1)
    if np.all(np.isfinite(theirs)) and mm.max() <= _ROUNDING_MM:
        return []
    say = [" x ".join(f"{float(s):.4g}" for s in row) for row in (ours, theirs)]
    what = f"the header says two voxel sizes: {say[0]} mm by {first}, {say[1]} mm by {second}; {first} is used"
    return [("severe" if not mm.max() <= SEVERE_MM else "warning", what)]


def length_in_mm(unit: str, *, name: str) -> float:
    """How many mm a unit of length is. Raises InputError for one that is none."""
    found = _MM.get(unit.strip().casefold())
    if found is None:
        raise InputError(
            f"'{name}' gives lengths in '{unit.strip()[:20]}'; expected mm, cm, m or micron; export it in mm"
        )
    return found


def converted(unit: str) -> Remark:
    """The remark that lengths were converted."""
    return "info", f"the header gives lengths in {unit.strip()}; they are converted to mm"
