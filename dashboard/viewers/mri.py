"""The MRI viewer: NiiVue in three planes and 3-D, its overlays, and what a click in it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st

from cmssd_core.report.display import contrast_index, window
from cmssd_core.types import FloatArray, InputError, Volume
from cmssd_core.volume.contrasts import CONTRASTS, HU
from dashboard import holdings
from dashboard.holdings import HeldVolume
from dashboard.viewers import bundle, plain
from dashboard.viewers.layers import Overlay, Point, VolumeClick, colours, refuse_twins

__all__ = ["Overlay", "VolumeClick", "viewer"]

#: Hounsfield units are the same on every scanner, so what is measured in them has windows with names.
_UNIT_WINDOWS = {
    HU: (("bone 2500/480", -770.0, 1730.0), ("soft tissue 400/40", -160.0, 240.0), ("lung 1500/-600", -1350.0, 150.0)),
}
#: name -> lower and upper percentile; MRI has no units.
_MRI_WINDOWS = (
    ("standard, 2–98 %", 2.0, 98.0), ("whole range", 0.0, 100.0), ("high contrast", 15.0, 90.0),
    ("bright parts", 50.0, 99.8), ("dark parts", 0.5, 70.0),
)  # fmt: skip
_SITE_MM = 3.0  # radius of the ball that marks the biopsy site


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
    plain picture stands in. Raises InputError where an overlay lies on another grid or two share a name.
    """
    refuse_twins([overlay.name for overlay in overlays])
    for overlay in overlays:
        if overlay.values.shape != volume.voxels.shape[1:]:
            raise InputError(
                f"{overlay.name} has {overlay.values.shape} voxels, the MRI {volume.voxels.shape[1:]}; bring it onto "
                "the MRI's grid first"
            )
    shown = volume.contrasts[contrast_index(volume, contrast)]
    if not bundle.ready():
        plain.volume(volume, overlays, key=key, contrast=shown, at_mm=at_mm)
        return None
    if site_mm is not None:
        overlays = [*overlays, _site(volume, site_mm)]
    holding = holdings.mine()
    count, (spacing_z, spacing_y, spacing_x) = volume.voxels.shape[1], reversed(volume.spacing_mm)
    drawn = ", ".join(overlay.name for overlay in overlays if overlay.shown) or "no map"
    data = {
        "contrasts": [_contrast(holding, volume, name) for name in volume.contrasts],
        "contrast": shown,
        "overlays": [_layer(holding, volume, overlay) for overlay in overlays],
        "at": None if at_mm is None else [float(v) for v in at_mm],
        "link": link,
        "height": height_px,
        "alt": f"MRI in three planes and 3-D with {drawn}; {count} slices, voxels of {spacing_x:.2g} x {spacing_y:.2g} "
        f"x {spacing_z:.2g} mm",
    }
    answer = _component(bundle.loader("mri"))(key=key, data=data, default={"click": None}, on_click_change=_nothing)
    return _click(volume, answer.click)


@lru_cache(maxsize=2)
def _component(loader: str) -> Any:
    return st.components.v2.component("cmssd_mri", js=loader)


def _nothing() -> None:
    """Streamlit asks for a callback of each state it is to keep."""


def _contrast(holding: holdings.Holding, volume: Volume, name: str) -> dict[str, Any]:
    voxels = volume.voxels[contrast_index(volume, name)]
    content = holdings.digest(voxels)
    address = holding.hold(_named(content, volume), HeldVolume(voxels, volume.affine))
    return {"name": name, "url": f"{address}.nii", "windows": _windows(content, voxels, name)}


def _layer(holding: holdings.Holding, volume: Volume, overlay: Overlay) -> dict[str, Any]:
    content = holdings.digest(overlay.values)
    address = holding.hold(_named(content, volume), HeldVolume(overlay.values, volume.affine))
    low, high = overlay.range()
    positive, negative = colours(overlay.colormap, signed=overlay.signed)
    return {
        "name": overlay.name,
        "url": f"{address}.nii",
        "meaning": overlay.meaning,
        "colours": positive,
        "negative": negative,
        "low": low,
        "high": high,
        "from": max(overlay.shown_from, 0.0 if overlay.signed else low),
        "opacity": overlay.opacity,
        "shown": overlay.shown,
        "unit": overlay.unit,
        "mask": overlay.values.dtype == np.bool_,
    }


def _named(content: str, volume: Volume) -> str:
    return f"{content[:40]}-{holdings.digest(volume.affine)[:8]}"


_known_windows: dict[str, list[dict[str, Any]]] = {}


def _windows(content: str, voxels: FloatArray, name: str) -> list[dict[str, Any]]:
    """Five grey windows of one contrast, for the keys 1 to 5; found once while the program runs."""
    if content not in _known_windows:
        unit_windows = _UNIT_WINDOWS.get(CONTRASTS[name].unit, ())
        low, high = window(voxels)
        named: list[tuple[str, float, float]] = [("standard, 2–98 %", low, high)]
        finite = voxels[np.isfinite(voxels)]
        sample = finite[:: max(1, finite.size // 500_000)]
        for words, lower, upper in _MRI_WINDOWS[1 : 2 if unit_windows else None]:
            ends = (finite.min(), finite.max()) if (lower, upper) == (0, 100) else np.percentile(sample, (lower, upper))
            named.append((words, float(ends[0]), float(max(ends[1], ends[0] + 1e-6))))
        named += unit_windows
        if len(_known_windows) > 256:
            _known_windows.clear()
        _known_windows[content] = [{"name": words, "low": low, "high": high} for words, low, high in named]
    return _known_windows[content]


def _site(volume: Volume, site_mm: Point) -> Overlay:
    z, y, x = np.indices(volume.voxels.shape[1:], dtype=np.float32)
    places = np.stack([x, y, z], axis=-1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    # A ball of 3 mm may fall between slices that lie farther apart.
    reach = max(_SITE_MM, max(volume.spacing_mm) * 0.75)
    return Overlay(
        name="Biopsy site",
        values=np.linalg.norm(places - np.asarray(site_mm), axis=-1) <= reach,
        meaning="Where the slide was taken, as registered; not found by the model.",
        colormap="green",
        opacity=0.75,
    )


def _click(volume: Volume, words: Mapping[str, Any] | None) -> VolumeClick | None:
    """What the browser said, as a noun; the value is read here, from the volume itself."""
    if not words or len(words.get("mm") or ()) != 3 or words.get("contrast") not in volume.contrasts:
        return None
    mm = np.array([float(v) for v in words["mm"]])
    exact = np.linalg.solve(volume.affine[:3, :3], mm - volume.affine[:3, 3])
    x, y, z = (round(float(v)) for v in exact)
    inside = all(0 <= v < n for v, n in zip((z, y, x), volume.voxels.shape[1:], strict=True))
    value = float(volume.voxels[contrast_index(volume, words["contrast"]), z, y, x]) if inside else None
    return VolumeClick((x, y, z), (float(mm[0]), float(mm[1]), float(mm[2])), value, words["contrast"])
