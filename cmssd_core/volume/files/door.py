"""The one door for image files, masks too: the whole header checked first, then the voxels, to the last byte.

The voxels are taken by numpy from where the checked header says, so no second and more lenient reader ever sees the
file; and a file that a header names is opened only beside an .mhd, as no link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cmssd_core.types import InputError
from cmssd_core.volume.files import metaimage, nifti, nrrd
from cmssd_core.volume.files.edge import one_sentence
from cmssd_core.volume.files.geometry import usable
from cmssd_core.volume.files.header import Header
from cmssd_core.volume.files.streams import Packed, Plain, Stream, cut, excess, fill, skip

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")

#: Scans pack to a third, flat background to 1:100. Beyond this ratio, and above a floor, a file is built to exhaust.
_RATIO_LIMIT = 200
BEHIND = "bytes after its voxels: its header may be of another image"
#: Bytes that may be packed more tightly than that: masks are nearly all zeros, scans are not.
SCAN_FLOOR, MASK_FLOOR = 64 << 20, 512 << 20
_GZIP = b"\x1f\x8b"


def suffix(path: Path) -> str | None:
    """The image suffix of `path` in lower case, or None."""
    name = path.name.lower()
    return next((end for end in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(end)), None)


def read_header(path: Path) -> Header:
    """What the header of an image file says. Raises InputError for a damaged one and for a grid no patient lies on."""
    with one_sentence(_sentence(path)), _opened(path) as handle:
        return _header(handle, path)[0]


def read_voxels(path: Path, *, limit_mb: int, floor: int) -> tuple[Header, npt.NDArray[Any]]:
    """The header and the stored numbers (z, y, x) of one 3-D grey image, not yet scaled.

    limit_mb: the largest image, counted in 4 bytes a voxel. floor: bytes that may be packed beyond any ratio.
    Raises InputError for a damaged file and for all that is not one 3-D grey image.
    """
    with one_sentence(_sentence(path)), _opened(path) as handle:
        header, stream = _header(handle, path)
        name = path.name
        header.check_one_grey_volume(name)
        if header.bytes // header.dtype.itemsize * max(4, header.dtype.itemsize) > limit_mb << 20:
            raise InputError(f"'{name}' unpacks to more than {limit_mb} MB; crop it or raise CMSSD_UNPACKED_LIMIT_MB")
        if header.beside is not None:
            with _opened(header.beside, follow=False) as other:
                return _voxels(header, other, None, floor=floor, name=name)
        return _voxels(header, handle, stream, floor=floor, name=name)


def _sentence(path: Path) -> str:
    return f"'{path.name}' is not the {suffix(path) or 'image'} image its name says, or is damaged; export it again"


@contextmanager
def _opened(path: Path, *, follow: bool = True) -> Iterator[BinaryIO]:
    try:
        # Neither a pipe nor a device is an image, and opening one may wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be opened; check that it is there and may be read") from error
    with os.fdopen(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"'{path.name}' is no file; give an image file")
        yield handle


def _header(handle: BinaryIO, path: Path) -> tuple[Header, Stream | None]:
    """The header, and for NIfTI the stream, which stands right after it."""
    kind, name = suffix(path), path.name
    stream: Stream | None = None
    if kind in (".nii", ".nii.gz"):
        packed = handle.read(2) == _GZIP
        handle.seek(0)
        size = os.fstat(handle.fileno()).st_size
        stream = Packed(handle, size=size, name=name, members=True) if packed else Plain(handle)
        header = nifti.parse(stream, name=name, packed=packed)
    elif kind == ".nrrd":
        header = nrrd.parse(handle, name=name)
    elif kind in (".mha", ".mhd"):
        header = metaimage.parse(handle, path=path)
    else:
        raise InputError(f"'{name}' is not an image CM-SSD knows; expected {', '.join(SUFFIXES)}")
    if len(header.size) == 3 and min(header.size) > 0:
        usable(header.affine, header.size, name=name)
    return header, stream


def _voxels(
    header: Header, handle: BinaryIO, stream: Stream | None, *, floor: int, name: str
) -> tuple[Header, npt.NDArray[Any]]:
    total = os.fstat(handle.fileno()).st_size
    if header.packing == "raw":
        if total < header.start + header.bytes:
            raise cut(name)
    elif header.bytes > max(floor, _RATIO_LIMIT * total):
        raise InputError(
            f"'{name}' unpacks to more than {_RATIO_LIMIT} times its size, like a file made to exhaust a machine; "
            "give the image unpacked"
        )
    if stream is None:
        handle.seek(header.start)
        stream = _stream(header, handle, total - header.start, name=name)
    else:
        skip(stream, header.start - header.consumed, name=name)
    raw = np.empty(header.bytes, np.uint8)
    fill(stream, raw, name=name)
    over = excess(stream, name=name)
    if over:
        what = f"the file holds {over} {BEHIND}"
        header = replace(header, remarks=(*header.remarks, ("warning", what)))
    return header, raw.view(header.dtype).reshape(header.size[::-1])


def _stream(header: Header, handle: BinaryIO, left: int, *, name: str) -> Stream:
    if header.packing == "raw":
        return Plain(handle)
    if header.stored is not None and header.stored > left:
        raise cut(name)
    if header.stored is not None and header.stored < left:
        raise InputError(f"'{name}' has other bytes after its packed voxels; copy or export it again")
    return Packed(handle, size=left, name=name, members=header.packing == "gzip")
