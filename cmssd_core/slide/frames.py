"""Whether the tiles of a DICOM slide lie where its tables say: OpenSlide goes there unseen, and reads past the file.

DICOM PS3.5, annex A.4: a table of offsets, then each tile as one item or several; PS3.3, C.7.6.3.1.8: a larger table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.filereader import read_partial

from cmssd_core.slide.digest import dicom_header
from cmssd_core.types import InputError

_PIXELS = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_LONG = (b"OB", b"OW")


def check_frames(files: Iterable[Path]) -> None:
    """Raises InputError for the first DICOM file whose tiles are not where its tables say, or are cut short."""
    for path in files:
        if dicom_header(path) is None:
            continue
        try:
            with path.open("rb") as stream:
                fault = _fault(stream, path.stat().st_size)
        except Exception:  # whatever pydicom raises where the items are no items
            fault = "its items cannot be followed"
        if fault is not None:
            raise InputError(f"the pixels of {path.name} are damaged ({fault}); copy or export it again")


def _fault(stream: BinaryIO, size: int) -> str | None:
    """What is wrong, None where nothing is or where the file holds no pixels. size: of the file in bytes."""
    head = read_partial(stream, lambda tag, _vr, _length: tag >= _PIXELS)
    group, element = struct.unpack("<HH", stream.read(4))
    if (group << 16 | element) != _PIXELS:
        return None
    explicit = stream.read(2) in _LONG
    stream.seek(2 if explicit else -2, 1)
    (length,) = struct.unpack("<I", stream.read(4))
    frames = int(head.get("NumberOfFrames") or 1)
    if length != _UNDEFINED:
        whole = int(head.Rows) * int(head.Columns) * int(head.SamplesPerPixel) * int(head.BitsAllocated) // 8 * frames
        return None if whole <= length <= size - stream.tell() else f"{length} bytes hold {frames} tiles of {whole}"
    table = parse_basic_offsets(stream)
    first = stream.tell()
    count, places = parse_fragments(stream)
    ends = [*places[1:], size]
    if any(end > size for end in ends) or count < frames:
        return f"{count} items hold {frames} tiles"
    starts = [place - first for place in places]
    larger = head.get("ExtendedOffsetTable")
    if larger:
        table = list(struct.unpack(f"<{len(larger) // 8}Q", larger[: len(larger) // 8 * 8]))
    if not table:
        return None if count == frames else f"{count} items hold {frames} tiles, and no table says which"
    if len(table) != frames or table != sorted(set(table)) or table[0] != 0 or not set(table) <= set(starts):
        return "its table of offsets does not lead to its tiles"
    lengths = head.get("ExtendedOffsetTableLengths")
    if lengths:
        told = struct.unpack(f"<{len(lengths) // 8}Q", lengths[: len(lengths) // 8 * 8])
        room = dict(zip(starts, (end - place - 8 for place, end in zip(places, ends, strict=True)), strict=True))
        if len(told) != frames or any(length > room[at] for at, length in zip(table, told, strict=True)):
            return "its table of lengths says more than its tiles have"
    return None
