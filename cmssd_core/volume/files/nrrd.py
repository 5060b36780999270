"""The header of an NRRD file with its voxels attached, after teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import re
from math import prod
from typing import Any, BinaryIO

import numpy as np

from cmssd_core.types import Affine, InputError
from cmssd_core.volume.files.geometry import NO_ORIENTATION, NO_POSITION, compare_spacing, converted, length_in_mm
from cmssd_core.volume.files.header import Header, Packing, Remark
from cmssd_core.volume.files.text import keep, lines, numbers, unreadable, whole_numbers

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"), "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"), "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",), "f8": ("double",),
}  # fmt: skip
_TYPE = {word: code for code, words in _TYPES.items() for word in words}
_PACKING: dict[str, Packing] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}
#: Signs that turn a space into RAS+.
_SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
#: Spaces of three axes that are no patient's; taken as LPS.
_NO_PATIENT = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
_LPS = (-1, -1, 1)
_SPELLINGS = {
    "datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "oldmin": "old min", "oldmax": "old max",
    "axismins": "axis mins", "axismaxs": "axis maxs", "centerings": "centers", "blocksize": "block size",
    "sampleunits": "sample units",
}  # fmt: skip
_KNOWN = {
    "dimension", "type", "block size", "encoding", "endian", "content", "number", "min", "max", "old min", "old max",
    "data file", "line skip", "byte skip", "sample units", "sizes", "spacings", "thicknesses", "axis mins",
    "axis maxs", "centers", "labels", "units", "kinds", "space", "space dimension", "space units", "space origin",
    "space directions", "measurement frame",
}  # fmt: skip
_SPATIAL = ("domain", "space", "???", "none", "")
_VECTOR = re.compile(r"\(([^()]*)\)|none")


def parse(handle: BinaryIO, *, name: str) -> Header:
    """The whole header of the file. Raises InputError for what it may not say, and for voxels in another file."""
    text, start = lines(handle, ends=lambda line: not line, name=name)
    fields = _fields(text, name=name)
    for key in ("dimension", "type", "sizes", "encoding"):
        if key not in fields:
            raise unreadable(name, f"says no {key}")
    rank = whole_numbers(fields["dimension"], 1, what="dimension", name=name)[0]
    if not 1 <= rank <= 16:
        raise unreadable(name, f"says {rank} dimensions")
    sizes = whole_numbers(fields["sizes"], rank, what="sizes", name=name)
    if min(sizes) < 0:
        raise unreadable(name, "says a size below 0")
    vectors = _vectors(fields, rank, name=name)
    axes, others = _axes(fields, rank, vectors, name=name)
    valued = [i for i in others if i < min(axes, default=0)]
    remarks: list[Remark] = []
    shape = tuple(sizes[i] for i in axes)
    return Header(
        kind="NRRD",
        size=shape,
        dtype=_dtype(fields, name=name),
        affine=_affine(fields, axes, vectors, shape, remarks, name=name) if len(axes) == 3 else np.eye(4),
        start=start,
        packing=_packing(fields, name=name),
        remarks=tuple(remarks),
        volumes=prod(sizes[i] for i in others if i not in valued),
        components=prod(sizes[i] for i in valued),
    )


def _fields(text: list[str], *, name: str) -> dict[str, str]:
    if not re.fullmatch(r"NRRD000[1-6]", text[0]):
        raise InputError(f"'{name}' is not the .nrrd image its name says, or is damaged; export it again")
    fields: dict[str, str] = {}
    for line in text[1:-1]:
        if line.startswith("#"):
            continue
        key, sign, value = line.partition(":")
        if not sign:
            raise unreadable(name, "holds a line that is no field")
        if value.startswith("="):
            continue
        key = key.casefold()
        key = _SPELLINGS.get(key.replace(" ", ""), key)
        if key not in _KNOWN:
            raise unreadable(name, f"holds a field '{key[:30]}' that NRRD does not know")
        if key == "data file":
            raise InputError(f"'{name}' keeps its data in another file; save it as one attached .nrrd")
        keep(fields, key, value, name=name)
    for key in ("line skip", "byte skip"):
        if fields.get(key, "0") != "0":
            raise InputError(f"'{name}' says '{key}: {fields[key][:20]}'; save it as .nrrd without skipped data")
    return fields


def _dtype(fields: dict[str, str], *, name: str) -> np.dtype[Any]:
    code = _TYPE.get(" ".join(fields["type"].casefold().split()))
    if code is None:
        raise InputError(
            f"'{name}' holds voxels of type '{fields['type'][:20]}'; expected whole numbers or floats of 8 to 64 bits"
        )
    order = fields.get("endian", "").casefold()
    if order not in ("little", "big") and (order or code[1] != "1"):
        raise unreadable(name, "does not say whether its numbers are little or big endian")
    return np.dtype(code).newbyteorder(">" if order == "big" else "<")


def _packing(fields: dict[str, str], *, name: str) -> Packing:
    found = _PACKING.get(fields["encoding"].casefold())
    if found is None:
        raise InputError(f"'{name}' has the encoding '{fields['encoding'][:20]}'; save it as raw or gzip")
    return found


def _vectors(fields: dict[str, str], rank: int, *, name: str) -> list[list[float] | None] | None:
    """The space directions, one an axis, None for an axis that lies in no space; None where no field says them."""
    if "space directions" not in fields:
        return None
    said = fields["space directions"]
    if _VECTOR.sub("", said).strip() or len(_VECTOR.findall(said)) != rank:
        raise unreadable(name, "says space directions that are not one vector an axis")
    return [
        None if found[0] == "none" else _vector(found[1], what="space directions", name=name)
        for found in _VECTOR.finditer(said)
    ]


def _vector(text: str, *, what: str, name: str) -> list[float]:
    return numbers([word.strip() for word in text.split(",")], 3, what=what, name=name)


def _axes(
    fields: dict[str, str], rank: int, vectors: list[list[float] | None] | None, *, name: str
) -> tuple[list[int], list[int]]:
    """Axes that lie in space, and the others."""
    kinds = fields["kinds"].casefold().split() if "kinds" in fields else [""] * rank
    if len(kinds) != rank:
        raise unreadable(name, f"says {len(kinds)} kinds, expected {rank}")
    if vectors is not None:
        axes = [i for i, vector in enumerate(vectors) if vector is not None]
    else:
        axes = [i for i, kind in enumerate(kinds) if kind in _SPATIAL]
        axes = axes[:3]
    if len(axes) > 3 or any(kinds[i] not in _SPATIAL for i in axes):
        raise unreadable(name, "says directions in space for axes that are no space")
    return axes, [i for i in range(rank) if i not in axes]


def _affine(
    fields: dict[str, str],
    axes: list[int],
    vectors: list[list[float] | None] | None,
    size: tuple[int, ...],
    remarks: list[Remark],
    *,
    name: str,
) -> Affine:
    space = fields.get("space", "").casefold()
    if space and space not in (*_SPACES, *_NO_PATIENT):
        raise InputError(f"'{name}' lies in the space '{space[:40]}'; expected RAS, LAS or LPS; export it so")
    if "space dimension" in fields and whole_numbers(
        fields["space dimension"], 1, what="space dimension", name=name
    ) != [3]:
        raise unreadable(name, "says a space of other than 3 dimensions")
    spacings = _per_axis(fields, "spacings", axes, name=name)
    affine = np.eye(4)
    if vectors is not None:
        affine[:3, :3] = np.array([vectors[i] for i in axes], dtype=float).T
    elif spacings is not None:
        affine[:3, :3] = np.diag(spacings)
    else:
        raise InputError(
            f"'{name}' says no voxel size (neither space directions nor spacings); export it again with its geometry"
        )
    if "space origin" in fields:
        origin = re.fullmatch(r"\(([^()]*)\)", fields["space origin"])
        if origin is None:
            raise unreadable(name, "says a space origin that is no vector")
        affine[:3, 3] = _vector(origin[1], what="space origin", name=name)
    affine[:3] *= np.array(_factors(fields, axes, vectors is not None or bool(space), remarks, name=name))[:, None]
    if vectors is not None and spacings is not None:
        # Teem forbids both. Those of an axis in space have no unit of their own.
        remarks += compare_spacing(
            np.linalg.norm(affine[:3, :3], axis=0), spacings, size, names=("space directions", "spacings")
        )
    if space not in _SPACES or vectors is None:
        why = f" (space {space})" if space in _NO_PATIENT else ""
        remarks.append(("warning", NO_ORIENTATION.format(kind="NRRD", why=why)))
    elif "space origin" not in fields:
        remarks.append(("warning", NO_POSITION.format(kind="NRRD", why=" (space origin)")))
    affine[:3] *= np.array(_SPACES.get(space, _LPS))[:, None]
    return affine


def _per_axis(fields: dict[str, str], key: str, axes: list[int], *, name: str) -> list[float] | None:
    """Numbers of the axes in space; those of other axes may be 'nan'. None where the field is absent or says none."""
    words = fields.get(key, "").split()
    if not words or (max(axes) < len(words) and all(words[i].casefold() == "nan" for i in axes)):
        return None
    if len(words) != len(fields["sizes"].split()):
        raise unreadable(name, f"says {len(words)} {key}, expected {len(fields['sizes'].split())}")
    return numbers([words[i] for i in axes], 3, what=key, name=name)


def _factors(fields: dict[str, str], axes: list[int], space: bool, remarks: list[Remark], *, name: str) -> list[float]:
    """mm a unit along the axes of the space, or, where there is none, along the voxel axes."""
    key = "space units" if "space units" in fields else "units"
    quoted = re.findall(r'"([^"]*)"', fields.get(key, ""))
    if key == "units":
        if quoted and len(quoted) != len(fields["sizes"].split()):
            raise unreadable(name, f"says {len(quoted)} units, expected one an axis")
        quoted = [quoted[i] for i in axes] if quoted else []
        if space and len({unit.strip() for unit in quoted}) > 1:
            raise unreadable(name, "says a unit of its own for each axis of one space")
    if key in fields and re.sub(r'"[^"]*"', "", fields[key]).strip():
        raise unreadable(name, f"says {key} that do not stand in quotes")
    if quoted and len(quoted) != 3:
        raise unreadable(name, f"says {len(quoted)} {key}, expected 3")
    factors = [length_in_mm(unit, name=name) if unit.strip() else 1.0 for unit in quoted] or [1.0, 1.0, 1.0]
    remarks += [converted(quoted[i]) for i in range(len(quoted)) if factors[i] != 1.0][:1]
    return factors
