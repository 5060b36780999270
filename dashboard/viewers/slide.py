"""The slide viewer: OpenSeadragon over Deep Zoom tiles, layers over its patches, and what a click in it says."""

from __future__ import annotations

from collections.abc import Sequence

from cmssd_core.slide.stain import Stain
from cmssd_core.types import Slide
from dashboard.viewers.layers import Outlines, Patches, PatchClick, PatchLayer

__all__ = ["Outlines", "PatchClick", "PatchLayer", "Patches", "viewer"]


def viewer(
    slide: Slide,
    layers: Sequence[PatchLayer] = (),
    *,
    key: str,
    patches: Patches | None = None,
    outlines: Sequence[Outlines] = (),
    stain: Stain | None = None,
    link: str | None = None,
    height_px: int = 620,
) -> PatchClick | None:
    """Draws a slide under its layers; gives the last click, None before the first.

    patches: where the values of `layers` lie. stain: the slide's own stain; with it the reader can open the
    stain-normalised slide beside the original, both moving together. link: as in mri.viewer.
    The pixels come by a route that serves this session alone; label and macro images are never opened.
    """
    raise NotImplementedError
