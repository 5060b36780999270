"""Slides that real programs write and other readers read wrongly, built for the tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

HALF_A_MICRON = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


def pixels(height: int = 768, width: int = 768, *, seed: int = 0) -> np.ndarray:
    """uint8 (y, x, 3): structure everywhere, none of it dark."""
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    return np.clip(np.array((215, 150, 190)) + noise, 0, 255).astype(np.uint8)


def two_pages(path: Path, *, tile: tuple[int, int] | None = None) -> Path:
    """An overview of 160 x 120 px as the first page, the slide of 768 x 768 px as the second."""
    with tifffile.TiffWriter(path) as writer:
        first = np.full((120, 160, 3), (255, 195, 225), np.uint8)
        writer.write(first, photometric="rgb", tile=None if tile is None else (64, 64), **HALF_A_MICRON)
        writer.write(pixels(), photometric="rgb", tile=tile, **HALF_A_MICRON)
    return path


def ome(path: Path, size: float, *, unit: str | None = None, tile: tuple[int, int] | None = (256, 256)) -> Path:
    """OME-XML with a pixel of `size`, beside a resolution tag of 20,000 to the inch: 1.27 microns."""
    told: dict[str, object] = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size}
    if unit is not None:
        told |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(
        path, pixels(), photometric="rgb", tile=tile, resolution=(20000, 20000), resolutionunit="INCH", metadata=told
    )
    return path


def spoilt_tile(path: Path, *, edge: int = 1024, at: tuple[int, int] = (1, 2), levels: int = 1) -> Path:
    """A tiled slide with JPEG tiles of 256 px, one of which (row, column of level 0) is no stream at all."""
    big, how = pixels(edge, edge), {"photometric": "rgb", "tile": (256, 256), "compression": "jpeg"}
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            writer.write(big[:: 2**level, :: 2**level], subfiletype=int(level > 0), **how, **HALF_A_MICRON)
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        number = at[0] * (edge // 256) + at[1]
        offset, count = page.dataoffsets[number], page.databytecounts[number]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\x55" * count
    path.write_bytes(content)
    return path


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """The parts of a PNG: kind and content."""
    found, at = [], 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        found.append((kind, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def as_png(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of parts, each with its right checksum."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def saved(path: Path, **how: object) -> Path:
    """A small picture as Pillow saves it under this suffix."""
    Image.fromarray(pixels(90, 120)).save(path, **how)
    return path


def turned(path: Path, orientation: int, **how: object) -> np.ndarray:
    """A picture of 700 x 768 px whose tag Orientation is not 1; gives it as it is stored, uint8 (y, x, 3)."""
    stored = pixels(768, 700)
    stored[:200, :100] //= 2  # one corner is darker than the others
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(path, stored, photometric="rgb", extratags=tag, **HALF_A_MICRON, **how)
    return stored


def pyramid(path: Path, *, bigtiff: bool = False, compression: str | None = None) -> list[int]:
    """Two tiled levels and a label in strips, in this order; gives where the pixels of each end in the file."""
    big, how = pixels(512, 512), {"photometric": "rgb", "tile": (128, 128), "compression": compression}
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        writer.write(big, **how, **HALF_A_MICRON)
        writer.write(big[::2, ::2], subfiletype=1, **how)
        writer.write(big[:96, :96], photometric="rgb")
    with tifffile.TiffFile(path) as opened:
        return [max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) for page in opened.pages]
