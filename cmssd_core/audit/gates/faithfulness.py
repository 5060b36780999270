"""Faithfulness: does the model's answer depend on what a map points at? Deletion, insertion, completeness, infidelity.

These test the map against the model, never the model against the disease: a model that cheats has faithful maps too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
#: Masks of what is filled (each as the map is shaped) -> the model's answer to each, in logits.
Answers = Callable[[Sequence[Mask]], Floats]

STEPS = (0.02, 0.05, 0.1, 0.2, 0.3)  # shares of the blocks that are filled


def block_order(a: Map, block: int) -> npt.NDArray[np.int64]:
    """Numbers of the block x block tiles of a map (image, y, x), those with the highest mean first."""
    return np.argsort(-_block_means(a, block), kind="stable")


def block_mask(shape: tuple[int, int, int], block: int, chosen: npt.NDArray[np.int64]) -> Mask:
    """Where the chosen tiles lie, bool (image, y, x)."""
    images, height, width = shape
    down, across = -(-height // block), -(-width // block)
    flat = np.zeros(images * down * across, dtype=bool)
    flat[chosen] = True
    tiles = flat.reshape(images, down, across)
    full: Mask = tiles.repeat(block, axis=1).repeat(block, axis=2)[:, :height, :width]
    return full


def deletion_masks(a: Map, *, block: int, steps: Sequence[float] = STEPS) -> list[Mask]:
    """What is filled at each step: the tiles a map ranks highest, by share of all tiles."""
    order = block_order(a, block)
    shape = (a.shape[0], a.shape[1], a.shape[2])
    return [block_mask(shape, block, order[: max(1, round(share * len(order)))]) for share in steps]


def deletion(
    a: Map, answers: Answers, *, block: int, rng: np.random.Generator, randoms: int = 2
) -> tuple[float, float]:
    """How far the answer falls when the map's highest tiles are filled, and when random ones are: means over STEPS.

    Samek et al., TNNLS 2017 (area over the perturbation curve), with tiles instead of pixels.
    """
    orders = [a, *(rng.random(a.shape) for _ in range(randoms))]
    masks = [mask for order in orders for mask in deletion_masks(order, block=block)]
    whole = np.zeros(a.shape, dtype=bool)
    found = answers([whole, *masks])
    falls = (found[0] - found[1:]).reshape(len(orders), len(STEPS)).mean(1)
    return float(falls[0]), float(falls[1:].mean())


def insertion(
    a: Map, answers: Answers, *, block: int, rng: np.random.Generator, randoms: int = 2
) -> tuple[float, float]:
    """How far the answer rises from the empty input when the map's highest tiles are shown, and when random ones."""
    orders = [a, *(rng.random(a.shape) for _ in range(randoms))]
    masks = [~mask for order in orders for mask in deletion_masks(order, block=block)]
    found = answers([np.ones(a.shape, dtype=bool), *masks])
    rises = (found[1:] - found[0]).reshape(len(orders), len(STEPS)).mean(1)
    return float(rises[0]), float(rises[1:].mean())


def completeness_gap(total: float, answer: float, baseline: float) -> float | None:
    """|sum of attributions - (answer - baseline's answer)| / |answer - baseline's answer| (Sundararajan et al. 2017).

    None where the two answers are within 0.1 logit: a ratio to nothing says nothing.
    """
    change = answer - baseline
    return abs(total - change) / abs(change) if abs(change) >= 0.1 else None


def infidelity(changes: Floats, falls: Floats) -> float:
    """Yeh et al., NeurIPS 2019, normalised: mean of (b I.phi - fall)^2 over perturbations, b the best scale.

    changes: what a map says each perturbation takes away, I.phi; falls: what it took. Divided by the mean squared fall:
    0 = the map foretells every fall, 1 = it foretells nothing.
    """
    power = float((changes * changes).sum())
    scale = float((changes * falls).sum()) / power if power > 0 else 0.0
    size = float((falls * falls).mean())
    return float(((scale * changes - falls) ** 2).mean()) / size if size > 0 else 0.0


def _block_means(a: Map, block: int) -> Floats:
    _, height, width = a.shape
    pad = ((0, 0), (0, -height % block), (0, -width % block))
    full = np.pad(np.asarray(a, dtype=np.float64), pad)
    counts = np.pad(np.ones((1, height, width)), pad)
    down, across = full.shape[1] // block, full.shape[2] // block

    def summed(x: Floats) -> Floats:
        tiles: Floats = x.reshape(len(x), down, block, across, block).sum((2, 4))
        return tiles

    means: Floats = (summed(full) / summed(counts)).ravel()
    return means
