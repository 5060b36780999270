"""Prepare a slide: patches, one stain fit over all of them, every patch in the reference's colours."""

from __future__ import annotations

from dataclasses import replace

from cmssd_core.slide import qc, stain
from cmssd_core.slide.patches import PatchSettings, bag
from cmssd_core.slide.pixels import thumbnail
from cmssd_core.slide.tissue import GLASS, ink_mask
from cmssd_core.types import Finding, InputError, PatchBag, Slide, frozen

_OVERVIEW_PX = 1024
# Share of the patches' area under pen: worth a remark, most of what was read, and nothing left to read.
_SOME_INK, _MUCH_INK, _ALL_INK = 0.02, 0.4, 0.8


def prepare(
    slide: Slide, *, patch_settings: PatchSettings | None = None, backend: stain.Backend = "native"
) -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
    """A slide's patches with normalised stain, quality findings, and the steps taken.

    The stain is fitted once, over the pixels of all patches. Where there is tissue but no H&E stain can be fitted,
    the patches keep the scanner's colours and a severe finding says so. Raises InputError where there is no tissue
    or the backend is not installed.
    """
    raw, findings, steps = bag(slide, settings=patch_settings or PatchSettings())
    overview, scale = thumbnail(slide, max_px=_OVERVIEW_PX)
    remarks = qc.check(overview, overview_mpp=scale * raw.slide_mpp, bag=raw)
    if qc.featureless(raw) and any("pen or ink" in remark.what for remark in remarks):
        raise InputError(
            f"{slide.path.name} shows pen and nothing in focus beside it; pass a region with H&E-stained tissue"
        )
    findings = (*findings, *remarks)
    if backend == "staintools":
        from cmssd_core.slide import staintools_backend

        staintools_backend.require()
    prepared, noticed, done = normalise_stain(raw, backend=backend)
    return prepared, (*findings, *noticed), (*steps, *done)


def normalise_stain(
    raw: PatchBag, *, backend: stain.Backend = "native"
) -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
    """A bag in the scanner's colours as a bag in the reference's, with what was noticed of the stain, and the steps.

    Pen is painted as bare glass first: it hides the tissue, and its colour would turn the stain's. Raises InputError
    where it covers nearly everything.
    """
    clean, covered, steps = _without_ink(raw)
    try:
        source = stain.fit(clean.patches, backend=backend)
    except InputError as reason:
        what = f"the stain was not normalised: {reason}"
        return clean, (*covered, Finding("severe", what, "slide")), (*steps, "stain not normalised")
    patches = stain.normalise(clean.patches, source=source, backend=backend)
    steps = (*steps, f"stain normalised to the Macenko reference ({backend})")
    return replace(clean, patches=frozen(patches)), (*covered, *qc.check_stain(source)), steps


def _without_ink(raw: PatchBag) -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
    ink = ink_mask(raw.patches, mpp=raw.mpp)
    if not ink.any():
        return raw, (), ()
    share, some = float(ink.mean()), int(ink.any(axis=(1, 2)).sum())
    if share > _ALL_INK:
        raise InputError(
            f"pen covers {share:.0%} of the {len(ink)} patches of tissue; pass a slide or region with tissue beside it"
        )
    patches = raw.patches.copy()
    patches[ink] = GLASS
    step = f"pen painted over as bare glass in {some} of {len(ink)} patches ({share:.1%} of their area)"
    what = f"pen covers {share:.0%} of the patches' area; results rest on the tissue beside it"
    found = Finding("severe" if share > _MUCH_INK else "warning", what, "slide")
    return replace(raw, patches=frozen(patches)), (found,) if share > _SOME_INK else (), (step,)
