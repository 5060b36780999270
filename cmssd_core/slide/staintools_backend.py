"""Macenko by way of staintools 2.1.2 and spams, for those who want that library's own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import InputError, Uint8Array


def estimate(flat: Uint8Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Stain vectors (2, 3) and 99th-percentile concentrations (2,) of uint8 pixels (pixel, 3)."""
    extractor, no_tissue, get_concentrations = _library()
    # staintools writes 1 over every 0 of its input.
    image = flat[None].copy()
    try:
        vectors = extractor.get_stain_matrix(image)
    except no_tissue as reason:
        raise InputError(
            "no pixel is darker than bare glass, so no stain can be measured; choose a slide with tissue"
        ) from reason
    strength = np.percentile(get_concentrations(image, vectors), 99, axis=0)
    return np.asarray(vectors, dtype=np.float64), np.asarray(strength, dtype=np.float64)


def normalise(
    patches: Uint8Array,
    *,
    vectors: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    target_vectors: npt.NDArray[np.float64],
) -> Uint8Array:
    """Patches (..., y, x, 3) redrawn: concentrations over `vectors` times `scale` (2,) over `target_vectors`."""
    *_, get_concentrations = _library()
    out = np.empty(patches.shape, dtype=np.uint8)
    images = patches.reshape(-1, *patches.shape[-3:])
    for index, image in enumerate(images):
        amounts = get_concentrations(image.copy(), vectors) * scale
        drawn = np.minimum(255 * np.exp(-amounts @ target_vectors), 255)
        out.reshape(images.shape)[index] = drawn.reshape(image.shape).astype(np.uint8)
    return out


def require() -> None:
    """Raise InputError, saying how to install it, where the library is missing."""
    _library()


def _library() -> tuple[Any, type[Exception], Any]:
    try:
        from staintools.miscellaneous.exceptions import TissueMaskException
        from staintools.miscellaneous.get_concentrations import get_concentrations
        from staintools.stain_extraction.macenko_stain_extractor import MacenkoStainExtractor
    except ImportError as reason:
        raise InputError(
            f"the stain backend 'staintools' is not installed ({reason.name} is missing); run "
            "pip install 'cmssd[staintools]' (it brings the GPL-3 wheel spams-bin) or choose the backend 'native'"
        ) from reason
    return MacenkoStainExtractor, TissueMaskException, get_concentrations
