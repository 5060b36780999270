"""MRI of a long bone in a limb with a lesion, from tissue maps by signal equations.

Geometry and relaxation times follow docs/synthetic.md. Signals: spin echo S = rho (1 - exp(-TR/T1)) exp(-TE/T2);
STIR S = rho |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2) with TI nulling fat; ADC as a noisy map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from cmssd_core.synthetic.fields import gaussian_field
from cmssd_core.synthetic.latents import Latent
from cmssd_core.types import Affine, BoolArray, FloatArray

# tissue: rho, T1 1.5 T, T2 1.5 T, T1 3 T, T2 3 T in ms, ADC in 1e-3 mm2/s
AIR, FAT, MUSCLE, CORTEX, MARROW, CARTILAGE, LESION, OEDEMA, MINERAL = range(9)
TISSUE = np.array(
    [
        [0.00, 1000, 1.0, 1000, 1.0, 0.0],
        [1.00, 288, 165, 371, 133, 0.05],
        [0.85, 1130, 35, 1416, 38, 1.5],
        [0.10, 200, 1.0, 240, 1.0, 0.05],
        [0.95, 288, 120, 365, 110, 0.42],
        [0.80, 1060, 42, 1200, 36, 1.4],
        [0.90, 1150, 85, 1400, 75, 1.1],
        [0.90, 1000, 78, 1150, 70, 1.5],
        [0.30, 900, 15, 1100, 15, 0.7],
    ]
)
SIGNALS = ("t1", "t2", "stir", "adc")  # contrasts with a signal equation


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """Matrix of the synthetic scan. shape: (z, y, x) voxels; in_plane_mm, slice_mm: their size."""

    shape: tuple[int, int, int] = (16, 128, 128)
    in_plane_mm: float = 1.5
    slice_mm: float = 4.5
    contrasts: tuple[str, ...] = SIGNALS


@dataclass(frozen=True, eq=False)
class Scan:
    """A synthetic examination: one image a contrast, (z, y, x), on one RAS+ affine, its masks and biopsy site.

    tumour is malignant tissue only; bone the envelope; destruction where the cortex is breached.
    """

    images: dict[str, FloatArray]
    affine: Affine
    tumour: BoolArray
    bone: BoolArray
    destruction: BoolArray
    site_mm: tuple[float, float, float]
    plane: str
    field_t: float

    @property
    def severity_pct(self) -> float:
        """Equation 4 on the true masks."""
        return 100.0 * float((self.tumour & self.bone).sum()) / float(self.bone.sum())


def scan(latent: Latent, *, settings: ScanSettings, rng: np.random.Generator) -> Scan:
    """Draw the anatomy, the lesion and the scanner, then the images. `rng` decides everything but the latent."""
    plane = "coronal" if rng.random() < 0.5 else "axial"
    affine = _affine(plane, settings, rng)
    spacing = np.array([settings.slice_mm, settings.in_plane_mm, settings.in_plane_mm])
    z, y, x = np.indices(settings.shape, dtype=np.float64)
    ras = np.einsum("ij,j...->i...", affine[:3, :3], np.stack([x, y, z])) + affine[:3, 3, None, None, None]

    def field(sigma_mm: float) -> npt.NDArray[np.float64]:
        return gaussian_field(settings.shape, sigma_mm / spacing, rng)

    along = ras[2]  # the bone runs from foot to head
    wave, tilt = rng.uniform(-4, 4, 2), rng.uniform(-0.08, 0.08, 2)
    centre = [wave[i] * np.sin(along / 40 + i) + tilt[i] * along + rng.uniform(-4, 4) for i in (0, 1)]
    flare = rng.uniform(8, 13) + rng.uniform(4, 9) / (1 + np.exp(-(along - rng.uniform(5, 25)) / 12))
    radius = np.hypot(ras[0] - centre[0], (ras[1] - centre[1]) * rng.uniform(0.9, 1.1))
    depth = radius - flare + 0.6 * field(8.0)  # mm outside the bone's surface; negative within
    cortex_mm = rng.uniform(2.8, 4.2)
    limb_mm, fat_mm = rng.uniform(48, 62), rng.uniform(5, 12)
    limb = np.hypot(ras[0] * rng.uniform(0.9, 1.05), ras[1]) - limb_mm + 1.5 * field(30.0)

    tissue = np.full(settings.shape, AIR)
    tissue[limb < 0] = FAT
    tissue[limb < -fat_mm] = MUSCLE
    tissue[(limb < -fat_mm) & (field(3.0) > 2.0)] = FAT  # septa between the muscles
    bone = (depth < 0) & (limb < 0)
    tissue[bone] = CORTEX
    inner = bone & (depth < -cortex_mm)
    tissue[inner] = MARROW
    if latent.age_years < 18:
        tissue[bone & (np.abs(along - rng.uniform(30, 45)) < 2.0)] = CARTILAGE

    lesion_mm = 8.0 + 26.0 * latent.size
    middle = rng.uniform(-14, 14)
    stretch = rng.uniform(1.0, 1.5)
    off = [c + rng.uniform(-3, 3) for c in centre]
    shape_mm = np.sqrt((ras[0] - off[0]) ** 2 + (ras[1] - off[1]) ** 2 + ((along - middle) / stretch) ** 2)
    edge = shape_mm - lesion_mm + 0.12 * lesion_mm * field(9.0)  # mm outside the lesion
    scallop = rng.uniform(0.3, 0.8) * cortex_mm  # any lesion may thin the cortex from within, without a breach
    lesion = bone & (edge < 0) & (depth < -cortex_mm + scallop)
    destruction = np.zeros(settings.shape, dtype=bool)
    aggressive = latent.aggressive_mri >= 0.5
    if aggressive:
        side = np.cos(np.arctan2(ras[1] - centre[1], ras[0] - centre[0]) - rng.uniform(0, 2 * np.pi))
        reach = side > rng.uniform(-0.4, 0.2)
        touched = bone & (depth >= -cortex_mm) & (np.abs(along - middle) < max(lesion_mm * stretch, 10.0)) & reach
        destruction = touched & (field(2.5) > 0.3 - 1.2 * (latent.aggressive_mri - 0.5))  # moth-eaten
        mass_mm = (2 + 14 * (latent.aggressive_mri - 0.5)) * np.clip(side + 0.3, 0, None)
        bulge = 1 - ((along - middle) / max(lesion_mm * stretch, 10.0)) ** 2
        mass = (depth >= 0) & (depth < mass_mm * np.clip(bulge, 0, None)) & (limb < -1.0) & reach
        lesion = lesion | destruction | mass
    rim_mm = rng.uniform(0, 10)  # oedema mimics tumour and says nothing of malignancy
    oedema = inner & ~lesion & (edge < rim_mm) & (field(5.0) > -0.5)
    tissue[oedema] = OEDEMA
    tissue[lesion] = LESION
    tissue[lesion & (field(3.0) > rng.uniform(1.0, 2.5))] = MINERAL

    field_t = 1.5 if rng.random() < 0.5 else 3.0
    images = _images(tissue, latent, field_t, settings, spacing, rng)
    tumour = lesion if latent.malignant else np.zeros(settings.shape, dtype=bool)
    where = np.argwhere(lesion & bone) if lesion.any() else np.argwhere(bone)
    zyx = where[rng.integers(len(where))]
    site = affine[:3, :3] @ zyx[::-1] + affine[:3, 3]
    return Scan(
        images, affine, tumour, bone, destruction, (float(site[0]), float(site[1]), float(site[2])), plane, field_t
    )


def _affine(plane: str, settings: ScanSettings, rng: np.random.Generator) -> Affine:
    """A scan centred near the bone; the column runs to the patient's left, as scanners write it."""
    columns = {
        "axial": ([-1, 0, 0], [0, -1, 0], [0, 0, 1]),
        "coronal": ([-1, 0, 0], [0, 0, -1], [0, 1, 0]),
    }[plane]
    size = np.array([settings.in_plane_mm, settings.in_plane_mm, settings.slice_mm])
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns, dtype=np.float64).T * size
    middle = (np.array(settings.shape[::-1]) - 1) / 2
    affine[:3, 3] = rng.uniform(-4, 4, 3) - affine[:3, :3] @ middle
    return affine


def _images(
    tissue: npt.NDArray[np.int64],
    latent: Latent,
    field_t: float,
    settings: ScanSettings,
    spacing: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """Signal equations, coil and bias field, point spread and Rician noise, contrast by contrast."""
    rho, t1_15, t2_15, t1_30, t2_30, adc = TISSUE[tissue].transpose(3, 0, 1, 2)
    t1, t2 = (t1_15, t2_15) if field_t == 1.5 else (t1_30, t2_30)
    texture = 1 + 0.06 * gaussian_field(tissue.shape, 2.0 / spacing, rng)
    t1, t2 = t1 * texture, t2 * texture
    fat_t1 = TISSUE[FAT, 1 if field_t == 1.5 else 3]
    grid = [np.linspace(-1, 1, n) for n in tissue.shape]
    zz, yy, xx = np.meshgrid(*grid, indexing="ij")
    terms = [xx, yy, zz, xx * yy, xx**2, yy**2, xx**3, yy**3]
    bias = np.exp(sum(c * t for c, t in zip(rng.uniform(-0.22, 0.22, len(terms)), terms, strict=True)))
    images = {}
    for contrast in settings.contrasts:
        jitter = rng.uniform(0.85, 1.15, 2)
        if contrast == "t1":
            signal = rho * (1 - np.exp(-500 * jitter[0] / t1)) * np.exp(-12 * jitter[1] / t2)
        elif contrast == "t2":
            signal = rho * (1 - np.exp(-4000 * jitter[0] / t1)) * np.exp(-85 * jitter[1] / t2)
        elif contrast == "stir":
            tr = 4000 * jitter[0]
            ti = fat_t1 * np.log(2 / (1 + np.exp(-tr / fat_t1)))
            signal = rho * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-40 * jitter[1] / t2)
        elif contrast == "adc":
            value = np.where(tissue == LESION, 1.15 - 0.2 * latent.aggressive_mri + 0.2 * rng.standard_normal(), adc)
            noisy = gaussian_filter(value, [0, 0.8, 0.8]) + 0.08 * rng.standard_normal(tissue.shape)
            images[contrast] = (np.clip(noisy, 0, None) * 1000).astype(np.float32)
            continue
        else:
            raise ValueError(f"no signal equation for contrast {contrast!r}; known are t1, t2, stir and adc")
        blurred = gaussian_filter(signal * bias, [0, *[rng.uniform(0.4, 0.8)] * 2])
        sigma = float(blurred[tissue == MUSCLE].mean()) / rng.uniform(15, 40)
        noisy = np.hypot(blurred + sigma * rng.standard_normal(tissue.shape), sigma * rng.standard_normal(tissue.shape))
        images[contrast] = (noisy * rng.uniform(300, 1500)).astype(np.float32)
    return images
