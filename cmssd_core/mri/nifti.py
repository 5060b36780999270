"""NIfTI under guard: what ITK's reader repairs in silence is refused.

ITK fills a file that is cut short with zeros and turns NaN and infinity into 0, so a half-copied scan would read as a
whole one.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from cmssd_core.types import InputError

_CHUNK = 1 << 22
_FLOATS = {16: "f4", 64: "f8"}


def whole(path: Path) -> None:
    """Raises InputError where the voxels of a NIfTI file end early or are not finite numbers."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            _whole(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw, path.name)
        except (EOFError, OSError, zlib.error, struct.error) as error:
            raise InputError(f"'{path.name}' is cut short or damaged; copy or export it again") from error


def _whole(stream: BinaryIO, name: str) -> None:
    head = stream.read(544)
    order = "<" if struct.unpack("<i", head[:4])[0] in (348, 540) else ">"
    second = struct.unpack(order + "i", head[:4])[0] == 540
    if second:
        kind, bits = struct.unpack_from(order + "hh", head, 12)
        dims = struct.unpack_from(order + "8q", head, 16)
        offset = struct.unpack_from(order + "q", head, 168)[0]
    else:
        dims = struct.unpack_from(order + "8h", head, 40)
        kind, bits = struct.unpack_from(order + "hh", head, 70)
        offset = int(struct.unpack_from(order + "f", head, 108)[0])
    rank = min(max(dims[0], 0), 7)
    left = int(np.prod([max(n, 1) for n in dims[1 : rank + 1]], dtype=np.int64)) * bits // 8
    stream.seek(offset)
    broken = 0
    while left > 0:
        chunk = stream.read(min(_CHUNK, left))
        if not chunk:
            raise InputError(f"'{name}' is cut short: {left} bytes of its voxels are missing; copy or export it again")
        left -= len(chunk)
        if kind in _FLOATS:
            width = int(_FLOATS[kind][1])
            while left > 0 and len(chunk) % width:
                more = stream.read(min(width - len(chunk) % width, left))
                if not more:
                    raise InputError(f"'{name}' is cut short; copy or export it again")
                chunk += more
                left -= len(more)
            values = np.frombuffer(chunk[: len(chunk) // width * width], dtype=order + _FLOATS[kind])
            broken += int(np.count_nonzero(~np.isfinite(values)))
    if broken:
        raise InputError(
            f"'{name}' holds {broken} voxels that are no finite numbers (NaN or infinite); export it again"
        )
