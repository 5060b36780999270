"""N4: the slow brightness drift of a coil is fitted on a shrunk image and divided out at full resolution.

Tustison et al., N4ITK: improved N3 bias correction, IEEE TMI 29(6), 2010; the sharpening is Sled's (IEEE TMI 17(1),
1998), the fit Lee's multilevel B-spline approximation (IEEE TVCG 3(3), 1997). ITK fits scattered points, each with 64
control points of its own; on a grid the same sums factor into one small matrix an axis, which is what makes this fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import BoolArray, FloatArray
from cmssd_core.volume.body import blocks

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class N4Settings:
    """fit_voxels: about how many voxels the field is fitted on, at most. The rest is ITK's default: at most
    `iterations` at each level, spans of the spline doubled from level to level, until the field changes by less than
    `threshold`; `bins`, `fwhm` (of the blur in log intensity) and `wiener` belong to the sharpening of the histogram.
    """

    fit_voxels: int = 120_000
    iterations: tuple[int, ...] = (50, 50, 50, 50)
    threshold: float = 0.001
    bins: int = 200
    fwhm: float = 0.15
    wiener: float = 0.01


def correct_bias(
    voxels: FloatArray, mask: BoolArray, spacing_mm: tuple[float, float, float], *, settings: N4Settings
) -> tuple[FloatArray, str]:
    """`voxels` (z, y, x) divided by the bias field fitted inside `mask`, and the convergence in words.

    spacing_mm in (x, y, z). The field's logarithm has the mean 0 inside the mask. The voxels are left as they came,
    and the words begin with "bias field not corrected", where too little of the mask is left to fit a field.
    """
    steps = _steps(voxels.shape, spacing_mm[::-1], settings.fit_voxels)
    share = blocks(mask.astype(np.float32), steps)
    # Means over the mask's part of a block, lest the air at the skin darken the rim and pass for bias.
    small = blocks(np.where(mask, voxels, np.float32(0)), steps) / np.maximum(share, 1e-6)
    inside = (share >= 0.5) & (small > 0)
    if np.count_nonzero(inside) < 64 or float(np.ptp(small[inside])) <= 0:
        return voxels, "bias field not corrected: too few bright voxels of body"
    sizes = voxels.shape
    centres = [(np.arange(n) + 0.5) * step - 0.5 for n, step in zip(small.shape, steps, strict=True)]
    log_input = np.log(small[inside].astype(np.float64))
    field = np.zeros_like(log_input)
    lattices: list[_Floats] = []
    change, counts = np.inf, []
    for level, most in enumerate(settings.iterations):
        fit = _Fit(centres, sizes, 2**level, inside)
        lattice = np.zeros(fit.lattice_shape)
        change, count = np.inf, 0
        while count < most and change > settings.threshold:
            residual = log_input - field
            residual -= _sharpened(residual, settings)
            added = fit.lattice(residual)
            update = fit.at_mask(added)
            ratio = np.exp(update)
            change = float(ratio.std() / ratio.mean())
            lattice += added
            field += update
            count += 1
        lattices.append(lattice)
        counts.append(count)
    log_bias = _field(lattices, [np.arange(n, dtype=np.float64) for n in sizes], sizes)
    log_bias -= np.float32(field.mean())
    np.negative(log_bias, out=log_bias)
    np.exp(log_bias, out=log_bias)
    log_bias *= voxels
    state = "converged" if change <= settings.threshold else "not converged"
    return log_bias, (
        f"bias field corrected by N4 on {' x '.join(str(n) for n in reversed(small.shape))} voxels, "
        f"{state} (last change {change:.4f}, iterations {'+'.join(map(str, counts))}), "
        f"field spans a factor of {float(np.exp(np.ptp(field))):.2f}"
    )


def _steps(shape: tuple[int, ...], spacing: tuple[float, ...], most: int) -> list[int]:
    """Block sizes (z, y, x) that bring the voxels below `most`, growing the shortest edge of a block first."""
    steps = [1, 1, 1]
    while np.prod([-(-n // step) for n, step in zip(shape, steps, strict=True)]) > most:
        able = [axis for axis in range(3) if shape[axis] // (steps[axis] + 1) >= 8]
        if not able:
            break
        steps[min(able, key=lambda axis: steps[axis] * spacing[axis])] += 1
    return steps


class _Fit:
    """Lee's B-spline approximation of values inside a mask on a grid; what stays the same between iterations."""

    def __init__(self, at: list[_Floats], sizes: tuple[int, ...], spans: int, inside: BoolArray) -> None:
        self._basis = [_cubic(points, size, spans) for points, size in zip(at, sizes, strict=True)]
        self._cubed = [basis**3 / (basis**2).sum(1, keepdims=True) for basis in self._basis]
        self._inside = inside
        self._whole = np.zeros(inside.shape)
        weights = _contract(inside.astype(np.float64), [(basis**2).T for basis in self._basis])
        self._inverse = np.where(weights > 0, 1 / np.maximum(weights, 1e-300), 0)
        self.lattice_shape = weights.shape

    def lattice(self, values: _Floats) -> _Floats:
        self._whole[self._inside] = values
        return _contract(self._whole, [cubed.T for cubed in self._cubed]) * self._inverse

    def at_mask(self, lattice: _Floats) -> _Floats:
        return _contract(lattice, self._basis)[self._inside]


def _sharpened(values: _Floats, settings: N4Settings) -> _Floats:
    """The values moved to what they were before a Gaussian blur of the histogram, by Wiener deconvolution."""
    bins = settings.bins
    low, high = float(values.min()), float(values.max())
    width = (high - low) / (bins - 1)
    if width <= 0:
        return values.copy()
    at = (values - low) / width
    left = np.minimum(at.astype(np.int64), bins - 2)
    share = at - left
    histogram = np.bincount(left, 1 - share, bins) + np.bincount(left + 1, share, bins)
    size = 2 ** (int(np.ceil(np.log2(bins))) + 1)
    offset = (size - bins) // 2
    padded = np.zeros(size)
    padded[offset : offset + bins] = histogram
    fwhm = settings.fwhm / width
    distance = np.minimum(np.arange(size), size - np.arange(size))
    gauss = 2 * np.sqrt(np.log(2) / np.pi) / fwhm * np.exp(-4 * np.log(2) * (distance / fwhm) ** 2)
    blur = np.fft.rfft(gauss).real
    sharp = np.maximum(np.fft.irfft(np.fft.rfft(padded) * blur / (blur**2 + settings.wiener), size), 0)
    level = low + (np.arange(size) - offset) * width
    above = np.fft.irfft(np.fft.rfft(sharp * level) * blur, size)
    below = np.fft.irfft(np.fft.rfft(sharp) * blur, size)
    expected = np.divide(above, below, out=np.zeros(size), where=np.abs(below) > 1e-12)[offset : offset + bins]
    moved: _Floats = expected[left] + (expected[left + 1] - expected[left]) * share
    return moved


def _field(lattices: list[_Floats], at: list[_Floats], sizes: tuple[int, ...]) -> FloatArray:
    total = np.zeros([len(points) for points in at], dtype=np.float32)
    for level, lattice in enumerate(lattices):
        basis = [_cubic(points, size, 2**level).astype(np.float32) for points, size in zip(at, sizes, strict=True)]
        total += _contract(lattice.astype(np.float32), basis)
    return total


def _cubic(at: _Floats, size: int, spans: int) -> _Floats:
    """Weights (point, control point) of the uniform cubic B-spline with `spans` spans over indices 0 to size - 1."""
    u = np.clip(at / max(size - 1, 1), 0, 1) * spans
    left = np.minimum(u.astype(np.int64), spans - 1)
    t = u - left
    weights = np.zeros((len(at), spans + 3))
    rows = np.arange(len(at))
    for k, weight in enumerate(
        ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    ):
        weights[rows, left + k] = weight
    return weights


def _contract(array: npt.NDArray[Any], matrices: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`array` (z, y, x) with each axis multiplied by its matrix (new, old)."""
    out = np.matmul(array, matrices[2].T)
    out = np.matmul(matrices[1], out)
    shape = out.shape
    contracted: npt.NDArray[Any] = (matrices[0] @ out.reshape(shape[0], -1)).reshape(-1, *shape[1:])
    return contracted
