"""A slide's patches as QuPath GeoJSON, and a reader's annotations from it; all in level-0 px."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import FloatArray, InputError

#: Kinds of shapes, and of how many lists within lists their corners lie.
_KINDS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_READ = ("type", "features", "geometry", "coordinates", "properties", "classification", "name")
#: More corners than this no viewer draws in time.
LIMIT = 500_000
#: Of a class's name so much is kept, and a longer file is not parsed at all.
NAME_LIMIT = 120
LIMIT_BYTES = 100_000_000
_FARTHEST_PX = 1e8
_LOG = logging.getLogger("cmssd.slide")


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
        return _checked(_parsed(content), width=width, height=height)
    except InputError:
        raise
    except Exception as reason:
        # What a text may do to the parts of a library is not to be listed.
        _LOG.warning("annotations were not read: %s", type(reason).__name__)
        raise _no_geojson() from reason


def _no_geojson() -> InputError:
    return InputError("the annotations are no GeoJSON; in QuPath choose File > Export objects as GeoJSON")


def _parsed(content: bytes) -> Any:
    """JSON, every number as float (a measurement may be NaN, a corner may not); what is read stands there once."""
    if len(content) > LIMIT_BYTES:
        raise InputError(
            f"the annotations are {len(content) // 10**6} MB of GeoJSON, at most {LIMIT_BYTES // 10**6} are read; "
            "export fewer objects"
        )
    return json.loads(content, object_pairs_hook=_single, parse_int=float)


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) < len(pairs):
        names = Counter(name for name, _ in pairs)
        twice = next((name for name in _READ if names[name] > 1), None)
        if twice is not None:
            raise InputError(f"the annotations name '{twice}' twice in one object; export them again")
    return told


def _checked(summary: Any, *, width: int, height: int) -> dict[str, Any]:
    found = (
        summary
        if isinstance(summary, list)
        else summary.get("features", [summary])
        if isinstance(summary, dict)
        else []
    )
    features, corners = [], 0
    lowest, highest = np.full(2, np.inf), np.full(2, -np.inf)
    for feature in found if isinstance(found, list) else []:
        shape = feature.get("geometry") if isinstance(feature, dict) else None
        if not isinstance(shape, dict):
            continue
        if not isinstance(shape.get("type"), str) or shape["type"] not in _KINDS:
            raise InputError(
                f"the annotations hold a shape of another kind than {', '.join(_KINDS)}; split or remove it in QuPath"
            )
        points = _points(shape.get("coordinates"), depth=_KINDS[shape["type"]])
        if points is None:
            raise InputError(
                f"a {shape['type']} has corners that are no pairs of numbers; export the annotations again"
            )
        corners += len(points)
        if corners > LIMIT:
            raise InputError(f"the annotations have more than {LIMIT:,} corners; simplify them in QuPath and try again")
        lowest, highest = np.minimum(lowest, points.min(0)), np.maximum(highest, points.max(0))
        name = _class_name(feature.get("properties"))
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": shape["type"], "coordinates": shape["coordinates"]},
                "properties": {"classification": {"name": name}} if name else {},
            }
        )
    if not features:
        raise InputError("the annotations hold no shape; draw some in QuPath and export all objects as GeoJSON")
    if highest[0] < 0 or highest[1] < 0 or lowest[0] > width or lowest[1] > height:
        raise InputError(
            f"the annotations lie outside this slide of {width} x {height} px; choose those that were drawn on it"
        )
    return {"type": "FeatureCollection", "features": features}


def _class_name(properties: Any) -> str | None:
    """The class of a shape, shortened; None where it has none that is a text."""
    told = properties.get("classification") if isinstance(properties, dict) else None
    name = told.get("name") if isinstance(told, dict) else told
    return name[:NAME_LIMIT].encode("utf-8", "replace").decode() if isinstance(name, str) else None


def _points(coordinates: Any, *, depth: int) -> npt.NDArray[np.float64] | None:
    """All corners of a shape, (corner, 2), None where one is no pair of numbers that a slide may have.

    depth: of how many lists within lists of corners the shape consists.
    """
    parts = [coordinates]
    for _ in range(depth):
        if not all(isinstance(part, list) and part for part in parts):
            return None
        parts = [each for part in parts for each in part]
    for part in parts:
        if not isinstance(part, list) or len(part) < 2:
            return None
        if not all(isinstance(each, float) and abs(each) < _FARTHEST_PX for each in part):
            return None
    return np.array([part[:2] for part in parts])
