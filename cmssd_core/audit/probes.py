"""THE table of probes: what is no disease, laid over a raw image, to see whether an answer moves with it.

A probe on the MRI takes contrasts (z, y, x) in scanner units with their affine, one on the slide takes raw patches.
Each gives the changed image and, where it has a place, its mask.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cmssd_core.synthetic import shortcuts
from cmssd_core.synthetic.artefacts import spoil
from cmssd_core.types import Affine, BoolArray, FloatArray, Uint8Array
from cmssd_core.volume.contrasts import CONTRASTS

Images = dict[str, FloatArray]


@dataclass(frozen=True)
class Probe:
    """modality: "mri" or "he". what: in words, as the subject of a sentence. region: where it lies, "" = everywhere.

    lay: (images, affine, rng) or (patches, microns a pixel, rng) -> changed, mask or None.
    """

    modality: str
    what: str
    region: str
    lay: Callable[..., tuple[Any, BoolArray | None]]


def _block(rows: int, columns: int) -> Callable[..., tuple[Images, BoolArray | None]]:
    """The marker of synthetic/shortcuts.py in the corner on the given sides (1 = first rows or columns, -1 = last)."""

    def lay(images: Images, affine: Affine, rng: np.random.Generator) -> tuple[Images, BoolArray]:
        turned = {name: image[:, ::rows, ::columns] for name, image in images.items()}
        marked, where = shortcuts.mark(turned)
        back = {name: np.ascontiguousarray(image[:, ::rows, ::columns]) for name, image in marked.items()}
        return back, np.ascontiguousarray(where[:, ::rows, ::columns])

    return lay


def _moving_block(images: Images, affine: Affine, rng: np.random.Generator) -> tuple[Images, BoolArray]:
    """The marker anywhere on the image."""
    _, where = shortcuts.mark(images)
    top, left = np.argwhere(where[0]).min(0)
    tall, wide = np.argwhere(where[0]).max(0) - (top, left) + 1
    height, width = where.shape[1:]
    y, x = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    moved = np.zeros_like(where)
    moved[:, y : y + tall, x : x + wide] = True
    return {name: np.where(moved, image.max(), image) for name, image in images.items()}, moved


def _coil(columns: int) -> Callable[..., tuple[Images, None]]:
    def lay(images: Images, affine: Affine, rng: np.random.Generator) -> tuple[Images, None]:
        turned = {name: image[:, :, ::columns] for name, image in images.items()}
        shaded = shortcuts.shade(turned, affine)
        return {name: np.ascontiguousarray(image[:, :, ::columns]) for name, image in shaded.items()}, None

    return lay


def _noise(images: Images, affine: Affine, rng: np.random.Generator) -> tuple[Images, None]:
    """Rician noise of a poor scan; quantitative ADC maps stay as they are."""
    out = {}
    for name, image in images.items():
        sigma = 0.08 * float(np.percentile(image, 98))
        real, imaginary = sigma * rng.standard_normal((2, *image.shape))
        out[name] = image if CONTRASTS[name].quantitative else np.hypot(image + real, imaginary).astype(np.float32)
    return out, None


def _pen(patches: Uint8Array, mpp: float, rng: np.random.Generator) -> tuple[Uint8Array, BoolArray]:
    """A pen line over about every second patch."""
    out, where = patches.copy(), np.zeros(patches.shape[:3], dtype=bool)
    for i in np.unique([int(rng.integers(len(patches))), *np.flatnonzero(rng.random(len(patches)) < 0.5)]):
        out[i], where[i] = spoil(patches[i], "pen", mpp=mpp, rng=rng)
    return out, where


def _jpeg(patches: Uint8Array, mpp: float, rng: np.random.Generator) -> tuple[Uint8Array, None]:
    return np.stack([compress_jpeg(patch, shortcuts.POOR_QUALITY) for patch in patches]), None


def _stain(patches: Uint8Array, mpp: float, rng: np.random.Generator) -> tuple[Uint8Array, None]:
    """Another laboratory's colours: optical density of red and blue tilted against each other."""
    density = -np.log(np.clip(patches / 255.0, 1 / 255, 1)) * np.array([1.2, 1.0, 0.8])
    return np.clip(np.round(255 * np.exp(-density)), 0, 255).astype(np.uint8), None


def compress_jpeg(rgb: Uint8Array, quality: int) -> Uint8Array:
    """An image (y, x, 3) after JPEG of this quality."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


_CORNER = "a white block burnt into the {} corner of the MRI"


def _corner(place: str, rows: int, columns: int) -> Probe:
    return Probe("mri", _CORNER.format(place), f"{place} corner of the MRI's slices", _block(rows, columns))


#: What is laid on every cohort. Corners are those of the array as it is stored.
PROBES = {
    "marker": _corner("first", 1, 1),
    "marker right": _corner("second", 1, -1),
    "marker low": _corner("third", -1, 1),
    "marker far": _corner("fourth", -1, -1),
    "moving marker": Probe("mri", "a white block anywhere on the MRI", "a block on the MRI", _moving_block),
    "coil": Probe("mri", "the shading of a surface coil on one side", "", _coil(1)),
    "coil right": Probe("mri", "the shading of a surface coil on the other side", "", _coil(-1)),
    "noise": Probe("mri", "the noise of a poor scan", "", _noise),
    "pen": Probe("he", "a blue pen line on the slide", "a line on the slide", _pen),
    "jpeg": Probe("he", "strong JPEG compression of the slide", "", _jpeg),
    "stain": Probe("he", "another laboratory's colours", "", _stain),
}
