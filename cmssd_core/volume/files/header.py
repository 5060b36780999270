"""What the header of an image file says, once it is checked: where its voxels lie and where they lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cmssd_core.types import Affine, InputError, Level

#: How voxels are kept: as they are, as gzip members up to the end of the file, or as one zlib stream.
Packing = Literal["raw", "gzip", "zlib"]
#: A remark on a header: how grave, and a plain sentence.
Remark = tuple[Level, str]


@dataclass(frozen=True, eq=False)
class Header:
    """One image file. All numbers are Python's, so no claim of a header can overflow.

    size: voxels along (x, y, z), or (x, y) for a picture. volumes, components: how many times that. affine: voxel
    (x, y, z) -> RAS+ mm. start: the first byte of the voxels; within the unpacked stream where the whole file is
    packed, else in the file that holds them. stored: bytes the voxels take in that file, packed; None = up to its end.
    consumed: bytes of that stream that were read to know the header. beside: the one other file that holds the voxels,
    of an .mhd.
    """

    kind: str
    size: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Affine
    start: int
    packing: Packing
    remarks: tuple[Remark, ...] = ()
    volumes: int = 1
    components: int = 1
    slope: float = 1.0
    inter: float = 0.0
    stored: int | None = None
    beside: Path | None = None
    consumed: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the voxels, unpacked."""
        return prod(self.size) * self.volumes * self.components * self.dtype.itemsize

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size along (x, y, z)."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def pixel_type(self) -> str:
        """The stored type in words: "16-bit signed integer"."""
        kinds = {"i": "signed integer", "u": "unsigned integer", "f": "float", "c": "complex"}
        return f"{self.dtype.itemsize * 8}-bit {kinds[self.dtype.kind]}"

    def check_one_grey_volume(self, name: str) -> None:
        """Raises InputError for colour, complex numbers, pictures, time series and images without voxels."""
        shape = " x ".join(str(n) for n in (*self.size, *([self.volumes] if self.volumes != 1 else [])))
        if self.components > 1:
            raise InputError(f"'{name}' holds {self.components} values a voxel (colour or vectors); expected one grey")
        if self.dtype.kind == "c":
            raise InputError(f"'{name}' holds complex numbers; expected magnitudes")
        if min(self.size, default=0) < 1 or self.volumes < 1 or self.components < 1:
            raise InputError(f"'{name}' holds no voxels ({shape}); expected a 3-D image")
        if len(self.size) < 3:
            raise InputError(f"'{name}' is a 2-D picture ({shape}); expected a 3-D image with slice positions")
        if self.volumes > 1:
            raise InputError(
                f"'{name}' holds {self.volumes} volumes ({shape}); expected one 3-D image, "
                "choose a volume and save it alone"
            )

    def values(self, raw: npt.NDArray[Any], dtype: type[np.floating[Any]] = np.float32) -> npt.NDArray[Any]:
        """Stored numbers (z, y, x) in the unit of the file: times slope plus intercept, worked out in 64 bits."""
        with np.errstate(over="ignore", invalid="ignore"):
            if (self.slope, self.inter) == (1.0, 0.0):
                return raw.astype(dtype)
            scaled = np.empty(raw.shape, dtype)
            for place, plane in zip(scaled, raw, strict=True):
                place[...] = plane.astype(np.float64) * self.slope + self.inter
            return scaled
