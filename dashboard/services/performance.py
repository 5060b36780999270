"""How well answers fit the truth, for the screen: figures of chosen answers on chosen cases, computed once and kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from cmssd_core.cases.modalities import BOTH
from cmssd_core.evaluation import (
    agreement,
    calibration,
    decision_curve,
    failures,
    metrics,
    precision_recall,
    roc,
    subgroups,
    summary,
    thresholds,
)
from cmssd_core.evaluation.figure import Bools, Figure, Values, absent, clusters, mean, share
from cmssd_core.evaluation.metrics import FIGURES, each, names_at
from cmssd_core.evaluation.per_case import severity_error
from cmssd_core.report.answers import EXPECTED
from cmssd_core.tasks.table import TASKS
from dashboard import selection
from dashboard.services import cohort as cohorts

#: What the choice of a threshold is called, and what its one number is; None = it has none.
RULES = {"fixed": "a value", "youden": "Youden", "sensitivity": "a sensitivity", "cost": "a cost ratio"}


@dataclass(frozen=True)
class Answers:
    """Whose answers: a model of the results, and what it was given: "both" (all there is), "mri", "he" and the like."""

    model: str
    given: str


@dataclass(frozen=True)
class Scope:
    """Answers on cases of a cohort; case_ids None = all that were answered."""

    cohort: Path
    answers: Answers
    case_ids: frozenset[str] | None = None

    @cached_property
    def key(self) -> str:
        """Changes with the files, the answers and the cases: what is computed of them is kept under it."""
        folder = cohorts.results_folder(self.cohort)
        found = None if folder is None else cohorts.State.of(folder / "predictions.parquet")
        chosen = None if self.case_ids is None else sorted(self.case_ids)
        record = (cohorts.State.of(self.cohort), found, self.answers, chosen)
        return sha256(repr(record).encode()).hexdigest()

    def of(self, answers: Answers) -> Scope:
        """Other answers on the same cases."""
        return Scope(self.cohort, answers, self.case_ids)


@dataclass(frozen=True)
class Rule:
    """How the threshold is had: one of RULES, with its threshold, sensitivity or ratio where it takes a number."""

    name: str
    number: float | None = None

    def threshold(self, malignant: Bools, p: Values) -> float:
        """The threshold on these cases; ValueError where a rule needs both classes and one is missing."""
        if self.name == "fixed":
            return 0.5 if self.number is None else self.number
        if self.name == "youden":
            return thresholds.youden(malignant, p)
        if self.name == "sensitivity":
            return thresholds.for_sensitivity(malignant, p, wanted=self.number or 0.95)
        return thresholds.for_cost(malignant, p, ratio=self.number or 1.0)


@dataclass(frozen=True)
class Discrimination:
    """ROC and precision-recall of one scope. curve and precision: points to draw; band: None with too few cases."""

    curve: tuple[tuple[float, float], ...]
    band: roc.Band | None
    auc: Figure
    precision: tuple[tuple[float, float], ...]
    average_precision: Figure
    prevalence: Figure


@dataclass(frozen=True)
class Trust:
    """Whether p means what it says, and what acting on it gains. brier_of_prevalence: of always saying the share."""

    bins: tuple[calibration.Bin, ...]
    brier: Figure
    brier_of_prevalence: float | None
    ece: Figure
    slope: Figure
    intercept: Figure
    benefit: decision_curve.Curve | None


@dataclass(frozen=True)
class Compared:
    """Other answers beside the scope's, on the n cases both answered; the scope's area less theirs.

    mcnemar: of being right at the threshold; None where patients have several cases, for which the test is not made.
    """

    answers: Answers
    auc: Figure
    difference: roc.Difference
    mcnemar: roc.McNemar | None


_kept = partial(st.cache_resource, show_spinner=False, hash_funcs={Scope: lambda scope: scope.key})


def answers(cohort: Path) -> tuple[Answers, ...]:
    """All answers that a cohort's results hold, those of the subject on all there is first."""
    every = [Answers(model, given) for model in cohorts.models(cohort) for given in cohorts.conditions(cohort, model)]
    return tuple(sorted(every, key=lambda one: one.given != BOTH and one.model != every[0].model))


def cases_of(cohort: Path, keys: Collection[str]) -> frozenset[str]:
    """The case_ids of a cohort whose keys a named slice holds."""
    present = cohorts.State.of(cohort)
    named = _keys(present) if present is not None else {}
    return frozenset(named[key] for key in keys if key in named)


@st.cache_resource(max_entries=8, show_spinner=False)
def _keys(present: cohorts.State) -> dict[str, str]:
    return {selection.case_key(name): name for name in cohorts.table(Path(present.path))["case_id"]}


@_kept(max_entries=16)
def rows(scope: Scope) -> pd.DataFrame:
    """One row an answered case of the scope, with `severity_error`; shared by all sessions, not to be changed."""
    table = cohorts.join_answers(scope.cohort, given=scope.answers.given, model=scope.answers.model)
    kept = table["answered"] == 1
    if scope.case_ids is not None:
        kept &= table["case_id"].isin(scope.case_ids)
    found = table[kept]
    found = summary.with_columns(found)
    if table["severity_pct"].isna().all():  # the model does not answer it: nothing is held against the truth
        return found.assign(severity_true=float("nan"), severity_error=float("nan"))
    return found.assign(severity_error=severity_error(found))


def list_refused(scope: Scope) -> pd.DataFrame:
    """Cases of the scope that could not be read: case_id and the sentence why."""
    table = cohorts.join_answers(scope.cohort, given=scope.answers.given, model=scope.answers.model)
    bad = table["problem"].notna() & (table["answered"] == 0)
    return table.loc[bad, ["case_id", "problem"]]


def select_labelled(scope: Scope) -> tuple[Bools, Values, np.ndarray]:
    """Label, p and patient of the scope's cases whose label and p are known, one entry a case."""
    known = summary.select_judged(rows(scope))
    malignant = np.asarray(known["malignant"] == 1, dtype=bool)
    return malignant, known["p_malignant"].to_numpy(dtype=np.float64), known["patient_id"].to_numpy()


def why_unlabelled(scope: Scope) -> str | None:
    """Why there is nothing to hold a probability of malignancy against, in a sentence; None where there is."""
    table = rows(scope)
    if len(summary.select_judged(table)):
        return None
    if table["p_malignant"].isna().all():
        return "These answers hold no probability of malignancy."
    return "No case here has a label in the column malignant."


def concordance(scope: Scope) -> Figure | None:
    """How often the higher risk has the event first; None where the answers hold no risk."""
    record = summary.on_survival(rows(scope)).get("c_index")
    return None if record is None else Figure(*(record.get(name) for name in ("value", "low", "high", "n", "reason")))


def unanswered(scope: Scope) -> tuple[str, ...]:
    """What a reader may look for and no answer of this model holds, in words."""
    table = cohorts.join_answers(scope.cohort, given=scope.answers.given, model=scope.answers.model)
    columns = {"malignant": "p_malignant", "severity_pct": "severity_pct"}
    return tuple(TASKS[name].label for name in EXPECTED if table[columns[name]].isna().all())


def answered_figures(scope: Scope) -> tuple[str, ...]:
    """The metrics of groups that rest on something the scope's answers hold."""
    table = rows(scope)
    of_label = bool(len(summary.select_judged(table)))
    return tuple(
        name for name in names_at("groups") if (of_label if name in FIGURES["class"] else _is_known(table, name))
    )


def worst_offered(scope: Scope) -> tuple[str, ...]:
    """The metrics of failures.worst_names that some case here has."""
    table = rows(scope)
    return tuple(name for name in failures.worst_names() if _is_known(table, name))


def _is_known(table: pd.DataFrame, name: str) -> bool:
    values = each(name, table)
    return values is not None and not bool(np.isnan(values).all())


def both_classes(scope: Scope) -> bool:
    """Whether there are malignant and benign cases; most of the page needs both."""
    malignant, _, _ = select_labelled(scope)
    return bool(malignant.any() and not malignant.all())


@_kept(max_entries=64)
def discrimination(scope: Scope) -> Discrimination:
    """ROC with band and area, precision and recall."""
    malignant, p, who = select_labelled(scope)
    return Discrimination(
        tuple(roc.curve(malignant, p)),
        roc.band(malignant, p, who),
        roc.auc(malignant, p, who),
        tuple(precision_recall.points(malignant, p)),
        precision_recall.average_precision(malignant, p, who),
        share(malignant, who),
    )


@_kept(max_entries=32)
def trust(scope: Scope) -> Trust:
    """Calibration and net benefit."""
    malignant, p, who = select_labelled(scope)
    if not len(p):
        none = absent("no case has a label")
        return Trust((), none, None, none, none, none, None)
    slope, intercept = calibration.slope(malignant, p, who)
    prevalence = float(malignant.mean())
    return Trust(
        tuple(calibration.reliability(malignant, p, who)),
        mean((p - malignant) ** 2, who),
        prevalence * (1 - prevalence),
        calibration.ece(malignant, p, who),
        slope,
        intercept,
        decision_curve.curve(malignant, p, who),
    )


@_kept(max_entries=256)
def threshold(scope: Scope, rule: Rule) -> float | None:
    """The rule's threshold on the scope's cases; None where it needs both classes and one is missing."""
    malignant, p, _ = select_labelled(scope)
    return rule.threshold(malignant, p) if rule.name == "fixed" or both_classes(scope) else None


@_kept(max_entries=256)
def judge_threshold(scope: Scope, at: float) -> thresholds.Judged:
    """The confusion matrix and its shares at a threshold."""
    malignant, p, who = select_labelled(scope)
    return thresholds.judge(malignant, thresholds.call_malignant(p, at), who)


@_kept(max_entries=128)
def held_out(scope: Scope, rule: Rule) -> tuple[thresholds.Judged, tuple[float, float]] | None:
    """A rule judged on patients it was not chosen on, and its thresholds' range; None with too few patients."""
    malignant, p, who = select_labelled(scope)
    return thresholds.held_out(malignant, p, rule.threshold, who) if both_classes(scope) else None


def cell(scope: Scope, at: float, malignant: bool, positive: bool) -> tuple[str, ...]:
    """The case_ids in one cell of the matrix, the surest calls first."""
    table = rows(scope)
    called = table["p_malignant"] >= at
    mine = table[(table["malignant"] == float(malignant)) & (called == positive)]
    return tuple(mine.sort_values("p_malignant", ascending=not positive)["case_id"])


def compare_answers(scope: Scope, other: Answers, at: float) -> Compared:
    """Other answers against the scope's on the same cases: DeLong's paired test, and McNemar's at a threshold."""
    malignant, p, q, who = _paired(scope, other)
    single = len(p) > 0 and not clusters(who, len(p))[1]
    test = roc.mcnemar((p >= at) == malignant, (q >= at) == malignant) if single else None
    return Compared(other, discrimination(scope.of(other)).auc, _difference(scope, other), test)


@_kept(max_entries=64)
def _paired(scope: Scope, other: Answers) -> tuple[Bools, Values, Values, np.ndarray]:
    both = rows(scope).merge(rows(scope.of(other))[["case_id", "p_malignant"]], on="case_id", suffixes=("", "_other"))
    both = summary.select_judged(both)
    both = both[both["p_malignant_other"].notna()]
    p, q = (both[name].to_numpy(dtype=np.float64) for name in ("p_malignant", "p_malignant_other"))
    return np.asarray(both["malignant"] == 1, dtype=bool), p, q, both["patient_id"].to_numpy()


@_kept(max_entries=64)
def _difference(scope: Scope, other: Answers) -> roc.Difference:
    return roc.difference(*_paired(scope, other))


@_kept(max_entries=32)
def severity_agreement(scope: Scope) -> tuple[agreement.BlandAltman, Figure, Figure]:
    """Bland and Altman's limits, ICC(A,1), and the mean absolute error, of the severities that are known."""
    table = rows(scope)
    both = table[table["severity_pct"].notna() & table["severity_true"].notna()]
    found, truth = (both[name].to_numpy(dtype=np.float64) for name in ("severity_pct", "severity_true"))
    who = both["patient_id"].to_numpy()
    error = table[table["severity_error"].notna()]
    off = mean(error["severity_error"].to_numpy(dtype=np.float64), error["patient_id"].to_numpy())
    return agreement.bland_altman(found, truth, who), agreement.icc(found, truth, who), off


@_kept(max_entries=64)
def map_figure(scope: Scope, name: str, malignant_only: bool) -> Figure:
    """Mean of a metric of maps over the scope's cases that have it."""
    table = rows(scope)
    kept = table[table[name].notna() & ((table["malignant"] == 1) | (not malignant_only))]
    return mean(kept[name].to_numpy(dtype=np.float64), kept["patient_id"].to_numpy())


@_kept(max_entries=16)
def groups(scope: Scope) -> dict[str, dict[str, Bools]]:
    """Attribute -> value -> which rows of the scope, for attributes with two values or more."""
    return subgroups.groups(rows(scope))


def by_group(scope: Scope, attribute: str | None, figure: str, at: float) -> dict[str, Figure]:
    """A metric in each group of an attribute; None = in each named slice of the cohort."""
    if attribute is not None:
        return _by_group(scope, attribute, figure, at)
    table = rows(scope)
    named = {
        one.name: np.asarray(table["case_id"].isin(cases_of(scope.cohort, one.case_keys)))
        for one in selection.slices(scope.cohort)
    }
    return subgroups.by_group(table, named, figure, threshold=at)


@_kept(max_entries=128)
def _by_group(scope: Scope, attribute: str, figure: str, at: float) -> dict[str, Figure]:
    return subgroups.by_group(rows(scope), groups(scope)[attribute], figure, threshold=at)


@_kept(max_entries=64)
def whole_figure(scope: Scope, figure: str, at: float) -> Figure:
    """The metric over all cases of the scope, that a subgroup's is held against."""
    return metrics.figure(figure, rows(scope), threshold=at)


def sure_and_wrong(scope: Scope, at: float) -> pd.DataFrame:
    """The scope's wrong calls, the surest first."""
    return failures.sure_and_wrong(rows(scope), threshold=at)


def worst(scope: Scope, name: str) -> pd.DataFrame:
    """The cases that are worst in a metric of failures.worst_names, the worst first."""
    return failures.worst(rows(scope), name)
