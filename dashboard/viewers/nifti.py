"""A volume as the bytes of a NIfTI-1 file, written in memory for the browser."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine

_CODES = {"f4": (16, 32), "u1": (2, 8), "i2": (4, 16)}  # datatype code, bits a voxel


def header(shape_zyx: tuple[int, ...], dtype: np.dtype[Any], affine: Affine) -> bytes:
    """The 352 bytes before the voxels; `affine` maps voxel (x, y, z) to RAS+ mm, which is NIfTI's own frame."""
    code, bits = _CODES[dtype.str[1:]]
    z, y, x = shape_zyx
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, code, bits)
    struct.pack_into("<8f", head, 76, 1.0, *spacing, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<f", head, 108, 352.0)  # where the voxels begin
    struct.pack_into("<2f", head, 112, 1.0, 0.0)  # slope and intercept
    head[123] = 2  # millimetres
    struct.pack_into("<2h", head, 252, 0, 1)  # no qform; the sform is the scanner's frame
    struct.pack_into("<12f", head, 280, *np.asarray(affine, dtype=np.float64)[:3].ravel())
    head[344:348] = b"n+1\0"
    return bytes(head)


def voxels(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values (z, y, x) as little-endian, contiguous voxels of a type that NIfTI has: masks and bytes uint8, else
    float32."""
    kind = np.uint8 if values.dtype in (np.bool_, np.uint8) else np.dtype("<f4")
    return np.ascontiguousarray(values, dtype=kind)


def encode(values: npt.NDArray[Any], affine: Affine) -> bytes:
    """Values (z, y, x) and their affine as one .nii file."""
    written = voxels(values)
    return header(written.shape, written.dtype, affine) + written.tobytes()
