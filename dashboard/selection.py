"""What the pages share about cohorts: the open one, the current and the pinned case, the selected set, named slices."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import streamlit as st

from cmssd_core.config import settings
from cmssd_core.machine.atomic import make_folder, write_atomic
from cmssd_core.types import InputError

_COHORT, _CURRENT, _PINNED, _SELECTED = "cmssd_cohort", "cmssd_current", "cmssd_pinned", "cmssd_selected"
_SLICE_NAME = re.compile(r"\S(.{0,58}\S)?")
#: Who may have made the selected set; the maker's own widget already shows it, all others follow.
TABLE, PLOT, MATRIX, SLICE, LINK = "table", "plot", "matrix", "slice", "link"


@dataclass(frozen=True)
class CaseRef:
    """One case by name: a row of a cohort's table, or, with cohort None, what this session uploaded.

    cohort: the path of its cohort.csv; case_id: the row's name, or the content id of the uploaded case.
    """

    cohort: Path | None
    case_id: str

    @property
    def key(self) -> str:
        """16 letters for keys, file names and logs, where a case's own name may not stand."""
        return case_key(self.case_id)


@dataclass(frozen=True)
class Selected:
    """The selected cases of the open cohort, none of them = nothing is selected.

    by: who made it (TABLE, PLOT, ...); turn: grows with each change, so that widgets know that they must follow.
    """

    case_ids: frozenset[str] = frozenset()
    by: str = ""
    turn: int = 0

    def __bool__(self) -> bool:
        return bool(self.case_ids)

    def __len__(self) -> int:
        return len(self.case_ids)


@dataclass(frozen=True)
class NamedSlice:
    """A set of cases under a name, kept on disk. case_keys: keys of its cases, not their names."""

    id: str
    name: str
    case_keys: frozenset[str]
    made: datetime


def case_key(case_id: str) -> str:
    """The same 16 letters for the same case_id, from which its name cannot be read."""
    return sha256(f"cmssd case {case_id}".encode()).hexdigest()[:16]


def cohort_key(cohort: Path) -> str:
    """16 letters for a cohort's place on this machine, for folders and keys."""
    return sha256(f"cmssd cohort {cohort.resolve()}".encode()).hexdigest()[:16]


def open_cohort() -> Path | None:
    """The cohort.csv this session opened; None = none, then services.cohort.opened() says which one stands in."""
    return st.session_state.get(_COHORT)


def set_open_cohort(cohort: Path | None) -> None:
    """Opens another cohort; the selected set belongs to the old one and goes, as do its current and pinned case."""
    if cohort == open_cohort():
        return
    st.session_state[_COHORT] = cohort
    set_selected((), by="")
    for key in (_CURRENT, _PINNED):
        ref = st.session_state.get(key)
        if ref is not None and ref.cohort is not None and ref.cohort != cohort:
            st.session_state[key] = None


def current() -> CaseRef | None:
    """The case that is being read."""
    return st.session_state.get(_CURRENT)


def set_current(ref: CaseRef | None) -> None:
    """Makes this the case that is being read, on every page."""
    st.session_state[_CURRENT] = ref


def get_pinned() -> CaseRef | None:
    """The case that others are compared with."""
    return st.session_state.get(_PINNED)


def set_pinned(ref: CaseRef | None) -> None:
    """Pins a case for comparison, None unpins it."""
    st.session_state[_PINNED] = ref


def get_selected() -> Selected:
    """The selected set of the open cohort."""
    present: Selected = st.session_state.get(_SELECTED, Selected())
    return present


def set_selected(case_ids: Iterable[str], *, by: str) -> None:
    """Selects these cases of the open cohort in table, plots and matrix alike; none of them selects nothing.

    by: the one of TABLE, PLOT, MATRIX, SLICE and LINK that chose them.
    """
    before, chosen = get_selected(), frozenset(case_ids)
    if chosen != before.case_ids:
        st.session_state[_SELECTED] = Selected(chosen, by, before.turn + 1)


def slices(cohort: Path) -> tuple[NamedSlice, ...]:
    """The named slices of a cohort by name, shared by all who open it here. A file that is damaged is passed over."""
    found = []
    for path in _folder(cohort).glob("*.json"):
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            made = datetime.fromisoformat(summary["made"])
            found.append(NamedSlice(path.stem, str(summary["name"]), frozenset(map(str, summary["cases"])), made))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(sorted(found, key=lambda one: (one.name.casefold(), one.made)))


def save_slice(cohort: Path, name: str, case_ids: Collection[str]) -> NamedSlice:
    """Keeps a set of cases under a name. Raises InputError for no cases, no fit name or one that is taken."""
    name = " ".join(name.split())
    if not case_ids:
        raise InputError("a slice of no cases came, expected some; select cases first")
    if not _SLICE_NAME.fullmatch(name):
        raise InputError(f"a name of {len(name)} characters came, expected 1 to 60; shorten or fill it in")
    if any(one.name.casefold() == name.casefold() for one in slices(cohort)):
        raise InputError(f"there is a slice named {name!r} already, expected another name; choose one or delete it")
    made = NamedSlice(uuid4().hex[:12], name, frozenset(map(case_key, case_ids)), datetime.now(UTC))
    # A file a slice: two sessions that save at once lose nothing.
    make_folder(_folder(cohort))
    summary = {"name": made.name, "made": made.made.isoformat(), "cases": sorted(made.case_keys)}
    write_atomic(
        _folder(cohort) / f"{made.id}.json", lambda part: part.write_text(json.dumps(summary), encoding="utf-8")
    )
    return made


def delete_slice(cohort: Path, slice_id: str) -> None:
    """Removes a named slice; one that is gone already is no error."""
    for path in _folder(cohort).glob("*.json"):
        if path.stem == slice_id:
            path.unlink(missing_ok=True)


def _folder(cohort: Path) -> Path:
    return settings().cache_dir / "slices" / cohort_key(cohort)
