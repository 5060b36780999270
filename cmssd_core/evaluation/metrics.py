"""THE table of metrics: what each is called, its unit, which way is better, its bounds and digits, how it is had.

A metric is a function, a row of METRICS and its name among the FIGURES of its kind; files, terminal, pages and reports
read all else here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cmssd_core.evaluation import overlap, per_case, roc
from cmssd_core.evaluation.figure import Bools, Figure, Patients, Values, absent, bootstrap, mean, share
from cmssd_core.types import BoolArray

THRESHOLD = 0.5  # where a probability becomes a yes, of a case or a voxel
TUMOUR = "tumour"  # the map that a metric holds against its mask where no other is named
#: Where a metric is shown, from everywhere to the full list alone; a place shows all that stands to its left too:
#: terminal, model card and corruptions; subgroups; models compared; metrics.json and evaluation.html.
Place = Literal["main", "groups", "comparison", "list"]
PLACES: tuple[Place, ...] = ("main", "groups", "comparison", "list")


@dataclass(frozen=True)
class OfCalls:
    """A share of cases at a threshold on p. each: (rows, threshold) -> (case,), 1, 0 or NaN, see per_case."""

    each: Callable[[pd.DataFrame, float], Values]


@dataclass(frozen=True)
class OfCases:
    """A mean over cases. each: rows -> (case,), see per_case."""

    each: Callable[[pd.DataFrame], Values]


@dataclass(frozen=True)
class OfMasks:
    """A mean over cases of how well a map, cut at THRESHOLD, agrees with its mask; rows keep it under its name.

    score: (found, truth, spacing_mm in the order of their axes) -> a number. slow: left out of corrupted cases.
    """

    score: Callable[[BoolArray, BoolArray, tuple[float, ...]], float]
    drawn: str = TUMOUR
    slow: bool = False


@dataclass(frozen=True)
class OfScores:
    """Of all labels and probabilities at once, as an area is; value is None where it is not defined.

    figure: with its interval; None = the bootstrap over patients.
    """

    value: Callable[[Bools, Values], float | None]
    figure: Callable[[Bools, Values, Patients], Figure] | None = None


How = OfCalls | OfCases | OfMasks | OfScores


@dataclass(frozen=True, kw_only=True)
class Digits:
    """After the point: in a report's main table, in narrow tables and on screen, and of one case in a terminal."""

    report: int = 3
    narrow: int = 3
    line: int = 3


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One row of the table.

    label: in full; short: as in the middle of a sentence. nothing: why there is none where no case counts.
    malignant_too: benign cases are easy in it, so that it is told of malignant ones alone too.
    """

    label: str
    short: str
    how: How
    better: Literal["higher", "lower"]
    nothing: str
    bounds: tuple[float, float] = (0.0, 1.0)
    unit: str | None = None
    digits: Digits = Digits()
    place: Place = "list"
    malignant_too: bool = False

    @property
    def title(self) -> str:
        """In full, with its unit."""
        return _with_unit(self.label, self.unit)

    @property
    def heading(self) -> str:
        """Short, with its unit, to begin a line or a column with."""
        return _with_unit(_begun(self.short), self.unit)

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.bounds == (0.0, 1.0)

    @property
    def at_threshold(self) -> bool:
        """Whether it moves with the threshold on p."""
        return isinstance(self.how, OfCalls)


def _with_unit(name: str, unit: str | None) -> str:
    return name if unit is None else f"{name}, {unit}"


def _begun(name: str) -> str:
    return name[0].upper() + name[1:]


_NO_LABEL = "no case has a label"
_NO_MAP = "no case has both a map and a mask"

#: name in metrics.json -> what it is; in the order in which tables list them.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        label="Accuracy", short="accuracy", how=OfCalls(per_case.right), better="higher",
        nothing=_NO_LABEL, place="main",
    ),
    "sensitivity": Metric(
        label="Sensitivity", short="sensitivity", how=OfCalls(per_case.right_of_malignant), better="higher",
        nothing="no malignant case", place="groups",
    ),
    "specificity": Metric(
        label="Specificity", short="specificity", how=OfCalls(per_case.right_of_benign), better="higher",
        nothing="no benign case", place="groups",
    ),
    "auc": Metric(
        label="Area under the ROC curve", short="AUC", how=OfScores(roc.area, roc.auc), better="higher",
        nothing=_NO_LABEL, place="main",
    ),
    "brier": Metric(
        label="Brier score", short="Brier score", how=OfCases(per_case.squared_error), better="lower",
        nothing=_NO_LABEL, place="comparison",
    ),
    "dice": Metric(
        label="Dice, tumour map", short="Dice", how=OfMasks(lambda found, truth, _: overlap.dice(found, truth)),
        better="higher", nothing=_NO_MAP, place="main", malignant_too=True,
    ),
    "iou": Metric(
        label="IoU, tumour map", short="IoU", how=OfMasks(lambda found, truth, _: overlap.iou(found, truth)),
        better="higher", nothing=_NO_MAP,
    ),
    "hd95_mm": Metric(
        label="95 % Hausdorff distance", short="HD95", unit="mm", how=OfMasks(overlap.hd95, slow=True), better="lower",
        bounds=(0.0, math.inf), nothing=_NO_MAP, digits=Digits(report=2, narrow=1, line=0),
    ),
    "bone_dice": Metric(
        label="Dice, bone map", short="Dice of the bone", better="higher", nothing=_NO_MAP,
        how=OfMasks(lambda found, truth, _: overlap.dice(found, truth), drawn="bone"),
    ),
    "severity_mae": Metric(
        label="Severity, mean absolute error", short="severity error", unit="points",
        how=OfCases(per_case.severity_error), better="lower", bounds=(0.0, 100.0),
        nothing="no case has both a map and a known severity", digits=Digits(report=2, narrow=1, line=1), place="main",
        malignant_too=True,
    ),
}  # fmt: skip

#: kind of task -> the metrics of its answers.
FIGURES: dict[str, tuple[str, ...]] = {
    "class": ("accuracy", "sensitivity", "specificity", "auc", "brier"),
    "map": ("dice", "iou", "hd95_mm", "bone_dice"),
    "number": ("severity_mae",),
}


@dataclass(frozen=True)
class Part:
    """A metric on all cases, or on the malignant ones alone."""

    name: str
    malignant_only: bool = False

    @property
    def metric(self) -> Metric:
        """Its row of the table."""
        return METRICS[self.name]

    @property
    def key(self) -> str:
        """Its name in comparison.json."""
        return f"{self.name}_malignant_only" if self.malignant_only else self.name

    @property
    def title(self) -> str:
        """In full, with its unit."""
        return _with_unit(self.metric.label + self._whose, self.metric.unit)

    @property
    def heading(self) -> str:
        """Short, with its unit."""
        return _with_unit(_begun(self.metric.short) + self._whose, self.metric.unit)

    @property
    def _whose(self) -> str:
        return ", malignant cases" if self.malignant_only else ""

    def read(self, summary: Mapping[str, Any]) -> Figure:
        """Its figure in what metrics.json holds of one condition."""
        found = (summary["malignant_only"] if self.malignant_only else summary)[self.name]
        return Figure(found["value"], found["low"], found["high"], found["n"], found.get("reason"))


def names_at(place: Place) -> tuple[str, ...]:
    """The metrics that are shown at a place, in the table's order."""
    shown = PLACES[: PLACES.index(place) + 1]
    return tuple(name for name, metric in METRICS.items() if metric.place in shown)


def parts_at(place: Place) -> tuple[Part, ...]:
    """`names_at`, each followed by itself on malignant cases alone where it is told of them."""
    return tuple(
        Part(name, alone) for name in names_at(place) for alone in (False, True)[: 1 + METRICS[name].malignant_too]
    )


def drawn_names(drawn: str = TUMOUR) -> tuple[str, ...]:
    """The metrics that hold a drawn map against its mask."""
    return tuple(
        name for name, metric in METRICS.items() if isinstance(metric.how, OfMasks) and metric.how.drawn == drawn
    )


def score_map(
    found: BoolArray, truth: BoolArray, spacing_mm: tuple[float, ...], *, drawn: str = TUMOUR, slow: bool = True
) -> dict[str, float]:
    """The numbers of one case's map against its mask, by metric. slow: with those that take long.

    found, truth: on one grid; spacing_mm in the order of their axes.
    """
    return {
        name: metric.how.score(found, truth, spacing_mm)
        for name, metric in METRICS.items()
        if isinstance(metric.how, OfMasks) and metric.how.drawn == drawn and (slow or not metric.how.slow)
    }


def each(name: str, rows: pd.DataFrame, *, threshold: float = THRESHOLD) -> Values | None:
    """What each case adds to a metric, NaN where it does not count; None for a metric that is no mean over cases."""
    how = METRICS[name].how
    return None if isinstance(how, OfScores) else _values(name, how, rows, threshold)


def figure(name: str, rows: pd.DataFrame, *, threshold: float = THRESHOLD) -> Figure:
    """A metric of rows with its interval over patients; absent with the reason where no case counts."""
    metric = METRICS[name]
    if isinstance(metric.how, OfScores):
        value, whole = metric.how.value, metric.how.figure
        label, p, who = per_case.select_labelled(rows)
        if not len(label):
            return absent(metric.nothing)
        if whole is not None:
            return whole(label, p, who)
        return bootstrap(lambda chosen: value(label[chosen], p[chosen]), len(label), who)
    values = _values(name, metric.how, rows, threshold)
    counts = ~np.isnan(values)
    if not counts.any():
        return absent(metric.nothing)
    who = rows["patient_id"].to_numpy()[counts]
    return share(values[counts] == 1, who) if metric.at_threshold else mean(values[counts], who)


def _values(name: str, how: OfCalls | OfCases | OfMasks, rows: pd.DataFrame, threshold: float) -> Values:
    if isinstance(how, OfCalls):
        return how.each(rows, threshold)
    if isinstance(how, OfCases):
        return how.each(rows)
    return rows[name].to_numpy(dtype=np.float64) if name in rows else np.full(len(rows), np.nan)
