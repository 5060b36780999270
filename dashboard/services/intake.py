"""Which cohorts this installation knows, and a new one examined before it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pandas as pd
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.machine.atomic import make_folder, write_atomic
from cmssd_core.types import InputError
from dashboard import permitted, selection, state
from dashboard.config import dashboard_settings
from dashboard.services import case as cases
from dashboard.services.case import Upload
from dashboard.services.fence import fence

if TYPE_CHECKING:
    from cmssd_core.cohort.check import Report
    from cmssd_core.machine.fence import Fence

MOST = 500  # problems shown


@dataclass(frozen=True)
class Examined:
    """A table and what is wrong with it. cohort: what can be opened, None = nothing."""

    report: Report
    cohort: Path | None


def list_tables() -> tuple[Path, ...]:
    """The tables one may open: CMSSD_COHORT's or the demo cohort first, then those opened here before."""
    first = cases.demo()
    found = [first.cohort] if first is not None and first.cohort is not None else []
    for path in sorted(_folder().glob("*.json")):
        try:
            summary = Path(json.loads(path.read_text(encoding="utf-8"))["table"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if summary not in found and summary.is_file() and may_open(summary):
            found.append(summary)
    chosen = selection.open_cohort()
    return tuple(found if chosen is None or chosen in found else [*found, chosen])


def name(cohort: Path) -> str:
    """What a cohort is called on screen: its folder's name, and the table's where it is not cohort.csv."""
    if state.folder() in cohort.parents:
        return "the table you uploaded"
    return cohort.parent.name + ("" if cohort.name == "cohort.csv" else f" / {cohort.name}")


def may_open(cohort: Path) -> bool:
    """Whether a path a user names may be opened: with sign-in only what lies beside or below CMSSD_COHORT."""
    root = permitted.root()
    return root is None or cohort.resolve().is_relative_to(root)


def remember(cohort: Path) -> None:
    """Keeps a cohort in the list, for later sessions and for links."""
    if state.folder() in cohort.parents:
        return
    make_folder(_folder())
    summary = json.dumps({"table": str(cohort)})
    path = _folder() / f"{selection.cohort_key(cohort)}.json"
    write_atomic(path, lambda part: part.write_text(summary, encoding="utf-8"))


def forget(cohort: Path) -> None:
    """Takes a cohort off the list; its files stay."""
    (_folder() / f"{selection.cohort_key(cohort)}.json").unlink(missing_ok=True)


def examine_folder(words: str) -> Examined:
    """The cohort in a folder of this machine, or at a CSV's path. Raises InputError where it cannot be looked at."""
    path = Path(words.strip().strip("\"'")).expanduser()
    table = path / "cohort.csv" if path.is_dir() else path
    if not table.is_absolute():
        raise InputError("a path from nowhere came, expected one from the root of this machine; write it in full")
    if not may_open(table):
        raise InputError(
            "this folder is not one of this installation's; expected one below its cohort; ask who runs it"
        )
    if not table.is_file():
        raise InputError("no cohort.csv is there, expected a folder that holds one, or its path; check the path")
    table = table.resolve()
    # Not behind the fence: to compare the images of a large cohort takes longer than any one upload may.
    report = _examined(table, table.parent, None)
    return Examined(report, table if report.usable else None)


def examine_upload(upload: Upload) -> Examined:
    """An uploaded table. Its files are looked for only where their paths are whole and there is no sign-in."""
    kept = cases.keep("cohort", [upload])
    folder = kept.folder / uuid4().hex[:8]
    make_folder(folder)
    table = folder / "cohort.csv"
    kept.paths[0].replace(table)
    openable = not dashboard_settings().sign_in and _whole_paths(table)
    report = _examined(table, folder if openable else None, fence(within=state.folder()))
    return Examined(report, table if openable and report.usable else None)


def _whole_paths(table: Path) -> bool:
    """Whether no cell names a file relative to a folder that was not sent along."""
    from cmssd_core.cohort.table import FILES, PROFILE, read_cells

    try:
        cells = read_cells(table).cells
    except InputError:
        return False
    named = (cells[column].dropna().unique() for column in (*FILES, PROFILE) if column in cells)
    return all(Path(str(cell)).is_absolute() for cell_names in named for cell in cell_names)


def _examined(table: Path, root: Path | None, fenced_in: Fence | None) -> Report:
    # Anew at each press: a file beside the table may have been mended since.
    from cmssd_core.cohort.fenced import check

    with st.spinner("Examining the table"):
        return check(table, root=root, within=permitted.root(), fence=fenced_in)


def problems(report: Report) -> pd.DataFrame:
    """The first MOST problems as a table for the screen."""
    summary = [(p.row, p.column or "–", p.what, p.repair, "yes" if p.fatal else "no") for p in report.problems[:MOST]]
    columns = ["row", "column", "what is wrong", "what to do", "must be mended"]
    return pd.DataFrame(summary, columns=columns).astype({"row": "Int64"})


def find_linked(fingerprint: str, fingerprint_of: Callable[[Path], str]) -> Path | None:
    """The known cohort a link speaks of; None = none of them."""
    return next((cohort for cohort in list_tables() if fingerprint_of(cohort) == fingerprint), None)


def _folder() -> Path:
    return settings().cache_dir / "cohorts"
