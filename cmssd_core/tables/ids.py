"""Ids of patients: one spelling for one patient, what looks like one and is none, and the patient in a file's name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

#: What programs and people write where they know no id; no patient is called so in silence.
MISSING = frozenset(
    (
        "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "?", ".", "unknown", "missing",
        "anonymous", "#ref!", "#name?", "#value!", "#div/0!", "#num!", "#null!",
    )
)  # fmt: skip
#: An id that needs no cleaning.
PLAIN = r"[A-Za-z0-9_-]+"
#: A long number as a spreadsheet shortens it: other patients' ids become the same.
SHORTENED = r"\d(?:[.,]\d+)?[eE]\+\d+"
_WHOLE = re.compile(r"(\d+)[.,]0+")
_STRONG = (
    # Brain Imaging Data Structure; what follows (ses-, run-) is the same person.
    re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+", re.IGNORECASE),
    # The first three parts of a TCGA barcode are the patient; R writes them with points.
    re.compile(r"(?<![A-Za-z0-9])TCGA[-_.][A-Z0-9]{2}[-_.][A-Z0-9]{4}(?![A-Za-z0-9])", re.IGNORECASE),
    re.compile(r"(?<![A-Za-z0-9])C3[LN]-\d{5}(?!\d)", re.IGNORECASE),  # CPTAC
    re.compile(r"(?<![A-Za-z0-9])(?:Case|Patient|Subject)[-_ ]?\d+(?!\d)", re.IGNORECASE),
)
#: Ids that are one patient's wherever they stand.
BARCODES = ("TCGA-", "C3L-", "C3N-")
#: Only where a name says nothing better: P53 is a stain as well.
_WEAK = re.compile(r"(?<![A-Za-z0-9])P\d+(?![0-9])", re.IGNORECASE)

#: What tells visits, or sides of the body, of one patient apart, behind the id; L or R only at the very end.
_VISIT = re.compile(
    r"[-_\s]+((ses|session|visit|tp|timepoint|week|month|day|fu|follow-?up|v|t)[-_\s]?\d+|baseline|bl|fu|follow-?up"
    r"|\d+(m|mo|months?|w|wk|weeks?|y|yr|years?|d|days?)|(pre|post)(op|rt|chemo|treatment)?|left|right|[lr]$)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Without what no one sees: zero-width and control characters, blanks of any kind around it or doubled in it."""
    text = unicodedata.normalize("NFC", text)
    seen = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join("".join(seen).split())


def patient_of(text: str) -> str:
    """The one spelling of an id: clean, and 12 for 12.0, which is what spreadsheets make of it. 012 stays 012."""
    text = clean(text)
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def loose(text: str) -> str:
    """What spellings of one patient have in common: Case3, Case-3 and case_03; 12 and 012."""
    parts = re.findall(r"[^\W_]+", patient_of(text).casefold())
    # Only numbers need what stands between them: A-12 is A12, but 1-12 is not 112.
    kept = "".join(
        part if part[0].isalpha() or not before[-1:].isdigit() else f"-{part}"
        for before, part in zip(["", *parts], parts, strict=False)
    )
    return re.sub(r"(?<!\d)0+(?=\d)", "", kept) or text


def alike(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different ids that are one by `loose`, each in the order they came."""
    groups: dict[str, list[str]] = defaultdict(list)
    for each in dict.fromkeys(ids):
        groups[loose(each)].append(each)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def visits(ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Different ids that are one without the words of a visit or a side: that one -> the ids, in the order they came.

    P1_v1 and P1_v2 are P1. An id stays what it is where none of the others is left with the same, and where no digit
    is left of it: OS_T1 and OS_T2 may be two tumours.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    short: dict[str, str] = {}
    for each in dict.fromkeys(ids):
        left = each
        while (less := _VISIT.sub("", left)) != left:
            left = less
        if re.search(r"\d", left):
            groups[loose(left)].append(each)
            short.setdefault(loose(left), left)
    return {
        short[key]: tuple(group)
        for key, group in groups.items()
        if len({loose(each) for each in group}) > 1  # those that differ by spelling alone are `alike`
    }


def joined(ids: Iterable[str]) -> list[str]:
    """Each id in the first spelling that came of its patient, for ids that were read off names."""
    first: dict[str, str] = {}
    return [first.setdefault(loose(each), each) for each in ids]


def named_patient(name: str, *, weak: bool) -> tuple[str, int] | None:
    """The patient in a file's name and where he begins: sub-01, a barcode, Case-3; weak: P9 too, if nothing better."""
    for pattern in (*_STRONG, *([_WEAK] if weak else [])):
        found = pattern.search(name)
        if found:
            who = found[0]
            barcode = re.sub("[_.]", "-", who).upper()
            return barcode if barcode.startswith(BARCODES) else re.sub("[_ ]", "-", who), found.start()
    return None
