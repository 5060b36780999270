"""Agreement between raters beyond chance: Cohen's kappa, plain or weighted, and Gwet's AC1, with intervals.

Ratings are float (case, rater): the index of a category, NaN where a rater gave none. Kappa collapses where nearly all
answers are one category, AC1 does not: the two are read together, beside the plain share of equal answers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from cmssd_core.evaluation.figure import FEWEST, Figure, Values, absent, bootstrap

Weights = Literal["linear", "quadratic"]
ONE_ANSWER = "every answer is the same, so chance alone explains all agreement and kappa is not defined"


def select_rated(ratings: Values) -> Values:
    """The rows in which every rater gave an answer."""
    return ratings[~np.isnan(ratings).any(axis=1)]


def cohen(one: Values, other: Values, categories: int, weights: Weights | None = None) -> float | None:
    """Cohen's kappa of two raters, 1 - sum(w o) / sum(w e) (Cohen 1960, weighted 1968); None where it is not defined.

    weights: None = every disagreement counts alike; "linear", "quadratic" = by its distance on an ordinal scale.
    """
    table = np.zeros((categories, categories))
    np.add.at(table, (one.astype(int), other.astype(int)), 1)
    chance = np.outer(table.sum(1), table.sum(0)) / max(table.sum(), 1)
    apart = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))).astype(float)
    cost = (apart > 0).astype(float) if weights is None else apart if weights == "linear" else apart**2
    expected = float((cost * chance).sum())
    return 1 - float((cost * table).sum()) / expected if expected > 0 else None


def kappa(ratings: Values, categories: int, weights: Weights | None = None, *, seed: int = 0) -> Figure:
    """Cohen's kappa; of more than two raters the mean over the pairs (Light 1971). Bootstrap over cases.

    Only cases that every rater answered count.
    """
    whole = select_rated(ratings)
    if len(whole) == 0 or whole.shape[1] < 2:
        return absent("no case was answered by all of them", len(whole))
    pairs = [(i, j) for i in range(whole.shape[1]) for j in range(i)]

    def light(rows: npt.NDArray[np.intp]) -> float | None:
        values = [cohen(whole[rows, i], whole[rows, j], categories, weights) for i, j in pairs]
        return None if None in values else float(np.mean([v for v in values if v is not None]))

    figure = bootstrap(light, len(whole), seed=seed)
    return figure if figure.value is not None else absent(ONE_ANSWER, len(whole))


def ac1(ratings: Values, categories: int) -> Figure:
    """Gwet's AC1 of two or more raters, missing answers allowed, with his analytic interval (Gwet 2008; 2014, ch. 5).

    The interval is AC1 -+ t(n - 1) SE, cut at 1. n counts the cases with at least one answer.
    """
    counts = np.stack([(ratings == k).sum(axis=1) for k in range(categories)], axis=1).astype(float)  # (case, category)
    answers = counts.sum(axis=1)
    counts, answers = counts[answers > 0], answers[answers > 0]
    n, shared = len(answers), answers >= 2
    if not shared.any():
        return absent("no case was answered by two of them", n)
    agreed = np.where(shared, (counts * (counts - 1)).sum(axis=1) / np.maximum(answers * (answers - 1), 1), 0.0)
    share = (counts / answers[:, None]).mean(axis=0)  # how often a category is used
    observed = float(agreed.sum() / shared.sum())
    chance = float((share * (1 - share)).sum() / (categories - 1))
    value = (observed - chance) / (1 - chance)
    if int(shared.sum()) < FEWEST:
        return Figure(value, None, None, n)
    by_case = n / shared.sum() * (agreed - chance * shared) / (1 - chance)
    chance_by_case = (counts * (1 - share)).sum(axis=1) / answers / (categories - 1)
    by_case = by_case - 2 * (1 - value) * (chance_by_case - chance) / (1 - chance)
    error = float(np.sqrt(((by_case - value) ** 2).sum() / (n * (n - 1))))
    reach = float(t.ppf(0.975, n - 1)) * error
    return Figure(value, max(value - reach, -1.0), min(value + reach, 1.0), n)


def equal_answers(ratings: Values) -> Figure:
    """The plain share of cases in which all raters gave the same answer; bootstrap over cases."""
    whole = select_rated(ratings)
    if len(whole) == 0:
        return absent("no case was answered by all of them")
    same = (whole == whole[:, :1]).all(axis=1)
    return bootstrap(lambda rows: float(same[rows].mean()), len(whole))
