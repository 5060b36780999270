"""Outlines of a slide mask as QuPath GeoJSON: polygons with holes, in level-0 pixels, as a pathologist would draw them.

A lace of osteoid has more edge than anyone draws, so its neighbourhood is outlined; the mask beside it is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, label

from cmssd_core.types import BoolArray

CELL_PX = 8  # outlines run along the edges of cells of this size
SMALLEST = 4  # cells; a smaller region is not outlined

Corner = tuple[int, int]  # x, y


def to_geojson(mask: BoolArray, *, name: str) -> dict[str, Any]:
    """A FeatureCollection of what surrounds mask (y, x) closely, one annotation a region, classified as `name`."""
    height, width = mask.shape
    grown = np.zeros((height + -height % CELL_PX, width + -width % CELL_PX))
    grown[: mask.shape[0], : mask.shape[1]] = mask
    cells = grown.reshape(grown.shape[0] // CELL_PX, CELL_PX, grown.shape[1] // CELL_PX, CELL_PX).mean((1, 3))
    regions, count = label(gaussian_filter(cells, 1.0) > 0.08)
    limit = np.array([mask.shape[1], mask.shape[0]])
    features = []
    for number in range(1, count + 1):
        region = regions == number
        if region.sum() < SMALLEST:
            continue
        rings = [np.minimum(np.array([*ring, ring[0]]) * CELL_PX, limit).tolist() for ring in outlines(region)]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": rings},
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def outlines(region: BoolArray) -> list[list[Corner]]:
    """Rings of corners along the edges of one 4-connected region (y, x): the outer ring first, then its holes.

    Turning at every corner and nowhere else; not closed.
    """
    follows = _edges(region)
    rings = []
    while follows:
        at = min(follows)
        step: Corner = (1, 0)
        ring: list[Corner] = []
        while at in follows:
            ahead = follows[at]
            # Where two cells meet at a corner only, keep to the cell one has walked along: turn right.
            turn = min(ahead, key=lambda to: (to != (-step[1], step[0]), to)) if len(ahead) > 1 else ahead[0]
            ahead.remove(turn)
            if not ahead:
                del follows[at]
            if turn != step or not ring:
                ring.append(at)
            at, step = (at[0] + turn[0], at[1] + turn[1]), turn
        rings.append(ring)
    return sorted(rings, key=_area, reverse=True)


def _edges(region: BoolArray) -> dict[Corner, list[Corner]]:
    """Unit steps along the region's edge from each corner, the region on the right hand (y runs down)."""
    padded = np.pad(region, 1)
    follows: dict[Corner, list[Corner]] = {}

    def add(where: npt.NDArray[np.bool_], dx: int, dy: int, step: Corner) -> None:
        for y, x in np.argwhere(where):
            follows.setdefault((int(x) + dx, int(y) + dy), []).append(step)

    inner = padded[1:-1, 1:-1]
    add(inner & ~padded[:-2, 1:-1], 0, 0, (1, 0))  # above is outside: eastward along the upper edge
    add(inner & ~padded[1:-1, 2:], 1, 0, (0, 1))
    add(inner & ~padded[2:, 1:-1], 1, 1, (-1, 0))
    add(inner & ~padded[1:-1, :-2], 0, 1, (0, -1))
    return follows


def _area(ring: list[Corner]) -> float:
    x, y = np.array(ring, dtype=np.float64).T
    return float(np.abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
