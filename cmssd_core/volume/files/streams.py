"""The bytes of a file, unpacked and checked to the end: nothing cut, nothing altered, nothing beyond what is asked for.

A checksum stands at the end of a packed stream, so a stream counts as read only once its end was seen; zlib compares
the checksum there. Bytes out are bounded by what is asked for, whatever the packed ones would unpack to.
"""

from __future__ import annotations

import zlib
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from cmssd_core.types import InputError

_IN, _OUT = 1 << 16, 1 << 22
#: Bytes after the voxels that are counted and remarked; beyond that, the header is of another image.
_EXCESS_LIMIT = 1 << 20
_GZIP_BITS, _ANY_BITS = 31, 47
_MEMBER = b"\x1f\x8b"


class Stream(Protocol):
    """Bytes from a place on: `read` gives at most n of them and none only at the sound end."""

    def read(self, n: int) -> bytes:
        """At most n > 0 bytes, none at the end. Raises InputError for a damaged stream."""
        ...


class Plain:
    """A file as it is, from its place on."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle

    def read(self, n: int) -> bytes:
        """At most n bytes."""
        return self._handle.read(min(n, _OUT))


class Packed:
    """Gzip members, one after another, or one zlib stream; `size` bytes of the file and not one more."""

    def __init__(self, handle: BinaryIO, *, size: int, name: str, members: bool) -> None:
        self._handle, self._left, self._name, self._members = handle, size, name, members
        self._rest = b""
        self._ended = False
        # Members of a few bytes each would cost more than what they hold.
        self._allowed = 64 + size // 4096
        self._unpack = self._begin()

    def _begin(self) -> Any:
        self._allowed -= 1
        if self._allowed < 0:
            raise InputError(f"'{self._name}' is packed in far too many pieces; pack it again as one")
        return zlib.decompressobj(_GZIP_BITS if self._members else _ANY_BITS)

    def read(self, n: int) -> bytes:
        """At most n bytes; none once the checksum at the very end fits."""
        while not self._ended:
            if not self._rest:
                self._fill()
            try:
                out: bytes = self._unpack.decompress(self._rest, min(n, _OUT))
            except zlib.error as error:
                raise damaged(self._name) from error
            if self._unpack.eof:
                self._rest = self._unpack.unused_data
                self._next()
            else:
                if not out and not self._unpack.unconsumed_tail and not self._left:
                    raise cut(self._name)
                self._rest = self._unpack.unconsumed_tail
            if out:
                return out
        return b""

    def _fill(self) -> None:
        self._rest = self._handle.read(min(_IN, self._left))
        self._left = self._left - len(self._rest) if self._rest else 0

    def _next(self) -> None:
        """After a stream's sound end: the next member, or the end; zeros may pad it, nothing else."""
        while True:
            if self._members:
                self._rest = self._rest.lstrip(b"\0")
            if len(self._rest) < 2 and self._left:
                self._rest += self._handle.read(min(_IN, self._left))
                self._left = self._left - _IN if self._left > _IN else 0
                continue
            break
        if not self._rest:
            self._ended = True
        elif self._members and self._rest.startswith(_MEMBER):
            self._unpack = self._begin()
        else:
            raise InputError(f"'{self._name}' has other bytes after its packed voxels; copy or export it again")


def cut(name: str) -> InputError:
    """The refusal of a file that ends early."""
    return InputError(f"'{name}' is cut short: it ends before its voxels do; copy or export it again")


def damaged(name: str) -> InputError:
    """The refusal of a packed stream that breaks a rule or its checksum."""
    return InputError(f"'{name}' is damaged: its packed bytes do not fit their checksum; copy or export it again")


def exactly(stream: Stream, n: int, *, name: str) -> bytes:
    """The next n bytes. Raises InputError where the stream ends before."""
    parts = []
    while n > 0:
        part = stream.read(n)
        if not part:
            raise cut(name)
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def skip(stream: Stream, n: int, *, name: str) -> None:
    """Passes over n bytes. Raises InputError where the stream ends before."""
    while n > 0:
        part = stream.read(n)
        if not part:
            raise cut(name)
        n -= len(part)


def fill(stream: Stream, into: npt.NDArray[np.uint8], *, name: str) -> None:
    """Fills all of `into`. Raises InputError where the stream ends before: no byte stays what it was."""
    place = 0
    while place < len(into):
        part = stream.read(len(into) - place)
        if not part:
            raise cut(name)
        into[place : place + len(part)] = np.frombuffer(part, np.uint8)
        place += len(part)


def excess(stream: Stream, *, name: str) -> int:
    """Bytes up to the end, whose checksum thereby is compared. Raises InputError for more than a remark is worth."""
    count = 0
    while part := stream.read(_EXCESS_LIMIT):
        count += len(part)
        if count > _EXCESS_LIMIT:
            raise InputError(
                f"'{name}' holds far more bytes than the size in its header explains; export it again as one 3-D image"
            )
    return count
