"""THE table of corruptions: artefacts of raw MRI and of raw slide patches, in five levels and all that lies between.

Levels after ROOD-MRI and Zhang et al., arXiv 2206.14973, with clinical ranges where theirs are extreme
(docs say which). Each function is pure: what it draws comes from the generator it is given. Level 0 changes nothing;
levels between whole numbers are interpolated, so a corruption is an augmentation of continuous strength as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio
from PIL import Image
from scipy import ndimage, signal

from cmssd_core.slide.stain import REFERENCE
from cmssd_core.slide.tissue import GLASS
from cmssd_core.types import FloatArray, PatchBag, Uint8Array, Volume, frozen

Rng = np.random.Generator
Spacing = tuple[float, float, float]
LEVELS = (1, 2, 3, 4, 5)
REFERENCE_PX = 224  # widths in pixels are given for a patch of this edge, and scaled


@dataclass(frozen=True)
class Corruption:
    """One artefact. change: (images, level, rng, **geometry) -> images of the same shape and type; meaning: in words.

    "mri": float32 (slice, y, x), signal >= 0, with spacing_mm (slice, y, x). "he": uint8 (patch, y, x, 3).
    """

    modality: Literal["mri", "he"]
    change: Callable[..., Any]
    meaning: str


def corrupt_volume(volume: Volume, name: str, level: float, rng: Rng) -> Volume:
    """A raw Volume with the named artefact; each contrast is an acquisition of its own and draws its own."""
    thick = int(np.argmax(np.array(volume.spacing_mm[::-1])))  # slices lie along the coarsest axis
    z, y, x = volume.spacing_mm[::-1]
    spacing = tuple(np.roll((z, y, x), -thick)) if thick else (z, y, x)
    out = np.empty_like(volume.voxels)
    for index, voxels in enumerate(volume.voxels):
        turned = np.ascontiguousarray(np.transpose(voxels, np.roll((0, 1, 2), -thick)))
        low = min(0.0, float(turned.min()))  # a magnitude image has no negatives; what has is lifted meanwhile
        changed = CORRUPTIONS[name].change(turned - low, level, rng, spacing_mm=spacing) + low
        out[index] = np.transpose(changed, np.roll((0, 1, 2), thick))
    return replace(volume, voxels=frozen(out))


def corrupt_bag(bag: PatchBag, name: str, level: float, rng: Rng) -> PatchBag:
    """A raw PatchBag with the named artefact in every patch."""
    return replace(bag, patches=frozen(CORRUPTIONS[name].change(bag.patches, level, rng)))


def interpolate_level(level: float, values: tuple[float, ...], *, none: float) -> float:
    """The parameter at a level from 0 to 5: `none` at 0, values[i] at i + 1, linear between."""
    return float(np.interp(level, range(len(values) + 1), (none, *values)))


# ----------------------------------------------------------------------------- MRI


def _torchio(transform: Any, voxels: FloatArray, spacing: Spacing = (1.0, 1.0, 1.0)) -> FloatArray:
    """A deterministic TorchIO transform on (slice, y, x); the centre is the origin, as its Motion turns about that."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.array(spacing) * voxels.shape / 2
    image = tio.ScalarImage(tensor=torch.tensor(voxels[None]), affine=affine)
    return np.asarray(transform(image).data[0].numpy(), dtype=np.float32)


def _magnitude(voxels: FloatArray) -> FloatArray:
    return np.abs(voxels).astype(np.float32)


def bias(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """A smooth multiplicative field, exp of a cubic polynomial with coefficients uniform in +-c."""
    c = interpolate_level(level, (0.3, 0.6, 0.9, 1.2, 1.5), none=0.0)
    # TorchIO counts in half shapes, so an odd number of slices would not fit: one is added and taken off.
    padded = np.pad(voxels, [(0, n % 2) for n in voxels.shape], mode="edge")
    field = tio.BiasField(coefficients=list(rng.uniform(-c, c, 20)), order=3)
    z, y, x = voxels.shape
    out: FloatArray = _torchio(field, padded)[:z, :y, :x]
    return out


def motion(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """The patient moves in the slice's plane 2 to 10 times while k-space is filled along x."""
    times = round(interpolate_level(level, (2, 4, 6, 8, 10), none=0.0))
    if times == 0:
        return voxels.copy()
    degrees, shift = np.zeros((times, 3)), np.zeros((times, 3))
    degrees[:, 0] = rng.uniform(-1, 1, times) * interpolate_level(level, (1, 2, 3, 4, 5), none=0.0)
    shift[:, 1:] = rng.uniform(-1, 1, (times, 2)) * interpolate_level(level, (2, 4, 6, 8, 10), none=0.0)
    step = 1 / (times + 1)
    when = step * np.arange(1, times + 1) + rng.uniform(-0.3, 0.3, times) * step
    moved = tio.Motion(degrees=degrees, translation=shift, times=when, image_interpolation="linear")
    return _magnitude(_torchio(moved, voxels, spacing_mm))


def ghosting(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """Periodic copies along the phase-encoding axis, as breathing and pulsing leave them.

    Always four: ROOD-MRI's 3 to 11 touch fewer and fewer lines of k-space, so its top level is milder than its third.
    """
    strength = interpolate_level(level, (0.2, 0.4, 0.6, 0.8, 1.0), none=0.0)
    ghosts = tio.Ghosting(num_ghosts=4, axis=int(rng.integers(1, 3)), intensity=strength, restore=0.02)
    return _magnitude(_torchio(ghosts, voxels))


def spike(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """One wrong point of k-space: stripes over the whole volume."""
    strength = interpolate_level(level, (0.2, 0.4, 0.6, 0.8, 1.0), none=0.0)
    return _magnitude(_torchio(tio.Spike(spikes_positions=rng.random((1, 3)), intensity=strength), voxels))


def noise(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """Rician noise: the magnitude of the signal with complex noise, sigma as a share of the 99.5th percentile."""
    sigma = interpolate_level(level, (0.02, 0.04, 0.08, 0.12, 0.2), none=0.0) * float(np.percentile(voxels, 99.5))
    real, imaginary = sigma * rng.standard_normal((2, *voxels.shape))
    return np.asarray(np.hypot(voxels + real, imaginary), dtype=np.float32)


def low_resolution(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """1.5 to 5 times fewer rows or columns, interpolated back."""
    factor, axis = interpolate_level(level, (1.5, 2, 3, 4, 5), none=1.0), int(rng.integers(1, 3))
    size = [n if a != axis else max(2, round(n / factor)) for a, n in enumerate(voxels.shape)]
    if size[axis] == voxels.shape[axis]:
        return voxels.copy()
    less = ndimage.gaussian_filter1d(voxels, 0.4 * factor, axis=axis)
    small = ndimage.zoom(less, [s / n for s, n in zip(size, voxels.shape, strict=True)], order=1, grid_mode=False)
    back = ndimage.zoom(small, [n / s for s, n in zip(size, voxels.shape, strict=True)], order=1, grid_mode=False)
    return np.asarray(back, dtype=np.float32)


def blur(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """A Gaussian of 0.8 to 4 mm in the slice's plane."""
    std = interpolate_level(level, (0.8, 1.6, 2.4, 3.2, 4.0), none=0.0)
    return _torchio(tio.Blur(std=(0.0, std, std)), voxels, spacing_mm) if std else voxels.copy()


def gamma(voxels: FloatArray, level: float, rng: Rng, *, spacing_mm: Spacing = (1, 1, 1)) -> FloatArray:
    """Contrast bent by a power of exp(+-0.1 ... 0.5)."""
    top = float(voxels.max()) or 1.0
    power = np.exp(rng.choice((-1, 1)) * interpolate_level(level, (0.1, 0.2, 0.3, 0.4, 0.5), none=0.0))
    return np.asarray(top * (voxels / top) ** power, dtype=np.float32)


# --------------------------------------------------------------------------- slide


def jpeg(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """JPEG at quality 25 to 7."""
    if level <= 0:
        return patches.copy()
    out = np.empty_like(patches)
    for index, patch in enumerate(patches):
        held = io.BytesIO()
        Image.fromarray(patch).save(held, "JPEG", quality=round(interpolate_level(level, (25, 18, 15, 10, 7), none=90)))
        out[index] = np.asarray(Image.open(held))
    return out


def defocus(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Out of focus: every point becomes a disk of 3 to 10 px (of 224)."""
    radius = interpolate_level(level, (3, 4, 6, 8, 10), none=0.0) * patches.shape[1] / REFERENCE_PX
    if radius < 0.5:
        return patches.copy()
    reach = int(np.ceil(radius))
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    disk = np.clip(radius + 0.5 - away, 0, 1)[None, :, :, None]
    padded = np.pad(patches.astype(np.float32), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return _bytes(signal.fftconvolve(padded, disk / disk.sum(), mode="valid", axes=(1, 2)))


def pixelate(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Scanned at a lower magnification, 0.6 to 0.25 of the resolution."""
    edge = patches.shape[1]
    small = max(1, round(edge * interpolate_level(level, (0.6, 0.5, 0.4, 0.3, 0.25), none=1.0)))
    out = np.empty_like(patches)
    for index, patch in enumerate(patches):
        less = Image.fromarray(patch).resize((small, small), Image.Resampling.BOX)
        out[index] = np.asarray(less.resize((edge, edge), Image.Resampling.BILINEAR))
    return out


def brightness(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """The lamp brighter or darker by 0.05 to 0.25 of the range."""
    shift = rng.choice((-1, 1)) * interpolate_level(level, (0.05, 0.10, 0.15, 0.20, 0.25), none=0.0)
    return _bytes(patches + 255.0 * shift)


def colour(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Hue turned by 0.02 to 0.1 of the circle, saturation changed by 0.05 to 0.25 of the range."""
    turn = rng.choice((-1, 1)) * interpolate_level(level, (0.02, 0.04, 0.06, 0.08, 0.10), none=0.0)
    more = rng.choice((-1, 1)) * interpolate_level(level, (0.05, 0.10, 0.15, 0.20, 0.25), none=0.0)
    if level <= 0:
        return patches.copy()
    strip = Image.fromarray(patches.reshape(-1, patches.shape[2], 3)).convert("HSV")
    hsv = np.asarray(strip).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + 256 * turn) % 256
    hsv[..., 1] = np.clip(hsv[..., 1] + 255 * more * (hsv[..., 1] > 8), 0, 255)  # glass has no colour to change
    return np.asarray(Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB")).reshape(patches.shape)


def stain(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Another laboratory: the amount of either stain times 1 +- 0.1 ... 0.5, and +- 0.03 ... 0.2 of density more."""
    alpha = 1 + rng.choice((-1, 1), 2) * interpolate_level(level, (0.1, 0.2, 0.3, 0.4, 0.5), none=0.0)
    beta = rng.choice((-1, 1), 2) * interpolate_level(level, (0.03, 0.07, 0.11, 0.15, 0.20), none=0.0)
    vectors = np.vstack([REFERENCE.vectors, np.cross(*REFERENCE.vectors)])
    density = -np.log(np.maximum(patches, 1).astype(np.float32) / 255)
    amounts = density @ np.linalg.inv(vectors)
    tissue = np.clip(amounts[..., :2].sum(-1, keepdims=True) / 0.15, 0, 1)  # glass takes no stain
    amounts[..., :2] = np.maximum(amounts[..., :2] * alpha + beta * tissue, 0)
    return _bytes(255 * np.exp(-(amounts @ vectors)))


def bubble(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Air under the cover glass: a washed-out disk with a dark rim in every patch."""
    ratio = interpolate_level(level, (0.1, 0.3, 0.5, 0.7, 0.9), none=0.0)
    count, edge = patches.shape[:2]
    centre, radius = rng.uniform(0.2, 0.8, (count, 2, 1, 1)) * edge, rng.uniform(0.25, 0.45, (count, 1, 1)) * edge
    y, x = np.mgrid[:edge, :edge]
    away = np.hypot(y - centre[:, 0], x - centre[:, 1]) - radius
    inside = ratio * (away < 0)[..., None]
    rim = ratio * np.exp(-((away / (0.02 * edge + 1)) ** 2))[..., None]
    return _bytes((patches * (1 - inside) + 235 * inside) * (1 - 0.8 * rim))


PENS = np.array([[0.25, 0.45, 0.95], [0.20, 0.70, 0.30], [0.15, 0.15, 0.15]])  # blue, green, black


def pen(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """A stroke of one pen over 2 to 25 % of every patch."""
    ink = PENS[rng.integers(len(PENS))]
    across = _across(patches, rng)
    half = interpolate_level(level, (0.02, 0.05, 0.10, 0.15, 0.25), none=0.0) / 2
    return _bytes(patches * np.where((np.abs(across) < half)[..., None], ink, 1.0))


def fold(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Tissue lies double in a strip of 6 to 30 px (of 224): twice the optical density."""
    half = interpolate_level(level, (6, 12, 18, 24, 30), none=0.0) / REFERENCE_PX / 2
    double = patches.astype(np.float32) ** 2 / 255
    return _bytes(np.where((np.abs(_across(patches, rng)) < half)[..., None], double, patches))


def tear(patches: Uint8Array, level: float, rng: Rng) -> Uint8Array:
    """Missing tissue: ragged holes over 5 to 50 % of every patch show the glass."""
    share, edge = interpolate_level(level, (0.05, 0.10, 0.20, 0.35, 0.50), none=0.0), patches.shape[1]
    rough = ndimage.gaussian_filter(rng.standard_normal(patches.shape[:3]), (0, edge / 16, edge / 16))
    bound = np.quantile(rough, share, axis=(1, 2), keepdims=True)
    return np.where((rough < bound)[..., None], np.uint8(GLASS), patches)


def _across(patches: Uint8Array, rng: Rng) -> FloatArray:
    """Distance of each pixel (patch, y, x) from a random line through its patch, in patch edges."""
    count, edge = patches.shape[:2]
    angle, offset = rng.uniform(0, np.pi, (count, 1, 1)), rng.uniform(-0.25, 0.25, (count, 1, 1))
    y, x = (np.mgrid[:edge, :edge] + 0.5) / edge - 0.5
    return np.asarray(np.cos(angle) * x + np.sin(angle) * y - offset, dtype=np.float32)


def _bytes(values: Any) -> Uint8Array:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "jpeg": Corruption("he", jpeg, "JPEG compression"),
    "defocus": Corruption("he", defocus, "out of focus"),
    "pixelate": Corruption("he", pixelate, "scanned at a lower magnification"),
    "brightness": Corruption("he", brightness, "lamp brighter or darker"),
    "colour": Corruption("he", colour, "hue and saturation"),
    "stain": Corruption("he", stain, "another laboratory's stain"),
    "bubble": Corruption("he", bubble, "air bubble"),
    "pen": Corruption("he", pen, "pen mark"),
    "fold": Corruption("he", fold, "tissue fold"),
    "tear": Corruption("he", tear, "missing tissue"),
    "bias": Corruption("mri", bias, "coil's bias field"),
    "motion": Corruption("mri", motion, "patient moved"),
    "ghosting": Corruption("mri", ghosting, "ghosts of breathing or pulse"),
    "spike": Corruption("mri", spike, "k-space spike"),
    "noise": Corruption("mri", noise, "Rician noise"),
    "low_resolution": Corruption("mri", low_resolution, "fewer rows or columns"),
    "blur": Corruption("mri", blur, "blur in the plane"),
    "gamma": Corruption("mri", gamma, "contrast bent by a power"),
}
