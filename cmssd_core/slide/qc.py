"""Slide quality: what a pathologist would complain about, as plain sentences with numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cmssd_core.slide.stain import REFERENCE, Stain, angle_deg
from cmssd_core.slide.tissue import grey, pen_mask, tissue_mask
from cmssd_core.types import BoolArray, Finding, PatchBag, Uint8Array

_WHERE = "slide"
_SMALL_TISSUE_MM2 = 0.5
_PEN_FRACTION = 0.02
_BLUR = 40.0
_FOLD_FRACTION = 0.05
_STAIN_ANGLE_DEG = 30.0


def check(
    overview: Uint8Array, *, overview_mpp: float, bag: PatchBag | None = None, stain: Stain | None = None
) -> tuple[Finding, ...]:
    """All quality findings of a slide.

    overview: uint8 (y, x, 3), the whole slide small, at overview_mpp microns per pixel. bag: raw patches. stain: as
    fitted on them.
    """
    found = (*check_overview(overview, mpp=overview_mpp),)
    if bag is not None:
        found = (*found, *check_patches(bag))
    if stain is not None:
        found = (*found, *check_stain(stain))
    return found


def check_overview(rgb: Uint8Array, *, mpp: float) -> tuple[Finding, ...]:
    """Findings on an overview uint8 (y, x, 3) at mpp: dark ground, no colour, pen, blank, little tissue."""
    found: list[Finding] = []
    high = rgb.max(-1)
    dark = float((high < 60).mean())
    if dark > 0.5:
        what = f"{dark:.0%} of the slide is dark, as in fluorescence; an H&E slide on a bright ground was expected"
        found.append(Finding("severe", what, _WHERE))
    if float(np.percentile(high - rgb.min(-1), 99.5)) < 8:
        found.append(Finding("severe", "the slide has no colour; an H&E-stained colour scan was expected", _WHERE))
    tissue = tissue_mask(rgb)
    pen = pen_mask(rgb)
    ink = float(pen.mean())
    if dark <= 0.5 and ink > _PEN_FRACTION:
        what = f"pen or ink covers about {ink:.0%} of the slide; those places are left out"
        found.append(Finding("warning", what, _WHERE))
    area_mm2 = float(tissue.sum()) * (mpp / 1000) ** 2
    if area_mm2 < _SMALL_TISSUE_MM2:
        what = f"the slide shows {area_mm2:.2f} mm2 of tissue only; results rest on very little material"
        found.append(Finding("warning", what, _WHERE))
    return tuple(found)


def check_patches(bag: PatchBag) -> tuple[Finding, ...]:
    """Findings on raw patches: out of focus, folded."""
    if not len(bag.patches):
        return ()
    found: list[Finding] = []
    sharp = np.array([sharpness(patch) for patch in bag.patches])
    known = np.isfinite(sharp)
    soft = int((sharp[known] < _BLUR).sum())
    if known.any() and soft > 0.3 * known.sum():
        what = (
            f"{soft} of {int(known.sum())} patches are out of focus (variance of the Laplacian at {bag.mpp:.3g} "
            f"microns per pixel below {_BLUR:.0f}, median {np.median(sharp[known]):.0f})"
        )
        found.append(Finding("warning", what, _WHERE))
    folded = np.array([fold_mask(patch).mean() for patch in bag.patches])
    count = int((folded > _FOLD_FRACTION).sum())
    if count > 0.1 * len(folded):
        what = f"{count} of {len(folded)} patches hold dark, saturated strips as tissue folds make"
        found.append(Finding("warning", what, _WHERE))
    return tuple(found)


def check_stain(stain: Stain) -> tuple[Finding, ...]:
    """A finding where the stain's colours lie far from haematoxylin's and eosin's."""
    off = [angle_deg(mine, other) for mine, other in zip(stain.vectors, REFERENCE.vectors, strict=True)]
    if max(off) <= _STAIN_ANGLE_DEG:
        return ()
    what = (
        f"the stain's two colours lie {off[0]:.0f} and {off[1]:.0f} degrees from haematoxylin's and eosin's, at most "
        f"{_STAIN_ANGLE_DEG:.0f} were expected; is this H&E, without pen over the tissue?"
    )
    return (Finding("warning", what, _WHERE),)


def sharpness(patch: Uint8Array) -> float:
    """Variance of the Laplacian of the luma over tissue, in grey levels squared; NaN without tissue.

    Pech-Pacheco et al., ICPR 2000. It falls with the resolution, so compare it at one mpp only.
    """
    luma = grey(patch)
    curve = 4 * luma[1:-1, 1:-1] - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    tissue = tissue_mask(patch)[1:-1, 1:-1]
    return float(curve[tissue].var()) if tissue.sum() > 100 else float("nan")


def fold_mask(patch: Uint8Array) -> BoolArray:
    """Where a patch is darker and more saturated than single-layered tissue gets, smoothly over some pixels."""
    values: npt.NDArray[np.float32] = patch.astype(np.float32)
    high, low = values.max(-1), values.min(-1)
    saturation = (high - low) / np.maximum(high, 1)
    return np.asarray((saturation > 0.6) & (high < 130))
