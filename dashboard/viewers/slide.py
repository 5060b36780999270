"""The slide viewer: OpenSeadragon over Deep Zoom tiles, layers over its patches, and what a click in it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st

from cmssd_core.slide.stain import Stain
from cmssd_core.types import InputError, Slide
from dashboard import holdings
from dashboard.holdings import HeldSlide
from dashboard.viewers import bundle, plain, tiles
from dashboard.viewers.layers import Outlines, PatchClick, Patches, PatchLayer, colours, refuse_twins

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
    Raises InputError where a layer has not one value a patch, or two share a name.
    """
    refuse_twins([layer.name for layer in layers])
    refuse_twins([each.name for each in outlines])
    count = 0 if patches is None else len(patches.xy)
    for layer in layers:
        if layer.values.shape != (count,):
            raise InputError(f"{layer.name} has {layer.values.shape} values for {count} patches; give one a patch")
    if not bundle.ready():
        plain.slide(slide, layers, patches=patches, key=key)
        return None
    holding, shape = holdings.mine(), tiles.pyramid(slide)
    data = {
        "tiles": _address(holding, slide, None),
        "stained": None if stain is None else _address(holding, slide, stain),
        "width": shape.width,
        "height_px": shape.height,
        "levels": shape.levels,
        "tile": tiles.TILE_PX,
        "overlap": tiles.OVERLAP_PX,
        "mpp": slide.mpp,
        "patches": None if patches is None or not count else _patches(patches),
        "layers": [_layer(layer) for layer in layers] if count else [],
        "outlines": [_outlines(holding, each) for each in outlines],
        "link": link,
        "stage": height_px,
        "alt": f"H&E slide of {shape.width} x {shape.height} pixels with {count} patches",
    }
    answer = _component(bundle.loader("slide"))(key=key, data=data, default={"click": None}, on_click_change=_nothing)
    return _click(patches, answer.click)


@lru_cache(maxsize=2)
def _component(loader: str) -> Any:
    return st.components.v2.component("cmssd_slide", js=loader)


def _nothing() -> None:
    """Streamlit asks for a callback of each state it is to keep."""


def _address(holding: holdings.Holding, slide: Slide, stain: Stain | None) -> str:
    words = [*map(str, tiles.file_key(slide.path)), "" if stain is None else str(stain.vectors.tolist())]
    # The path is hashed: it may hold what a hospital calls a patient.
    return holding.hold(hashlib.sha256("\n".join(words).encode()).hexdigest()[:40], HeldSlide(slide, stain))


def _patches(patches: Patches) -> dict[str, Any]:
    places = patches.places_mm
    return {
        "xy": patches.xy.tolist(),
        "size": float(patches.size_px),
        "places": None if places is None else np.round(places, 3).tolist(),
    }


def _layer(layer: PatchLayer) -> dict[str, Any]:
    low, high = layer.range()
    positive, negative = colours(layer.colormap, signed=layer.signed)
    return {
        "name": layer.name,
        "values": [float(v) if np.isfinite(v) else None for v in layer.values],
        "meaning": layer.meaning,
        "colours": positive,
        "negative": negative,
        "low": low,
        "high": high,
        "from": low,
        "opacity": layer.opacity,
        "shown": layer.shown,
        "unit": layer.unit,
    }


def _outlines(holding: holdings.Holding, each: Outlines) -> dict[str, Any]:
    written = json.dumps(each.geojson, separators=(",", ":")).encode()
    address = holding.hold(hashlib.sha256(written).hexdigest()[:40], written)
    positive, _ = colours(each.colormap, signed=False)
    return {
        "name": each.name,
        "url": f"{address}.geojson",
        "meaning": each.meaning,
        "colours": positive,
        "shown": each.shown,
    }


def _click(patches: Patches | None, words: Mapping[str, Any] | None) -> PatchClick | None:
    if not words or words.get("x") is None or words.get("y") is None:
        return None
    index = words.get("patch")
    known = patches is not None and isinstance(index, int) and 0 <= index < len(patches.xy)
    places = patches.places_mm if patches is not None and known else None
    mm = None if places is None or index is None else tuple(float(v) for v in places[index])
    return PatchClick(
        (float(words["x"]), float(words["y"])), index if known else None, None if mm is None else (mm[0], mm[1], mm[2])
    )
