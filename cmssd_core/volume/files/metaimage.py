"""The header of a MetaImage (.mha, or .mhd with its voxels in one file beside it), as MetaIO documents it."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cmssd_core.types import Affine, InputError
from cmssd_core.volume.files.geometry import (
    NO_ORIENTATION,
    NO_POSITION,
    SEVERE_DEG,
    compare_spacing,
    converted,
    length_in_mm,
)
from cmssd_core.volume.files.header import Header, Remark
from cmssd_core.volume.files.text import keep, lines, numbers, unreadable, whole_numbers

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
#: Several names of one field.
_SPELLINGS = {
    "rotation": "transformmatrix", "orientation": "transformmatrix", "position": "offset", "origin": "offset",
    "elementbyteordermsb": "binarydatabyteordermsb",
}  # fmt: skip
_YES, _NO = ("true", "t", "1", "yes"), ("false", "f", "0", "no")
#: From which side an axis of LPS+ comes, for a positive and a negative direction.
_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))


def parse(handle: BinaryIO, *, path: Path) -> Header:
    """The whole header of the file. Raises InputError for what it may not say, and for voxels in other files."""
    name = path.name
    text, start = lines(handle, ends=lambda line: _key(line) == "elementdatafile", name=name)
    fields: dict[str, str] = {}
    for line in text:
        key, sign, value = line.partition("=")
        if not sign and line.strip():
            raise unreadable(name, "holds a line that is no field")
        if sign:
            keep(fields, _key(line), value, name=name)
    if fields.get("objecttype", "").casefold() != "image":
        raise InputError(f"'{name}' is not the MetaImage its name says, or is damaged; export it again")
    for key in ("ndims", "dimsize", "elementtype"):
        if key not in fields:
            raise unreadable(name, f"says no {key}")
    rank = whole_numbers(fields["ndims"], 1, what="NDims", name=name)[0]
    if not 1 <= rank <= 10:
        raise unreadable(name, f"says {rank} dimensions")
    sizes = whole_numbers(fields["dimsize"], rank, what="DimSize", name=name)
    if min(sizes) < 0:
        raise unreadable(name, "says a size below 0")
    channels = whole_numbers(fields.get("elementnumberofchannels", "1"), 1, what="channels", name=name)[0]
    remarks: list[Remark] = []
    _check_values(fields, name=name)
    packed = _flag(fields, "compresseddata", name=name)
    beside = _beside(path, fields["elementdatafile"])
    header = Header(
        kind="MetaImage",
        size=tuple(sizes[:3]),
        dtype=_dtype(fields, name=name),
        affine=_affine(fields, rank, tuple(sizes[:3]), remarks, name=name) if rank >= 3 else np.eye(4),
        start=start if beside is None else 0,
        packing="zlib" if packed else "raw",
        remarks=tuple(remarks),
        volumes=prod(sizes[3:]),
        components=channels,
        stored=_stored(fields, name=name) if packed else None,
        beside=beside,
    )
    if fields.get("headersize") == "-1" and not packed:  # the voxels are the last bytes of their file
        size = (beside or path).stat().st_size
        return replace(header, start=max(header.start, size - header.bytes))
    return header


def _key(line: str) -> str:
    key = line.partition("=")[0].strip().casefold()
    return _SPELLINGS.get(key, key)


def _flag(fields: dict[str, str], key: str, *, name: str, default: str = "false") -> bool:
    said = fields.get(key, default).casefold()
    if said not in (*_YES, *_NO):
        raise unreadable(name, f"says {key} '{said[:20]}', expected True or False")
    return said in _YES


def _check_values(fields: dict[str, str], *, name: str) -> None:
    """Raises InputError for numbers as text, for skipped bytes and for a scale, which readers apply or do not."""
    if not _flag(fields, "binarydata", name=name, default="true"):
        raise InputError(f"'{name}' keeps its voxels as text; save it with binary data")
    if fields.get("headersize", "0") not in ("0", "-1"):
        raise InputError(f"'{name}' says a HeaderSize of {fields['headersize'][:20]}; save it as one .mha")
    for key, neutral in (("elementtointensityfunctionslope", 1.0), ("elementtointensityfunctionoffset", 0.0)):
        if key in fields and numbers(fields[key].split(), 1, what=key, name=name) != [neutral]:
            raise InputError(f"'{name}' says a scale for its values, which programs read differently; save it applied")


def _dtype(fields: dict[str, str], *, name: str) -> np.dtype[np.generic]:
    code = _TYPES.get(fields["elementtype"].upper())
    if code is None:
        raise InputError(
            f"'{name}' holds voxels of type '{fields['elementtype'][:30]}'; "
            "expected whole numbers or floats of 8 to 64 bits"
        )
    return np.dtype(code).newbyteorder(">" if _flag(fields, "binarydatabyteordermsb", name=name) else "<")


def _stored(fields: dict[str, str], *, name: str) -> int | None:
    if "compresseddatasize" not in fields:
        return None
    return whole_numbers(fields["compresseddatasize"], 1, what="CompressedDataSize", name=name)[0]


def _beside(path: Path, data: str) -> Path | None:
    if data.casefold() == "local":
        return None
    if not path.name.lower().endswith(".mhd"):
        raise InputError(f"'{path.name}' keeps its data in another file; save it as one .mha with its voxels inside")
    # A header may name any file of the machine; only one beside it is the image's.
    if not data or set("/\\\0") & set(data) or data in ("..", ".") or data == path.name:
        raise InputError(f"'{path.name}' does not name one data file beside it; save the image as one .mha")
    other = path.with_name(data)
    if other.is_symlink() or not other.is_file():
        if data.upper().startswith("LIST") or "%" in data:
            raise InputError(f"'{path.name}' keeps its voxels in a list of files; save the image as one .mha")
        raise InputError(f"'{path.name}' needs its data file beside it, which is missing; give both, or one .mha")
    return other


def _affine(fields: dict[str, str], rank: int, size: tuple[int, ...], remarks: list[Remark], *, name: str) -> Affine:
    spacing = _numbers(fields, "elementspacing", rank, name=name)
    measured = _numbers(fields, "elementsize", rank, name=name)
    if spacing is None and measured is None:
        raise InputError(f"'{name}' says no voxel size (ElementSpacing); export it again with its geometry")
    steps = np.array(spacing or measured)[:3]
    unit = fields.get("distanceunits", "mm").strip("?") or "mm"
    factor = length_in_mm(unit, name=name)
    turn = np.eye(3)
    if "transformmatrix" in fields:
        said = numbers(fields["transformmatrix"].split(), rank * rank, what="TransformMatrix", name=name)
        # Each row of the text is the direction of one voxel axis.
        turn = np.array(said).reshape(rank, rank)[:3, :3].T
        lengths = np.linalg.norm(turn, axis=0)
        if not np.allclose(lengths, 1, atol=1e-3):
            raise unreadable(name, "says a TransformMatrix whose directions are not of length 1")
    elif fields.get("anatomicalorientation", "").strip("?") == "":
        remarks.append(("warning", NO_ORIENTATION.format(kind="MetaImage", why="")))
    _compare_letters(fields, turn, remarks)
    offset = _numbers(fields, "offset", rank, name=name)
    if offset is None:
        remarks.append(("warning", NO_POSITION.format(kind="MetaImage", why=" (Offset)")))
    if any(_numbers(fields, "centerofrotation", rank, name=name) or []):
        remarks.append(("warning", "the header says a centre of rotation, which is not used: the position may be off"))
    if spacing is not None and measured is not None:
        remarks += compare_spacing(
            np.array(spacing[:3]) * factor,
            np.array(measured[:3]) * factor,
            size,
            names=("ElementSpacing", "ElementSize"),
        )
    if factor != 1.0:
        remarks.append(converted(unit))
    affine = np.eye(4)
    affine[:3, :3] = turn * steps * factor
    affine[:3, 3] = np.array((offset or [0.0] * 3)[:3]) * factor
    affine[:2] *= -1
    return affine


def _numbers(fields: dict[str, str], key: str, rank: int, *, name: str) -> list[float] | None:
    return numbers(fields[key].split(), rank, what=key, name=name) if key in fields else None


def _compare_letters(fields: dict[str, str], turn: Affine, remarks: list[Remark]) -> None:
    """Letters are a second account of the directions; where these are oblique, programs round them differently."""
    said = fields.get("anatomicalorientation", "").upper()
    main = np.abs(turn).argmax(axis=0)
    pairs = [dict(zip(pair, (1, -1), strict=True)) for pair in _LETTERS]
    if len(said) != 3 or any(sum(letter in pair for pair in pairs) != 1 for letter in said):
        return
    other = np.zeros((3, 3))
    for column, letter in enumerate(said):
        row = next(i for i, pair in enumerate(pairs) if letter in pair)
        other[row, column] = pairs[row][letter]
    clear = np.abs(turn).max(axis=0) > np.cos(np.radians(45 - SEVERE_DEG))
    used = np.array([turn[main[i], i] * other[main[i], i] for i in range(3)])
    if np.any(clear & (used <= 0)):
        what = "TransformMatrix" if "transformmatrix" in fields else "no TransformMatrix"
        remarks.append(
            (
                "severe",
                f"the header holds two geometries: AnatomicalOrientation {said} and {what} turn the image differently; "
                f"{'the matrix' if 'transformmatrix' in fields else 'RAI'} is used",
            )
        )
