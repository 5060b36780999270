"""A cohort for the screen: its table, its results and both joined, one row a case; cached by path, time and size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cmssd_core.config import settings
from cmssd_core.types import Finding, InputError
from dashboard import cohort_view, permitted, selection
from dashboard.services import case as cases

#: Columns that say that a predictions.parquet is of cases, not of tiles or masks alone.
_NEEDED = {"case_id", "model", "given"}
#: What a prediction's row repeats of the cohort.
_REPEATED = (
    "patient_id", "malignant", "age_years", "sex", "centre", "scanner", "field_t", "split", "event", "time_months",
)  # fmt: skip
#: Answers that every joined row has a column of, empty where the model gives none.
_ANSWERS = ("p_malignant", "severity_pct", "risk", "dice")
#: Names of columns that `joined` makes; a user's own column of that name gives way.
_OURS = (
    "number", "inputs", "severity_true", "problem", "p_malignant", "risk", "dice", "model", "answered", "called",
    "severity_error",
)  # fmt: skip
THRESHOLD = 0.5  # of `called`; the Performance page moves its own
NOTHING = "nothing"  # of `inputs`: a case without any file


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
            present = path.stat()
        except OSError:
            return None
        return cls(str(path), present.st_mtime_ns, present.st_size)


def get_cohort() -> Path | None:
    """The cohort.csv on screen: the one this session opened, else CMSSD_COHORT's or the demo cohort; None = none."""
    chosen = selection.open_cohort()
    if chosen is not None:
        return chosen
    first = cases.demo()
    return first.cohort if first is not None else None


def table(cohort: Path) -> pd.DataFrame:
    """The cohort's table as cmssd_core.cohort.table.read gives it. Shared by all sessions: don't change it in place.

    Raises InputError naming the row, the column and the repair of the first thing wrong.
    """
    present = State.of(cohort)
    if present is None:
        raise InputError(f"{cohort.name} is not there any more, expected a cohort's table; open another cohort")
    return _table(present)


@st.cache_resource(max_entries=8, show_spinner="Reading the cohort")
def _table(present: State) -> pd.DataFrame:
    from cmssd_core.cohort import table as cohort

    return cohort.read(Path(present.path), within=permitted.root())


@st.cache_resource(max_entries=8, show_spinner=False)
def remarks(present: State) -> tuple[Finding, ...]:
    """What the cohort's table was understood to say, where that need be known."""
    from cmssd_core.cohort import remarks as cohort

    return cohort.remarks(Path(present.path))


def fingerprint(cohort: Path) -> str:
    """8 letters that change with the table's content, by which a link knows the cohort it speaks of."""
    present = State.of(cohort)
    return "" if present is None else _fingerprint(present)


@st.cache_resource(max_entries=64, show_spinner=False)
def _fingerprint(present: State) -> str:
    return sha256(Path(present.path).read_bytes()).hexdigest()[:8]


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
    present = None if folder is None else State.of(folder / "metrics.json")
    return None if present is None else _metrics(present)


@st.cache_resource(max_entries=16, show_spinner=False)
def _metrics(present: State) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(Path(present.path).read_text(encoding="utf-8"))
    except ValueError:
        raise InputError("metrics.json of the results cannot be read; evaluate the cohort anew") from None
    return summary


def predictions(cohort: Path) -> pd.DataFrame | None:
    """All of predictions.parquet: one row a case, model, condition and corruption; None where there are no results.

    Results of tiles or of masks alone hold no prediction of a case: they count as none. Don't change it in place.
    """
    folder = results_folder(cohort)
    present = None if folder is None else State.of(folder / "predictions.parquet")
    found = None if present is None else _predictions(present)
    return found if found is not None and set(found.columns) >= _NEEDED else None


@st.cache_resource(max_entries=8, show_spinner="Reading the results")
def _predictions(present: State) -> pd.DataFrame:
    try:
        return pd.read_parquet(present.path)
    except (OSError, ValueError):
        raise InputError("predictions.parquet of the results cannot be read; evaluate the cohort anew") from None


def conditions(cohort: Path, model: str | None) -> tuple[str, ...]:
    """What a model was given in a cohort's results: all there is first, then the others, the larger first."""
    from cmssd_core.cases.modalities import BOTH, of_given

    found = predictions(cohort)
    if found is None:
        return ()
    clean = found if "corruption" not in found else found[found["corruption"].isna()]
    names = [str(name) for name in clean.loc[clean["model"] == model, "given"].dropna().unique()]
    return tuple(sorted(names, key=lambda name: (name != BOTH, -len(of_given(name)))))


def models(cohort: Path) -> tuple[str, ...]:
    """Names of the models that were evaluated on a cohort, the subject first; () where there are no results."""
    summary, found = metrics(cohort), predictions(cohort)
    if summary is None or found is None:
        return ()
    names = [str(name) for name in found["model"].dropna().unique()]
    return tuple(sorted(names, key=lambda name: name != summary.get("model")))


def join_answers(cohort: Path, *, given: str = "both", model: str | None = None) -> pd.DataFrame:
    """The cohort with one model's answers, one row a case in the table's order; missing where there is no answer.

    given: "both" (all there is) or another of the results' conditions. model: None = the first of `models`. Columns:
    those of the table, and `number` (row from 0), `inputs` (what the case came with, in words), `severity_true` (the
    table's severity_pct, else from the masks), and of predictions.parquet what the model answers: `p_malignant`,
    `severity_pct`, `risk` and `dice` are always there, empty where it does not; `answered`, `called` (1 at THRESHOLD
    and above, left out where no case has a probability), `severity_error` (answer - truth) and `problem`, the
    sentence of a case that was refused.
    Shared by all sessions: don't change it in place.
    """
    present = State.of(cohort)
    folder = results_folder(cohort)
    answers = None if folder is None else State.of(folder / "predictions.parquet")
    name = model or next(iter(models(cohort)), None)
    if present is None:
        raise InputError(f"{cohort.name} is not there any more, expected a cohort's table; open another cohort")
    return _joined(present, answers, given, name)


@st.cache_resource(max_entries=12, show_spinner=False)
def _joined(present: State, answers: State | None, given: str, model: str | None) -> pd.DataFrame:
    rows = _table(present)
    rows = rows.drop(columns=[c for c in _OURS if c in rows])
    rows = rows.rename(columns={"severity_pct": "severity_true"})
    rows = rows.assign(number=range(len(rows)), inputs=_inputs(rows))
    found = None if answers is None or model is None else _predictions(answers)
    if found is None or not set(found.columns) >= _NEEDED:
        return rows.assign(**dict.fromkeys(_ANSWERS, float("nan")), problem=None, answered=0.0)
    clean = found if "corruption" not in found else found[found["corruption"].isna()]
    mine = clean[(clean["model"] == model) & (clean["given"] == given)].drop_duplicates("case_id")
    mine = mine.drop(columns=[c for c in (*_REPEATED, "problem", "level", "corruption") if c in mine])
    refused = clean[clean["problem"].notna()] if "problem" in clean else clean[:0].assign(problem=None)
    refused = refused.drop_duplicates("case_id")[["case_id", "problem"]]
    both = rows.merge(mine, on="case_id", how="left", suffixes=("_told", "")).merge(refused, on="case_id", how="left")
    if "severity_true_told" in both:
        both["severity_true"] = both["severity_true"].fillna(both["severity_true_told"])
        both = both.drop(columns="severity_true_told")
    both = both.assign(**{name: float("nan") for name in _ANSWERS if name not in both})
    judged = both["p_malignant"].notna()
    if judged.any():
        both["called"] = (both["p_malignant"] >= THRESHOLD).astype(float).where(judged)
    return both.assign(
        answered=both["model"].notna().astype(float), severity_error=both["severity_pct"] - both["severity_true"]
    )


def facets(cohort: Path, *, given: str = "both", model: str | None = None) -> cohort_view.Facets:
    """What one can filter, sort and colour `joined` by."""
    folder, present = results_folder(cohort), State.of(cohort)
    answers = None if folder is None else State.of(folder / "predictions.parquet")
    name = model or next(iter(models(cohort)), None)
    if present is None:
        return {}
    return _facets(present, answers, given, name)


@st.cache_resource(max_entries=12, show_spinner=False)
def _facets(present: State, answers: State | None, given: str, model: str | None) -> cohort_view.Facets:
    return cohort_view.facets(_joined(present, answers, given, model))


def _inputs(rows: pd.DataFrame) -> pd.Categorical:
    """What each case came with, in words; those with most come first."""
    from cmssd_core.cases.modalities import MODALITIES, describe_given, name_given

    code = np.zeros(len(rows), dtype=np.int64)  # one bit a modality, the first the highest
    for each in MODALITIES.values():
        present = rows[[column for column in each.columns if column in rows]].notna().any(axis=1)
        code = 2 * code + present.to_numpy()
    kinds = sorted({int(each) for each in np.unique(code)}, key=lambda each: (-each.bit_count(), -each))
    words = []
    for kind in kinds:
        names = [name for place, name in enumerate(reversed(MODALITIES)) if kind >> place & 1]
        words.append(describe_given(name_given(names)) if names else NOTHING)
    places = {kind: place for place, kind in enumerate(kinds)}
    return pd.Categorical.from_codes([places[int(each)] for each in code], categories=words)
