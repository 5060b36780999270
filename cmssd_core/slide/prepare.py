"""Prepare a slide: patches, one stain fit over all of them, every patch in the reference's colours."""

from __future__ import annotations

from dataclasses import replace

from cmssd_core.slide import qc, stain
from cmssd_core.slide.patches import PatchSettings, bag
from cmssd_core.slide.pixels import thumbnail
from cmssd_core.types import Finding, InputError, PatchBag, Slide, frozen

_OVERVIEW_PX = 1024


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
    prepared, noticed, done = normalised(raw, backend=backend)
    return prepared, (*findings, *noticed), (*steps, *done)


def normalised(
    raw: PatchBag, *, backend: stain.Backend = "native"
) -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
    """A bag in the scanner's colours as a bag in the reference's, with what was noticed of the stain, and the step."""
    try:
        source = stain.fit(raw.patches, backend=backend)
    except InputError as reason:
        what = f"the stain was not normalised: {reason}"
        return raw, (Finding("severe", what, "slide"),), ("stain not normalised",)
    patches = stain.normalise(raw.patches, source=source, backend=backend)
    step = f"stain normalised to the Macenko reference ({backend})"
    return replace(raw, patches=frozen(patches)), qc.check_stain(source), (step,)
