"""Origins: whose image it is and from which examination, compared between images and never shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import combinations

from cmssd_core.types import Finding


@dataclass(frozen=True)
class Origin:
    """What a header says of person and examination, without blanks and capitals; "" and None = not said."""

    patient_id: str = ""
    patient_name: str = ""
    born: str = ""
    study: str = ""
    study_date: date | None = None
    acquired: date | None = None


def of_two_people(origins: Iterable[Origin]) -> bool:
    """Whether two of them say another id, another name or another day of birth."""
    every = set(origins)
    return any(len({said for said in field if said}) > 1 for field in zip(*map(_person, every), strict=True))


def days_apart(one: Origin, other: Origin) -> int | None:
    """Days between two examinations by what both headers say; None where they share no date."""
    pairs = ((one.study_date, other.study_date), (one.acquired, other.acquired))
    return max((abs((a - b).days) for a, b in pairs if a is not None and b is not None), default=None)


def of_one_examination(one: Origin, other: Origin) -> bool:
    """Whether nothing speaks against one visit: two studies of one day are one, and a study may last past midnight."""
    days = days_apart(one, other)
    if one.study and other.study and one.study != other.study:
        return days == 0
    return days is None or days <= 1


def examinations(origins: Mapping[str, Origin]) -> tuple[int, str] | None:
    """How many examinations `origins` come from and how far they lie apart, in words; None where from one."""
    every = list(dict.fromkeys(origins.values()))
    groups: list[Origin] = []
    for origin in every:
        if not any(of_one_examination(origin, known) for known in groups):
            groups.append(origin)
    if len(groups) < 2:
        return None
    days = [days_apart(one, other) for one, other in combinations(groups, 2)]
    longest = max((n for n in days if n is not None), default=0)
    return len(groups), f"{longest} days apart" if longest else "of dates the headers do not say"


def told_apart(origins: Mapping[str, Origin]) -> tuple[Finding, ...]:
    """What is to be said where images by name, given one by one, come from several studies."""
    found = examinations(origins)
    if found is not None:
        count, apart = found
        what = (
            f"{', '.join(origins)} come from {count} examinations {apart}; what changed between them is mixed up here"
        )
        return (Finding("severe", what, "mri"),)
    if len({origin.study for origin in origins.values() if origin.study}) > 1:
        return (Finding("warning", f"{', '.join(origins)} come from different studies of one day", "mri"),)
    return ()


def _person(origin: Origin) -> tuple[str, str, str]:
    return origin.patient_id, origin.patient_name, origin.born
