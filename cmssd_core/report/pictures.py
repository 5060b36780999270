"""Noun to PNG: what the report shows, drawn with numpy and Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cmssd_core.report.display import (
    ATTENTION_TITLE,
    MASK,
    OPACITY,
    SHOWN_FROM,
    Layout,
    choose_slices,
    colour_values,
    contrast_index,
    lay_out,
    most_tumour,
    rim,
    round_length,
    window,
)
from cmssd_core.slide.read import thumbnail
from cmssd_core.types import FloatArray, Prediction, Slide, Uint8Array, Volume
from cmssd_core.volume.contrasts import contrast_label

# Pillow's own font knows ASCII only, so pictures say "mm2", "um" and "-".
_PAPER, _INK, _FAINT = (15, 17, 21), (236, 239, 244), (150, 158, 170)
_BONE, _TUMOUR, _EDGE = (86, 204, 242), (255, 255, 255), (40, 44, 52)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png(picture: Image.Image) -> bytes:
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _grey(plane: FloatArray, limits: tuple[float, float], size: tuple[int, int]) -> Uint8Array:
    low, high = limits
    grey = np.clip((np.nan_to_num(plane, nan=low) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))] * 3, -1)


def _enlarged(plane: npt.NDArray[np.float32], size: tuple[int, int]) -> FloatArray:
    # Nearest neighbour: a map is shown as coarse as it is, never blurred into detail it has not.
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(picture, np.float32)


def _size(
    layout: Layout, plane: npt.NDArray[np.float32], width_px: int, height_px: int
) -> tuple[tuple[int, int], float]:
    """Picture size in px that fits the box with square millimetres, and px per mm."""
    rows_mm, cols_mm = plane.shape[0] * layout.row_mm, plane.shape[1] * layout.col_mm
    scale = min(width_px / cols_mm, height_px / rows_mm)
    return (max(1, round(cols_mm * scale)), max(1, round(rows_mm * scale))), scale


def _blend(grey: Uint8Array, plane: FloatArray, name: str, shown: npt.NDArray[np.bool_], opacity: float) -> Uint8Array:
    mixed = grey * (1 - opacity) + colour_values(plane, name) * opacity
    return np.where(shown[..., None], mixed, grey).astype(np.uint8)


def _outlined(rgb: Uint8Array, mask: npt.NDArray[np.bool_], colour: tuple[int, int, int], width: int) -> None:
    rgb[rim(mask, width=width)] = colour


def _label(draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int, anchor: str = "la") -> None:
    draw.text(xy, text, _INK, _font(size), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _letters(draw: ImageDraw.ImageDraw, layout: Layout, x: int, y: int, size: tuple[int, int], font: int) -> None:
    left, right, top, bottom = layout.letters
    w, h = size
    _label(draw, (x + 8, y + h / 2), left, font, "lm")
    _label(draw, (x + w - 8, y + h / 2), right, font, "rm")
    _label(draw, (x + w / 2, y + 6), top, font, "ma")
    _label(draw, (x + w / 2, y + h - 6), bottom, font, "md")


def _bar(draw: ImageDraw.ImageDraw, x: float, y: float, length_px: float, text: str, font: int) -> None:
    draw.rectangle((x - 2, y - 5, x + length_px + 2, y + 3), (0, 0, 0))
    draw.rectangle((x, y - 3, x + length_px, y + 1), _INK)
    _label(draw, (x, y - 10), text, font, "ld")


def _legend(
    draw: ImageDraw.ImageDraw,
    picture: Image.Image,
    *,
    x: int,
    y: int,
    height: int,
    name: str,
    title: str,
    text: int,
    limits: tuple[float, float] = (0.0, 1.0),
    digits: int = 2,
) -> None:
    ramp = colour_values(np.linspace(1, 0, height)[:, None].repeat(18, 1), name)
    picture.paste(Image.fromarray(ramp), (x, y))
    draw.rectangle((x - 1, y - 1, x + 18, y + height), outline=_FAINT)
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = y + (1 - share) * (height - 1)
        value = limits[0] + share * (limits[1] - limits[0])
        draw.line((x + 18, at, x + 23, at), _FAINT)
        draw.text((x + 28, at), f"{value:.{digits}f}", _INK, _font(text), anchor="lm")
    draw.multiline_text((x, y - 12), title, _INK, _font(text), anchor="ld", spacing=3)


def _lines(draw: ImageDraw.ImageDraw, x: int, y: int, text_px: int) -> None:
    for row, (colour, text) in enumerate(((_TUMOUR, "tumour >= 0.5"), (_BONE, "bone >= 0.5"))):
        at = y + row * text_px * 1.6
        draw.line((x, at, x + 18, at), colour, 3)
        draw.text((x + 26, at), text, _INK, _font(text_px), anchor="lm")


def _place(volume: Volume, contrast: int, layout: Layout, index: int) -> str:
    return (
        f"{contrast_label(volume.contrasts[contrast])}, {layout.orientation.plane}, slice {index + 1} of {layout.count}"
    )


def _overlaid(
    volume: Volume, prediction: Prediction, layout: Layout, index: int, contrast: int, size: tuple[int, int], line: int
) -> tuple[Uint8Array, Uint8Array]:
    """One slice without and with the tumour map, both uint8 (row, column, 3)."""
    grey = _grey(layout.slice_of(volume.voxels[contrast], index), window(volume.voxels[contrast]), size)
    tumour = _enlarged(layout.slice_of(prediction.maps["tumour"], index), size)
    over = _blend(grey, tumour, "magma", tumour >= SHOWN_FROM, OPACITY)
    if "bone" in prediction.maps:
        _outlined(over, _enlarged(layout.slice_of(prediction.maps["bone"], index), size) >= MASK, _BONE, line)
    _outlined(over, tumour >= MASK, _TUMOUR, line)
    return grey, over


def tumour_overlay(
    volume: Volume, prediction: Prediction, *, index: int | None = None, contrast: str | None = None
) -> bytes:
    """One slice, plain and with the tumour map; by default the slice with most tumour. PNG bytes."""
    chosen = most_tumour(prediction) if index is None else index
    c = contrast_index(volume, contrast)
    layout = lay_out(volume.affine, prediction.maps["tumour"].shape)
    plane = layout.slice_of(volume.voxels[c], chosen)
    size, scale = _size(layout, plane, 560, 620)
    plain, over = _overlaid(volume, prediction, layout, chosen, c, size, 2)
    return _panels(
        [plain, over],
        layout,
        size,
        scale,
        heading=_place(volume, c, layout, chosen),
        legend=("magma", "tumour\nprobability"),
        outlines=True,
    )


def attention_overlay(
    volume: Volume, prediction: Prediction, *, index: int | None = None, contrast: str | None = None
) -> bytes:
    """Equation 2's gate over one slice (1 = all MRI, 0 = all slide). PNG bytes."""
    chosen = most_tumour(prediction) if index is None else index
    c = contrast_index(volume, contrast)
    gate = prediction.maps["attention"]
    layout = lay_out(volume.affine, gate.shape)
    plane = layout.slice_of(volume.voxels[c], chosen)
    size, scale = _size(layout, plane, 560, 620)
    grey = _grey(plane, window(volume.voxels[c]), size)
    enlarged = _enlarged(layout.slice_of(gate, chosen), size)
    over = _blend(grey, enlarged, "viridis", np.ones(enlarged.shape, bool), OPACITY)
    return _panels(
        [over],
        layout,
        size,
        scale,
        heading=ATTENTION_TITLE,
        legend=("viridis", "gate\n1 = MRI\n0 = slide"),
        outlines=False,
        below=_place(volume, c, layout, chosen),
    )


def _panels(
    panels: Sequence[Uint8Array],
    layout: Layout,
    size: tuple[int, int],
    scale: float,
    *,
    heading: str,
    legend: tuple[str, str],
    outlines: bool,
    below: str | None = None,
) -> bytes:
    w, h = size
    text = 17 if len(panels) == 1 else 21  # two panels are scaled down on a page, and their text with them
    head, foot, gap, side = 48, 38 if below else 16, 12, 190
    width = 16 + len(panels) * (w + gap) + side
    picture = Image.new("RGB", (max(width, 460), head + max(h, 350) + foot), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((16, head / 2), heading, _INK, _font(text + 3), anchor="lm")
    for n, panel in enumerate(panels):
        x = 16 + n * (w + gap)
        picture.paste(Image.fromarray(panel), (x, head))
        _letters(draw, layout, x, head, size, text + 5)
        length = round_length(w / scale * 0.3)
        _bar(draw, x + 14, head + h - 14, length * scale, f"{length:g} mm", text)
    x = 16 + len(panels) * (w + gap) + 8
    _legend(draw, picture, x=x, y=head + 78, height=170, name=legend[0], title=legend[1], text=text)
    if outlines:
        _lines(draw, x, head + 292, text)
    if below:
        draw.text((16, picture.height - 19), below, _FAINT, _font(text), anchor="lm")
    return _png(picture)


def slice_strip(volume: Volume, prediction: Prediction, *, contrast: str | None = None, count: int = 5) -> bytes:
    """A few slices side by side, spread over the tumour (or the bone), each with its number. PNG bytes."""
    indices = choose_slices(prediction, count=count)
    c = contrast_index(volume, contrast)
    layout = lay_out(volume.affine, prediction.maps["tumour"].shape)
    size, scale = _size(layout, layout.slice_of(volume.voxels[c], 0), 250, 320)
    w, h = size
    picture = Image.new("RGB", (8 + len(indices) * (w + 8), h + 16), _PAPER)
    draw = ImageDraw.Draw(picture)
    for n, index in enumerate(indices):
        x = 8 + n * (w + 8)
        _, over = _overlaid(volume, prediction, layout, index, c, size, 1)
        picture.paste(Image.fromarray(over), (x, 8))
        _letters(draw, layout, x, 8, size, 19)
        _label(draw, (x + 8, 14), f"{index + 1}", 21)
        if n == 0:
            length = round_length(w / scale * 0.3)
            _bar(draw, x + 10, h - 6, length * scale, f"{length:g} mm", 19)
    return _png(picture)


def slide_overlay(slide: Slide, prediction: Prediction, *, max_px: int = 900) -> bytes:
    """The slide with its patches coloured by their attention: tiles, not a blurred heat map. PNG bytes."""
    rgb, per_px = thumbnail(slide, max_px=max_px)
    grow = max(1.0, min(max_px, 600) / max(rgb.shape[:2]))  # a small tile is enlarged so that text stays legible
    size = (round(rgb.shape[1] * grow), round(rgb.shape[0] * grow))
    per_px = per_px / grow
    ground = Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    top = 1.0
    if prediction.patch_attention is not None and prediction.patch_xy is not None and len(prediction.patch_attention):
        top = float(prediction.patch_attention.max()) or 1.0
        edge = (prediction.patch_size_px or 0.0) / per_px
        layer = Image.new("RGBA", size, (0, 0, 0, 0))
        tiles = ImageDraw.Draw(layer)
        fills = colour_values(prediction.patch_attention, "viridis", limits=(0.0, top))
        for (x, y), fill in zip(prediction.patch_xy / per_px, fills, strict=True):
            colour = tuple(int(v) for v in fill)
            tiles.rectangle((x, y, x + edge, y + edge), (*colour, round(255 * OPACITY)), (*colour, 255), 2)
        ground = Image.alpha_composite(ground.convert("RGBA"), layer).convert("RGB")
    w, h = size
    picture = Image.new("RGB", (16 + w + 12 + 180, 44 + max(h, 300) + 16), _PAPER)
    draw = ImageDraw.Draw(picture)
    count = 0 if prediction.patch_attention is None else len(prediction.patch_attention)
    draw.text((16, 22), f"H&E slide, {count} patches", _INK, _font(18), anchor="lm")
    picture.paste(ground, (16, 44))
    if slide.mpp is not None:
        um_per_px = slide.mpp * per_px
        length = round_length(w * um_per_px * 0.3)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
        _bar(draw, 30, 44 + h - 14, length / um_per_px, text, 16)
    if count:
        digits = 2 if top >= 0.2 else 3 if top >= 0.02 else 4
        _legend(
            draw, picture, x=w + 36, y=44 + 66, height=170, name="viridis", title="patch\nattention", text=16,
            limits=(0.0, top), digits=digits,
        )  # fmt: skip
    return _png(picture)


def area_chart(prediction: Prediction) -> str:
    """Tumour (bars) and bone (line) area of each slice as inline SVG; its colours follow the page's CSS variables."""
    areas = prediction.slices
    if not areas:
        return ""
    width, height, left, low = 720, 240, 58, 36
    top = max(max(a.bone_mm2, a.tumour_mm2) for a in areas) or 1.0
    step = round_length(top / 2)
    ceiling = np.ceil(top / step) * step
    x_of = (width - left - 12) / len(areas)
    y_of = (height - low - 14) / ceiling
    base = height - low
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg" '
        f'aria-label="Tumour and bone area of each of {len(areas)} slices, in square millimetres">'
    ]
    for n in range(round(ceiling / step) + 1):
        y = base - n * step * y_of
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 12}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{n * step:g}</text>')
    for n, area in enumerate(areas):
        tall = area.tumour_mm2 * y_of
        parts.append(
            f'<rect class="tumour" x="{left + (n + 0.15) * x_of:.1f}" y="{base - tall:.1f}" '
            f'width="{x_of * 0.7:.1f}" height="{tall:.1f}"/>'
        )
    line = " ".join(f"{left + (n + 0.5) * x_of:.1f},{base - a.bone_mm2 * y_of:.1f}" for n, a in enumerate(areas))
    parts.append(f'<polyline class="bone" points="{line}"/>')
    every = max(1, -(-len(areas) // 16))
    for n, area in enumerate(areas):
        if n % every == 0:
            at = left + (n + 0.5) * x_of
            parts.append(f'<text x="{at:.1f}" y="{base + 16}" text-anchor="middle">{area.index + 1}</text>')
    parts.append(f'<text x="{width - 12}" y="{height - 4}" text-anchor="end">slice</text>')
    parts.append(f'<text x="{left}" y="{height - 4}">area in mm²: bars tumour, line bone</text></svg>')
    return "".join(parts)
