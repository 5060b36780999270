"""The MRI viewer: NiiVue in three planes and 3-D, its overlays, and what a click in it says."""

from __future__ import annotations

from collections.abc import Sequence

from cmssd_core.types import Volume
from dashboard.viewers.layers import Overlay, Point, VolumeClick

__all__ = ["Overlay", "VolumeClick", "viewer"]


def viewer(
    volume: Volume,
    overlays: Sequence[Overlay] = (),
    *,
    key: str,
    contrast: str | None = None,
    at_mm: Point | None = None,
    site_mm: Point | None = None,
    link: str | None = None,
    height_px: int = 620,
) -> VolumeClick | None:
    """Draws a volume under its overlays; gives the last click, None before the first.

    key: unique on the page. contrast: shown first (all can be chosen in the viewer). at_mm: RAS+ mm; the crosshair
    moves there whenever this changes. site_mm: the biopsy site, marked. link: viewers of one page that share this word
    move together: a patch pointed at on the slide moves the crosshair here, without asking Python.

    The voxels go to the browser by a route that serves this session alone. Overlays whose array is the same object as
    before, or equal, are not sent again. Where the JavaScript is not built, one sentence says how to build it and a
    plain picture stands in.
    """
    raise NotImplementedError
