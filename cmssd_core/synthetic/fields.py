"""Gaussian random fields: white noise smoothed in the Fourier domain, the texture of every synthetic tissue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft


def gaussian_field(shape: tuple[int, ...], sigma: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A field of zero mean and unit variance, correlated over `sigma` samples (one number, or one an axis).

    Smoothing wraps around on a grid padded by two sigma (at most one more field an axis), so edges do not meet.
    """
    # Beyond its own length a correlation is a constant, and a constant has no variance to scale.
    sigmas = np.minimum(np.broadcast_to(np.asarray(sigma, dtype=np.float64), len(shape)), shape)
    grown = [fft.next_fast_len(n + int(min(np.ceil(2 * s), n)), real=True) for n, s in zip(shape, sigmas, strict=True)]
    spectrum = fft.rfftn(rng.standard_normal(grown, dtype=np.float32))
    for axis, (n, s) in enumerate(zip(grown, sigmas, strict=True)):
        frequency = fft.rfftfreq(n) if axis == len(shape) - 1 else fft.fftfreq(n)
        low_pass = np.exp(-2 * (np.pi * s * frequency) ** 2).astype(np.float32)
        spectrum *= low_pass.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    field = fft.irfftn(spectrum, grown)[tuple(slice(n) for n in shape)].astype(np.float64)
    out: npt.NDArray[np.float64] = (field - field.mean()) / field.std()
    return out
