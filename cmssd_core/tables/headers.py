"""Names of columns as people write them, and which of ours they are: said where it was not to the letter."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from cmssd_core.types import Finding, InputError

NAMED = 5  # unknown columns named; the others are counted
COMPARED = 200  # unknown columns up to which all are compared with ours: more are a table of features
CLOSE = 0.85


@dataclass(frozen=True)
class Header:
    """written: our name -> the column's name as the file has it. findings: what was not to the letter."""

    written: Mapping[str, str]
    findings: tuple[Finding, ...]


def letters(name: str) -> str:
    """A column's name by its letters and digits alone, as British English spells it: PatientID is patient_id."""
    bare = re.sub(r"[\W_]+", "", name.casefold())
    return re.sub(r"umor(?!ous)", "umour", bare).replace("center", "centre")


def recognise(
    names: Sequence[str], known: Mapping[str, Sequence[str]], *, vital: Collection[str], where: str
) -> Header:
    """Which columns of a table are ours. names: clean. known: ours -> what it may be called in `letters`, best first.

    A column of a less good word is left alone where a better one is there. Raises InputError where two columns are the
    same, and where a `vital` one is missing and another looks like it misspelt.
    """
    spelt: dict[str, list[str]] = defaultdict(list)
    for name in filter(None, names):
        spelt[letters(name)].append(name)
    written, findings = {}, []
    for ours, words in known.items():
        found = next((spelt[word] for word in words if word in spelt), [])
        if len(found) > 1:
            same = " and ".join(map(repr, found))
            raise InputError(f"{where} has columns {same}, which are both {ours}; expected one; remove or rename one")
        if found:
            written[ours] = found[0]
            if found[0] != ours:
                findings.append(Finding("info", f"column {found[0]!r} is read as {ours}", where))
    taken = set(written.values())
    strange = [name for name in dict.fromkeys(names) if name and name not in taken]
    hints = {}
    for ours in known:
        if ours in written or (ours not in vital and len(strange) > COMPARED):
            continue
        misspelt = next((name for name in strange if _close(letters(name), known[ours][0])), None)
        if misspelt is None:
            continue
        if ours in vital:
            raise InputError(
                f"{where} has a column {misspelt!r} and none called {ours}; expected {ours}, if that is meant; rename "
                "or remove it"
            )
        hints[misspelt] = ours
    if strange:
        listed = [name + (f" (is it {hints[name]}?)" if name in hints else "") for name in strange]
        listed.sort(key=lambda words: "?)" not in words)
        rest = len(listed) - NAMED
        what = f"columns not known and not used: {', '.join(listed[:NAMED])}" + (
            f" and {rest} more" if rest > 0 else ""
        )
        findings.append(Finding("warning" if hints else "info", what, where))
    return Header(written, tuple(findings))


def _close(one: str, other: str) -> bool:
    if len(one) < 4 or abs(len(one) - len(other)) > 2:
        return False
    if sorted(one) == sorted(other):
        return True
    matcher = SequenceMatcher(None, one, other)
    return matcher.real_quick_ratio() >= CLOSE and matcher.quick_ratio() >= CLOSE and matcher.ratio() >= CLOSE
