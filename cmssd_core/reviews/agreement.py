"""Agreement of reader with reader and of reader with model, question by question, from blind readings only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cmssd_core.evaluation import raters
from cmssd_core.evaluation.agreement import icc_a1
from cmssd_core.evaluation.figure import Figure, Values, absent, bootstrap, share
from cmssd_core.reviews.record import MARKS, Reading, Verdict

Tiers = Sequence[tuple[str, float]]

#: The mark that the model answers too, by its probability at 0.5.
MALIGNANT = "malignant tumour"
TIER, SEVERITY, ANSWERS = "severity tier", "severity, percent", "verdict on the model"
THRESHOLD = 0.5


@dataclass(frozen=True)
class Agreement:
    """How far `raters` agree on one question, on the n cases they all answered (see each figure's n).

    equal: share of equal answers. kappa: Cohen's (mean over pairs for more than two), weighted by the squared distance
    for the severity tier. ac1: Gwet's. icc: ICC(A,1), for severity in percent alone. None = not asked of this question.
    """

    question: str
    raters: tuple[str, ...]
    equal: Figure | None
    kappa: Figure | None
    ac1: Figure | None
    icc: Figure | None


def between_readers(readings: Sequence[Reading], tiers: Tiers) -> tuple[Agreement, ...]:
    """Agreement of each pair of readers, and of all where there are more than two, on severity and on each criterion.

    "not assessable" is an answer like the others for a criterion; a severity that is not assessable is none. Readings
    that were not blind don't count.
    """
    counted = [r for r in readings if r.blind]
    names = sorted({r.reader for r in counted})
    groups = [*combinations(names, 2), *([tuple(names)] if len(names) > 2 else [])]
    marks = sorted({name for r in counted for name in r.marks})
    by = {(r.reader, r.case_id): r for r in counted}
    cases = sorted({r.case_id for r in counted})
    found = []
    for group in groups:
        severity = np.array([[_severity(by.get((name, case))) for name in group] for case in cases])
        found += _severities(severity, group, tiers)
        for mark in marks:
            rated = np.array([[_mark(by.get((name, case)), mark) for name in group] for case in cases])
            found.append(_categories(mark, group, rated, len(MARKS)))
    return tuple(found)


def with_model(readings: Sequence[Reading], verdicts: Sequence[Verdict], tiers: Tiers) -> tuple[Agreement, ...]:
    """Agreement of each reader's blind reading with what the model said, for each model that was put to a reader.

    Severity, tier, and malignancy (probability at 0.5; cases the reader found not assessable are left out); and how
    often the reader agreed once the model's answer was on show, by the last verdict, as `equal` of ANSWERS.
    """
    blind = {r.token: r for r in readings if r.blind}
    last = {(v.reading, v.model_id): v for v in verdicts if v.reading in blind}
    found = []
    for reader, model in sorted({(blind[reading].reader, model) for reading, model in last}):
        pairs = [
            (blind[v.reading], v) for v in last.values() if v.model_id == model and blind[v.reading].reader == reader
        ]
        who = (reader, model)
        severity = np.array([[_severity(r), _number(v.model_severity_pct)] for r, v in pairs])
        found += _severities(severity, who, tiers)
        called = np.array([[_present(r), _called(v)] for r, v in pairs])
        found.append(_categories(MALIGNANT, who, called, 2))
        agreed = share(np.array([v.answer == "agree" for _, v in pairs]))
        found.append(Agreement(ANSWERS, who, agreed, None, None, None))
    return tuple(found)


def _severities(percent: Values, who: tuple[str, ...], tiers: Tiers) -> list[Agreement]:
    """Agreement on severity, (case, rater) in percent, NaN where there is none: in percent and by tier."""
    both = raters.select_rated(percent)
    icc = bootstrap(lambda rows: icc_a1(both[rows]), len(both)) if len(both) else absent("no case was answered by all")
    bounds = [low for _, low in tiers]
    tier = np.where(np.isnan(percent), np.nan, np.searchsorted(bounds, percent, side="right") - 1.0)
    by_tier = _categories(TIER, who, tier, len(tiers), weights="quadratic")
    return [Agreement(SEVERITY, who, None, None, None, icc), by_tier]


def _categories(
    question: str, who: tuple[str, ...], rated: Values, categories: int, weights: raters.Weights | None = None
) -> Agreement:
    answered = raters.select_rated(rated)
    ac1 = raters.ac1(answered, categories) if len(answered) else absent("no case was answered by all of them")
    return Agreement(
        question, who, raters.equal_answers(rated), raters.kappa(rated, categories, weights), ac1, None
    )  # fmt: skip


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _severity(reading: Reading | None) -> float:
    return np.nan if reading is None else _number(reading.severity_pct)


def _mark(reading: Reading | None, name: str) -> float:
    mark = None if reading is None else reading.marks.get(name)
    return np.nan if mark is None else float(MARKS.index(mark))


def _present(reading: Reading) -> float:
    return {"present": 1.0, "absent": 0.0}.get(reading.marks.get(MALIGNANT, ""), np.nan)


def _called(verdict: Verdict) -> float:
    return np.nan if verdict.model_p_malignant is None else float(verdict.model_p_malignant >= THRESHOLD)
