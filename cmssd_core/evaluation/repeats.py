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

from cmssd_core.evaluation.figure import Bools, Figure, Values, absent, bootstrap, mean
from cmssd_core.evaluation.metrics import OfScores, Part, each, parts_at
from cmssd_core.evaluation.summary import Record, compare_pairs, plain, with_columns

Frames = Sequence[pd.DataFrame]
Score = Callable[[Bools, Values], float | None]


def summarise_runs(runs: Frames) -> Record:
    """Each metric that models are compared in: value (mean over the runs), low, high, n, sd over the runs and runs.

    sd is None for one run. Keys are those of `parts_at("comparison")`.
    """
    frames = _aligned(runs)
    who = frames[0]["patient_id"].to_numpy()
    summary: Record = {}
    for part in parts_at("comparison"):
        how = part.metric.how
        if isinstance(how, OfScores):
            summary[part.key] = _spread(*_scores_of_runs(how.value, frames, who))
            continue
        values = _values(part, frames)
        kept = ~np.isnan(values).any(axis=0)
        figure = mean(values[:, kept].mean(axis=0), who[kept])
        summary[part.key] = _spread(figure, values[:, kept].mean(axis=1).tolist() if kept.any() else [])
    return summary


def apart(one: Frames, other: Frames) -> Record:
    """`one` less `other` on the cases both answered: differences of metrics, and a paired test for each pair of runs.

    tests: McNemar and DeLong, run by run in the given order. largest_p: of all pairs of runs; None where one is, as
    both are where patients have several cases.
    """
    frames = _aligned([*one, *other])
    first, second = frames[: len(one)], frames[len(one) :]
    who = frames[0]["patient_id"].to_numpy()
    gaps: Record = {}
    for part in parts_at("comparison"):
        how = part.metric.how
        if isinstance(how, OfScores):
            gaps[part.key] = plain(_gap_of_scores(how.value, first, second, who))
            continue
        a, b = (_values(part, side) for side in (first, second))
        kept = ~(np.isnan(a).any(axis=0) | np.isnan(b).any(axis=0))
        gaps[part.key] = plain(mean(a[:, kept].mean(axis=0) - b[:, kept].mean(axis=0), who[kept]))
    tests = [compare_pairs(a, b) for a, b in zip(first, second, strict=False)]
    return {
        "difference": gaps,
        "tests": tests,
        "largest_p": {
            "mcnemar": _largest([t["mcnemar"] for t in tests]),
            "auc": _largest([t["auc_difference"] for t in tests]),
        },
    }


def _values(part: Part, frames: Frames) -> Values:
    """What each case adds in each run, (run, case), NaN where it does not count."""
    values = [each(part.name, frame) for frame in frames]
    stack = np.stack([value for value in values if value is not None])
    return np.where(_column(frames[0], "malignant") == 1, stack, np.nan) if part.malignant_only else stack


def _scores_of_runs(value: Score, frames: Frames, who: np.ndarray) -> tuple[Figure, list[float | None]]:
    label, scores = _answers(frames)
    if not len(who):
        return absent("no case"), [None for _ in frames]
    figure = bootstrap(lambda rows: _mean_score(value, label, scores, rows), len(who), who)
    return figure, [_mean_score(value, label, score[None], np.arange(len(who))) for score in scores]


def _gap_of_scores(value: Score, first: Frames, second: Frames, who: np.ndarray) -> Figure:
    ours, theirs = _answers(first), _answers(second)
    if not len(who):
        return absent("no case")
    return bootstrap(
        lambda rows: _less(_mean_score(value, *ours, rows), _mean_score(value, *theirs, rows)), len(who), who
    )


def _largest(tests: list[dict[str, Any] | None]) -> float | None:
    p = [None if test is None else test.get("p") for test in tests]
    return None if not p or None in p else max(value for value in p if value is not None)


def _aligned(runs: Frames) -> list[pd.DataFrame]:
    """The cases every run answered, in one order."""
    whole = [with_columns(run) for run in runs]
    common = sorted(set.intersection(*(set(run["case_id"]) for run in whole)))
    return [run.set_index("case_id", drop=False).loc[common].rename_axis(None) for run in whole]


def _column(rows: pd.DataFrame, name: str) -> Values:
    return rows[name].to_numpy(dtype=np.float64)


def _answers(frames: Frames) -> tuple[Values, Values]:
    """Labels (case,), NaN where unknown, and probabilities (run, case)."""
    return _column(frames[0], "malignant"), np.stack([_column(frame, "p_malignant") for frame in frames])


def _mean_score(value: Score, label: Values, scores: Values, rows: npt.NDArray[np.intp]) -> float | None:
    """Mean of the runs' values on these cases; None where one is not defined."""
    known = rows[~np.isnan(label[rows])]
    found = [value(label[known] == 1, score[known]) for score in scores]
    defined = [one for one in found if one is not None]
    return float(np.mean(defined)) if len(defined) == len(found) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _spread(figure: Figure, runs: Sequence[float | None]) -> Record:
    known = [value for value in runs if value is not None]
    sd = float(np.std(known, ddof=1)) if len(known) == len(runs) > 1 else None
    return plain(figure) | {"sd": sd, "runs": list(runs)}
