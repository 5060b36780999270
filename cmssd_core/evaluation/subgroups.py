"""Subgroups of cases (centre, scanner, field, sex, age band) and a figure of each, with "too few" where it is so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from cmssd_core.evaluation import roc
from cmssd_core.evaluation.metrics import Bools, Figure, Values, absent, mean, share

FEWEST_IN_SLICE = 10  # cases; below, a slice says "too few"
AGES = (0, 10, 20, 40, 60, 200)
COLUMNS = ("centre", "field_t", "scanner", "sex")


def groups(rows: pd.DataFrame) -> dict[str, dict[str, Bools]]:
    """Attribute -> value in words -> which rows; only attributes with two values or more, unknown ones in no group."""
    columns = {name: rows[name] for name in COLUMNS if name in rows}
    if "age_years" in rows:
        labels = [f"{low} to {high}" if high < AGES[-1] else f"{low} and more" for low, high in pairwise(AGES)]
        bands = pd.cut(pd.to_numeric(rows["age_years"]), list(AGES), right=False)
        columns["age"] = bands.cat.rename_categories(labels).astype(object)
    told: dict[str, dict[str, Bools]] = {}
    for name, column in columns.items():
        values = sorted(column.dropna().unique(), key=str)
        if len(values) > 1:
            told[name] = {
                f"{value:g}" if isinstance(value, float) else str(value): np.asarray(column == value, dtype=bool)
                for value in values
            }
    return told


def _accuracy(rows: pd.DataFrame, threshold: float) -> Figure:
    truth, p, who = _answers(rows)
    return share((p >= threshold) == truth, who) if len(truth) else absent("no case has a label")


def _sensitivity(rows: pd.DataFrame, threshold: float) -> Figure:
    truth, p, who = _answers(rows)
    return share(p[truth] >= threshold, who[truth]) if truth.any() else absent("no malignant case")


def _specificity(rows: pd.DataFrame, threshold: float) -> Figure:
    truth, p, who = _answers(rows)
    return share(p[~truth] < threshold, who[~truth]) if not truth.all() else absent("no benign case")


def _auc(rows: pd.DataFrame, threshold: float) -> Figure:
    truth, p, who = _answers(rows)
    return roc.auc(truth, p, who) if len(truth) else absent("no case has a label")


def _mean_of(name: str) -> Callable[[pd.DataFrame, float], Figure]:
    def figure(rows: pd.DataFrame, threshold: float) -> Figure:
        kept = rows[rows[name].notna()]
        values = kept[name].to_numpy(dtype=np.float64)
        return mean(values, kept["patient_id"].to_numpy()) if len(kept) else absent("no case has both map and truth")

    return figure


#: Figure -> how it is had from rows and the threshold in use.
FIGURES: Mapping[str, Callable[[pd.DataFrame, float], Figure]] = {
    "auc": _auc,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "accuracy": _accuracy,
    "dice": _mean_of("dice"),
    "severity_error": _mean_of("severity_error"),
}


def by_group(rows: pd.DataFrame, chosen: Mapping[str, Bools], name: str, *, threshold: float) -> dict[str, Figure]:
    """The figure `name` of FIGURES in each group of rows; absent with the reason "too few" below FEWEST_IN_SLICE.

    rows: columns malignant, p_malignant, patient_id, dice, severity_error. What counts is the number of cases the
    figure itself stands on (malignant ones for the sensitivity); one without an interval is too few as well.
    """
    told = {}
    for group, kept in chosen.items():
        figure = FIGURES[name](rows[kept], threshold)
        few = figure.n < FEWEST_IN_SLICE
        why = "too few" if few or figure.reason is None else figure.reason
        told[group] = absent(why, figure.n) if few or figure.low is None else figure
    return told


def _answers(rows: pd.DataFrame) -> tuple[Bools, Values, np.ndarray]:
    known = rows[rows["malignant"].notna()]
    label = np.asarray(known["malignant"] == 1, dtype=bool)
    return label, known["p_malignant"].to_numpy(dtype=np.float64), known["patient_id"].to_numpy()
