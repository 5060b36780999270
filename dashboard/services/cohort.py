"""A cohort for the screen: its table, its results and both joined, one row a case; cached by path, time and size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.types import InputError
from dashboard import cohort_view, selection
from dashboard.services import case as cases

#: Columns that say that a predictions.parquet is of cases, not of tiles or masks alone.
_NEEDED = {"case_id", "model", "given", "p_malignant"}
#: What a prediction's row repeats of the cohort.
_REPEATED = ("patient_id", "malignant", "age_years", "sex", "centre", "scanner", "field_t", "split")
#: Names of columns that `joined` makes; a user's own column of that name gives way.
_OURS = ("number", "inputs", "severity_true", "problem", "p_malignant", "answered", "called", "severity_error")
THRESHOLD = 0.5  # of `called`; the Performance page moves its own
INPUTS = ("MRI and H&E", "MRI alone", "H&E alone", "nothing")


@dataclass(frozen=True)
class State:
    """A file as it is now: the key under which what was made of it is cached."""

    path: str
    time_ns: int
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> State | None:
        """None where there is no such file."""
        try:
            there = path.stat()
        except OSError:
            return None
        return cls(str(path), there.st_mtime_ns, there.st_size)


def opened() -> Path | None:
    """The cohort.csv on screen: the one this session opened, else CMSSD_COHORT's or the demo cohort; None = none."""
    chosen = selection.open_cohort()
    if chosen is not None:
        return chosen
    first = cases.demo()
    return first.cohort if first is not None else None


def table(cohort: Path) -> pd.DataFrame:
    """The cohort's table as cmssd_core.cohort.read gives it. Shared by all sessions: don't change it in place.

    Raises InputError naming the row, the column and the repair of the first thing wrong.
    """
    there = State.of(cohort)
    if there is None:
        raise InputError(f"{cohort.name} is not there any more, expected a cohort's table; open another cohort")
    return _table(there)


@st.cache_resource(max_entries=8, show_spinner="Reading the cohort")
def _table(there: State) -> pd.DataFrame:
    from cmssd_core import cohort

    return cohort.read(Path(there.path))


def fingerprint(cohort: Path) -> str:
    """8 letters that change with the table's content, by which a link knows the cohort it speaks of."""
    there = State.of(cohort)
    return "" if there is None else _fingerprint(there)


@st.cache_resource(max_entries=64, show_spinner=False)
def _fingerprint(there: State) -> str:
    return sha256(Path(there.path).read_bytes()).hexdigest()[:8]


def results_to(cohort: Path) -> Path:
    """The folder into which this installation evaluates a cohort: a user's own folder is never written to."""
    return settings().cache_dir / "cohorts" / selection.cohort_key(cohort)


def results_folder(cohort: Path) -> Path | None:
    """Where a cohort's results lie (metrics.json, predictions.parquet): the newest of `results` beside its table and
    of `results_to`; None where it was not evaluated yet."""
    found = [folder for folder in (cohort.parent / "results", results_to(cohort)) if _whole(folder)]
    return max(found, key=lambda folder: (folder / "metrics.json").stat().st_mtime_ns) if found else None


def _whole(folder: Path) -> bool:
    return (folder / "metrics.json").is_file() and (folder / "predictions.parquet").is_file()


def metrics(cohort: Path) -> dict[str, Any] | None:
    """What metrics.json of the results says; None where there are no results. Don't change it in place."""
    folder = results_folder(cohort)
    there = None if folder is None else State.of(folder / "metrics.json")
    return None if there is None else _metrics(there)


@st.cache_resource(max_entries=16, show_spinner=False)
def _metrics(there: State) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(Path(there.path).read_text(encoding="utf-8"))
    except ValueError:
        raise InputError("metrics.json of the results cannot be read; evaluate the cohort anew") from None
    return told


def predictions(cohort: Path) -> pd.DataFrame | None:
    """All of predictions.parquet: one row a case, model, condition and corruption; None where there are no results.

    Results of tiles or of masks alone hold no prediction of a case: they count as none. Don't change it in place.
    """
    folder = results_folder(cohort)
    there = None if folder is None else State.of(folder / "predictions.parquet")
    found = None if there is None else _predictions(there)
    return found if found is not None and set(found.columns) >= _NEEDED else None


@st.cache_resource(max_entries=8, show_spinner="Reading the results")
def _predictions(there: State) -> pd.DataFrame:
    try:
        return pd.read_parquet(there.path)
    except (OSError, ValueError):
        raise InputError("predictions.parquet of the results cannot be read; evaluate the cohort anew") from None


def models(cohort: Path) -> tuple[str, ...]:
    """Names of the models that were evaluated on a cohort, the subject first; () where there are no results."""
    told, found = metrics(cohort), predictions(cohort)
    if told is None or found is None:
        return ()
    names = [str(name) for name in found["model"].dropna().unique()]
    return tuple(sorted(names, key=lambda name: name != told.get("model")))


def joined(cohort: Path, *, given: str = "both", model: str | None = None) -> pd.DataFrame:
    """The cohort with one model's answers, one row a case in the table's order; missing where there is no answer.

    given: "both" (all there is), "mri" or "he". model: None = the first of `models`. Columns: those of the table, and
    `number` (row from 0), `inputs` (one of INPUTS), `severity_true` (the table's severity_pct, else from the masks),
    and of predictions.parquet the model's `p_malignant`, `severity_pct`, `dice`, ...; `answered`, `called` (1 at
    THRESHOLD and above), `severity_error` (answer - truth) and `problem`, the sentence of a case that was refused.
    Shared by all sessions: don't change it in place.
    """
    there = State.of(cohort)
    folder = results_folder(cohort)
    answers = None if folder is None else State.of(folder / "predictions.parquet")
    name = model or next(iter(models(cohort)), None)
    if there is None:
        raise InputError(f"{cohort.name} is not there any more, expected a cohort's table; open another cohort")
    return _joined(there, answers, given, name)


@st.cache_resource(max_entries=12, show_spinner=False)
def _joined(there: State, answers: State | None, given: str, model: str | None) -> pd.DataFrame:
    rows = _table(there)
    rows = rows.drop(columns=[c for c in _OURS if c in rows])
    rows = rows.rename(columns={"severity_pct": "severity_true"})
    rows = rows.assign(number=range(len(rows)), inputs=_inputs(rows))
    found = None if answers is None or model is None else _predictions(answers)
    if found is None or not set(found.columns) >= _NEEDED:
        return rows.assign(p_malignant=float("nan"), severity_pct=float("nan"), problem=None, answered=0.0)
    clean = found if "corruption" not in found else found[found["corruption"].isna()]
    mine = clean[(clean["model"] == model) & (clean["given"] == given)].drop_duplicates("case_id")
    mine = mine.drop(columns=[c for c in (*_REPEATED, "problem", "level", "corruption") if c in mine])
    refused = clean[clean["problem"].notna()] if "problem" in clean else clean[:0].assign(problem=None)
    refused = refused.drop_duplicates("case_id")[["case_id", "problem"]]
    both = rows.merge(mine, on="case_id", how="left", suffixes=("_told", "")).merge(refused, on="case_id", how="left")
    if "severity_true_told" in both:
        both["severity_true"] = both["severity_true"].fillna(both["severity_true_told"])
        both = both.drop(columns="severity_true_told")
    there_is = both["p_malignant"].notna()
    return both.assign(
        answered=there_is.astype(float),
        called=(both["p_malignant"] >= THRESHOLD).astype(float).where(there_is),
        severity_error=both["severity_pct"] - both["severity_true"] if "severity_pct" in both else float("nan"),
    )


def facets(cohort: Path, *, given: str = "both", model: str | None = None) -> cohort_view.Facets:
    """What one can filter, sort and colour `joined` by."""
    folder, there = results_folder(cohort), State.of(cohort)
    answers = None if folder is None else State.of(folder / "predictions.parquet")
    name = model or next(iter(models(cohort)), None)
    if there is None:
        return {}
    return _facets(there, answers, given, name)


@st.cache_resource(max_entries=12, show_spinner=False)
def _facets(there: State, answers: State | None, given: str, model: str | None) -> cohort_view.Facets:
    return cohort_view.facets(_joined(there, answers, given, model))


def _inputs(rows: pd.DataFrame) -> pd.Categorical:
    from cmssd_core.cohort import MRI_COLUMNS

    mri, slide = rows[list(MRI_COLUMNS)].notna().any(axis=1), rows["slide"].notna()
    code = (3 - 2 * mri.astype(int) - slide.astype(int)).map({0: 0, 1: 1, 2: 2, 3: 3})
    return pd.Categorical.from_codes(code.to_numpy(), categories=list(INPUTS))
