"""What a TIFF says of itself, before anyone decodes it: its pictures, their cost, their depth and their resolution."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cmssd_core.types import Finding, InputError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MANY_PAGES = 500
#: A tile is decoded whole, whatever little of it is asked for.
TILE_LIMIT_PX = 4096 * 4096
# Bare glass as JPEG has some 300 pixels a byte.
_MOST_PX_PER_BYTE = 1000
_REDUCED, _MASK = 1, 4
_RGB = 2
# ExtraSamples (338): associated and unassociated alpha.
_TRANSPARENCY = {1, 2}
_MICRONS = {
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "Å": 1e-4,
    "pm": 1e-6,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}
_WHERE = "slide"


@dataclass(frozen=True)
class Picture:
    """One picture of a TIFF: page (from 0), size in px, bits a sample, and what it says of its resolution.

    orientation: tag 274, how other programs turn the picture before they show it; 1 = not at all. loose: whether it has
    a fourth channel of which nothing says that it is transparency. said: (who says it, microns per pixel in x, in y),
    the most trustworthy first.
    """

    page: int
    width: int
    height: int
    bits: int
    orientation: int
    loose: bool
    said: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Tiff:
    """The pictures of a TIFF, without its overviews and masks, and the largest of them.

    turned: the first orientation other than 1 of what OpenSlide reads, which are tiles, or of the largest; else None.
    loose: whether any of those has a fourth channel that nothing calls transparency.
    """

    pictures: tuple[Picture, ...]
    largest: Picture
    turned: int | None
    loose: bool


def survey(path: Path, *, plain: bool) -> Tiff | None:
    """A TIFF's pictures, None where the file is no TIFF; nothing is decoded.

    plain: whether no scanner's own format is known, so that the largest picture is looked for, and has to be the only
    one of its size. Raises InputError where the directory is damaged or points past the end of the file, the pixels
    claimed are out of proportion to the bytes, or it is not clear which picture is meant.
    """
    import tifffile

    with path.open("rb") as stream:
        if stream.read(4) not in _MAGIC:
            return None
    try:
        with tifffile.TiffFile(path) as opened:
            pages = [opened.pages[0]]
            while len(pages) <= _MANY_PAGES:
                try:
                    pages.append(opened.pages[len(pages)])
                except IndexError:
                    break
            bytes_held = path.stat().st_size
            for page in pages:
                _refuse_dear(path, page, bytes_held)
            _refuse_cut(path, pages, bytes_held)
            ome = pages[0].description or ""
            read = [_picture(number, page, ome) for number, page in enumerate(pages) if not _is_part(page)]
            read = read or [_picture(0, pages[0], ome)]
            tiled = [_picture(number, page, ome) for number, page in enumerate(pages) if page.is_tiled]
            inner = [_size(sub) for page in pages for sub in (page.pages or ())] if plain else []
    except InputError:
        raise
    except Exception as reason:
        words = " ".join(str(reason).replace(str(path), path.name).split())[:200]
        raise InputError(
            f"{path.name} cannot be decoded as a slide: the directory of its pictures is damaged ({words}); export it "
            "again as .svs or pyramidal .tif"
        ) from reason
    if len(pages) > _MANY_PAGES:
        raise InputError(f"{path.name} holds more than {_MANY_PAGES} pictures, one slide was expected; export one")
    largest = max(read, key=lambda one: one.width * one.height)
    if plain:
        _refuse_unclear(path, read, largest, inner, channels=_channels(ome, largest))
    seen = (largest, *tiled)
    turned = next((one.orientation for one in seen if one.orientation != 1), None)
    return Tiff(tuple(read), largest, turned, any(one.loose for one in seen))


def several(tiff: Tiff) -> tuple[Finding, ...]:
    """A finding where a TIFF holds more than one picture."""
    if len(tiff.pictures) == 1:
        return ()
    sizes = ", ".join(f"{one.width} x {one.height}" for one in tiff.pictures)
    what = (
        f"the TIFF holds {len(tiff.pictures)} pictures ({sizes} px); the largest is read, page {tiff.largest.page + 1}"
    )
    return (Finding("warning" if tiff.largest.page else "info", what, _WHERE),)


def _size(page: Any) -> tuple[int, int]:
    return int(page.imagewidth), int(page.imagelength)


def _is_part(page: Any) -> bool:
    return bool(int(page.subfiletype) & (_REDUCED | _MASK))


def _refuse_dear(path: Path, page: Any, bytes_held: int) -> None:
    width, height = _size(page)
    if width < 1 or height < 1:
        raise InputError(f"{path.name} holds a picture of {width} x {height} px; export the slide again")
    if page.is_tiled and int(page.tilewidth) * int(page.tilelength) > TILE_LIMIT_PX:
        raise InputError(
            f"{path.name} is cut into tiles of {page.tilewidth} x {page.tilelength} px, at most 4096 x 4096 were "
            "expected; save it with tiles of 256 or 512 px"
        )
    across, down = (int(page.tilewidth), int(page.tilelength)) if page.is_tiled else (1, 1)
    decoded = -(-width // across) * across * -(-height // down) * down
    if decoded > 4 * (width * height + TILE_LIMIT_PX):
        raise InputError(
            f"{path.name} holds a picture of {width} x {height} px in tiles of {across} x {down} px; export it again"
        )
    if width * height > _MOST_PX_PER_BYTE * bytes_held:
        raise InputError(
            f"{path.name} claims {width} x {height} px in {bytes_held:,} bytes, which no scan fits in; export the "
            "slide again"
        )


def _refuse_cut(path: Path, pages: list[Any], bytes_held: int) -> None:
    """Refuses a file that ends before its pixels: libtiff paints what is missing, or stops at the first such tile.

    Of a tiled file only tiles count, which are the levels; a label that was cut off is never read.
    """
    for page in [page for page in pages if page.is_tiled] or pages:
        whole = _unpacked_bytes(page) if int(page.compression) == 1 else math.inf
        places = zip(page.dataoffsets, page.databytecounts, strict=False)
        # Writers round the count of an uncompressed strip up; its pixels may be there all the same.
        lost = sum(offset + min(count, whole) > bytes_held for offset, count in places if count)
        if lost:
            what = "tiles" if page.is_tiled else "strips"
            raise InputError(
                f"{path.name} is damaged (it is cut short: {lost} of the {len(page.dataoffsets)} {what} of its picture "
                f"of {page.imagewidth} x {page.imagelength} px lie past the end of the file); copy or export it again"
            )


def _unpacked_bytes(page: Any) -> int:
    """The most that one tile or strip takes uncompressed."""
    rows = int(page.tilelength) if page.is_tiled else min(int(page.rowsperstrip or page.imagelength), page.imagelength)
    across = int(page.tilewidth) if page.is_tiled else int(page.imagewidth)
    bits = page.bitspersample
    deepest = max(bits) if isinstance(bits, tuple) else int(bits)
    return math.ceil(across * deepest * int(page.samplesperpixel) / 8) * rows


def _channels(text: str, largest: Picture) -> int | None:
    """How many channels of one picture OME-XML or ImageJ say that a file keeps, None where they do not."""
    root = _xml(text)
    size = (str(largest.width), str(largest.height))
    of_ome = [
        int(pixels.attrib.get("SizeC", ""))
        for pixels in (() if root is None else root.iter())
        if pixels.tag.endswith("Pixels") and (pixels.attrib.get("SizeX"), pixels.attrib.get("SizeY")) == size
        and pixels.attrib.get("SizeC", "").isdecimal()
    ]  # fmt: skip
    if of_ome:
        return of_ome[0]
    said = _imagej_words(text).get("channels", "")
    return int(said) if said.isdecimal() else None


def _refuse_unclear(
    path: Path, read: list[Picture], largest: Picture, inner: list[tuple[int, int]], *, channels: int | None
) -> None:
    area = largest.width * largest.height
    same = [one for one in read if one.width * one.height == area]
    if len(same) > 1 and len(same) == channels:
        raise InputError(
            f"{path.name} keeps the {channels} channels of one picture of {largest.width} x {largest.height} px apart, "
            "each in a page of its own, one RGB picture was expected; export it as RGB (in ImageJ: Image > Type > RGB "
            "Color)"
        )
    if len(same) > 1:
        raise InputError(
            f"{path.name} holds {len(same)} pictures of {largest.width} x {largest.height} px (pages "
            f"{', '.join(str(one.page + 1) for one in same[:8])}), one slide was expected; export the one that is meant"
        )
    if any(width * height > area for width, height in inner):
        raise InputError(
            f"the largest picture of {path.name} lies in a directory below another picture, where it is not read; "
            "export it alone as a pyramidal .tif"
        )


def _picture(number: int, page: Any, ome: str) -> Picture:
    width, height = _size(page)
    bits = page.bitspersample
    text = page.description or ""
    said = (*_ome(ome, width, height), *_aperio(text), *_imagej(text, page), *_tag(page))
    orientation = int(page.tags.valueof("Orientation", default=1))
    return Picture(
        page=number,
        width=width,
        height=height,
        bits=max(bits) if isinstance(bits, tuple) else int(bits),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        loose=int(page.photometric) == _RGB
        and int(page.samplesperpixel) > 3
        and not {int(kind) for kind in page.extrasamples} & _TRANSPARENCY,
        said=said,
    )


def _tag(page: Any) -> tuple[tuple[str, float, float], ...]:
    unit = {2: 25400.0, 3: 10000.0}.get(_unit(page))
    return (("the TIFF's resolution tag", *found),) if (found := _pixel_um(page, unit)) else ()


def _imagej(text: str, page: Any) -> tuple[tuple[str, float, float], ...]:
    """ImageJ names its unit in the description and writes pixels per that unit where the tag knows no such unit."""
    unit = _MICRONS.get(_imagej_words(text).get("unit", "").lower()) if _unit(page) == 1 else None
    return (("ImageJ's description", *found),) if (found := _pixel_um(page, unit)) else ()


def _imagej_words(text: str) -> dict[str, str]:
    """The lines name=value of a description that ImageJ wrote, names in lower case; none of any other."""
    if not text.startswith("ImageJ="):
        return {}
    lines = (line.partition("=") for line in text.replace("\\u00B5", "µ").splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _unit(page: Any) -> int:
    return int(page.tags.valueof("ResolutionUnit", default=2))


def _pixel_um(page: Any, unit: float | None) -> tuple[float, float] | None:
    """Microns per pixel in x and in y by the resolution tags; unit: microns of their unit, None = it is not known."""
    pairs = [page.tags.valueof(name, default=None) for name in ("XResolution", "YResolution")]
    values = [unit * pair[1] / pair[0] for pair in pairs if unit and isinstance(pair, tuple) and pair[0] and pair[1]]
    return (values[0], values[-1]) if values else None


def _aperio(text: str) -> tuple[tuple[str, float, float], ...]:
    found = re.search(r"\|\s*MPP\s*=\s*([0-9.]{1,20})", text) if text.startswith("Aperio") else None
    try:
        return () if found is None else (("the Aperio header", float(found[1]), float(found[1])),)
    except ValueError:
        return ()


def _ome(text: str, width: int, height: int) -> tuple[tuple[str, float, float], ...]:
    """OME-XML's PhysicalSize of the image of this size; nothing where two of this size disagree or it is no length."""
    root = _xml(text)
    if root is None:
        return ()
    found = set()
    for pixels in root.iter():
        told = pixels.attrib
        if not pixels.tag.endswith("Pixels") or (told.get("SizeX"), told.get("SizeY")) != (str(width), str(height)):
            continue
        sizes = [_length(told, f"PhysicalSize{axis}") for axis in "XY"]
        known = [size for size in sizes if size is not None]
        if known:
            found.add((known[0], known[-1]))
    return (("the OME-XML", *found.pop()),) if len(found) == 1 else ()


def _xml(text: str) -> ElementTree.Element | None:
    """OME-XML, None where the text is none or brings entities of its own."""
    if not text.rstrip().endswith("OME>") or "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
        return None
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def _length(told: dict[str, str], name: str) -> float | None:
    try:
        value = float(told[name]) * _MICRONS[told.get(f"{name}Unit", "µm").strip()]
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None
