"""Macenko stain normalisation: two stain colours fitted once a slide, every patch redrawn in the reference's colours.

M. Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009, in the form that
staintools 2.1.2 gave it, to which this file agrees within two grey levels: tissue by LAB luminosity, optical density
OD = -ln(I / 255), the plane of the two leading eigenvectors, the 1st and 99th percentile of the angle in it,
concentrations by non-negative lasso, scaling by their 99th percentile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cmssd_core.types import BoolArray, FloatArray, InputError, Uint8Array, frozen

Backend = Literal["native", "staintools"]

_LASSO = 0.01
_ANGLE_PERCENTILE = 99
_CONCENTRATION_PERCENTILE = 99
#: More pixels than this are thinned by a regular stride before fitting: percentiles of 16 million are settled.
_FIT_PIXELS = 1 << 24
# Blocks stay in one core's cache. All arithmetic is numpy's elementwise kind, on purpose: torch and BLAS start threads
# here, and on two shared cores two threads took four times as long as one.
_BLOCK = 16384


@dataclass(frozen=True, eq=False)
class Stain:
    """The colours and strength of one slide's stain.

    vectors: float64 (2, 3), haematoxylin then eosin, unit-norm optical density of R, G, B.
    max_concentration: float64 (2,), 99th percentile of each stain's concentration, in optical density.
    """

    vectors: npt.NDArray[np.float64]
    max_concentration: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=np.float64)
        strength = np.array(self.max_concentration, dtype=np.float64)
        if vectors.shape != (2, 3) or strength.shape != (2,):
            raise ValueError(
                f"a Stain needs vectors (2, 3) and max_concentration (2,), got {vectors.shape} and {strength.shape}"
            )
        object.__setattr__(self, "vectors", frozen(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
        object.__setattr__(self, "max_concentration", frozen(strength))


#: The target published with Macenko's MATLAB code and reused by most ports since (columns HERef, maxCRef).
REFERENCE = Stain(
    vectors=np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]]),
    max_concentration=np.array([1.9705, 1.0308]),
)


def _luminosity_tables() -> npt.NDArray[np.int32]:
    """(3, 256) weights whose sum over R, G, B orders colours as OpenCV's 8-bit LAB L does."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    table = np.rint(255 * 8 * linear)
    return np.stack([weight * table for weight in (871, 2929, 296)]).astype(np.int32)


_LUMINOSITY = _luminosity_tables()
# L / 255 < 0.8 is L <= 203 in 8 bits; over all 2^24 colours that is exactly a weighted sum below this number.
_LUMINOSITY_LIMIT = 4696064


# Black counts as 1 of 255 and white as 1e-6, as staintools has it.
_OPTICAL_DENSITY = np.maximum(-np.log(np.maximum(np.arange(256), 1) / 255), 1e-6).astype(np.float32)


def dark_enough(pixels: Uint8Array) -> BoolArray:
    """Tissue as staintools sees it: LAB luminosity below 0.8; bool (...) for uint8 (..., 3)."""
    return _dark(_planes(pixels)).reshape(pixels.shape[:-1])


def fit(pixels: Uint8Array, *, backend: Backend = "native") -> Stain:
    """The stain of a slide from all its patches' pixels, refused where no two H&E stains can be told apart.

    pixels: uint8 (..., 3). Raises InputError on blank glass, too little tissue, one single colour, and colours that
    cannot be haematoxylin and eosin.
    """
    dark = dark_enough(pixels)
    count = int(dark.sum())
    if count < max(100, 0.002 * dark.size):
        raise InputError(
            f"only {count} of {dark.size} pixels are darker than bare glass, too few to find the stain's colours; "
            "choose a slide or region with more tissue"
        )
    stain = estimate(pixels, backend=backend)
    between = angle_deg(stain.vectors[0], stain.vectors[1])
    if between < 2:
        raise InputError(
            f"the tissue has one colour only (haematoxylin and eosin lie {between:.1f} degrees apart, at least 2 were "
            "expected); use an H&E-stained slide in colour"
        )
    if stain.vectors.min() < -0.25:
        raise InputError(
            "the colours found absorb less than nothing in one channel, as pen or fluorescence do and H&E does not; "
            "use an H&E-stained slide without pen over the tissue"
        )
    return stain


def estimate(pixels: Uint8Array, *, backend: Backend = "native") -> Stain:
    """The stain by Macenko's arithmetic alone, whatever the pixels show.

    pixels: uint8 (..., 3). Raises InputError where the arithmetic has no answer: fewer than three pixels of tissue,
    or a stain that 99 of 100 pixels lack.
    """
    flat = pixels.reshape(-1, 3)
    flat = flat[:: -(-len(flat) // _FIT_PIXELS) or 1]
    if backend == "staintools":
        from cmssd_core.slide import staintools_backend

        return _with_strength(*staintools_backend.estimate(flat))
    planes = _planes(flat)
    dark = _dark(planes)
    tissue = np.stack([plane[dark] for plane in planes])
    if tissue.shape[1] < 3:
        raise InputError("no pixel is darker than bare glass, so no stain can be measured; choose a slide with tissue")
    vectors = _vectors(tissue)
    return _with_strength(vectors, _strength(planes, vectors))


def _with_strength(vectors: npt.NDArray[np.float64], strength: npt.NDArray[np.float64]) -> Stain:
    if not (np.isfinite(vectors).all() and (strength > 0).all()):
        raise InputError(
            "one of the two stains is absent in 99 of 100 pixels, so colours cannot be scaled to it; choose a region "
            "with more tissue, stained with haematoxylin and eosin"
        )
    return Stain(vectors, strength)


def normalise(
    patches: Uint8Array, *, source: Stain, target: Stain = REFERENCE, backend: Backend = "native"
) -> Uint8Array:
    """Patches of a slide stained as `source`, redrawn as if stained as `target`.

    patches: uint8 (..., y, x, 3); gives a new array of the same shape. Values above 255 are clipped.
    """
    if backend == "staintools":
        from cmssd_core.slide import staintools_backend

        return staintools_backend.normalise(
            patches,
            vectors=source.vectors,
            scale=_scale(source, target),
            target_vectors=target.vectors,
        )
    planes = _planes(patches)
    out = np.empty((planes.shape[1], 3), dtype=np.uint8)
    redraw = -_scale(source, target)[:, None] * target.vectors
    for block in _blocks(planes):
        h, e = _concentrations(_OPTICAL_DENSITY[planes[:, block]], source.vectors)
        for channel, weights in enumerate(redraw.T):
            drawn = _weighted((h, e), weights)
            np.exp(drawn, out=drawn)
            drawn *= 255
            out[block, channel] = np.minimum(drawn, 255, out=drawn)
    return out.reshape(patches.shape)


def concentrations(pixels: Uint8Array, vectors: npt.NDArray[np.float64]) -> FloatArray:
    """How much of each stain a pixel holds: float32 (..., 2) for uint8 (..., 3) and stain vectors (2, 3).

    The minimiser of 1/2 |OD - c W|^2 + 0.01 |c|_1 over c >= 0, in closed form.
    """
    return np.ascontiguousarray(_amounts(_planes(pixels), vectors).T).reshape(*pixels.shape[:-1], 2)


def angle_deg(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The angle between two stain vectors, in degrees."""
    cosine = float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(min(1.0, max(-1.0, cosine)))))


def _scale(source: Stain, target: Stain) -> npt.NDArray[np.float64]:
    return np.asarray(target.max_concentration / source.max_concentration)


def _planes(pixels: Uint8Array) -> Uint8Array:
    """(..., 3) as contiguous (3, pixel)."""
    return np.ascontiguousarray(pixels.reshape(-1, 3).T)


def _blocks(planes: Uint8Array) -> Iterator[slice]:
    return (slice(begin, begin + _BLOCK) for begin in range(0, planes.shape[1], _BLOCK))


def _dark(planes: Uint8Array) -> BoolArray:
    total = _LUMINOSITY[0][planes[0]]
    total += _LUMINOSITY[1][planes[1]]
    total += _LUMINOSITY[2][planes[2]]
    return np.asarray(total < _LUMINOSITY_LIMIT)


def _vectors(tissue: Uint8Array) -> npt.NDArray[np.float64]:
    """Stain vectors (2, 3) of tissue pixels (3, pixel)."""
    density = _OPTICAL_DENSITY[tissue]
    mean = density.mean(1, dtype=np.float64)
    spread = np.zeros((3, 3))
    for block in _blocks(tissue):
        centred = density[:, block] - mean[:, None].astype(np.float32)
        spread += np.einsum("in,jn->ij", centred, centred)
    _, axes = np.linalg.eigh(spread / (tissue.shape[1] - 1))
    plane = axes[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    angles = np.empty(tissue.shape[1], dtype=np.float32)
    for block in _blocks(tissue):
        along, across = (_weighted(density[:, block], axis) for axis in plane.T)
        np.arctan2(across, along, out=angles[block])
    extremes = [_percentile(angles, 100 - _ANGLE_PERCENTILE), _percentile(angles, _ANGLE_PERCENTILE)]
    first, second = (plane @ np.array([np.cos(phi), np.sin(phi)]) for phi in extremes)
    # Haematoxylin absorbs more red than eosin does.
    vectors = np.stack([first, second] if first[0] > second[0] else [second, first])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _strength(planes: Uint8Array, vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """99th percentile of each concentration (2,) over all pixels, glass included, as staintools takes it."""
    return np.array([_percentile(row, _CONCENTRATION_PERCENTILE) for row in _amounts(planes, vectors)])


def _amounts(planes: Uint8Array, vectors: npt.NDArray[np.float64]) -> FloatArray:
    out = np.empty((2, planes.shape[1]), dtype=np.float32)
    for block in _blocks(planes):
        out[0, block], out[1, block] = _concentrations(_OPTICAL_DENSITY[planes[:, block]], vectors)
    return out


def _concentrations(density: FloatArray, vectors: npt.NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """The non-negative lasso of two atoms by its active sets: (pixel,) of haematoxylin and of eosin from (3, pixel).

    With h, e the atoms' correlations less the penalty and c their overlap, both active gives (h - c e) / (1 - c^2)
    for the first. Where the second is inactive its optimum is h, and that is the smaller of the two for c >= 0, the
    larger for c < 0; where the first is inactive neither is positive.
    """
    overlap = float(vectors[0] @ vectors[1])
    inverse = 1 / max(1 - overlap * overlap, 1e-12)
    pick = np.minimum if overlap >= 0 else np.maximum
    h, e = (_weighted(density, vector) for vector in vectors)
    h -= _LASSO
    e -= _LASSO
    both_h = _weighted((h, e), np.array([inverse, -inverse * overlap]))
    both_e = _weighted((e, h), np.array([inverse, -inverse * overlap]))
    for both, alone in ((both_h, h), (both_e, e)):
        pick(both, alone, out=both)
        np.maximum(both, 0, out=both)
    return both_h, both_e


def _weighted(rows: Sequence[FloatArray] | FloatArray, weights: npt.NDArray[np.float64]) -> FloatArray:
    """The weighted sum of rows, float32 (pixel,)."""
    total: FloatArray = rows[0] * np.float32(weights[0])
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total += row * np.float32(weight)
    return total


def _percentile(values: FloatArray, percent: float) -> float:
    """numpy's linear percentile, by partition of the two neighbours only."""
    place = (len(values) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(values) - 1)
    parted = np.partition(values, (below, above))
    return float(parted[below] + (place - below) * (float(parted[above]) - float(parted[below])))
