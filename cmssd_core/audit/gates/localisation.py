"""Localisation: does a map lie on a mask, and does it lie there better than maps that know nothing of the model?

Maps are non-negative arrays of any shape, masks bool of the same shape; `room` limits both to where anything can be
(the body, the tissue). Measures after docs/explainability.md; Quantus is the oracle of the tests where it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_gradient_magnitude
from scipy.stats import rankdata

Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


def positive(signed: Map) -> Map:
    """What speaks for the target: negative attributions count nothing."""
    kept: Map = np.clip(np.asarray(signed, dtype=np.float64), 0, None)
    return kept


def share(mask: Mask, room: Mask | None = None) -> float:
    """The mask's share of the room: what a random map scores."""
    inside = mask if room is None else mask & room
    size = mask.size if room is None else int(room.sum())
    return float(inside.sum()) / size if size else 0.0


def pointing(a: Map, mask: Mask, room: Mask | None = None) -> float | None:
    """1 where the map's highest value lies in the mask, else 0 (Zhang et al., IJCV 2018); None for an empty mask.

    Where several places are equally high, their share that lies in the mask.
    """
    a, mask = _within(a, mask, room)
    if not mask.any() or not a.any():
        return None
    return float(mask[a == a.max()].mean())


def mass(a: Map, mask: Mask, room: Mask | None = None) -> float | None:
    """Share of the map that lies in the mask (relevance mass accuracy, Arras et al. 2022); None where there is none."""
    a, mask = _within(a, mask, room)
    total = a.sum()
    return float(a[mask].sum() / total) if mask.any() and total > 0 else None


def rank(a: Map, mask: Mask, room: Mask | None = None) -> float | None:
    """Of the map's highest n places, n the mask's size, the share in the mask (relevance rank accuracy)."""
    a, mask = _within(a, mask, room)
    count = int(mask.sum())
    if not count or not a.any():
        return None
    top = np.argpartition(-a, count - 1)[:count]
    return float(mask[top].mean())


def auc(a: Map, mask: Mask, room: Mask | None = None) -> float | None:
    """Probability that a place in the mask has a higher value than one outside (ties count one half)."""
    a, mask = _within(a, mask, room)
    inside = int(mask.sum())
    outside = mask.size - inside
    if not inside or not outside:
        return None
    ranks = rankdata(a)
    return float((ranks[mask].sum() - inside * (inside + 1) / 2) / (inside * outside))


def enrichment(a: Map, mask: Mask, room: Mask | None = None) -> float | None:
    """Mass in the mask divided by the mask's share of the room: 1 = no better than chance."""
    found, chance = mass(a, mask, room), share(mask, room)
    return found / chance if found is not None and chance > 0 else None


#: What is reported of a map and a mask.
MEASURES: dict[str, Callable[[Map, Mask, Mask | None], float | None]] = {
    "pointing": pointing,
    "mass": mass,
    "rank": rank,
    "auc": auc,
    "enrichment": enrichment,
}


def random_map(shape: tuple[int, ...], rng: np.random.Generator) -> Map:
    """A map of noise."""
    return rng.random(shape)


def centre_map(shape: tuple[int, ...]) -> Map:
    """A Gaussian in the middle of each image, (image, y, x); sigma a quarter of the edge."""
    y, x = (np.linspace(-2, 2, n) for n in shape[-2:])
    flat = np.exp(-0.5 * (y[:, None] ** 2 + x[None] ** 2))
    return np.broadcast_to(flat, shape).copy()


def edge_map(grey: Map) -> Map:
    """How steep the image is, (image, y, x): what looks like an explanation and is an edge detector (Adebayo 2018)."""
    return np.stack([gaussian_gradient_magnitude(np.asarray(one, dtype=np.float64), 1.0) for one in grey])


def brightness_map(grey: Map) -> Map:
    """The image itself, from its darkest value up."""
    return np.asarray(grey, dtype=np.float64) - float(grey.min())


def controls(grey: Map, *, dark: bool, rng: np.random.Generator) -> dict[str, Map]:
    """Maps of an image (image, y, x) that know no model. dark: what stands out is dark (stained tissue on glass)."""
    return {
        "random": random_map(grey.shape, rng),
        "centre": centre_map(grey.shape),
        "edge": edge_map(grey),
        "brightness": brightness_map(-grey if dark else grey),
    }


def shift_mask(mask: Mask, room: Mask, *, count: int, rng: np.random.Generator) -> list[Mask]:
    """Up to `count` copies of a mask (image, y, x) moved elsewhere: as large, as shaped, mostly in the room.

    Images are reordered and rolled over their edges, so autocorrelation stays; at least four fifths of a copy lie in
    the room and at most a quarter on the mask. Fewer, or none, where the mask leaves no such place.
    """
    found: list[Mask] = []
    size = int(mask.sum())
    if not size:
        return found
    images, height, width = mask.shape
    for _ in range(40 * count):
        turn = int(rng.integers(images))
        by = (int(rng.integers(height)), int(rng.integers(width)))
        moved = np.roll(np.roll(mask, turn, axis=0), by, axis=(1, 2))
        if (moved & room).sum() >= 0.8 * size and (moved & mask).sum() <= 0.25 * size:
            found.append(moved)
        if len(found) == count:
            break
    return found


def _within(a: Map, mask: Mask, room: Mask | None) -> tuple[Map, Mask]:
    if a.shape != mask.shape:
        raise ValueError(f"map and mask must be on one grid, got {a.shape} and {mask.shape}")
    if room is None:
        return a.ravel(), mask.ravel()
    return a[room], mask[room]
