"""A model trained several times: its figures' mean over the runs with interval and spread, and how far apart two are.

Two doubts, kept apart: sd is over the runs (another seed gives another network), the interval is a bootstrap over
patients of the mean of the runs (other patients give other figures). Frames are cohort_run.run's: one row a case, of
one run under one condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmssd_core.evaluation import roc
from cmssd_core.evaluation.metrics import Figure, Values, absent, mean, resampled
from cmssd_core.evaluation.summary import NEEDED, THRESHOLD, Told, compared, plain, severity_error

Frames = Sequence[pd.DataFrame]


def _right(rows: pd.DataFrame) -> Values:
    hit = (rows["p_malignant"].astype(float) >= THRESHOLD) == (rows["malignant"] == 1)
    return np.asarray(hit.astype(float).where(rows["malignant"].notna()), dtype=np.float64)


def _where(values: Values, rows: pd.DataFrame, label: int) -> Values:
    return np.where(rows["malignant"].to_numpy() == label, values, np.nan)


def _column(rows: pd.DataFrame, name: str) -> Values:
    return rows[name].to_numpy(dtype=np.float64)


def _off(rows: pd.DataFrame) -> Values:
    return np.asarray(severity_error(rows), dtype=np.float64)


#: Figures that are a mean over cases: name -> what a case adds, NaN where it has none.
MEANS: dict[str, Callable[[pd.DataFrame], Values]] = {
    "accuracy": _right,
    "sensitivity": lambda rows: _where(_right(rows), rows, 1),
    "specificity": lambda rows: _where(_right(rows), rows, 0),
    "brier": lambda rows: np.where(
        rows["malignant"].notna(), (_column(rows, "p_malignant") - (rows["malignant"] == 1)) ** 2, np.nan
    ),
    "dice": lambda rows: _column(rows, "dice"),
    "dice_malignant_only": lambda rows: _where(_column(rows, "dice"), rows, 1),
    "severity_mae": _off,
    "severity_mae_malignant_only": lambda rows: _where(_off(rows), rows, 1),
}
FIGURES = ("accuracy", "auc", *list(MEANS)[1:])


def repeated(runs: Frames) -> Told:
    """Each of FIGURES as value (mean over the runs), low, high, n, sd over the runs (None for one) and runs."""
    frames = _aligned(runs)
    who = frames[0]["patient_id"].to_numpy()
    told: Told = {}
    for name, each in MEANS.items():
        values = np.stack([each(frame) for frame in frames])  # (run, case)
        kept = ~np.isnan(values).any(axis=0)
        figure = mean(values[:, kept].mean(axis=0), who[kept])
        told[name] = _spread(figure, values[:, kept].mean(axis=1).tolist() if kept.any() else [])
    label, scores = _answers(frames)
    figure = resampled(lambda rows: _area(label, scores, rows), len(who), who) if len(who) else absent("no case")
    told["auc"] = _spread(figure, [_area(label, score[None], np.arange(len(who))) for score in scores])
    return {name: told[name] for name in FIGURES}


def apart(one: Frames, other: Frames) -> Told:
    """`one` less `other` on the cases both answered: differences of FIGURES, and a paired test for each pair of runs.

    tests: McNemar and DeLong, run by run in the given order. largest_p: of all pairs of runs; None where one is, as
    both are where patients have several cases.
    """
    frames = _aligned([*one, *other])
    first, second = frames[: len(one)], frames[len(one) :]
    who = frames[0]["patient_id"].to_numpy()
    gaps: Told = {}
    for name, each in MEANS.items():
        a, b = (np.stack([each(frame) for frame in side]) for side in (first, second))
        kept = ~(np.isnan(a).any(axis=0) | np.isnan(b).any(axis=0))
        gaps[name] = plain(mean(a[:, kept].mean(axis=0) - b[:, kept].mean(axis=0), who[kept]))
    ours, theirs = _answers(first), _answers(second)
    figure = absent("no case")
    if len(who):
        figure = resampled(lambda rows: _less(_area(*ours, rows), _area(*theirs, rows)), len(who), who)
    gaps["auc"] = plain(figure)
    tests = [compared(a, b) for a, b in zip(first, second, strict=False)]
    return {
        "difference": {name: gaps[name] for name in FIGURES},
        "tests": tests,
        "largest_p": {
            "mcnemar": _largest([t["mcnemar"] for t in tests]),
            "auc": _largest([t["auc_difference"] for t in tests]),
        },
    }


def _largest(tests: list[dict[str, Any] | None]) -> float | None:
    p = [None if test is None else test.get("p") for test in tests]
    return None if not p or None in p else max(value for value in p if value is not None)


def _aligned(runs: Frames) -> list[pd.DataFrame]:
    """The cases every run answered, in one order."""
    whole = [run.reindex(columns=[*run.columns, *(c for c in NEEDED if c not in run)]) for run in runs]
    common = sorted(set.intersection(*(set(run["case_id"]) for run in whole)))
    return [run.set_index("case_id", drop=False).loc[common].rename_axis(None) for run in whole]


def _answers(frames: Frames) -> tuple[Values, Values]:
    """Labels (case,), NaN where unknown, and probabilities (run, case)."""
    return _column(frames[0], "malignant"), np.stack([_column(frame, "p_malignant") for frame in frames])


def _area(label: Values, scores: Values, rows: npt.NDArray[np.intp]) -> float | None:
    """Mean of the runs' areas on these cases; None without both classes."""
    known = rows[~np.isnan(label[rows])]
    areas = [roc.area(label[known] == 1, score[known]) for score in scores]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if len(defined) == len(areas) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _spread(figure: Figure, runs: Sequence[float | None]) -> Told:
    known = [value for value in runs if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) == len(runs) > 1 else None
    return plain(figure) | {"sd": sd, "runs": list(runs)}
