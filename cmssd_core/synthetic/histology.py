"""H&E of a lesion: nuclei, stroma and osteoid as optical density, mixed to colour by Beer-Lambert.

OD = C W with rows of W the unit stain vectors of one of several laboratories, I = 255 exp(-OD); parameters follow
docs/synthetic.md. Aggressive tissue has more, larger and more varied nuclei and lace-like osteoid between them;
mature bone and collagen bands are drawn whatever the tissue is, as decoys of osteoid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cmssd_core.synthetic.centres import LABORATORIES, Centre
from cmssd_core.synthetic.fields import gaussian_field
from cmssd_core.synthetic.latents import Latent
from cmssd_core.types import BoolArray, Uint8Array


@dataclass(frozen=True, eq=False)
class Section:
    """One synthetic slide: RGB uint8 (y, x, 3) at mpp microns a pixel, and its osteoid mask (y, x)."""

    rgb: Uint8Array
    mpp: float
    osteoid: BoolArray


def section(latent: Latent, centre: Centre, *, size_px: int, rng: np.random.Generator, mpp: float = 1.0) -> Section:
    """Draw one square slide of `size_px` pixels a side. `rng` decides everything but latent and centre."""
    z = latent.aggressive_he
    shape = (size_px, size_px)

    def field(sigma_um: float) -> npt.NDArray[np.float64]:
        return gaussian_field(shape, sigma_um / mpp, rng)

    tissue = field(150.0) > -1.3
    osteoid = np.zeros(shape, dtype=bool)
    free = _free_of_osteoid(latent, rng)
    if free < 1:
        lace = np.minimum(np.abs(field(5.0)), np.abs(field(7.0))) < 0.22
        region = field(30.0)
        osteoid = lace & (region > np.quantile(region, free)) & tissue
    band = field(60.0)
    decoy = (np.abs(band) < rng.uniform(0.02, 0.10)) & ~osteoid & tissue  # thick and smooth, eosin like osteoid's

    haematoxylin = np.where(tissue, 0.08 + 0.03 * field(12.0), 0.0)
    eosin = np.where(tissue, 0.22 + 0.06 * field(10.0), 0.0)
    eosin = np.where(osteoid, 0.62 + 0.04 * field(4.0), eosin)
    eosin = np.where(decoy, 0.62 + 0.03 * field(25.0), eosin)
    haematoxylin = haematoxylin + _nuclei(z, tissue & ~osteoid & ~decoy, mpp, rng)

    stains = np.array(LABORATORIES[centre.laboratory])
    stains = stains / np.linalg.norm(stains, axis=1, keepdims=True) + rng.normal(0, 0.012, (2, 3))
    amount = np.stack([np.clip(haematoxylin, 0, None), np.clip(eosin, 0, None)], axis=-1)
    amount = amount * rng.uniform(0.9, 1.1, 2) * np.array(centre.stain) * 1.6
    light = centre.white * np.exp(-amount @ np.clip(stains, 0, None)) + rng.normal(0, 0.012, (*shape, 3))
    rgb = np.clip(np.round(light * 255), 0, 255).astype(np.uint8)
    return Section(rgb, mpp, osteoid)


def _free_of_osteoid(latent: Latent, rng: np.random.Generator) -> float:
    """Share of the slide in which no osteoid is laid down between the cells."""
    z = latent.aggressive_he
    if latent.graded:  # a little reactive bone in lesions of low grade, more and more with aggressiveness
        return 1 - float(np.clip(0.65 * (z - 0.3) + rng.normal(0, 0.02), 0, 0.5))
    return 0.75 - 0.45 * (z - 0.5) if z >= 0.5 else 1.0


def _nuclei(z: float, room: npt.NDArray[np.bool_], mpp: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Haematoxylin of the nuclei, as density (y, x): ellipses with a wobbling rim, mitoses as dense plates."""
    canvas = np.zeros(room.shape)
    per_px = (2200 + 1400 * z) * mpp**2 * 1e-6
    count = rng.poisson(per_px * room.size)
    centres = rng.integers(0, room.shape[0], (count, 2))
    centres = centres[room[centres[:, 0], centres[:, 1]]]
    areas = (32 + 22 * z) * np.exp(rng.normal(0, 0.22 + 0.28 * z, len(centres))) / mpp**2
    ratio = rng.uniform(1.0, 1.5 + 0.9 * z, len(centres))
    angle = rng.uniform(0, np.pi, len(centres))
    dense = rng.normal(0.75 + 0.35 * z, 0.1, len(centres))
    mitosis = rng.random(len(centres)) < 0.002 + 0.05 * max(z - 0.3, 0)
    ratio[mitosis], dense[mitosis] = 3.5, 1.6
    phase = rng.uniform(0, 2 * np.pi, len(centres))
    for (cy, cx), area, long, turn, c, p in zip(centres, areas, ratio, angle, dense, phase, strict=True):
        r = np.sqrt(area / np.pi)
        half = int(np.ceil(r * np.sqrt(long) * 1.3)) + 1
        top, left = max(cy - half, 0), max(cx - half, 0)
        bottom, right = min(cy + half + 1, room.shape[0]), min(cx + half + 1, room.shape[1])
        dy, dx = np.ogrid[top - cy : bottom - cy, left - cx : right - cx]
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        rim = 1 + 0.12 * z * np.cos(3 * np.arctan2(v, u) + p)
        inside = (u / np.sqrt(long)) ** 2 + (v * np.sqrt(long)) ** 2 < (r * rim) ** 2
        spot = canvas[top : top + inside.shape[0], left : left + inside.shape[1]]
        np.maximum(spot, c * inside, out=spot)
    soft: npt.NDArray[np.float64] = gaussian_filter(canvas, 0.5)
    return soft
