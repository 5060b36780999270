"""Slide artefacts of the laboratory: fold, tear, blur and pen, laid over a finished slide, each with its mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cmssd_core.synthetic.fields import gaussian_field
from cmssd_core.types import BoolArray, Uint8Array

ARTEFACTS = ("fold", "tear", "blur", "pen")
INK = (0.18, 0.35, 0.85)  # transmitted share of red, green, blue under a blue pen


def spoil(rgb: Uint8Array, artefact: str, *, mpp: float, rng: np.random.Generator) -> tuple[Uint8Array, BoolArray]:
    """The slide (y, x, 3) with one of ARTEFACTS on it, and where (y, x); elsewhere it is untouched."""
    shape = (rgb.shape[0], rgb.shape[1])
    light = rgb / 255.0
    distance_um = _line(shape, rng) * mpp
    if artefact == "fold":  # two layers of tissue: the optical densities add up
        where = distance_um < rng.uniform(12, 30)
        changed = light * np.roll(light, (37, 21), axis=(0, 1)) ** rng.uniform(0.7, 1.0)
    elif artefact == "tear":
        where = distance_um < rng.uniform(8, 25) * (1 + 0.6 * gaussian_field(shape, 12 / mpp, rng))
        changed = np.full_like(light, 0.95) + rng.normal(0, 0.012, light.shape)
    elif artefact == "blur":  # out of focus on one side of a soft border
        where = gaussian_field(shape, 120 / mpp, rng) > rng.uniform(0.6, 1.3)
        changed = gaussian_filter(light, [rng.uniform(2.5, 5) / mpp] * 2 + [0])
    elif artefact == "pen":
        where = distance_um < rng.uniform(10, 25)
        changed = light * np.array(INK)
    else:
        raise ValueError(f"no slide artefact {artefact!r}; known are {', '.join(ARTEFACTS)}")
    out = np.where(where[..., None], np.clip(np.round(changed * 255), 0, 255), rgb).astype(np.uint8)
    return out, where


def _line(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Distance in px from a wavy line across the slide."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    turn, off = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3)
    along = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    across = (y - 0.5) * np.cos(turn) - (x - 0.5) * np.sin(turn)
    wave = rng.uniform(0.01, 0.05) * np.sin(along * rng.uniform(4, 12) + rng.uniform(0, 2 * np.pi))
    distance: npt.NDArray[np.float64] = np.abs(across - off - wave) * max(shape)
    return distance
