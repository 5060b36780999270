"""Pixels of a slide: any region at any resolution, white where the slide has nothing, never label or macro image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
from PIL import Image, UnidentifiedImageError

from cmssd_core.types import InputError, Slide, Uint8Array

#: Plain images are decoded whole, so they are refused above this many pixels (Pillow's own bomb limit).
PLAIN_LIMIT_PX = 178_956_970
_PLAIN_FORMATS = ("PNG", "JPEG", "TIFF")
_PLAIN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
# One read decodes at most this many source pixels (4 bytes each), whatever the region and the levels.
_BLOCK_PX = 4096 * 4096


@dataclass(frozen=True, eq=False)
class OpenedSlide:
    """A slide with its file held open; may be read by several threads at once."""

    slide: Slide
    source: openslide.AbstractSlide


@contextmanager
def open_slide(slide: Slide) -> Iterator[OpenedSlide]:
    """Hold a slide's file open for many reads: `with open_slide(slide) as opened: region(opened, ...)`.

    Raises InputError where the file cannot be opened any more.
    """
    source = open_source(slide.path)
    try:
        yield OpenedSlide(slide=slide, source=source)
    finally:
        source.close()


def region(slide: Slide | OpenedSlide, *, xy: tuple[int, int], size_px: tuple[int, int], mpp: float) -> Uint8Array:
    """A rectangle of the slide, resampled to a resolution: uint8 (y, x, 3).

    xy: top-left corner in level-0 px, may lie outside. size_px: (width, height) of the result. mpp: microns per pixel
    of the result. Area-averaged from the nearest finer level, bilinear where the slide is coarser than asked; outside
    the slide and where it is transparent: white. Raises InputError where the slide's mpp is unknown or the file
    cannot be decoded there.
    """
    noun = slide.slide if isinstance(slide, OpenedSlide) else slide
    if noun.mpp is None:
        raise InputError(
            f"{noun.path.name} says no microns per pixel, so {mpp:g} cannot be reached; read it again with --mpp"
        )
    with _held(slide) as opened:
        return _scaled(opened, xy=xy, size_px=size_px, downsample=mpp / noun.mpp)


def thumbnail(slide: Slide | OpenedSlide, *, max_px: int) -> tuple[Uint8Array, float]:
    """The whole slide, its longer side at most `max_px`: uint8 (y, x, 3), and level-0 px per thumbnail px.

    Never enlarged. Pixel (i, j) covers level-0 px [j * scale, (j + 1) * scale) by [i * scale, (i + 1) * scale).
    """
    with _held(slide) as opened:
        width, height = opened.slide.level_sizes[0]
        scale = max(1.0, max(width, height) / max_px)
        size_px = (math.ceil(width / scale - 1e-9), math.ceil(height / scale - 1e-9))
        return _scaled(opened, xy=(0, 0), size_px=size_px, downsample=scale), scale


def open_source(path: Path) -> openslide.AbstractSlide:
    """The file as OpenSlide or, where OpenSlide knows no such format, as one plain PNG, JPEG or TIFF image.

    Raises InputError with the library's reason.
    """
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            return openslide.OpenSlide(path)
    except openslide.OpenSlideError as reason:
        raise InputError(unreadable(path, reason)) from reason
    return openslide.ImageSlide(_plain(path))


def unreadable(path: Path, reason: Exception) -> str:
    """The sentence for a slide whose pixels cannot be decoded."""
    said = str(reason).replace(str(path), path.name).rstrip(".")
    return (
        f"{path.name} cannot be decoded as a slide ({said}); check that it opens in another viewer and export it "
        "again as .svs, pyramidal .tif, .png or .jpg"
    )


def _plain(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=_PLAIN_FORMATS) as image:
            if image.width * image.height > PLAIN_LIMIT_PX:
                raise Image.DecompressionBombError
            if image.mode not in _PLAIN_MODES:
                raise InputError(
                    f"{path.name} has pixels of type {image.mode}, 8-bit colour was expected; "
                    "export it as an 8-bit RGB image"
                )
            return _on_white(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as reason:
        raise InputError(
            f"{path.name} is a plain image of more than {PLAIN_LIMIT_PX // 10**6} million pixels, too large to decode "
            "whole; save it as a tiled pyramidal TIFF"
        ) from reason
    except UnidentifiedImageError as reason:
        raise InputError(
            f"{path.name} is neither a whole-slide format nor a PNG, JPEG or TIFF image; pass a .svs, .ndpi, .mrxs, "
            ".scn, .tif, .dcm, .png or .jpg file"
        ) from reason
    except (OSError, SyntaxError, ValueError, EOFError) as reason:
        if isinstance(reason, InputError):
            raise
        raise InputError(unreadable(path, reason)) from reason


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _held(slide: Slide | OpenedSlide) -> Iterator[OpenedSlide]:
    if isinstance(slide, OpenedSlide):
        yield slide
    else:
        with open_slide(slide) as opened:
            yield opened


def _scaled(opened: OpenedSlide, *, xy: tuple[int, int], size_px: tuple[int, int], downsample: float) -> Uint8Array:
    """uint8 (y, x, 3) from `xy` on, `downsample` level-0 px a pixel, in blocks that bound the memory."""
    source = opened.source
    width, height = size_px
    out = np.full((height, width, 3), 255, dtype=np.uint8)
    level = source.get_best_level_for_downsample(downsample * 1.001)
    inner = downsample / source.level_downsamples[level]
    block = max(1, int(math.sqrt(_BLOCK_PX) / max(inner, 1.0)))
    for top in range(0, height, block):
        for left in range(0, width, block):
            w, h = min(block, width - left), min(block, height - top)
            corner = (round(xy[0] + left * downsample), round(xy[1] + top * downsample))
            span = (w * inner, h * inner)
            if _outside(opened, corner, (w * downsample, h * downsample)):
                continue
            try:
                tile = source.read_region(corner, level, (math.ceil(span[0]), math.ceil(span[1])))
            except (openslide.OpenSlideError, OSError) as reason:
                raise InputError(unreadable(opened.slide.path, reason)) from reason
            tile = _on_white(tile)
            if tile.size != (w, h) or span != (w, h):
                kind = Image.Resampling.BOX if inner >= 1 else Image.Resampling.BILINEAR
                tile = tile.resize((w, h), kind, box=(0, 0, *span))
            out[top : top + h, left : left + w] = np.asarray(tile)
    return out


def _outside(opened: OpenedSlide, corner: tuple[int, int], span: tuple[float, float]) -> bool:
    width, height = opened.slide.level_sizes[0]
    return corner[0] >= width or corner[1] >= height or corner[0] + span[0] <= 0 or corner[1] + span[1] <= 0
