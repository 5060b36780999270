"""Macenko stain normalisation: two stain colours fitted once a slide, every patch redrawn in the reference's colours.

M. Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009, in the form that
staintools 2.1.2 gave it, to which this file agrees within two grey levels: tissue by LAB luminosity, optical density
OD = -ln(I / 255), the plane of the two leading eigenvectors, the 1st and 99th percentile of the angle in it,
concentrations by non-negative lasso, scaling by their 99th percentile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cmssd_core.types import BoolArray, FloatArray, InputError, Uint8Array, frozen

Backend = Literal["native", "staintools"]

_LASSO = 0.01
_ANGLE_PERCENTILE = 99
_CONCENTRATION_PERCENTILE = 99
#: More pixels than this are thinned by a regular stride before fitting: percentiles of 16 million are settled.
_FIT_PIXELS = 1 << 24
# torch starts its threads above 32,768 elements; blocks below that stay in one core's cache and never wait for a
# busy neighbour (2 threads on 2 shared cores were 4 times slower than 1).
_BLOCK = 8192


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


def dark_enough(pixels: Uint8Array) -> BoolArray:
    """Tissue as staintools sees it: LAB luminosity below 0.8; bool (...) for uint8 (..., 3)."""
    total = _LUMINOSITY[0][pixels[..., 0]]
    total += _LUMINOSITY[1][pixels[..., 1]]
    total += _LUMINOSITY[2][pixels[..., 2]]
    return np.asarray(total < _LUMINOSITY_LIMIT)


def fit(pixels: Uint8Array, *, backend: Backend = "native") -> Stain:
    """The stain of a slide from all its patches' pixels, refused where no two H&E stains can be told apart.

    pixels: uint8 (..., 3). Raises InputError on blank glass, too little tissue, one single colour, and colours that
    cannot be haematoxylin and eosin.
    """
    flat = pixels.reshape(-1, 3)
    tissue = dark_enough(flat)
    count = int(tissue.sum())
    if count < max(100, 0.002 * len(flat)):
        raise InputError(
            f"only {count} of {len(flat)} pixels are darker than bare glass, too few to find the stain's colours; "
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
    step = -(-len(flat) // _FIT_PIXELS)
    flat = np.ascontiguousarray(flat[::step])
    if backend == "staintools":
        from cmssd_core.slide import staintools_backend

        return _with_strength(*staintools_backend.estimate(flat))
    tissue = flat[dark_enough(flat)]
    if len(tissue) < 3:
        raise InputError("no pixel is darker than bare glass, so no stain can be measured; choose a slide with tissue")
    vectors = _vectors(tissue)
    return _with_strength(vectors, _strength(flat, vectors))


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
    flat = np.ascontiguousarray(patches).reshape(-1, 3)
    out = np.empty_like(flat)
    redraw = torch.tensor(-_scale(source, target)[:, None] * target.vectors, dtype=torch.float32)
    for begin in range(0, len(flat), _BLOCK):
        amounts = _concentrations(_optical_density(flat[begin : begin + _BLOCK]), source.vectors)
        out[begin : begin + _BLOCK] = (amounts @ redraw).exp_().mul_(255).clamp_(max=255).byte().numpy()
    return out.reshape(patches.shape)


def concentrations(pixels: Uint8Array, vectors: npt.NDArray[np.float64]) -> FloatArray:
    """How much of each stain a pixel holds: float32 (..., 2) for uint8 (..., 3) and stain vectors (2, 3).

    The minimiser of 1/2 |OD - c W|^2 + 0.01 |c|_1 over c >= 0, in closed form.
    """
    flat = np.ascontiguousarray(pixels).reshape(-1, 3)
    out = np.empty((len(flat), 2), dtype=np.float32)
    for begin in range(0, len(flat), _BLOCK):
        out[begin : begin + _BLOCK] = _concentrations(_optical_density(flat[begin : begin + _BLOCK]), vectors).numpy()
    return out.reshape(*pixels.shape[:-1], 2)


def angle_deg(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The angle between two stain vectors, in degrees."""
    cosine = float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(min(1.0, max(-1.0, cosine)))))


def _scale(source: Stain, target: Stain) -> npt.NDArray[np.float64]:
    return np.asarray(target.max_concentration / source.max_concentration)


def _optical_density(flat: Uint8Array) -> Tensor:
    """float32 (pixel, 3); black counts as 1 of 255, white as 1e-6, as staintools has it."""
    return torch.from_numpy(flat.astype(np.float32)).clamp_(min=1).div_(255).log_().neg_().clamp_(min=1e-6)


def _vectors(tissue: Uint8Array) -> npt.NDArray[np.float64]:
    """Stain vectors (2, 3) of tissue pixels (pixel, 3)."""
    blocks = [_optical_density(tissue[begin : begin + _BLOCK]) for begin in range(0, len(tissue), _BLOCK)]
    mean = torch.stack([block.sum(0, dtype=torch.float64) for block in blocks]).sum(0) / len(tissue)
    spread = torch.zeros(3, 3, dtype=torch.float64)
    for block in blocks:
        centred = block - mean.float()
        spread += (centred.T @ centred).double()
    _, axes = np.linalg.eigh(spread.numpy() / (len(tissue) - 1))
    plane = axes[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    basis = torch.tensor(plane, dtype=torch.float32)
    angles = np.concatenate([torch.atan2(*(block @ basis).T.flip(0)).numpy() for block in blocks])
    extremes = np.percentile(angles, [100 - _ANGLE_PERCENTILE, _ANGLE_PERCENTILE])
    first, second = (plane @ np.array([np.cos(phi), np.sin(phi)]) for phi in extremes)
    # Haematoxylin absorbs more red than eosin does.
    vectors = np.stack([first, second] if first[0] > second[0] else [second, first])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _strength(flat: Uint8Array, vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """99th percentile of each concentration (2,) over all pixels, glass included, as staintools takes it."""
    amounts = np.empty((2, len(flat)), dtype=np.float32)
    for begin in range(0, len(flat), _BLOCK):
        block = _concentrations(_optical_density(flat[begin : begin + _BLOCK]), vectors)
        amounts[:, begin : begin + _BLOCK] = block.T.numpy()
    return np.array([np.percentile(row, _CONCENTRATION_PERCENTILE) for row in amounts], dtype=np.float64)


def _concentrations(density: Tensor, vectors: npt.NDArray[np.float64]) -> Tensor:
    """The non-negative lasso of two atoms by its active sets, float32 (pixel, 2).

    A stain alone is optimal where the other's gradient at that point is not positive; else both are active and
    solve the 2x2 system.
    """
    overlap = float(vectors[0] @ vectors[1])
    h, e = (density @ torch.tensor(vectors.T, dtype=torch.float32) - _LASSO).unbind(1)
    h_alone, e_alone = h.clamp(min=0), e.clamp(min=0)
    only_h, only_e = e <= overlap * h_alone, h <= overlap * e_alone
    zero = h.new_zeros(())
    inverse = 1 / max(1 - overlap * overlap, 1e-12)
    both_h, both_e = (h - overlap * e) * inverse, (e - overlap * h) * inverse
    return torch.stack(
        [
            torch.where(only_h, h_alone, torch.where(only_e, zero, both_h)),
            torch.where(only_h, zero, torch.where(only_e, e_alone, both_e)),
        ],
        dim=1,
    )
