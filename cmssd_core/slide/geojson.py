"""A slide's patches as QuPath GeoJSON, and a reader's annotations from it; all in level-0 px."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import FloatArray, InputError

_KINDS = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
#: More corners than this no viewer draws in time.
LIMIT = 500_000


def patches_geojson(xy: npt.NDArray[np.int64], size_px: float, values: Mapping[str, FloatArray]) -> dict[str, Any]:
    """A FeatureCollection with one QuPath tile a patch: its square, and its values as measurements by name.

    xy: (patch, 2) top-left corners, size_px: their edge, level-0 px. values: (patch,) each; NaN is left out.
    """
    features = []
    for index, (x, y) in enumerate(xy.tolist()):
        right, bottom = x + size_px, y + size_px
        known = {name: float(all_of[index]) for name, all_of in values.items() if math.isfinite(float(all_of[index]))}
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]],
                },
                "properties": {"objectType": "tile", "name": f"patch {index + 1}", "measurements": known},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def read_geojson(content: bytes, *, width: int, height: int) -> dict[str, Any]:
    """Annotations as QuPath exports them (a FeatureCollection, one Feature or a list of them), checked and made lean.

    width, height: of the slide, level-0 px. Gives a FeatureCollection of geometry and class name alone: names and
    notes that a user typed stay behind. Raises InputError where it is no GeoJSON, has no shape in it or lies off the
    slide.
    """
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError("the annotations are no GeoJSON; in QuPath choose File > Export objects as GeoJSON") from None
    found = told if isinstance(told, list) else told.get("features", [told]) if isinstance(told, dict) else []
    features, corners = [], 0
    lowest, highest = np.full(2, np.inf), np.full(2, -np.inf)
    for feature in found if isinstance(found, list) else []:
        shape = feature.get("geometry") if isinstance(feature, dict) else None
        if not isinstance(shape, dict) or shape.get("type") not in _KINDS:
            continue
        points = _points(shape.get("coordinates"))
        if points is None:
            raise InputError(
                f"a {shape['type']} has corners that are no pairs of numbers; export the annotations again"
            )
        corners += len(points)
        if corners > LIMIT:
            raise InputError(f"the annotations have more than {LIMIT:,} corners; simplify them in QuPath and try again")
        lowest, highest = np.minimum(lowest, points.min(0)), np.maximum(highest, points.max(0))
        told_class = (feature.get("properties") or {}).get("classification")
        name = told_class.get("name") if isinstance(told_class, dict) else told_class
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": shape["type"], "coordinates": shape["coordinates"]},
                "properties": {"classification": {"name": str(name)}} if name else {},
            }
        )
    if not features:
        raise InputError("the annotations hold no shape; draw some in QuPath and export all objects as GeoJSON")
    if highest[0] < 0 or highest[1] < 0 or lowest[0] > width or lowest[1] > height:
        raise InputError(
            f"the annotations lie outside this slide of {width} x {height} px; choose those that were drawn on it"
        )
    return {"type": "FeatureCollection", "features": features}


def _points(coordinates: Any) -> npt.NDArray[np.float64] | None:
    """All corners of a shape, (corner, 2), None where one is no pair of finite numbers."""
    flat: list[tuple[float, float]] = []
    waiting = [coordinates]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, list) or not part:
            return None
        if all(isinstance(each, int | float) and not isinstance(each, bool) for each in part):
            if len(part) < 2 or not all(math.isfinite(each) for each in part):
                return None
            flat.append((float(part[0]), float(part[1])))
        else:
            waiting += part
    return np.array(flat)
