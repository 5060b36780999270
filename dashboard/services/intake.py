"""Which cohorts this installation knows, and a new one examined before it is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pandas as pd
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.types import InputError
from cmssd_core.whole import make_folder, write_whole
from dashboard import selection, state
from dashboard.services import case as cases
from dashboard.services.case import Upload

if TYPE_CHECKING:
    from cmssd_core.cohort_check import Report

MOST = 500  # problems shown


@dataclass(frozen=True)
class Examined:
    """A table and what is wrong with it. cohort: what can be opened, None = nothing."""

    report: Report
    cohort: Path | None


def known() -> tuple[Path, ...]:
    """The tables one may open: CMSSD_COHORT's or the demo cohort first, then those opened here before."""
    first = cases.demo()
    found = [first.cohort] if first is not None and first.cohort is not None else []
    for path in sorted(_folder().glob("*.json")):
        try:
            told = Path(json.loads(path.read_text(encoding="utf-8"))["table"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if told not in found and told.is_file() and may_open(told):
            found.append(told)
    chosen = selection.open_cohort()
    return tuple(found if chosen is None or chosen in found else [*found, chosen])


def name(cohort: Path) -> str:
    """What a cohort is called on screen: its folder's name, and the table's where it is not cohort.csv."""
    if state.folder() in cohort.parents:
        return "the table you uploaded"
    return cohort.parent.name + ("" if cohort.name == "cohort.csv" else f" / {cohort.name}")


def may_open(cohort: Path) -> bool:
    """Whether a path a user names may be opened: with sign-in only what lies beside or below CMSSD_COHORT."""
    if not settings().sign_in:
        return True
    given = os.environ.get("CMSSD_COHORT")
    if not given:
        return False
    root = Path(given).resolve()
    root = root if root.is_dir() else root.parent
    return root == cohort.resolve().parent or root in cohort.resolve().parents


def remember(cohort: Path) -> None:
    """Keeps a cohort in the list, for later sessions and for links."""
    if state.folder() in cohort.parents:
        return
    make_folder(_folder())
    told = json.dumps({"table": str(cohort)})
    path = _folder() / f"{selection.cohort_key(cohort)}.json"
    write_whole(path, lambda part: part.write_text(told, encoding="utf-8"))


def forget(cohort: Path) -> None:
    """Takes a cohort off the list; its files stay."""
    (_folder() / f"{selection.cohort_key(cohort)}.json").unlink(missing_ok=True)


def examine_folder(said: str) -> Examined:
    """The cohort in a folder of this machine, or at a CSV's path. Raises InputError where it cannot be looked at."""
    path = Path(said.strip().strip("\"'")).expanduser()
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
    report = _examined(table, table.parent)
    return Examined(report, table if report.usable else None)


def examine_upload(upload: Upload) -> Examined:
    """An uploaded table. Its files are looked for only where their paths are whole and there is no sign-in."""
    kept = cases.keep("cohort", [upload])
    folder = kept.folder / uuid4().hex[:8]
    make_folder(folder)
    table = folder / "cohort.csv"
    kept.paths[0].replace(table)
    openable = not settings().sign_in and _whole_paths(table)
    report = _examined(table, folder if openable else None)
    return Examined(report, table if openable and report.usable else None)


def _whole_paths(table: Path) -> bool:
    """Whether no cell names a file relative to a folder that was not sent along."""
    from cmssd_core.cohort_check import FILES

    try:
        cells = pd.read_csv(table, dtype=str, usecols=lambda column: column in FILES)
    except (ValueError, OSError):
        return False
    return all(Path(str(cell)).is_absolute() for column in cells for cell in cells[column].dropna().unique())


def _examined(table: Path, root: Path | None) -> Report:
    # Anew at each press: a file beside the table may have been mended since.
    from cmssd_core.cohort_check import check

    with st.spinner("Examining the table"):
        return check(table, root=root)


def problems(report: Report) -> pd.DataFrame:
    """The first MOST problems as a table for the screen."""
    told = [(p.row, p.column or "–", p.what, p.repair, "yes" if p.fatal else "no") for p in report.problems[:MOST]]
    columns = ["row", "column", "what is wrong", "what to do", "must be mended"]
    return pd.DataFrame(told, columns=columns).astype({"row": "Int64"})


def linked(fingerprint: str, fingerprint_of: Callable[[Path], str]) -> Path | None:
    """The known cohort a link speaks of; None = none of them."""
    return next((cohort for cohort in known() if fingerprint_of(cohort) == fingerprint), None)


def _folder() -> Path:
    return settings().cache_dir / "cohorts"
