"""Bytes of a table become text: what encoding they are in is told from them, and what is no text is refused by name."""

from __future__ import annotations

import codecs
import re

from cmssd_core.types import Finding, InputError

#: What a file begins with that is saved under a table's name and is none.
_OTHER = {
    b"PK\x03\x04": "a spreadsheet or zip file",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls)",
    b"\x1f\x8b": "a packed file (.gz)",
    b"%PDF": "a PDF",
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_SAMPLE = 4096


def decode(content: bytes, name: str) -> tuple[str, tuple[Finding, ...]]:
    """The text of a table's bytes; a finding where its encoding had to be guessed.

    UTF-8, with or without a mark, UTF-16 and UTF-32 are known; other bytes are Windows-1252, of which latin-1 is a
    part, with a finding that quotes a word. Raises InputError for a spreadsheet, for bytes that are no text, and for
    UTF-8 or UTF-16 that is damaged or cut short.
    """
    for start, what in _OTHER.items():
        if content.startswith(start):
            raise InputError(f"{name} is {what}; expected a table as text; save it as CSV in UTF-8")
    encoding = next((known for mark, known in _MARKS if content.startswith(mark)), None) or _unmarked(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as fault:
        if encoding != "utf-8":
            words = encoding.removesuffix("-sig").upper()
            raise InputError(f"{name} is damaged or cut short {words}; expected a whole table; copy it again") from None
        return _guessed(content, name, fault.start)
    if "\0" in text:
        raise InputError(f"{name} holds NUL bytes and is no text; expected a table as text; save it as CSV in UTF-8")
    return text, ()


def _unmarked(content: bytes) -> str:
    """UTF-16 without its mark has a NUL beside each plain letter, always on the same side."""
    sample = content[: _SAMPLE & ~1]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if max(even, odd) * 2 > len(sample) // 2 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def _guessed(content: bytes, name: str, fault: int) -> tuple[str, tuple[Finding, ...]]:
    """Bytes that are no UTF-8. Accents of latin-1 next to each other hardly ever look like UTF-8."""
    line = content.count(b"\n", 0, fault) + 1
    if any(ord(letter) > 127 for letter in content.decode("utf-8", "ignore")):
        raise InputError(f"{name} has damaged bytes in line {line}; expected UTF-8 text; copy it again or save it anew")
    try:
        if _CONTROL.search(content):
            raise ValueError
        text = content.decode("cp1252")
    except ValueError:
        what = f"{name} is no text in UTF-8, UTF-16 or Windows-1252"
        raise InputError(f"{what}; expected a table as text; save it as CSV in UTF-8") from None
    word = next(word for word in [*re.findall(r"[^\W_]+", text), text] if not word.isascii())[:40]
    what = (
        f"this is no UTF-8 text and is read as Windows-1252 (latin-1), so that line {line} says {word!r}; where that "
        "is wrong, save it as UTF-8"
    )
    return text, (Finding("warning", what, name),)
