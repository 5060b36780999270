"""What stands in for the viewers where their JavaScript is not built: one slice, one thumbnail, and a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from cmssd_core.report.display import colour_values, contrast_index, lay_out, window
from cmssd_core.slide.pixels import thumbnail
from cmssd_core.types import Slide, Uint8Array, Volume
from cmssd_core.volume.contrasts import contrast_label
from dashboard.viewers import bundle
from dashboard.viewers.layers import Overlay, Patches, PatchLayer, Point, colours


def volume(shown: Volume, overlays: Sequence[Overlay], *, key: str, contrast: str, at_mm: Point | None = None) -> None:
    """One slice under its shown overlays, with a slider; at_mm chooses the first slice."""
    st.info(bundle.UNBUILT, icon=":material/build:")
    layout = lay_out(shown.affine, shown.voxels.shape[1:])
    first = layout.count // 2
    if at_mm is not None:
        voxel = np.linalg.solve(shown.affine[:3, :3], np.asarray(at_mm) - shown.affine[:3, 3])
        first = min(max(round(float(voxel[2 - layout.orientation.axes[0]])), 0), layout.count - 1)
    index = 0
    if layout.count > 1:
        index = st.slider("Slice", 1, layout.count, first + 1, key=f"{key}_slice_{first}") - 1
    grey = layout.slice_of(shown.voxels[contrast_index(shown, contrast)], index)
    low, high = window(shown.voxels[contrast_index(shown, contrast)])
    picture = np.repeat((np.clip((grey - low) / (high - low), 0, 1) * 255)[..., None], 3, axis=-1)
    for overlay in (each for each in overlays if each.shown):
        plane = layout.slice_of(overlay.values.astype(np.float32), index)
        over, present = _painted(overlay, plane)
        picture = np.where(present[..., None], (1 - overlay.opacity) * picture + overlay.opacity * over, picture)
    left, right, top, bottom = layout.letters
    st.image(
        _stretched(picture.astype(np.uint8), layout.row_mm, layout.col_mm),
        caption=f"{contrast_label(contrast)}, slice {index + 1} of {layout.count}; left is {left}, right {right}, "
        f"top {top}, bottom {bottom}. {'; '.join(each.name for each in overlays if each.shown)}",
        width="stretch",
    )


def slide(shown: Slide, layers: Sequence[PatchLayer], *, patches: Patches | None, key: str) -> None:
    """The whole slide small, under the first shown layer."""
    st.info(bundle.UNBUILT, icon=":material/build:")
    picture, scale = thumbnail(shown, max_px=1000)
    picture = picture.copy()
    layer = next((each for each in layers if each.shown), None)
    if layer is not None and patches is not None:
        edge = max(1, round(patches.size_px / scale))
        for (x, y), value in zip(patches.xy, layer.values, strict=True):
            if np.isfinite(value):
                row, column = round(y / scale), round(x / scale)
                part = picture[row : row + edge, column : column + edge]
                over, _ = _painted(layer, np.full(part.shape[:2], value, np.float32))
                part[:] = (1 - layer.opacity) * part + layer.opacity * over
    st.image(picture, caption=None if layer is None else layer.name, width="stretch")


def _painted(layer: Overlay | PatchLayer, values: np.ndarray) -> tuple[Uint8Array, np.ndarray]:
    """Colours (row, column, 3) of values, and where there is anything to paint."""
    low, high = layer.range()
    hidden = layer.shown_from if isinstance(layer, Overlay) else 0.0
    positive, negative = colours(layer.colormap, signed=layer.signed)
    if negative is None and len(positive) > 1:
        return colour_values(values, layer.colormap, limits=(low, high)), values >= max(hidden, low)
    tables = [np.array(positive), np.array(negative or positive)]
    share = np.clip(np.abs(values) / max(high, 1e-12), 0, 1)
    places = [np.round(share * (len(table) - 1)).astype(int) for table in tables]
    over = np.where((values >= 0)[..., None], tables[0][places[0]], tables[1][places[1]])
    return over.astype(np.uint8), np.abs(values) > max(hidden, 0.5 if negative is None else 0.0)


def _stretched(picture: Uint8Array, row_mm: float, col_mm: float) -> Uint8Array:
    """Square pixels: rows repeated as often as their height asks for."""
    rows = np.floor(np.arange(0, picture.shape[0], col_mm / row_mm)).astype(int)
    return picture[np.minimum(rows, picture.shape[0] - 1)]
