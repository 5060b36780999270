"""What is looked at of a cohort: filters, sort and their form in a link, which bears numbers and columns, no values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.evaluation.metrics import METRICS, OfMasks
from cmssd_core.report.answers import TITLES

Positions = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
UNKNOWN = "not known"
MOST_CHOICES = 40  # a column of more different words is text, not a choice
#: column -> its name on screen. Other columns bear their own.
WORDS = {
    "number": "Order of the table",
    "case_id": "Case",
    "patient_id": "Patient",
    "inputs": "Inputs",
    "malignant": "Label",
    "tissue_class": "Tissue class",
    "called": "Called",
    "p_malignant": TITLES["malignant"],
    "risk": TITLES["risk"],
    "severity_pct": "Severity, %",
    "severity_true": "True severity, %",
    "severity_error": METRICS["severity_mae"].heading,
    **{name: metric.heading for name, metric in METRICS.items() if isinstance(metric.how, OfMasks)},
    "tumour_ml": "Tumour, mL",
    "bone_ml": "Bone, mL",
    "gate_mean": "Mean gate (1 = MRI)",
    "age_years": "Age, years",
    "sex": "Sex",
    "centre": "Centre",
    "scanner": "Scanner",
    "field_t": "Field, T",
    "te_ms": "TE, ms",
    "tr_ms": "TR, ms",
    "coil": "Coil",
    "split": "Split",
    "fold": "Fold",
    "event": "Event",
    "time_months": "Follow-up, months",
    **{f"uncertainty_ood_{name}": f"Strangeness of the {each.label}" for name, each in MODALITIES.items()},
    "answered": "Answer",
}
_LABELS = {
    "malignant": ("benign", "malignant"),
    "called": ("benign", "malignant"),
    "event": ("no event", "event"),
    "answered": ("none", "given"),
}
_NEVER = re.compile(
    r"case_id|patient_id|number|model|given|left|maps|problem|severity_(low|high)|\w*_mask|mri_\w+|rna|"
    r"one_empty|seconds_\w+|memory_mb|site_[xyz]_mm|gate_at_site|"
    + "|".join(column for each in MODALITIES.values() for column in each.columns)
    + rf"|uncertainty_(?!ood_({'|'.join(MODALITIES)})$)\w+"
)


@dataclass(frozen=True, eq=False)
class Choice:
    """A column of few different words, the last of `labels` UNKNOWN. codes: place in `labels` of each row."""

    labels: tuple[str, ...]
    codes: npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers, NaN = missing; low and high of those that are there."""

    values: npt.NDArray[np.float64]
    low: float
    high: float


Facets = Mapping[str, Choice | Numbers]


@dataclass(frozen=True)
class View:
    """chosen: column -> kept labels' places. ranges: column -> kept values from, to. contains: text in a name."""

    chosen: tuple[tuple[str, tuple[int, ...]], ...] = ()
    ranges: tuple[tuple[str, float, float], ...] = ()
    contains: str = ""
    sort: str = "number"
    descending: bool = False

    def filtered(self) -> bool:
        """Whether anything may be left out."""
        return bool(self.chosen or self.ranges or self.contains)


def facets(rows: pd.DataFrame) -> Facets:
    """The columns of a joined cohort that one can filter, sort and colour by, in the order of the table."""
    found: dict[str, Choice | Numbers] = {}
    order = [*(c for c in WORDS if c in rows), *(c for c in rows if c not in WORDS)]
    for column in order:
        if _NEVER.fullmatch(str(column)):
            continue
        values = rows[column]
        if column in _LABELS:
            labels = (*_LABELS[column], UNKNOWN)
            codes = np.where(values.isna(), 2, values.fillna(0).astype(float)).astype(np.int16)
            found[column] = Choice(labels, codes)
        elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(dtype=np.float64)
            present = numbers[np.isfinite(numbers)]
            if present.size and present.min() < present.max():
                found[column] = Numbers(numbers, float(present.min()), float(present.max()))
        else:
            codes, labels = pd.factorize(values, sort=True)
            if 0 < len(labels) <= MOST_CHOICES:
                names = (*(str(label) for label in labels), UNKNOWN)
                found[column] = Choice(names, np.where(codes < 0, len(labels), codes).astype(np.int16))
    return found


def title(column: str) -> str:
    """A column's name on screen."""
    return WORDS.get(column, column.replace("_", " ").capitalize())


def positions(rows: pd.DataFrame, columns: Facets, view: View) -> Positions:
    """Positions of the rows that pass the filters, in the order of the view; missing values stand last."""
    keep = np.ones(len(rows), dtype=bool)
    for column, places in view.chosen:
        facet = columns.get(column)
        if isinstance(facet, Choice):
            keep &= np.isin(facet.codes, places)
    for column, low, high in view.ranges:
        facet = columns.get(column)
        if isinstance(facet, Numbers):
            keep &= (facet.values >= low) & (facet.values <= high)
    if view.contains:
        words = rows["case_id"].astype(str).str.contains(view.contains, case=False, regex=False)
        words |= rows["patient_id"].astype(str).str.contains(view.contains, case=False, regex=False)
        keep &= words.to_numpy(dtype=bool)
    kept = np.flatnonzero(keep)
    facet = columns.get(view.sort)
    if isinstance(facet, Numbers):
        by = facet.values[kept]
        order = np.argsort(np.where(np.isnan(by), np.inf, -by if view.descending else by), kind="stable")
    elif isinstance(facet, Choice):
        codes = facet.codes[kept].astype(np.int64)
        last = len(facet.labels) - 1  # UNKNOWN
        order = np.argsort(np.where(codes == last, last, -codes if view.descending else codes), kind="stable")
    elif view.sort == "case_id":
        order = np.argsort(rows["case_id"].astype(str).to_numpy()[kept], kind="stable")
        order = order[::-1] if view.descending else order
    else:
        order = np.arange(len(kept))[:: -1 if view.descending else 1]
    return kept[order]


def to_query(view: View) -> dict[str, str]:
    """The view as a link's parameters; text that was searched for may be a name and stays out."""
    parts = [f"{column}:{'.'.join(map(str, places))}" for column, places in view.chosen]
    parts += [f"{column}:{low:.6g}~{high:.6g}" for column, low, high in view.ranges]
    summary = {"filter": ";".join(parts), "sort": f"{view.sort}{'-' if view.descending else ''}"}
    return {key: value for key, value in summary.items() if value and value != "number"}


def from_query(query: Mapping[str, str], columns: Facets) -> View:
    """The view of a link's parameters; what the cohort does not know is left out."""
    view = View()
    for part in query.get("filter", "").split(";"):
        column, _, words = part.rpartition(":")
        facet = columns.get(column)
        if isinstance(facet, Choice) and re.fullmatch(r"\d{1,3}(\.\d{1,3})*", words):
            places = tuple(sorted({int(n) for n in words.split(".") if int(n) < len(facet.labels)}))
            view = replace(view, chosen=(*view.chosen, (column, places)))
        elif isinstance(facet, Numbers) and re.fullmatch(r"[-+.e\d]+~[-+.e\d]+", words):
            try:
                low, high = (float(n) for n in words.split("~"))
            except ValueError:
                continue
            if low <= high:
                view = replace(view, ranges=(*view.ranges, (column, low, high)))
    sort = query.get("sort", "")
    column = sort.removesuffix("-")
    if column in columns or column in ("number", "case_id"):
        view = replace(view, sort=column, descending=sort.endswith("-"))
    return view


def in_box(xy: FloatArray, x: tuple[float, float], y: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which points (point, 2) lie in a box given by two of its corners."""
    inside: npt.NDArray[np.bool_] = (
        (xy[:, 0] >= min(x)) & (xy[:, 0] <= max(x)) & (xy[:, 1] >= min(y)) & (xy[:, 1] <= max(y))
    )
    return inside


def in_lasso(xy: FloatArray, x: FloatArray, y: FloatArray) -> npt.NDArray[np.bool_]:
    """Which points (point, 2) lie inside a closed line through the corners x, y, by the even-odd rule."""
    inside = np.zeros(len(xy), dtype=bool)
    if len(x) < 3:
        return inside
    near = np.flatnonzero(in_box(xy, (x.min(), x.max()), (y.min(), y.max())))
    px, py, odd = xy[near, 0], xy[near, 1], np.zeros(len(near), dtype=bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 != y1:
            odd ^= ((y0 > py) != (y1 > py)) & (px < (x1 - x0) * (py - y0) / (y1 - y0) + x0)
    inside[near] = odd
    return inside


def packed(rows: Positions) -> str:
    """Row numbers as ranges, as in 0-4.9: what a link says of a selection."""
    if not len(rows):
        return ""
    ordered = np.unique(rows)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return ".".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def unpacked(words: str, count: int) -> Positions:
    """Row numbers of ranges below `count`; nothing where it is no list of ranges."""
    if not re.fullmatch(r"\d{1,9}(-\d{1,9})?(\.\d{1,9}(-\d{1,9})?)*", words):
        return np.zeros(0, dtype=np.int64)
    found: list[Positions] = []
    for part in words.split("."):
        first, _, last = part.partition("-")
        found.append(np.arange(int(first), min(int(last or first) + 1, count), dtype=np.int64))
    joined = np.unique(np.concatenate(found))
    kept: Positions = joined[joined < count]
    return kept
