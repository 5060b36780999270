"""MRI of a long bone in a limb with a lesion, from tissue maps by signal equations.

Geometry and relaxation times follow docs/synthetic.md. Signals: spin echo S = rho (1 - exp(-TR/T1)) exp(-TE/T2);
STIR S = rho |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2) with TI nulling fat; ADC as a noisy map.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, gaussian_filter

from cmssd_core.synthetic.centres import Centre
from cmssd_core.synthetic.fields import gaussian_field
from cmssd_core.synthetic.latents import Latent
from cmssd_core.synthetic.mimics import Mimics
from cmssd_core.types import Affine, BoolArray, FloatArray

# tissue: rho, T1 1.5 T, T2 1.5 T, T1 3 T, T2 3 T in ms, ADC in 1e-3 mm2/s
AIR, FAT, MUSCLE, CORTEX, MARROW, CARTILAGE, LESION, OEDEMA, MINERAL, FLUID = range(10)
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
        [1.00, 2500, 400, 3000, 350, 2.3],
    ]
)
SIGNALS = ("t1", "t2", "stir", "adc")  # contrasts with a signal equation
PROTOCOL = {"t1": (500.0, 12.0), "t2": (4000.0, 85.0), "stir": (4000.0, 40.0)}  # nominal TR, TE in ms
FINER = 3  # anatomy is drawn this many times finer through the slice, so that a thick slice mixes tissues


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """Matrix of the synthetic scan. shape: (z, y, x) voxels; in_plane_mm, slice_mm: their size.

    step: stored intensities are multiples of it; a coarser step makes smaller files.
    """

    shape: tuple[int, int, int] = (16, 128, 128)
    in_plane_mm: float = 1.5
    slice_mm: float = 4.5
    contrasts: tuple[str, ...] = SIGNALS
    step: int = 1


@dataclass(frozen=True, eq=False)
class Scan:
    """A synthetic examination: one image a contrast, (z, y, x), on one RAS+ affine, its masks and biopsy site.

    lesion is the diseased tissue, benign or malignant; tumour the malignant only; bone the envelope; destruction where
    the cortex is breached; extra_oedema where `scan` was told to add some. tr_te_ms: by spin-echo contrast.
    """

    images: dict[str, FloatArray]
    affine: Affine
    lesion: BoolArray
    tumour: BoolArray
    bone: BoolArray
    destruction: BoolArray
    site_mm: tuple[float, float, float]
    plane: str
    tr_te_ms: dict[str, tuple[float, float]]
    extra_oedema: BoolArray

    @property
    def severity_pct(self) -> float:
        """Equation 4 on the true masks."""
        return 100.0 * float((self.tumour & self.bone).sum()) / float(self.bone.sum())


def scan(
    latent: Latent,
    centre: Centre,
    *,
    settings: ScanSettings,
    rng: np.random.Generator,
    mimics: Mimics | None = None,
    extra_oedema_mm: float = 0.0,
) -> Scan:
    """Draw the anatomy and the lesion, then the centre's images. `rng` decides everything not given otherwise.

    extra_oedema_mm widens the rim of oedema; images outside of what it adds are the same to the bit without it.
    """
    plane = "coronal" if rng.random() < 0.5 else "axial"
    affine = _affine(plane, settings, rng)
    spacing = np.array([settings.slice_mm / FINER, settings.in_plane_mm, settings.in_plane_mm])
    fine = (settings.shape[0] * FINER, *settings.shape[1:])
    z, y, x = np.indices(fine, dtype=np.float64)
    z = (z - (FINER - 1) / 2) / FINER
    ras = np.einsum("ij,j...->i...", affine[:3, :3], np.stack([x, y, z])) + affine[:3, 3, None, None, None]

    def field(sigma_mm: float) -> npt.NDArray[np.float64]:
        return gaussian_field(fine, sigma_mm / spacing, rng)

    along = ras[2]  # the bone runs from foot to head
    wave, tilt = rng.uniform(-4, 4, 2), rng.uniform(-0.08, 0.08, 2)
    middle_mm = [wave[i] * np.sin(along / 40 + i) + tilt[i] * along + rng.uniform(-4, 4) for i in (0, 1)]
    flare = rng.uniform(11, 16) + rng.uniform(6, 14) / (1 + np.exp(-(along - rng.uniform(-10, 20)) / 12))
    radius = np.hypot(ras[0] - middle_mm[0], (ras[1] - middle_mm[1]) * rng.uniform(0.9, 1.1))
    depth = radius - flare + 0.6 * field(8.0)  # mm outside the bone's surface; negative within
    cortex_mm = rng.uniform(2.8, 4.2)
    limb_mm, fat_mm = rng.uniform(56, 74), rng.uniform(5, 12)
    limb = np.hypot(ras[0] * rng.uniform(0.9, 1.05), ras[1]) - limb_mm + 1.5 * field(30.0)

    tissue = np.full(fine, AIR)
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
    off = [c + rng.uniform(-7, 7) for c in middle_mm]
    shape_mm = np.sqrt((ras[0] - off[0]) ** 2 + (ras[1] - off[1]) ** 2 + ((along - middle) / stretch) ** 2)
    edge = shape_mm - lesion_mm + 0.12 * lesion_mm * field(9.0)  # mm outside the lesion
    scallop = rng.uniform(0.3, 0.8) * cortex_mm  # any lesion may thin the cortex from within, without a breach
    if mimics is not None:
        scallop += mimics.scalloping * (cortex_mm - scallop)
    lesion = bone & (edge < 0) & (depth < -cortex_mm + scallop)
    destruction = np.zeros(fine, dtype=bool)
    breach = _graded_breach(latent, rng) if latent.graded else _breach(latent, lesion_mm * stretch)
    if breach is not None:
        # The cortex gives way on the side the lesion lies.
        towards = np.arctan2(off[1] - middle_mm[1], off[0] - middle_mm[0]) + 0.5 * rng.standard_normal()
        side = np.cos(np.arctan2(ras[1] - middle_mm[1], ras[0] - middle_mm[0]) - towards)
        reach = side > rng.uniform(-0.4, 0.2)
        touched = bone & (depth >= -cortex_mm) & (np.abs(along - middle) < breach.half_mm) & reach
        destruction = touched & (field(2.5) > breach.above)  # moth-eaten
        mass_mm = breach.mass_mm * np.clip(side + 0.3, 0, None)
        bulge = 1 - ((along - middle) / breach.half_mm) ** 2
        mass = (depth >= 0) & (depth < mass_mm * np.clip(bulge, 0, None)) & (limb < -1.0) & reach
        lesion = lesion | destruction | mass
    rim_mm = rng.uniform(0, 10)  # oedema mimics tumour and says nothing of malignancy
    oedema = inner & ~lesion & (edge < rim_mm) & (field(5.0) > -0.5)
    extra = inner & ~lesion & ~oedema & (edge < rim_mm + extra_oedema_mm) & (extra_oedema_mm > 0)
    tissue[oedema] = OEDEMA
    if mimics is not None and mimics.soft_oedema_mm > 0:
        thinning = 1 - ((along - middle) / (lesion_mm * stretch)) ** 2
        near = (depth >= 0) & (depth < mimics.soft_oedema_mm * thinning)
        tissue[near & (tissue == MUSCLE) & (field(4.0) > -0.5)] = OEDEMA
    tissue[lesion] = LESION
    mineral = lesion & (field(3.0) > rng.uniform(1.0, 2.5))
    if mimics is not None and mimics.cystic:
        tissue[lesion & bone & (np.abs(field(4.0)) > 0.15)] = FLUID  # between septa
    else:
        tissue[mineral] = MINERAL

    again = deepcopy(rng)
    images, tr_te_ms = _images(tissue, latent, centre, settings, spacing, ras, rng)
    shown_extra = np.zeros(settings.shape, dtype=bool)
    if extra.any():
        shown_extra = _sliced(extra) > 0
        around = binary_dilation(shown_extra, np.ones((1, 7, 7)))  # as far as the point spread carries it
        twin, _ = _images(np.where(extra, OEDEMA, tissue), latent, centre, settings, spacing, ras, again)
        images = {name: np.where(around, twin[name], image) for name, image in images.items()}
    masks = [mask.reshape(-1, FINER, *fine[1:]).mean(1) > 0.5 for mask in (lesion, bone, destruction)]
    lesion, bone, destruction = masks
    tumour = lesion if latent.malignant else np.zeros(settings.shape, dtype=bool)
    where = np.argwhere(lesion & bone) if (lesion & bone).any() else np.argwhere(bone)
    zyx = where[rng.integers(len(where))]
    site = affine[:3, :3] @ zyx[::-1] + affine[:3, 3]
    site_mm = (float(site[0]), float(site[1]), float(site[2]))
    return Scan(images, affine, lesion, tumour, bone, destruction, site_mm, plane, tr_te_ms, shown_extra)


@dataclass(frozen=True)
class _Breach:
    """half_mm: half its length along the bone; above: level of a random field that gives way; mass_mm: outside."""

    half_mm: float
    above: float
    mass_mm: float


def _breach(latent: Latent, extent_mm: float) -> _Breach | None:
    """Where the sign is there or not: along the whole lesion, or none."""
    beyond = latent.aggressive_mri - 0.5
    return _Breach(max(extent_mm, 14.0), 0.3 - 1.2 * beyond, 3 + 16 * beyond) if beyond >= 0 else None


def _graded_breach(latent: Latent, rng: np.random.Generator) -> _Breach | None:
    """Where signs are graded: first a few holes, then moth-eaten cortex and a mass; whatever the lesion's size is."""
    share = float(np.clip((latent.aggressive_mri - 0.25) / 0.75 + rng.normal(0, 0.04), 0, 1))
    return _Breach(5 + 22 * share, 1.6 - 2.2 * share, 16 * share) if share > 0.02 else None


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
    centre: Centre,
    settings: ScanSettings,
    spacing: npt.NDArray[np.float64],
    ras: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[dict[str, FloatArray], dict[str, tuple[float, float]]]:
    """Images and their TR, TE by contrast.

    Signal equations on the fine grid, mixed into slices; coil and bias field, point spread, Rician noise.
    """
    rho, t1_15, t2_15, t1_30, t2_30, adc = TISSUE[tissue].transpose(3, 0, 1, 2)
    low = centre.field_t < 2
    t1, t2 = (t1_15, t2_15) if low else (t1_30, t2_30)
    texture = 1 + 0.06 * gaussian_field(tissue.shape, 2.0 / spacing, rng)
    t1, t2 = t1 * texture, t2 * texture
    fat_t1 = TISSUE[FAT, 1 if low else 3]
    muscle = _sliced(tissue == MUSCLE) > 0.5
    sensitivity = _sliced(_sensitivity(tissue.shape, centre, ras, rng))
    images: dict[str, FloatArray] = {}
    tr_te_ms: dict[str, tuple[float, float]] = {}
    for contrast in settings.contrasts:
        if contrast == "adc":
            value = np.where(tissue == LESION, 1.15 - 0.2 * latent.aggressive_mri + 0.2 * rng.standard_normal(), adc)
            smooth = gaussian_filter(_sliced(value), [0, 0.8, 0.8])
            noisy = smooth + 0.08 * rng.standard_normal(settings.shape)
            images[contrast] = (np.clip(noisy, 0, None) * 1000).astype(np.float32)
            continue
        if contrast not in PROTOCOL:
            raise ValueError(f"no signal equation for contrast {contrast!r}; known are t1, t2, stir and adc")
        tr, te = PROTOCOL[contrast]
        jitter = rng.uniform(0.95, 1.05, 2)
        tr, te = tr * centre.tr[contrast] * jitter[0], te * centre.te[contrast] * jitter[1]
        tr_te_ms[contrast] = (float(tr), float(te))
        decay = np.exp(-te / t2)
        if contrast == "stir":
            ti = fat_t1 * np.log(2 / (1 + np.exp(-tr / fat_t1)))
            signal = rho * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * decay
        else:
            signal = rho * (1 - np.exp(-tr / t1)) * decay
        blurred = gaussian_filter(_sliced(signal) * sensitivity, [0, *[rng.uniform(0.4, 0.8)] * 2])
        sigma = float(blurred[muscle].mean()) / rng.uniform(*centre.snr)
        noise = sigma * rng.standard_normal((2, *settings.shape))
        noisy = np.hypot(blurred + noise[0], noise[1])
        top = float(np.percentile(noisy, 99.5))
        images[contrast] = (top * (noisy / top) ** centre.gamma * rng.uniform(300, 1500)).astype(np.float32)
    return images, tr_te_ms


def _sliced(fine: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(z * FINER, y, x) -> (z, y, x): what a thick slice shows of it."""
    mixed: npt.NDArray[np.float64] = fine.reshape(-1, FINER, *fine.shape[1:]).mean(1, dtype=np.float64)
    return mixed


def _sensitivity(
    shape: tuple[int, ...], centre: Centre, ras: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """What the coil makes of one and the same signal: a smooth bias field, and a surface coil's fall with distance."""
    zz, yy, xx = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    terms = [xx, yy, zz, xx * yy, xx**2, yy**2, xx**3, yy**3]
    weights = rng.uniform(-centre.bias, centre.bias, len(terms))
    out = np.exp(sum(c * t for c, t in zip(weights, terms, strict=True)))
    turn = rng.uniform(0, 2 * np.pi)
    if centre.surface_mm is not None:
        distance = np.hypot(ras[0] - 60 * np.cos(turn), ras[1] - 60 * np.sin(turn))
        out = out / (1 + (distance / centre.surface_mm) ** 2)
    field: npt.NDArray[np.float64] = out
    return field
