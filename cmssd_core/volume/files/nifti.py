"""The header of a NIfTI file, first or second version, read whole and as nibabel reads it.

NIfTI-1: Cox et al., "A (sort of) new image data format standard: NIfTI-1", 2004; NIfTI-2: Cox and others, 2011.
"""

from __future__ import annotations

import struct
from math import isfinite, prod
from typing import Any

import numpy as np

from cmssd_core.types import Affine, InputError
from cmssd_core.volume.files.geometry import NO_ORIENTATION, compare, compare_spacing, converted, length_in_mm
from cmssd_core.volume.files.header import Header, Remark
from cmssd_core.volume.files.streams import Stream, exactly

#: (offset, format) of the fields that are read, by the length of the header.
_FIELDS: dict[int, dict[str, tuple[int, str]]] = {
    348: {
        "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
        "scl": (112, "2f"), "xyzt_units": (123, "B"), "codes": (252, "2h"), "quatern": (256, "3f"),
        "qoffset": (268, "3f"), "srow": (280, "12f"), "magic": (344, "4s"),
    },
    540: {
        "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"), "pixdim": (104, "8d"),
        "vox_offset": (168, "q"), "scl": (176, "2d"), "codes": (344, "2i"), "quatern": (352, "3d"),
        "qoffset": (376, "3d"), "srow": (400, "12d"), "xyzt_units": (500, "i"),
    },
}  # fmt: skip
_MAGIC = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
          32: "c8", 1792: "c16"}  # fmt: skip
_COLOURS = {128: 3, 2304: 4}
_WIDE = {1536: "128-bit numbers", 2048: "complex numbers of 256 bits", 1: "single bits"}
_UNITS = {0: "mm", 1: "m", 2: "mm", 3: "micron"}
#: Extensions of a header are kilobytes; more would be unpacked only to be passed over.
_START_LIMIT = 64 << 20
_CODES = ("unknown", "scanner", "aligned", "Talairach", "MNI", "template")


def parse(stream: Stream, *, name: str, packed: bool) -> Header:
    """The header at the beginning of a stream; the stream then stands at byte 348 or 540.

    Raises InputError for what is no NIfTI or contradicts itself.
    """
    head = exactly(stream, 4, name=name)
    order, length = next(
        ((o, n) for o in "<>" for n in _FIELDS if struct.unpack(o + "i", head)[0] == n), ("", 0)
    )  # fmt: skip
    if not length:
        raise InputError(f"'{name}' is not the NIfTI image its name says, or is damaged; export it again")
    head += exactly(stream, length - 4, name=name)
    said = {key: struct.unpack_from(order + fmt, head, at) for key, (at, fmt) in _FIELDS[length].items()}
    said["digits"] = ("f4" if length == 348 else "f8",)
    if said["magic"][0] != _MAGIC[length]:
        if said["magic"][0][:3] in (b"ni1", b"ni2"):
            raise InputError(f"'{name}' keeps its voxels in another file; save it as one .nii or .nii.gz")
        raise InputError(f"'{name}' is not the NIfTI image its name says, or is damaged; export it again")
    rank, *dims = said["dim"]
    if not 1 <= rank <= 7 or any(n < 0 for n in dims[:rank]):
        raise InputError(f"'{name}' says an impossible size in its header; it is damaged, export it again")
    size, more = tuple(dims[: min(rank, 3)]), dims[3:rank]
    remarks: list[Remark] = []
    dtype, colours = _dtype(said, order, remarks, name=name)
    slope, inter = _scale(*said["scl"], name=name)
    return Header(
        kind="NIfTI",
        size=size,
        dtype=dtype,
        affine=_affine(said, (*size, 1, 1)[:3], remarks, name=name),
        start=_start(said["vox_offset"][0], length, name=name),
        packing="gzip" if packed else "raw",
        remarks=tuple(remarks),
        # The fifth axis holds the values of a voxel, the others are times and what else varies.
        volumes=prod(n for i, n in enumerate(more) if i != 1),
        components=colours * prod(more[1:2]),
        slope=slope,
        inter=inter,
        consumed=length,
    )


def _dtype(
    said: dict[str, tuple[Any, ...]], order: str, remarks: list[Remark], *, name: str
) -> tuple[np.dtype[Any], int]:
    code, bits = said["datatype"][0], said["bitpix"][0]
    if code in _COLOURS:
        return np.dtype("u1"), _COLOURS[code]
    if code not in _TYPES:
        what = _WIDE.get(code, f"numbers of an unknown kind ({code})")
        raise InputError(f"'{name}' holds {what}; expected whole numbers or floats of 8 to 64 bits; export it so")
    dtype = np.dtype(_TYPES[code]).newbyteorder(">" if order == ">" else "<")
    if bits != dtype.itemsize * 8:
        remarks.append(
            ("warning", f"the header says {bits} bits a voxel and a type of {dtype.itemsize * 8}; the type is used")
        )
    return dtype, 1


def _scale(slope: float, inter: float, *, name: str) -> tuple[float, float]:
    if slope == 0 or not isfinite(slope):
        return 1.0, 0.0
    if not isfinite(inter):
        raise InputError(f"'{name}' says an intercept of {inter}, no finite number, in its header; export it again")
    return float(slope), float(inter)


def _start(offset: float, length: int, *, name: str) -> int:
    # 4 bytes say whether extensions follow.
    if not isfinite(offset) or offset != int(offset) or not length + 4 <= offset <= _START_LIMIT:
        raise InputError(
            f"'{name}' says its voxels begin at byte {offset:.6g}, where no NIfTI has them; it is damaged; "
            "export it again"
        )
    return int(offset)


def _affine(said: dict[str, tuple[Any, ...]], size: tuple[int, ...], remarks: list[Remark], *, name: str) -> Affine:
    """sform if its code is above 0, else qform, else what nibabel takes: the voxel size, x to the left, centred."""
    code_q, code_s = said["codes"]
    pixdim = np.array(said["pixdim"][1:4], dtype=float)
    unit = _UNITS.get(said["xyzt_units"][0] & 7)
    if unit is None:
        raise InputError(f"'{name}' gives lengths in a unit NIfTI does not know; export it in mm")
    if code_s > 0:
        affine = np.vstack([np.array(said["srow"], dtype=float).reshape(3, 4), [0, 0, 0, 1]])
        form = f"sform ({_meaning(code_s)})"
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        # An sform that is no grid is refused for that, and compared with nothing.
        if np.all(np.isfinite(affine)) and spacing.min() > 0:
            scale = length_in_mm(unit, name=name)
            remarks += compare_spacing(spacing * scale, pixdim * scale, size, names=("sform", "pixdim"))
            if code_q > 0:
                other, _ = _qform(said, pixdim)
                other = _scaled(other, scale)
                remarks += compare(_scaled(affine, scale), other, size, names=(form, f"qform ({_meaning(code_q)})"))
    elif code_q > 0:
        affine, sure = _qform(said, pixdim)
        if not sure:
            remarks.append(("warning", f"the header's qfac is {said['pixdim'][0]:.4g}, neither 1 nor -1; 1 is used"))
    else:
        affine = np.diag([-pixdim[0], pixdim[1], pixdim[2], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ (np.array(size) - 1) / 2
        remarks.append(("warning", NO_ORIENTATION.format(kind="NIfTI", why=" (qform and sform are 0)")))
    if code_s <= 0 and not np.all(pixdim > 0):
        raise InputError(f"'{name}' says no usable voxel size or direction in its header; export it again")
    if unit != "mm":
        remarks.append(converted(unit))
    return _scaled(affine, length_in_mm(unit, name=name))


def _scaled(affine: Affine, factor: float) -> Affine:
    moved = affine.copy()
    moved[:3] *= factor
    return moved


def _qform(said: dict[str, tuple[Any, ...]], pixdim: Affine) -> tuple[Affine, bool]:
    """The affine of the quaternion, not finite where it is none, and whether its qfac is 1 or -1 (0 means 1)."""
    b, c, d = (float(v) for v in said["quatern"])
    rest = 1.0 - (b * b + c * c + d * d)
    affine = np.eye(4)
    qfac = float(said["pixdim"][0])
    if not rest > -1e-6 or not np.all(pixdim > 0):
        return np.full((4, 4), np.nan), qfac in (-1, 0, 1)
    # Within the rounding of its numbers it is a half turn; the axis then has to be made a unit again.
    a = rest**0.5 if rest > 3 * np.finfo(said["digits"][0]).eps else 0.0
    a, b, c, d = np.array([a, b, c, d]) / np.linalg.norm([a, b, c, d])
    turn = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    affine[:3, :3] = turn * pixdim * [1, 1, -1 if qfac == -1 else 1]
    affine[:3, 3] = said["qoffset"]
    return affine, qfac in (-1, 0, 1)


def _meaning(code: int) -> str:
    return _CODES[code] if 0 < code < len(_CODES) else f"code {code}"
