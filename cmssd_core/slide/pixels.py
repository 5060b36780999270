"""Pixels of a slide: any region at any resolution, white where the slide has nothing, never label or macro image."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openslide
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from cmssd_core.slide import tiff
from cmssd_core.types import InputError, Slide, Uint8Array

#: Plain images are decoded whole, so they are refused above this many pixels (Pillow's own bomb limit).
PLAIN_LIMIT_PX = 178_956_970
_PLAIN_FORMATS = ("PNG", "JPEG", "TIFF")
_PLAIN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
# Pillow turns a TIFF as its Orientation says, and no other picture; these turn it back.
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# One read decodes at most this many source pixels (4 bytes each), whatever the region and the levels.
_BLOCK_PX = 4096 * 4096
_BAND_PX = 1024
#: What cannot be decoded is painted so on an overview: no tissue, and no glass either.
UNREADABLE = (160, 160, 160)
# An overview is narrowed down around an unreadable place to this many of its own pixels, and gives up after so many.
_NARROW_PX = 64
_MANY_PLACES = 64


class UnreadablePlaceError(InputError):
    """A region that cannot be decoded, of a slide that can elsewhere."""


@dataclass(eq=False)
class OpenedSlide:
    """A slide with its file held open; may be read by several threads at once.

    OpenSlide answers nothing more from a handle that failed once: `replace` opens the file anew. unreadable: the
    level-0 corners (x, y) of what `thumbnail` could not decode.
    """

    slide: Slide
    source: openslide.AbstractSlide
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    _failed: list[openslide.AbstractSlide] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def replace(self, failed: openslide.AbstractSlide) -> None:
        """Another handle in place of a failed one, which stays open until the end: another thread may be in it."""
        with self._lock:
            if self.source is failed:
                self._failed.append(failed)
                self.source = open_source(self.slide.path)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            for handle in (self.source, *self._failed):
                handle.close()


@contextmanager
def open_slide(slide: Slide) -> Iterator[OpenedSlide]:
    """Hold a slide's file open for many reads: `with open_slide(slide) as opened: region(opened, ...)`.

    Raises InputError where the file cannot be opened any more.
    """
    opened = OpenedSlide(slide=slide, source=open_source(slide.path))
    try:
        yield opened
    finally:
        opened.close()


def region(slide: Slide | OpenedSlide, *, xy: tuple[int, int], size_px: tuple[int, int], mpp: float) -> Uint8Array:
    """A rectangle of the slide, resampled to a resolution: uint8 (y, x, 3).

    xy: top-left corner in level-0 px, may lie outside. size_px: (width, height) of the result. mpp: microns per pixel
    of the result. Area-averaged from the nearest finer level, bilinear where the slide is coarser than asked; outside
    the slide and where it is transparent: white. Raises InputError where the slide's mpp is unknown, and
    UnreadablePlaceError where the file cannot be decoded there; further regions of an opened slide are read all the
    same.
    """
    noun = slide.slide if isinstance(slide, OpenedSlide) else slide
    if noun.mpp is None:
        raise InputError(
            f"{noun.path.name} says no microns per pixel, so {mpp:g} cannot be reached; read it again with them",
            "mpp",
        )
    with _held(slide) as opened:
        return _scaled(opened, xy=xy, size_px=size_px, downsample=mpp / noun.mpp)


def thumbnail(slide: Slide | OpenedSlide, *, max_px: int) -> tuple[Uint8Array, float]:
    """The whole slide, its longer side at most `max_px`: uint8 (y, x, 3), and level-0 px per thumbnail px.

    Never enlarged. Pixel (i, j) covers level-0 px [j * scale, (j + 1) * scale) by [i * scale, (i + 1) * scale).
    A place that cannot be decoded is painted UNREADABLE and stands in the opened slide's `unreadable`. Raises
    InputError where many cannot.
    """
    with _held(slide) as opened:
        width, height = opened.slide.level_sizes[0]
        scale = max(1.0, max(width, height) / max_px)
        size_px = (math.ceil(width / scale - 1e-9), math.ceil(height / scale - 1e-9))
        return _scaled(opened, xy=(0, 0), size_px=size_px, downsample=scale, whole=True), scale


def open_source(path: Path) -> openslide.AbstractSlide:
    """The file as OpenSlide or, where OpenSlide knows no such format, as one plain PNG, JPEG or TIFF image.

    Of several pictures in one TIFF the largest. Raises InputError with the library's reason.
    """
    try:
        plain = is_plain(path)
        summary = tiff.survey(path, plain=plain)
        largest = None if summary is None else summary.largest
        if summary is not None and summary.turned and not plain:
            raise InputError(
                f"{path.name} says that its picture is to be turned (TIFF tag Orientation is {summary.turned}), and "
                "its tiles cannot be read unturned; export it again with Orientation 1"
            )
        if summary is not None and plain and (summary.turned or summary.loose):
            # OpenSlide turns each tile where it stands, and takes a fourth channel for transparency.
            if summary.largest.width * summary.largest.height <= PLAIN_LIMIT_PX:
                return openslide.ImageSlide(_plain(path, summary.largest))
            if summary.turned:
                raise InputError(
                    f"{path.name} says that its picture is to be turned (TIFF tag Orientation is {summary.turned}), "
                    "and is too large to be read unturned; export it again with Orientation 1"
                )
        if not plain or (openslide.OpenSlide.detect_format(path) is not None and not (largest and largest.page)):
            opened = openslide.OpenSlide(path)
            if largest is not None and largest.bits > 8:
                _refuse_dim(path, _brightest(opened))
            if plain and summary is not None and summary.loose and not _opaque(opened):
                opened.close()
                raise InputError(
                    f"{path.name} has a fourth channel that nothing calls transparency (TIFF tag ExtraSamples), and is "
                    "too large to be read without it; export it as RGB"
                )
            return opened
    except openslide.OpenSlideError as reason:
        raise InputError(unreadable(path, reason)) from reason
    return openslide.ImageSlide(_plain(path, largest))


def is_plain(path: Path) -> bool:
    """Whether no scanner's own format is known of the file, whose pictures and resolution OpenSlide would know."""
    return openslide.OpenSlide.detect_format(path) in (None, "generic-tiff")


def exif_orientation(path: Path) -> int | None:
    """How other programs turn a PNG or JPEG before they show it, 2 to 8 as EXIF counts; None = not at all."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            said = image.getexif().get(ExifTags.Base.Orientation)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None
    return said if said in _BACK else None


def unreadable(path: Path, reason: Exception, *, at: tuple[int, int] | None = None) -> str:
    """The sentence for a slide whose pixels cannot be decoded; at: where, level-0 px."""
    words = " ".join(str(reason).replace(str(path), path.name).split()).rstrip(".")[:200] or type(reason).__name__
    place = "" if at is None else f" at x {at[0]}, y {at[1]}"
    return (
        f"{path.name} cannot be decoded as a slide{place} ({words}); check that it opens in another viewer and export "
        "it again as .svs, pyramidal .tif, .png or .jpg"
    )


def _plain(path: Path, largest: tiff.Picture | None) -> Image.Image:
    try:
        with Image.open(path, formats=_PLAIN_FORMATS) as image:
            if largest is not None and largest.page:
                image.seek(largest.page)
            if image.width * image.height > PLAIN_LIMIT_PX:
                raise Image.DecompressionBombError
            if image.mode not in _PLAIN_MODES:
                raise InputError(
                    f"{path.name} has pixels of type {image.mode}, 8-bit colour was expected; "
                    "export it as an 8-bit RGB image"
                )
            deep = largest.bits > 8 if largest is not None else ";16" in _raw_mode(image)
            image.load()
            if deep:
                colours = np.asarray(image.getextrema()).reshape(-1, 2)[: 1 if image.mode.startswith("L") else 3]
                _refuse_dim(path, int(colours.max()))
            back = _BACK.get(1 if largest is None else largest.orientation)
            return _on_white(image if back is None else image.transpose(back))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as reason:
        raise InputError(
            f"{path.name} is a plain image of more than {PLAIN_LIMIT_PX // 10**6} million pixels, too large to decode "
            "whole; save it as a tiled pyramidal TIFF"
        ) from reason
    except UnidentifiedImageError as reason:
        if largest is not None:
            raise InputError(
                f"{path.name} is a TIFF of a kind that is not read ({largest.bits} bits a sample); export it as an "
                "8-bit RGB image"
            ) from reason
        raise InputError(
            f"{path.name} is neither a whole-slide format nor a PNG, JPEG or TIFF image; pass a .svs, .ndpi, .mrxs, "
            ".scn, .tif, .dcm, .png or .jpg file"
        ) from reason
    except (OSError, SyntaxError, ValueError, EOFError) as reason:
        if isinstance(reason, InputError):
            raise
        raise InputError(unreadable(path, reason)) from reason


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the file's own pixels lie, as Pillow calls it, before they are decoded."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _refuse_dim(path: Path, brightest: int) -> None:
    """Refuses 16-bit pixels that use half of their range or less: 8 bits of them would be dark, and nobody told."""
    if brightest < 128:
        raise InputError(
            f"{path.name} has 16 bits a colour, but its brightest pixel is at {brightest / 255:.0%} of their range, as "
            "where 12 bits are kept in 16; it would be read almost black: export it as an 8-bit RGB image"
        )


def _brightest(opened: openslide.AbstractSlide) -> int:
    """The brightest of small samples all over the slide's coarsest level."""
    return max(int((one[..., :3] * (one[..., 3:] > 0)).max()) for one in _samples(opened))


def _opaque(opened: openslide.AbstractSlide) -> bool:
    """Whether small samples all over the slide's coarsest level are opaque."""
    return all(bool((one[..., 3] == 255).all()) for one in _samples(opened))


def _samples(opened: openslide.AbstractSlide) -> Iterator[Uint8Array]:
    """64 pieces of uint8 (y, x, 4) of a slide's coarsest level."""
    level = opened.level_count - 1
    (width, height), scale = opened.level_dimensions[level], opened.level_downsamples[level]
    places = [(x * width // 8, y * height // 8) for x in range(8) for y in range(8)]
    for x, y in places:
        yield np.asarray(opened.read_region((int(x * scale), int(y * scale)), level, (16, 16)))


def _on_white(image: Image.Image) -> Image.Image:
    """As RGB, in bands where it is transparent: a whole copy more would be one too many."""
    if not image.has_transparency_data:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    image.load()
    drawn = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND_PX):
        rgba = image.crop((0, top, image.width, min(top + _BAND_PX, image.height))).convert("RGBA")
        drawn.paste(Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB"), (0, top))
    return drawn


@contextmanager
def _held(slide: Slide | OpenedSlide) -> Iterator[OpenedSlide]:
    if isinstance(slide, OpenedSlide):
        yield slide
    else:
        with open_slide(slide) as opened:
            yield opened


def _scaled(
    opened: OpenedSlide, *, xy: tuple[int, int], size_px: tuple[int, int], downsample: float, whole: bool = False
) -> Uint8Array:
    """uint8 (y, x, 3) from `xy` on, `downsample` level-0 px a pixel, in blocks that bound the memory.

    whole: unreadable places are painted over and noted, where they would be refused.
    """
    width, height = size_px
    out = np.full((height, width, 3), 255, dtype=np.uint8)
    level = opened.source.get_best_level_for_downsample(downsample * 1.001)
    inner = downsample / opened.source.level_downsamples[level]
    block = max(1, int(math.sqrt(_BLOCK_PX) / max(inner, 1.0)))
    waiting = [
        (left, top, min(block, width - left), min(block, height - top))
        for top in range(0, height, block)
        for left in range(0, width, block)
    ]
    while waiting:
        left, top, w, h = waiting.pop()
        corner = (round(xy[0] + left * downsample), round(xy[1] + top * downsample))
        if _outside(opened, corner, (w * downsample, h * downsample)):
            continue
        try:
            out[top : top + h, left : left + w] = _block(opened, corner, level, (w, h), inner)
        except UnreadablePlaceError:
            if not whole:
                raise
            if max(w, h) > _NARROW_PX:
                near, low = (w + 1) // 2, (h + 1) // 2
                quarters = ((x, y, min(near, w - x), min(low, h - y)) for x in (0, near) for y in (0, low))
                waiting += [(left + x, top + y, a, b) for x, y, a, b in quarters if a > 0 and b > 0]
                continue
            opened.unreadable.append(corner)
            if len(opened.unreadable) > _MANY_PLACES:
                raise
            out[top : top + h, left : left + w] = UNREADABLE
    return out


def _block(opened: OpenedSlide, corner: tuple[int, int], level: int, size: tuple[int, int], inner: float) -> Uint8Array:
    """uint8 (y, x, 3) of `size` (w, h) from a level-0 corner on, `inner` of the level's px a pixel."""
    span = (size[0] * inner, size[1] * inner)
    asked = (corner, level, (math.ceil(span[0]), math.ceil(span[1])))
    source = opened.source
    try:
        tile = source.read_region(*asked)
    except (openslide.OpenSlideError, OSError):
        opened.replace(source)
        # Another thread may have spoilt that handle: what one of its own cannot read cannot be read.
        with closing(open_source(opened.slide.path)) as alone:
            try:
                tile = alone.read_region(*asked)
            except (openslide.OpenSlideError, OSError) as reason:
                raise UnreadablePlaceError(unreadable(opened.slide.path, reason, at=corner)) from reason
    tile = _on_white(tile)
    if tile.size != size or span != size:
        kind = Image.Resampling.BOX if inner >= 1 else Image.Resampling.BILINEAR
        tile = tile.resize(size, kind, box=(0, 0, *span))
    return np.asarray(tile)


def _outside(opened: OpenedSlide, corner: tuple[int, int], span: tuple[float, float]) -> bool:
    width, height = opened.slide.level_sizes[0]
    return corner[0] >= width or corner[1] >= height or corner[0] + span[0] <= 0 or corner[1] + span[1] <= 0
