"""Text headers (NRRD, MetaImage), read to their end: one kind of line end, no NUL, no field twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

from cmssd_core.types import InputError

#: The longest header that is read; those of scanners and segmentations take kilobytes.
_LONGEST = 1 << 20
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


def lines(handle: BinaryIO, *, ends: Callable[[str], bool], name: str) -> tuple[list[str], int]:
    """The lines up to and with the first one for which `ends` holds, and the byte after it.

    Raises InputError for a header without an end, with NUL bytes, or with mixed line ends: readers part such a header
    into other lines than each other, so what one checks another does not read.
    """
    head = handle.read(_LONGEST)
    first = head.partition(b"\n")[0]
    end = b"\r\n" if first.endswith(b"\r") else b"\n"
    found: list[str] = []
    place = 0
    while True:
        after = head.find(end, place)
        if after < 0:
            if len(head) == _LONGEST:
                raise InputError(f"'{name}' has a header of more than {_LONGEST >> 20} MB; export it again without it")
            raise unreadable(name, "has no end")
        raw = head[place:after]
        if b"\r" in raw or b"\n" in raw or b"\0" in raw:
            raise unreadable(name, "mixes line ends or holds NUL bytes")
        line = raw.decode("utf-8", "replace")
        place = after + len(end)
        found.append(line)
        if ends(line):
            return found, place


def unreadable(name: str, why: str) -> InputError:
    """The refusal of a text header that breaks a rule of its format."""
    return InputError(f"'{name}' is damaged or not what its name says: its header {why}; export it again")


def keep(fields: dict[str, str], key: str, value: str, *, name: str) -> None:
    """Adds a field. Raises InputError where it stands twice, whatever its letters' case."""
    if key in fields:
        raise unreadable(name, f"says '{key[:40]}' twice")
    fields[key] = value.strip()


def whole_numbers(text: str, count: int, *, what: str, name: str) -> list[int]:
    """`count` whole numbers. Raises InputError for anything else."""
    words = text.split()
    if len(words) != count or not all(_WHOLE.fullmatch(word) for word in words):
        raise unreadable(name, f"says {what} '{text[:40]}', expected {count} whole number(s)")
    return [int(word) for word in words]


def numbers(words: list[str], count: int, *, what: str, name: str) -> list[float]:
    """`count` finite numbers. Raises InputError for anything else."""
    if len(words) != count or not all(_NUMBER.fullmatch(word) for word in words):
        raise unreadable(name, f"says {what} '{' '.join(words)[:40]}', expected {count} number(s)")
    return [float(word) for word in words]
