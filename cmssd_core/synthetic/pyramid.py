"""A slide as a scanner writes it: tiled, pyramidal TIFF with JPEG tiles and the resolution in its tags.

Tiles are encoded by Pillow and only packed by tifffile, so no further codec is needed. Tiles and JPEG's blocks meet at
the same pixels: level 0 decodes to what one JPEG of the same quality would.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cmssd_core.types import Uint8Array

TILE_PX = 256
BLOCK_PX = 8  # JPEG's
REDUCTION = 4  # from one level to the next, as most scanners do


def write_pyramid(path: Path, rgb: Uint8Array, *, mpp: float, quality: int) -> None:
    """Write rgb (y, x, 3) and reduced levels of it, at least one, until one fits into a tile; mpp of level 0."""
    image, level = Image.fromarray(rgb), 0
    with tifffile.TiffWriter(path) as tiff:
        while level < 2 or max(image.size) * REDUCTION > TILE_PX:
            pixels = np.asarray(image)
            tiff.write(
                _tiles(pixels, quality),
                shape=pixels.shape,
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(1, 1),
                subfiletype=1 if level else 0,
                resolution=(1e4 / (mpp * REDUCTION**level),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
                software="CM-SSD synthetic slide, not of a person",
            )
            image, level = image.reduce(REDUCTION), level + 1


def _tiles(rgb: Uint8Array, quality: int) -> Iterator[bytes]:
    height, width = rgb.shape[:2]
    # The picture's last blocks are filled with its edge; blocks beyond it are white, which costs nothing.
    blocks = np.pad(rgb, ((0, -height % BLOCK_PX), (0, -width % BLOCK_PX), (0, 0)), mode="edge")
    rest = [(0, -n % TILE_PX) for n in blocks.shape[:2]]
    padded = np.pad(blocks, (*rest, (0, 0)), constant_values=255)
    for y in range(0, height, TILE_PX):
        for x in range(0, width, TILE_PX):
            tile = BytesIO()
            part = Image.fromarray(padded[y : y + TILE_PX, x : x + TILE_PX])
            part.save(tile, "JPEG", quality=quality, subsampling=0)
            yield tile.getvalue()
