"""What is changed in a case to ask "what if": a frozen description, its content key, and its words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.cases.site import Site
from cmssd_core.corruptions.table import CORRUPTIONS, LEVELS
from cmssd_core.machine import store
from cmssd_core.types import InputError
from cmssd_core.volume.contrasts import contrast_label

Fill = Literal["surroundings", "average", "air"]
#: What stands in an erased region, in words.
FILLS: Mapping[Fill, str] = {
    "surroundings": "the median of a ring of 3 pixels around it",
    "average": "the mean of the body (z-score 0)",
    "air": "the darkest air of the scan",
}
WHATIF = 1  # part of every id made here; raised when the same change would make another input


@dataclass(frozen=True, kw_only=True)
class Damage:
    """An artefact of the table CORRUPTIONS at a level from 0 (none) to 5."""

    name: str
    level: float


@dataclass(frozen=True, kw_only=True)
class Region:
    """A polygon on one slice, erased in every contrast.

    slice_index: from 0 along the slice axis of the source, as SliceArea counts. corners_mm: (x, y), at least three, in
    mm from the upper left corner of the slice as it is shown (radiologically), x right, y down. reach: so many slices
    to either side are erased too.
    """

    slice_index: int
    corners_mm: tuple[tuple[float, float], ...]
    reach: int = 0
    fill: Fill = "surroundings"


def box(slice_index: int, x_mm: tuple[float, float], y_mm: tuple[float, float], **more: Any) -> Region:
    """The Region of a rectangle from x_mm[0], y_mm[0] to x_mm[1], y_mm[1]; `more` as Region takes it."""
    (x0, x1), (y0, y1) = x_mm, y_mm
    return Region(slice_index=slice_index, corners_mm=((x0, y0), (x1, y0), (x1, y1), (x0, y1)), **more)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is changed; without arguments nothing is.

    off: modalities taken away. contrasts_off: MRI contrasts taken away. patches_off: patches taken away, by their
    number (from 0) in the bag the model read. damages: artefacts on the raw images. seed: of what they draw; the draw
    is the same at each level, only its strength differs. erased: a region of the prepared MRI. site_mm: where the
    biopsy is said to have been taken, RAS+ mm. slide_of: id of the case whose slide stands in for the own one.
    """

    off: tuple[str, ...] = ()
    contrasts_off: tuple[str, ...] = ()
    patches_off: tuple[int, ...] = ()
    damages: tuple[Damage, ...] = ()
    seed: int = 1
    erased: Region | None = None
    site_mm: Site | None = None
    slide_of: str | None = None

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return canonical(self) != Change()

    def on(self, modality: Literal["mri", "he"]) -> tuple[Damage, ...]:
        """The artefacts of one modality, in the order of the table."""
        return tuple(damage for damage in self.damages if CORRUPTIONS[damage.name].modality == modality)


def canonical(change: Change) -> Change:
    """The one form of a change: sorted, without levels of 0, without what a missing modality makes void.

    Raises InputError for a modality or an artefact that there is not, a level outside 0 to 5, or a region of no area.
    """
    for name in change.off:
        if name not in MODALITIES:
            raise InputError(f"a modality {name!r} came, expected one of {', '.join(MODALITIES)}; choose one of them")
    names = [damage.name for damage in change.damages]
    for damage in change.damages:
        if damage.name not in CORRUPTIONS or names.count(damage.name) > 1:
            raise InputError(
                f"an artefact {damage.name!r} came, expected each of {', '.join(CORRUPTIONS)} once at most; choose anew"
            )
        if not (math.isfinite(damage.level) and 0 <= damage.level <= LEVELS[-1]):
            raise InputError(f"a level of {damage.level:g} came, expected 0 to {LEVELS[-1]}; choose one in between")
    if change.erased is not None and len(set(change.erased.corners_mm)) < 3:
        raise InputError("a region of fewer than three corners came, expected an area; draw a box or a closed line")
    kept = [d for d in change.damages if d.level > 0 and CORRUPTIONS[d.name].modality not in change.off]
    form = replace(
        change,
        off=tuple(sorted(set(change.off))),
        contrasts_off=tuple(sorted(set(change.contrasts_off))),
        patches_off=tuple(sorted(set(change.patches_off))),
        damages=tuple(Damage(name=n, level=float(d.level)) for n in CORRUPTIONS for d in kept if d.name == n),
    )
    form = replace(form, seed=form.seed if form.damages else Change.seed)
    if "mri" in form.off:
        form = replace(form, contrasts_off=(), erased=None)
    if "he" in form.off:
        form = replace(form, patches_off=(), slide_of=None)
    return replace(form, site_mm=None) if form.off else form  # without either there is no place to map


def content_id(case_id: str, change: Change) -> str:
    """The id of a changed case: another than the original's for every change, the original's own for none."""
    form = canonical(change)
    return store.key(whatif=WHATIF, case=case_id, change=asdict(form)) if form else case_id


def words(change: Change) -> tuple[str, ...]:
    """What is changed, a phrase each."""
    form = canonical(change)
    text = [f"{MODALITIES[name].label} taken away" for name in form.off]
    if form.contrasts_off:
        text.append(f"MRI contrast {', '.join(contrast_label(name) for name in form.contrasts_off)} taken away")
    if form.slide_of is not None:
        text.append(f"the slide of case {form.slide_of[:12]} in place of the own one")
    text += [f"{CORRUPTIONS[d.name].meaning} at level {d.level:g} of {LEVELS[-1]}" for d in form.damages]
    if form.patches_off:
        text.append(f"{len(form.patches_off)} patch{'es' if len(form.patches_off) > 1 else ''} taken away")
    if form.erased is not None:
        region = form.erased
        wide = f" and {region.reach} to either side" if region.reach else ""
        text.append(f"a region of slice {region.slice_index + 1}{wide} erased, filled with {FILLS[region.fill]}")
    if form.site_mm is not None:
        text.append("biopsy site moved to " + ", ".join(f"{v:.1f}" for v in form.site_mm) + " mm (RAS+)")
    return tuple(text)
