"""Codestreams: the size that packed pixels say themselves, checked against the header before a decoder allocates it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cmssd_core.types import InputError
from cmssd_core.volume.dicom.headers import RATIO_FLOOR, RATIO_LIMIT

_J2K = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  "
_JPEG = b"\xff\xd8"
#: Markers of JPEG and JPEG-LS that start a frame; those between them are tables.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD9)}
#: A decoder keeps books on every tile; a picture is cut into far fewer.
_TILES = 1 << 16
#: The longest run of RLE in bytes, and how many bytes of filling a segment may hold.
_RUN, _SLACK = 128, 64
#: Of packed pixels: no codec makes noise twice as long as it is; what is longer costs a decoder time for nothing.
_LONGER, _BESIDE = 2, 1 << 16


@dataclass(frozen=True)
class Packed:
    """What one packed picture says of itself."""

    rows: int
    columns: int
    samples: int
    bits: int


def check(opened: Any, *, name: str, limit_mb: int) -> None:
    """Raises InputError where a compressed pydicom dataset's pictures are not of the size, samples and bits its header
    says, are fewer than it says, or unpack to more than `limit_mb` MB or than their bytes can hold."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    rows, columns = int(opened.Rows), int(opened.Columns)
    samples, allocated = int(opened.get("SamplesPerPixel") or 1), int(opened.BitsAllocated)
    count = int(opened.get("NumberOfFrames") or 1)
    plain = rows * columns * samples * count * (allocated // 8)
    if plain > limit_mb << 20:
        raise InputError(
            f"'{name}' unpacks to more than {limit_mb} MB; give fewer slices or raise CMSSD_UNPACKED_LIMIT_MB"
        )
    if plain > RATIO_FLOOR and plain > RATIO_LIMIT * len(opened.PixelData):
        raise InputError(
            f"'{name}' unpacks to more than {RATIO_LIMIT} times its size, like a file made to fill the memory; "
            "export it again"
        )
    if len(opened.PixelData) > _LONGER * plain + _BESIDE * count:
        raise InputError(
            f"the packed pixels of '{name}' are {len(opened.PixelData)} bytes, the image is {plain}; export it again"
        )
    rle = opened.file_meta.TransferSyntaxUID == RLELossless
    found = 0
    for picture in generate_frames(opened.PixelData, number_of_frames=count):
        found += 1
        if rle:
            _check_runs(picture, rows * columns, samples * (allocated // 8), name=name)
            continue
        packed = _read(picture)
        if (packed.rows, packed.columns, packed.samples) != (rows, columns, samples) or packed.bits > allocated:
            raise InputError(
                f"the packed pixels of '{name}' say {packed.columns} x {packed.rows} of "
                f"{packed.samples} x {packed.bits} bits, its header "
                f"{columns} x {rows} of {samples} x {allocated}; export it again"
            )
    if found != count:
        raise InputError(f"'{name}' says {count} pictures and holds {found}; export it again")


def _read(picture: bytes) -> Packed:
    """Raises ValueError where the bytes are no codestream, struct.error where they end early."""
    if picture.startswith((_J2K, _JP2)):
        return _jpeg_2000(picture)
    if picture.startswith(_JPEG):
        return _jpeg(picture)
    raise ValueError("no codestream")


def _jpeg_2000(picture: bytes) -> Packed:
    """The SIZ marker, which stands right behind the start of the codestream (ISO/IEC 15444-1, A.5.1)."""
    at = picture.find(_J2K)
    if at < 0 or picture.count(_J2K) != 1:
        raise ValueError("not one codestream")
    right, lower, left, upper, tile_x, tile_y, tiles_left, tiles_upper, samples = struct.unpack_from(
        ">8IH", picture, at + 8
    )
    components = [struct.unpack_from(">3B", picture, at + 42 + 3 * i) for i in range(min(samples, 4))]
    if not components or any((dx, dy) != (1, 1) for _, dx, dy in components) or not tile_x or not tile_y:
        raise ValueError("a picture without pixels")
    if -(-(right - tiles_left) // tile_x) * -(-(lower - tiles_upper) // tile_y) > _TILES:
        raise ValueError("more tiles than a picture has")
    return Packed(lower - upper, right - left, samples, max((depth & 0x7F) + 1 for depth, _, _ in components))


def _jpeg(picture: bytes) -> Packed:
    """The one frame header of JPEG (ISO/IEC 10918-1, B.2.2) and of JPEG-LS."""
    at, seen = 2, []
    while True:
        marker, kind = struct.unpack_from(">2B", picture, at)
        if marker != 0xFF:
            raise ValueError("no marker")
        if kind == 0xFF or kind in _BARE:
            at += 1 if kind == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", picture, at + 2)
        if kind in _FRAMES:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", picture, at + 4)
            seen.append(Packed(rows, columns, samples, bits))
        if kind == 0xDA:  # the scan: no frame header may follow
            break
        if length < 2:
            raise ValueError("a table without length")
        at += 2 + length
    if len(seen) != 1:
        raise ValueError("not one frame header")
    return seen[0]


def _check_runs(picture: bytes, pixels: int, segments: int, *, name: str) -> None:
    """The table of segments of RLE (PS3.5, annex G), and what each segment unpacks to at most.

    A run of one byte is packed in two, so a sound segment is up to twice as long as what it holds.
    """
    count, *offsets = struct.unpack_from("<16L", picture)
    starts = [*offsets[:count], len(picture)]
    sound = count == segments and starts[0] == 64
    for before, after in pairwise(starts):
        sound = sound and 0 < after - before <= 2 * pixels + _SLACK
        # Shorter ones unpack to less than any memory minds, and counting their runs costs as much as decoding them.
        if sound and _RUN * (after - before) > 2 * RATIO_FLOOR:
            sound = _unpacked(picture[before:after]) <= pixels + _SLACK
    if not sound:
        raise InputError(f"the packed pixels of '{name}' do not fit the size its header says; export it again")


def _unpacked(segment: bytes) -> int:
    """How many bytes the runs of a segment stand for."""
    at, total = 0, 0
    while at < len(segment):
        head = segment[at]
        total += head + 1 if head < 128 else 257 - head if head > 128 else 0
        at += head + 2 if head < 128 else 2 if head > 128 else 1
    return total
