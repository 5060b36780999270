"""Attributions as PNG: the slice and the slide with a map over them, its sign, its limits and its doubt beside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cmssd_core.report.display import OPACITY, colour_values, contrast_index, lay_out, round_length, window
from cmssd_core.report.pictures import _FAINT, _INK, _PAPER, _bar, _enlarged, _font, _grey, _legend, _letters, _png
from cmssd_core.report.pictures import _size as fitted
from cmssd_core.slide.read import thumbnail
from cmssd_core.types import Attribution, FloatArray, Slide, Uint8Array, Volume
from cmssd_core.volume.contrasts import contrast_label

LIMIT = 99.7  # percentile of a map's magnitude at which its colours end
SHOWN_FROM = 0.06  # of that limit; what is less is left uncoloured
STRONGER = 0.75  # opacity of a sparse map of pixels, which 0.4 would not show


def limits(summary: Attribution, modality: str) -> tuple[float, float]:
    """Where the colours of a map end: symmetric about 0 where it is signed, from 0 where it is not."""
    magnitude = np.abs(summary.maps[modality])
    top = float(np.percentile(magnitude[magnitude > 0], LIMIT)) if (magnitude > 0).any() else 1.0
    return (-top, top) if summary.signed else (0.0, top)


def palette(summary: Attribution) -> str:
    """Diverging for signed maps, sequential for others; neither is a rainbow."""
    return "puor" if summary.signed else "viridis"


def strongest_slice(summary: Attribution) -> int:
    """The slice whose values sum to the largest magnitude, in the order of `report.display`; counts from 0."""
    assert summary.affine is not None
    layout = lay_out(summary.affine, summary.maps["mri"].shape)
    others = tuple(a for a in range(3) if a != layout.orientation.axes[0])
    return int(np.abs(summary.maps["mri"]).sum(axis=others).argmax())


def mri_overlay(
    volume: Volume, summary: Attribution, *, index: int | None = None, contrast: str | None = None
) -> bytes:
    """One slice plain and with the map, by default the slice with the largest values. PNG bytes."""
    chosen = strongest_slice(summary) if index is None else index
    c = contrast_index(volume, contrast)
    layout = lay_out(volume.affine, summary.maps["mri"].shape)
    plane = layout.slice_of(volume.voxels[c], chosen)
    size, scale = fitted(layout, plane, 520, 560)
    grey = _grey(plane, window(volume.voxels[c]), size)
    over = _coloured_over(grey, _enlarged(layout.slice_of(summary.maps["mri"], chosen), size), summary, "mri")
    place = f"{contrast_label(volume.contrasts[c])}, {layout.orientation.plane}, slice {chosen + 1} of {layout.count}"
    picture, draw = _sheet(summary, "mri", [grey, over], place)
    for n in range(2):
        x = 16 + n * (size[0] + 12)
        _letters(draw, layout, x, HEAD, size, 20)
        length = round_length(size[0] / scale * 0.3)
        _bar(draw, x + 14, HEAD + size[1] - 14, length * scale, f"{length:g} mm", 16)
    return _png(picture)


def slide_overlay(slide: Slide, summary: Attribution, *, max_px: int = 700) -> bytes:
    """The slide plain and with the map over its patches. PNG bytes."""
    assert summary.patch_xy is not None
    assert summary.patch_size_px is not None
    rgb, per_px = thumbnail(slide, max_px=max_px)
    grow = max(1.0, min(max_px, 520) / max(rgb.shape[:2]))  # a small tile is enlarged so that text stays legible
    size = (round(rgb.shape[1] * grow), round(rgb.shape[0] * grow))
    per_px = per_px / grow
    ground = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    plane, weight = np.zeros(ground.shape[:2], np.float32), np.zeros(ground.shape[:2], np.float32)
    edge = max(1, round(summary.patch_size_px / per_px))
    for (x, y), values in zip(summary.patch_xy / per_px, summary.maps["he"], strict=True):
        # Averages over what a picture's pixel covers: a map is shown as it is, only smaller.
        small = np.asarray(Image.fromarray(np.array(values, np.float32)).resize((edge, edge), Image.Resampling.BOX))
        left, top = round(float(x)), round(float(y))
        rows, columns = slice(max(top, 0), min(top + edge, size[1])), slice(max(left, 0), min(left + edge, size[0]))
        plane[rows, columns] += small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        weight[rows, columns] += 1
    over = _coloured_over(ground, (plane / np.maximum(weight, 1)).astype(np.float32), summary, "he")
    picture, draw = _sheet(summary, "he", [ground, over], f"H&E, {len(summary.patch_xy)} patches")
    if slide.mpp is not None:
        um_per_px = slide.mpp * per_px
        length = round_length(size[0] * um_per_px * 0.3)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
        _bar(draw, 30, HEAD + size[1] - 14, length / um_per_px, text, 16)
    return _png(picture)


HEAD, SIDE = 76, 190


def _coloured_over(
    ground: Uint8Array, plane: npt.NDArray[np.float32], summary: Attribution, modality: str
) -> Uint8Array:
    low, high = limits(summary, modality)
    pixels = summary.method not in ("gate", "gradcam", "occlusion")
    # The middle of a diverging scale is white: what is weak must not whiten the image below.
    strength = np.sqrt(np.clip(np.abs(plane) / high, 0, 1)) if summary.signed else np.ones_like(plane)
    opacity = ((STRONGER if pixels else OPACITY) * strength)[..., None]
    mixed = ground * (1 - opacity) + colour_values(plane, palette(summary), limits=(low, high)) * opacity
    shown = np.abs(plane) >= SHOWN_FROM * high
    return np.where(shown[..., None], mixed, ground).astype(np.uint8)


def _sheet(
    summary: Attribution, modality: str, panels: list[Uint8Array], place: str
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Panels side by side under two lines of words, with the legend at the right."""
    h, w = panels[0].shape[:2]
    picture = Image.new("RGB", (16 + len(panels) * (w + 12) + SIDE, HEAD + max(h, 330) + 64), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((16, 24), f"{summary.label}: {summary.target}  ({place})", _INK, _font(19), anchor="lm")
    draw.text((16, 54), _doubt(summary), _FAINT, _font(15), anchor="lm")
    for n, panel in enumerate(panels):
        picture.paste(Image.fromarray(panel), (16 + n * (w + 12), HEAD))
    low, high = limits(summary, modality)
    power = 10.0 ** np.floor(np.log10(high)) if high > 0 else 1.0
    title = f"x {power:.0e}\n{'orange: for' if summary.signed else 'brighter: more'}" + (
        "\npurple: against" if summary.signed else ""
    )
    _legend(
        draw,
        picture,
        x=16 + len(panels) * (w + 12) + 8,
        y=HEAD + 96,
        height=190,
        name=palette(summary),
        title=title,
        text=15,
        limits=(low / power, high / power),
        digits=1,
    )
    draw.text(
        (16, picture.height - 44), f"{summary.model_id}, trained on {summary.trained}", _FAINT, _font(14), anchor="lm"
    )
    if "research use only" not in summary.trained:
        draw.text((16, picture.height - 20), "research use only", _FAINT, _font(14), anchor="lm")
    return picture, draw


def _doubt(summary: Attribution) -> str:
    words = [f"f(x) {summary.value:.2f}"]
    if summary.baseline_value is not None:
        words.append(f"f(baseline) {summary.baseline_value:.2f}")
    if summary.gap is not None:
        words.append(f"residual {100 * summary.gap:.1f} %")
    return ", ".join(words) + f"; {summary.effort}"


def raw_values(summary: Attribution) -> dict[str, FloatArray]:
    """Every number of an attribution's maps by name, for an archive of arrays."""
    arrays = {f"map_{name}": values for name, values in summary.maps.items()}
    return arrays | {f"input_{name}": values for name, values in summary.inputs.items()}
