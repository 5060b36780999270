"""What is measured on the maps of a prediction, on the scan's own grid: areas, volumes, and severity by equation 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmssd_core.evaluation.metrics import THRESHOLD
from cmssd_core.types import Answer, FloatArray, SliceArea, Volume
from cmssd_core.volume.orient import radiological


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Volumes in ml, and areas by slice; None, or nothing, where the map is not drawn that they are measured on."""

    tumour_ml: float | None = None
    bone_ml: float | None = None
    extraosseous_ml: float | None = None
    slices: tuple[SliceArea, ...] = ()


def measure_maps(maps: Mapping[str, FloatArray], volume: Volume | None) -> Measured:
    """Volumes of the maps at THRESHOLD; areas by slice where both tumour and bone are drawn."""
    if volume is None:
        return Measured()
    masks = {name: maps[name] >= THRESHOLD for name in ("tumour", "bone") if name in maps}
    ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000.0
    each = {name: float(mask.sum()) * ml for name, mask in masks.items()}
    if len(masks) < 2:
        return Measured(tumour_ml=each.get("tumour"), bone_ml=each.get("bone"))
    t, b = masks["tumour"], masks["bone"]
    axis = radiological(volume.affine, (t.shape[0], t.shape[1], t.shape[2])).axes[0]
    others = tuple(a for a in range(3) if a != axis)
    mm2 = ml * 1000.0 / volume.spacing_mm[2 - axis]
    areas = zip(t.sum(axis=others) * mm2, b.sum(axis=others) * mm2, strict=True)
    return Measured(
        tumour_ml=each["tumour"],
        bone_ml=each["bone"],
        extraosseous_ml=float((t & ~b).sum()) * ml,
        slices=tuple(SliceArea(i, float(ta), float(ba)) for i, (ta, ba) in enumerate(areas)),
    )


def measure_severity(maps: Mapping[str, FloatArray], volume: Volume | None) -> Answer:
    """Equation 4 of seed paper 000 on the maps at THRESHOLD, or why it is undefined."""
    if volume is None:
        return Answer(None, "%", reason="no MRI was given, so there is no map to measure")
    missing = [name for name in ("tumour", "bone") if name not in maps]
    if missing:
        words = "no maps" if len(missing) > 1 else f"no map of the {missing[0]}"
        return Answer(None, "%", reason=f"the model draws {words} to measure")
    t, b = maps["tumour"] >= THRESHOLD, maps["bone"] >= THRESHOLD
    if not b.any():
        return Answer(None, "%", reason="no bone was found on the MRI: equation 4 divides by its area")
    return Answer(100.0 * float((t & b).sum()) / float(b.sum()), "%")
