"""Whether a plain image is what was saved: checksums read to the end of the stream, and nothing missing or beside it.

Pillow stops when it has its pixels, OpenSlide asks libtiff which does the same: neither reads a checksum behind them.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from cmssd_core.slide.pixels import PLAIN_LIMIT_PX
from cmssd_core.types import Finding, InputError

_STEP = 1 << 20
_DEFLATE = (8, 32946)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: First column, first row and steps of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# A progressive JPEG has about ten; each goes over the whole picture, however few bytes it has.
_MANY_SCANS = 100
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


def check(path: Path) -> tuple[Finding, ...]:
    """What a PNG, JPEG or deflated TIFF holds beside its picture. Raises InputError where it is damaged or cut short.

    A JPEG has no checksum: of its damage only that is known which leaves impossible codes, too few pixels or too
    many. Images too large to be decoded whole are not looked at.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            kind, area = image.format, image.width * image.height
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return ()
    if area > PLAIN_LIMIT_PX:
        return ()
    with path.open("rb") as stream:
        if kind == "PNG":
            return _check_png(stream, path.name)
        if kind in ("JPEG", "MPO"):
            return _check_jpeg(stream, path.name)
    _check_tiff(path)
    return ()


def _damaged(name: str, how: str) -> InputError:
    return InputError(f"{name} is damaged ({how}); copy or export it again")


def _beside(count: int, what: str) -> tuple[Finding, ...]:
    said = f"{count:,} bytes follow the end of the {what}; they are not read"
    return (Finding("info", said, "slide"),) if count else ()


def _check_png(stream: BinaryIO, name: str) -> tuple[Finding, ...]:
    stream.seek(8)
    inflater, expected, given, frames = zlib.decompressobj(), 0, 0, 1
    while True:
        head = stream.read(8)
        if len(head) < 8:
            raise _damaged(name, "it is cut short")
        length, kind = struct.unpack(">I4s", head)
        crc, first = zlib.crc32(kind), b""
        for start in range(0, length, _STEP):
            part = stream.read(min(_STEP, length - start))
            if not part:
                break
            crc, first = zlib.crc32(part, crc), first or part
            if kind == b"IDAT":
                given += _inflated(inflater, part, most=expected - given, name=name)
        if struct.pack(">I", crc) != stream.read(4):
            raise _damaged(name, f"the checksum of its {kind.decode('latin-1')} part is wrong or missing")
        if kind == b"IHDR" and len(first) == 13:
            expected = _raw_size(*struct.unpack(">IIBB2xB", first))
        if kind == b"acTL" and len(first) == 8:
            frames = int.from_bytes(first[:4])
        if kind == b"IEND":
            break
    if not inflater.eof or given != expected:
        raise _damaged(name, "its pixels end early")
    what = f"the PNG is an animation of {frames:,} pictures; its still picture is read"
    found = (Finding("warning", what, "slide"),) if frames > 1 else ()
    return found + _beside(_rest(stream), "PNG")


def _raw_size(width: int, height: int, depth: int, colour: int, interlaced: int) -> int:
    """Bytes of a PNG's rows before compression, each with its filter's byte."""
    bits = depth * _CHANNELS.get(colour, 0)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    return sum(h * (1 + (w * bits + 7) // 8) for w, h in sizes if w > 0 and h > 0)


def _inflated(inflater: Any, part: bytes, *, most: int, name: str) -> int:
    """How many bytes come of a part of a stream, thrown away as they come. Raises InputError above `most`."""
    count = 0
    try:
        while part and not inflater.eof:
            count += len(inflater.decompress(part, _STEP))
            part = inflater.unconsumed_tail
            if count > most:
                raise _damaged(name, "it holds more pixels than it claims")
    except zlib.error as reason:
        raise _damaged(name, "its compressed pixels do not match their checksum") from reason
    return count


def _rest(stream: BinaryIO) -> int:
    at = stream.tell()
    return stream.seek(0, 2) - at


def _check_jpeg(stream: BinaryIO, name: str) -> tuple[Finding, ...]:
    import simplejpeg

    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = _end_of_jpeg(content, name)
        picture = content[:end]
        rest = len(content[end:].rstrip(b"\0"))
    try:
        colours = simplejpeg.decode_jpeg_header(picture)[2]
        # Grey is the least memory; every code is read for it all the same.
        simplejpeg.decode_jpeg(picture, colorspace="CMYK" if colours in ("CMYK", "YCCK") else "GRAY")
    except ValueError as reason:
        raise _damaged(name, str(reason)[:100]) from reason
    return _beside(rest, "JPEG")


def _end_of_jpeg(content: mmap.mmap, name: str) -> int:
    """Where the first picture ends. Raises InputError where it does not, or where it has very many scans."""
    at, scans = 2, 0
    while marker := _MARKER.search(content, at):
        kind, at = marker[1][0], marker.end()
        if kind == 0xD9:
            return at
        if kind in (0x01, 0xD8):
            continue
        scans += kind == 0xDA
        if scans > _MANY_SCANS:
            raise InputError(f"{name} is a JPEG of more than {_MANY_SCANS} scans; export it again as .png or .tif")
        at += int.from_bytes(content[at : at + 2])
    raise _damaged(name, "it is cut short")


def _check_tiff(path: Path) -> None:
    import tifffile

    from cmssd_core.slide.tiff import survey

    tiff = survey(path, plain=False)
    if tiff is None:
        return
    with tifffile.TiffFile(path) as opened:
        page: Any = opened.pages[tiff.largest.page]
        if int(page.compression) not in _DEFLATE:
            return
        across, down = (
            (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip or 1 << 31)
        )
        area = across * min(down, page.imagelength if not page.is_tiled else down)
        most = (area * page.samplesperpixel * tiff.largest.bits + 7) // 8 + across * page.samplesperpixel
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            opened.filehandle.seek(offset)
            inflater = zlib.decompressobj()
            stream = opened.filehandle.read(count)
            _inflated(inflater, stream, most=most, name=path.name)
            if count and not inflater.eof:
                raise _damaged(path.name, "the compressed pixels of a tile or strip end early")
