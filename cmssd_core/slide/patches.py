"""Patches: a slide's tissue cut into a regular grid, a bounded and evenly spread part of it read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cmssd_core.slide.pixels import OpenedSlide, UnreadablePlaceError, open_slide, region, thumbnail
from cmssd_core.slide.qc import check_overview
from cmssd_core.slide.tissue import tissue_mask
from cmssd_core.types import BoolArray, Finding, InputError, PatchBag, Slide, frozen

__all__ = ["PatchSettings", "bag", "grid", "spread", "tissue_mask"]

_WHERE = "slide"
# Dust and cut edges on empty glass fill less of their grid cell than this.
_NO_TISSUE = 0.01


@dataclass(frozen=True, kw_only=True)
class PatchSettings:
    """How a slide is cut.

    patch_px: edge of a patch in its own pixels. mpp: microns per pixel of the patches. max_patches: more than these
    are never read. min_tissue: a patch is kept when at least this fraction of it is tissue. overview_px: longer side
    of the overview on which tissue is found.
    """

    patch_px: int = 256
    mpp: float = 1.0
    max_patches: int = 64
    min_tissue: float = 0.3
    overview_px: int = 2048

    def __post_init__(self) -> None:
        if min(self.patch_px, self.max_patches, self.overview_px) < 1:
            raise InputError(
                f"patch_px, max_patches and overview_px must be at least 1, got {self.patch_px}, {self.max_patches} "
                f"and {self.overview_px}"
            )
        if not (math.isfinite(self.mpp) and self.mpp > 0):
            raise InputError(f"patches need a positive number of microns per pixel, got {self.mpp}")
        if not 0 < self.min_tissue <= 1:
            raise InputError(f"min_tissue is a fraction in (0, 1], got {self.min_tissue}")


def bag(slide: Slide, *, settings: PatchSettings) -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
    """The tissue patches of a slide, with findings and steps; the patches' colours are the scanner's own.

    A grid without overlap is laid centred on the slide; cells with enough tissue on the overview are candidates; of
    more than `max_patches` candidates an evenly spread part is taken, the same at every call. Patches are read one by
    one, so memory is that of the bag and the overview whatever the slide's size. Raises InputError where the slide has
    no tissue or no mpp.
    """
    if slide.mpp is None:
        raise InputError(f"{slide.path.name} says no microns per pixel; read it again with them", "mpp")
    with open_slide(slide) as opened:
        return _bag(opened, slide_mpp=slide.mpp, settings=settings)


def _bag(
    opened: OpenedSlide, *, slide_mpp: float, settings: PatchSettings
) -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
    slide = opened.slide
    findings: list[Finding] = []
    overview, scale = thumbnail(opened, max_px=settings.overview_px)
    mask = tissue_mask(overview)
    edge = settings.patch_px * settings.mpp / slide_mpp  # level-0 px
    width, height = slide.level_sizes[0]
    corners = grid(width=width, height=height, edge=edge)
    tissue = _fractions(mask, corners=corners, edge=edge, scale=scale)
    if tissue.max() < _NO_TISSUE:
        seen = next((f": {f.what}" for f in check_overview(overview, mpp=scale * slide_mpp) if f.level == "severe"), "")
        raise InputError(f"no tissue found in {slide.path.name}{seen}; pass a slide or region with H&E-stained tissue")
    if slide_mpp > 1.5 * settings.mpp:
        what = (
            f"the slide has {slide_mpp:.3g} microns per pixel, patches want {settings.mpp:.3g}: they are enlarged and "
            "hold less detail than the model was made for"
        )
        findings.append(Finding("warning", what, _WHERE))
    if min(width, height) < edge:
        what = f"the image is {width}x{height} px, a patch covers {edge:.0f}x{edge:.0f} of them: padded with white"
        findings.append(Finding("warning", what, _WHERE))
    enough = np.flatnonzero(tissue >= settings.min_tissue)
    if not len(enough):
        best = float(tissue.max())
        enough = np.flatnonzero(tissue >= max(best / 2, 1e-9))
        what = (
            f"no patch is tissue to {settings.min_tissue:.0%}, the fullest to {best:.1%}: the fullest are used, "
            "results rest on little tissue"
        )
        findings.append(Finding("warning", what, _WHERE))
    chosen = enough[spread(corners[enough], count=settings.max_patches)]
    xy = np.rint(corners[chosen]).astype(np.int64)
    size = (settings.patch_px, settings.patch_px)
    patches = np.empty((len(xy), settings.patch_px, settings.patch_px, 3), dtype=np.uint8)
    lost: list[UnreadablePlaceError] = []
    readable = np.ones(len(xy), dtype=bool)
    for index, (x, y) in enumerate(xy):
        try:
            patches[index] = region(opened, xy=(int(x), int(y)), size_px=size, mpp=settings.mpp)
        except UnreadablePlaceError as place:
            lost.append(place)
            readable[index] = False
    if len(lost) > len(xy) / 2:
        raise lost[0]
    findings += _unreadable(opened, lost=[(int(x), int(y)) for x, y in xy[~readable]], asked=len(xy))
    xy, patches = xy[readable], patches[readable] if lost else patches
    step = (
        f"{len(xy)} of {len(enough)} tissue patches of {settings.patch_px} px at {settings.mpp:.3g} microns per pixel"
    )
    cut = PatchBag(patches=frozen(patches), xy=frozen(xy), mpp=settings.mpp, slide_mpp=slide_mpp, site_mm=slide.site_mm)
    return cut, tuple(findings), (step,)


def _unreadable(opened: OpenedSlide, *, lost: list[tuple[int, int]], asked: int) -> list[Finding]:
    """What could not be decoded, of the patches asked for and of the overview that they were chosen on."""
    found = []
    if lost:
        first = f"the first at x {lost[0][0]}, y {lost[0][1]}"
        what = f"{len(lost)} of {asked} patches cannot be decoded ({first}) and are left out; export the slide again"
        found.append(Finding("severe", what, _WHERE))
    if opened.unreadable:
        x, y = min(opened.unreadable)
        what = (
            f"the slide cannot be decoded in {len(opened.unreadable)} places (one at x {x}, y {y}): no tissue is "
            "looked for there; export the slide again"
        )
        found.append(Finding("severe", what, _WHERE))
    return found


def grid(*, width: int, height: int, edge: float) -> npt.NDArray[np.float64]:
    """Top-left corners (cell, 2) of a grid without overlap, centred on width x height level-0 px, row by row.

    At least one cell; it reaches beyond a slide smaller than `edge` on both sides.
    """
    across, down = max(1, int(width / edge + 1e-6)), max(1, int(height / edge + 1e-6))
    xs = (width - across * edge) / 2 + edge * np.arange(across)
    ys = (height - down * edge) / 2 + edge * np.arange(down)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def spread(points: npt.NDArray[np.float64], *, count: int) -> npt.NDArray[np.intp]:
    """Indices, ascending, of at most `count` of the points (point, 2), far from one another.

    Farthest-point sampling from the point nearest the middle (T. Gonzalez, Theor. Comput. Sci. 38, 1985); the same
    points give the same choice.
    """
    if len(points) <= count:
        return np.arange(len(points))
    first = int(np.argmin(((points - points.mean(0)) ** 2).sum(1)))
    chosen = [first]
    distance = ((points - points[first]) ** 2).sum(1)
    while len(chosen) < count:
        following = int(np.argmax(distance))
        chosen.append(following)
        distance = np.minimum(distance, ((points - points[following]) ** 2).sum(1))
    return np.array(sorted(chosen), dtype=np.intp)


def _fractions(
    mask: BoolArray, *, corners: npt.NDArray[np.float64], edge: float, scale: float
) -> npt.NDArray[np.float64]:
    """Fraction of tissue (cell,) in the part of each grid cell that lies on the slide, from the overview's mask."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = mask.cumsum(0).cumsum(1)
    low = np.floor(corners / scale + 0.5).astype(int)
    high = np.maximum(np.floor((corners + edge) / scale + 0.5).astype(int), low + 1)
    limit = np.array(mask.shape[::-1])
    low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
    area = np.maximum((high - low).prod(1), 1)
    inside = (
        total[high[:, 1], high[:, 0]]
        - total[low[:, 1], high[:, 0]]
        - total[high[:, 1], low[:, 0]]
        + total[low[:, 1], low[:, 0]]
    )
    return np.asarray(inside / area)
