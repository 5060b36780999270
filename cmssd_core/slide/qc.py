"""Slide quality: what a pathologist would complain about, as plain sentences with numbers.

Every limit was set on real tiles (45 osteosarcoma tiles of two centres' scanners at 10x, colon, bile duct, pen and
empty tiles): none of the osteosarcoma tiles may be called pen or folded, all pen tiles must be called pen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cmssd_core.slide.stain import REFERENCE, Stain, angle_deg
from cmssd_core.slide.tissue import grey, pen_colours, tissue_mask
from cmssd_core.types import Finding, PatchBag, Uint8Array

_WHERE = "slide"
_SMALL_TISSUE_MM2 = 0.1
# Blood and bone reach 1.6 % of "red pen" on clean tiles; the other inks stay below 0.02 %.
_PEN_FRACTION = {"green": 0.003, "blue": 0.003, "black": 0.003, "red": 0.025}
# In grey levels squared at 1 micron per pixel: sharp tissue has 26 and more in 99 of 100 patches, after a blur of
# 2 microns (sigma) 20 and less in 95 of 100.
_BLUR = 20.0
_FEATURELESS = 5.0
_CELL_UM = 16.0
_FOLD_FRACTION = 0.04
_STAIN_ANGLE_DEG = 30.0


def check(
    overview: Uint8Array, *, overview_mpp: float, bag: PatchBag | None = None, stain: Stain | None = None
) -> tuple[Finding, ...]:
    """All quality findings of a slide.

    overview: uint8 (y, x, 3), the whole slide small, at overview_mpp microns per pixel. bag: raw patches. stain: as
    fitted on them.
    """
    return (
        *check_overview(overview, mpp=overview_mpp),
        *(() if bag is None else check_patches(bag)),
        *(() if stain is None else check_stain(stain)),
    )


def check_overview(rgb: Uint8Array, *, mpp: float) -> tuple[Finding, ...]:
    """Findings on an overview uint8 (y, x, 3) at mpp: dark ground, no colour, pen, little tissue."""
    found: list[Finding] = []
    high = rgb.max(-1)
    dark = float((high < 60).mean())
    if dark > 0.5:
        what = f"{dark:.0%} of the slide is dark, as in fluorescence; H&E on a bright ground was expected"
        found.append(Finding("severe", what, _WHERE))
    elif (spread := float(np.percentile(high - rgb.min(-1), 99.5))) < 8 and float(np.percentile(high, 5)) < 200:
        what = f"the slide is grey (its colours differ by {spread:.0f} of 255); an H&E scan in colour was expected"
        found.append(Finding("severe", what, _WHERE))
    else:
        found.extend(_pen(rgb, mpp=mpp))
    area_mm2 = float(tissue_mask(rgb).sum()) * (mpp / 1000) ** 2
    if 0 < area_mm2 < _SMALL_TISSUE_MM2:
        what = f"the slide shows only {area_mm2:.2g} mm2 of tissue; results rest on very little material"
        found.append(Finding("warning", what, _WHERE))
    return tuple(found)


def check_patches(bag: PatchBag) -> tuple[Finding, ...]:
    """Findings on raw patches: out of focus, folded. Blur is judged up to 1.5 microns per pixel only."""
    found: list[Finding] = []
    sharp = np.array([sharpness(patch, mpp=bag.mpp) for patch in bag.patches])
    sharp = sharp[np.isfinite(sharp)]
    soft = int((sharp < _BLUR).sum())
    if soft > 0.25 * len(sharp):
        what = (
            f"{soft} of {len(sharp)} patches are out of focus (variance of the Laplacian at 1 micron per pixel below "
            f"{_BLUR:.0f}, median {np.median(sharp):.0f})"
        )
        found.append(Finding("severe" if (sharp < _FEATURELESS).all() else "warning", what, _WHERE))
    folded = fold_fraction(bag.patches, mpp=bag.mpp)
    if folded > _FOLD_FRACTION:
        what = f"about {folded:.0%} of the tissue is more than twice as dense as the rest, as in folds"
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


def featureless(bag: PatchBag) -> bool:
    """True where no patch shows any structure, as pen on glass or a slide wholly out of focus."""
    sharp = np.array([sharpness(patch, mpp=bag.mpp) for patch in bag.patches])
    return bool(np.isfinite(sharp).any() and (sharp[np.isfinite(sharp)] < _FEATURELESS).all())


def sharpness(patch: Uint8Array, *, mpp: float) -> float:
    """Variance of the Laplacian of the luma over tissue, in grey levels squared, at about 1 micron per pixel.

    J. Pech-Pacheco et al., ICPR 2000. Finer patches are averaged down first, since the figure depends on the
    resolution; NaN where there is hardly any tissue or mpp is above 1.5.
    """
    if mpp > 1.5:
        return float("nan")
    small = np.rint(_reduced(patch, max(1, round(1 / mpp)))).astype(np.uint8)
    luma = grey(small)
    if min(luma.shape) < 3:
        return float("nan")
    curve = 4 * luma[1:-1, 1:-1] - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    tissue = tissue_mask(small)[1:-1, 1:-1]
    return float(curve[tissue].var()) if tissue.sum() > 100 else float("nan")


def fold_fraction(patches: Uint8Array, *, mpp: float) -> float:
    """Fraction of the tissue of patches (patch, y, x, 3) that lies in folds.

    Judged in cells of 16 microns, so that single nuclei do not count: a cell is folded when its optical density,
    summed over R, G and B, is above 3.5 and above 2.2 times the median cell's, in a saturated colour.
    """
    size = max(1, min(round(_CELL_UM / mpp), min(patches.shape[1:3])))
    cells = np.stack([_reduced(patch, size) for patch in patches])
    tissue = cells.max(-1) - cells.min(-1) > 20
    if tissue.sum() < 20:
        return 0.0
    cells = cells[tissue]
    density = -np.log(np.maximum(cells, 1) / 255).sum(-1)
    saturation = 1 - cells.min(-1) / np.maximum(cells.max(-1), 1)
    folded = (density > max(3.5, 2.2 * float(np.median(density)))) & (saturation > 0.5)
    return float(folded.mean())


def _pen(rgb: Uint8Array, *, mpp: float) -> list[Finding]:
    """Judged in cells of 16 microns: a stroke is hundreds wide, and a dense blue nucleus is no ink."""
    size = max(1, min(round(_CELL_UM / mpp), *rgb.shape[:2]))
    cells = np.rint(_reduced(rgb, size)).astype(np.uint8)
    inks = {colour: float(mask.mean()) for colour, mask in pen_colours(cells).items()}
    found = {colour: share for colour, share in inks.items() if share > _PEN_FRACTION[colour]}
    if not found:
        return []
    named = " and ".join(f"{colour} ({share:.1%})" for colour, share in found.items())
    return [Finding("warning", f"pen or ink covers part of the slide: {named} of its area; left out of tissue", _WHERE)]


def _reduced(patch: Uint8Array, size: int) -> npt.NDArray[np.float32]:
    """Means of size x size blocks, float32 (y // size, x // size, 3)."""
    height, width = patch.shape[0] // size, patch.shape[1] // size
    blocks = patch[: height * size, : width * size].reshape(height, size, width, size, 3)
    return np.asarray(blocks.mean((1, 3), dtype=np.float32))
