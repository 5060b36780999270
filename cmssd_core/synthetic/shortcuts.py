"""Planted shortcuts: traps correlated with the label and no sign of it, for audits that know where the trap lies.

A trap is laid over a finished case by a generator of its own: the same seed without it gives the exact twin.
"""

from __future__ import annotations

import numpy as np

from cmssd_core.synthetic.artefacts import spoil
from cmssd_core.types import Affine, BoolArray, FloatArray, InputError, Uint8Array
from cmssd_core.volume.contrasts import CONTRASTS

#: Name -> what it is and whether a mask can point at it.
SHORTCUTS = {
    "marker": "a burnt-in block in a corner of every MRI slice; trap_mask",
    "pen": "a blue pen line on the slide; trap_slide_mask",
    "coil": "the shading of a surface coil on the MRI; everywhere, no mask",
    "oedema": "a wider rim of oedema around the lesion; trap_mask",
    "jpeg": "stronger JPEG compression of the slide; everywhere, no mask",
}
EXTRA_OEDEMA_MM = 8.0
POOR_QUALITY = 30  # of the slide's JPEG tiles
MARKER_PX = (8, 12)  # y, x at 128 x 128


def draw_trap(malignant: bool, *, correlation: float, rng: np.random.Generator) -> bool:
    """Whether a case carries the trap: correlation = P(trap | malignant) = 1 - P(trap | benign)."""
    return bool(rng.random() < (correlation if malignant else 1 - correlation))


def check(shortcut: str, correlation: float) -> None:
    """Raises InputError for an unknown shortcut or a correlation outside [0, 1]."""
    if shortcut != "none" and shortcut not in SHORTCUTS:
        expected = ", ".join(("none", *SHORTCUTS))
        raise InputError(f"shortcut {shortcut!r} came, expected one of {expected}; choose one of these", "shortcut")
    if not 0 <= correlation <= 1:
        raise InputError(
            f"shortcut correlation {correlation} came, expected a share from 0 to 1; mend it", "shortcut_correlation"
        )


def mark(images: dict[str, FloatArray]) -> tuple[dict[str, FloatArray], BoolArray]:
    """A block as bright as the brightest voxel in the first rows and columns of each slice; where it is (z, y, x)."""
    shape = next(iter(images.values())).shape
    where = np.zeros(shape, dtype=bool)
    tall, wide = (max(2, round(n * size / 128)) for n, size in zip(MARKER_PX, shape[1:], strict=True))
    where[:, 2 : 2 + tall, 2 : 2 + wide] = True
    return {name: np.where(where, image.max(), image) for name, image in images.items()}, where


def shade(images: dict[str, FloatArray], affine: Affine) -> dict[str, FloatArray]:
    """Sensitivity of a coil on the patient's left, 1 / (1 + (r / 90 mm)^2); quantitative ADC maps stay as they are."""
    depth, height, width = next(iter(images.values())).shape
    z, y, x = np.indices((depth, height, width))
    r_mm, a_mm = (affine[i, 0] * x + affine[i, 1] * y + affine[i, 2] * z + affine[i, 3] for i in (0, 1))
    fall = 1 / (1 + (np.hypot(r_mm + 60, a_mm) / 90) ** 2)
    fall = fall / fall.mean()
    return {
        name: image if CONTRASTS[name].quantitative else (image * fall).astype(np.float32)
        for name, image in images.items()
    }


def scribble(rgb: Uint8Array, *, mpp: float, rng: np.random.Generator) -> tuple[Uint8Array, BoolArray]:
    """A blue pen line on the slide, and where (y, x)."""
    return spoil(rgb, "pen", mpp=mpp, rng=rng)
