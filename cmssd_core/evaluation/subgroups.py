"""Subgroups of cases (centre, scanner, field, sex, age band) and a figure of each, with "too few" where it is so."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from cmssd_core.evaluation.figure import Bools, Figure, absent
from cmssd_core.evaluation.metrics import figure

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
    summary: dict[str, dict[str, Bools]] = {}
    for name, column in columns.items():
        values = sorted(column.dropna().unique(), key=str)
        if len(values) > 1:
            summary[name] = {
                f"{value:g}" if isinstance(value, float) else str(value): np.asarray(column == value, dtype=bool)
                for value in values
            }
    return summary


def by_group(rows: pd.DataFrame, chosen: Mapping[str, Bools], name: str, *, threshold: float) -> dict[str, Figure]:
    """The metric `name` in each group of rows; absent with the reason "too few" below FEWEST_IN_SLICE.

    What counts is the number of cases the figure itself stands on (malignant ones for the sensitivity); one without an
    interval is too few as well.
    """
    summary = {}
    for group, kept in chosen.items():
        found = figure(name, rows[kept], threshold=threshold)
        few = found.n < FEWEST_IN_SLICE
        why = "too few" if few or found.reason is None else found.reason
        summary[group] = absent(why, found.n) if few or found.low is None else found
    return summary
