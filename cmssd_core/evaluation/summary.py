"""Results case by case become figures: all that metrics.json holds, with interval and n, or null and a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from cmssd_core.evaluation import agreement, calibration, roc, subgroups
from cmssd_core.evaluation.figure import Figure, Values, absent, loss, mean, share
from cmssd_core.evaluation.metrics import FIGURES, METRICS, THRESHOLD, OfMasks, Place, figure, names_at
from cmssd_core.evaluation.subgroups import FEWEST_IN_SLICE
from cmssd_core.evaluation.survival.concordance import c_index

Record = dict[str, Any]


def summarise(frame: pd.DataFrame, subject: str) -> Record:
    """All figures of the model `subject`, and of every other model in the frame against it.

    frame: one row a case and condition, as evaluate.run gives it.
    """
    frame = with_columns(frame)
    sound = frame[frame["problem"].isna()]
    clean = sound[sound["corruption"].isna()]
    mine = clean[clean["model"] == subject]
    fused = mine[mine["given"] == "both"]
    others = [str(name) for name in clean["model"].dropna().unique() if name != subject]
    known = fused[fused["malignant"].notna()]
    conditions = dict.fromkeys(["mri", "he", *(str(g) for g in mine["given"].dropna().unique() if g != "both")])
    return {
        **figures(fused),
        "prevalence": plain(share(_label(known), known["patient_id"].to_numpy())),
        "cases": int(frame["case_id"].nunique()),
        "patients": int(frame["patient_id"].nunique()),
        "refused": _refused(frame),
        "confusion": confusion(fused),
        "roc": _roc(fused),
        "calibration": summarise_calibration(fused),
        "severity_agreement": severity_agreement(fused),
        "hd95_one_mask_empty": int(fused["one_empty"].fillna(False).astype(bool).sum()),
        "malignant_only": on_maps(fused[fused["malignant"] == 1]),
        "by_modality": {
            f"{given}_only": {
                **figures(alone),
                "malignant_only": on_maps(alone[alone["malignant"] == 1]),
                "roc": _roc(alone),
                **compare_pairs(fused, alone),
            }
            for given in conditions
            for alone in [mine[mine["given"] == given]]
        },
        "against": {
            name: {**figures(other), "malignant_only": on_maps(other[other["malignant"] == 1]), "roc": _roc(other)}
            | compare_pairs(fused, other)
            for name in others
            for other in [clean[(clean["model"] == name) & (clean["given"] == "both")]]
        },
        "slices": slices(fused),
        "uncertainty": uncertainty(fused),
        **robustness(sound, fused),
        "seconds": {
            column.removeprefix("seconds_"): plain(_mean(fused, column))
            for column in fused.columns
            if column.startswith("seconds_")
        },
        "peak_memory_mb": float(fused["memory_mb"].max()) if fused["memory_mb"].notna().any() else None,
    }


NEEDED = (
    "case_id", "patient_id", "malignant", "model", "given", "corruption", "level", "problem", "p_malignant", "maps",
    "severity_pct", "severity_true", "severity_low", "severity_high", "one_empty", "gate_mean", "memory_mb",
    "risk", "time_months", "event",
)  # fmt: skip


def with_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with every column that figures are made of; what a run did not give is missing in each case."""
    scores = [name for name, metric in METRICS.items() if isinstance(metric.how, OfMasks)]
    return frame.reindex(columns=[*frame.columns, *(c for c in (*NEEDED, *scores) if c not in frame)])


def plain(found: Figure) -> Record:
    """A figure as JSON: value, low, high, n, and a reason where value is null."""
    return {name: value for name, value in asdict(found).items() if name != "reason" or value is not None}


def figures(rows: pd.DataFrame) -> Record:
    """The figures every condition has: of the label at THRESHOLD, of p, of the maps and the severity."""
    return on_label(rows) | on_maps(rows) | on_survival(rows)


def select_judged(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a label and a probability of it."""
    return rows[rows["malignant"].notna() & rows["p_malignant"].notna()]


def on_label(rows: pd.DataFrame) -> Record:
    """The metrics of a label, of the rows that have one and an answer."""
    known = select_judged(rows)
    if known.empty:
        return dict.fromkeys(FIGURES["class"], plain(absent(_why_unjudged(rows))))
    return {name: plain(figure(name, known)) for name in FIGURES["class"]}


def _why_unjudged(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "no case in this condition"
    if rows["malignant"].isna().all():
        return "no case has a label in the column malignant"
    return "the model does not answer malignancy"


def on_survival(rows: pd.DataFrame) -> Record:
    """c_index and n_events of the rows that have a risk and were followed; nothing where the model gives no risk."""
    if rows["risk"].isna().all():
        return {}
    known = rows[rows["risk"].notna() & rows["time_months"].notna() & rows["event"].notna()]
    event = np.asarray(known["event"].to_numpy() == 1, dtype=bool)
    index = c_index(_numbers(known, "risk"), _numbers(known, "time_months"), event, known["patient_id"].to_numpy())
    return {"c_index": plain(index), "n_events": int(event.sum())}


def on_maps(rows: pd.DataFrame) -> Record:
    """The metrics of maps and of numbers, of the rows that have an answer and a truth."""
    return {name: plain(figure(name, rows)) for kind in ("map", "number") for name in FIGURES[kind]}


def confusion(rows: pd.DataFrame) -> Record:
    """Counts, and the share of the cases that truly are so, with Wilson's interval."""
    known = select_judged(rows)
    truth, called = _label(known), _numbers(known, "p_malignant") >= THRESHOLD
    cells = {"tp": (True, True), "fn": (True, False), "fp": (False, True), "tn": (False, False)}
    who = known["patient_id"].to_numpy()
    return {
        name: {"count": int(((truth == is_so) & (called == words)).sum())}
        | plain(share(called[truth == is_so] == words, who[truth == is_so]))
        for name, (is_so, words) in cells.items()
    }


def summarise_calibration(rows: pd.DataFrame) -> Record:
    """ece, slope, intercept and the reliability table of p."""
    known = select_judged(rows)
    if known.empty:
        return {"ece": plain(absent("no case has a label and an answer")), "table": []}
    truth, p, who = _label(known), _numbers(known, "p_malignant"), known["patient_id"].to_numpy()
    slope, intercept = calibration.slope(truth, p, who)
    table = [asdict(b) | {"malignant": plain(b.malignant)} for b in calibration.reliability(truth, p, who)]
    ece = calibration.ece(truth, p, who)
    return {"ece": plain(ece), "slope": plain(slope), "intercept": plain(intercept), "table": table}


def severity_agreement(rows: pd.DataFrame) -> Record:
    """Bland and Altman's bias and limits and ICC(A,1) of the severity, where both are known."""
    both = rows[rows["severity_pct"].notna() & rows["severity_true"].notna()]
    if both.empty:
        none = plain(absent("no case has both a found and a true severity"))
        return dict.fromkeys(("bias", "lower", "upper", "icc"), none) | {"slope": None}
    found, truth, who = _numbers(both, "severity_pct"), _numbers(both, "severity_true"), both["patient_id"].to_numpy()
    limits = agreement.bland_altman(found, truth, who)
    summary = {name: plain(getattr(limits, name)) for name in ("bias", "lower", "upper")}
    return summary | {"slope": limits.slope, "icc": plain(agreement.icc(found, truth, who))}


def compare_pairs(one: pd.DataFrame, other: pd.DataFrame) -> Record:
    """Paired tests on the cases both answered: McNemar on being right, DeLong on the areas; `one` less `other`.

    A test whose p is None says why in its reason.
    """
    pairs = one.merge(other, on="case_id", suffixes=("", "_other"))
    pairs = select_judged(pairs)
    pairs = pairs[pairs["p_malignant_other"].notna()]
    if pairs.empty:
        return {"mcnemar": None, "auc_difference": plain(absent("no labelled case has both answers"))}
    truth, who = _label(pairs), pairs["patient_id"].to_numpy()
    p, q = _numbers(pairs, "p_malignant"), _numbers(pairs, "p_malignant_other")
    test = roc.mcnemar((p >= THRESHOLD) == truth, (q >= THRESHOLD) == truth, who)
    return {"mcnemar": asdict(test), "auc_difference": asdict(roc.difference(truth, p, q, who))}


def slices(rows: pd.DataFrame) -> Record:
    """Figures by centre, field, scanner, sex and age band, where the cohort says them; small groups say "too few"."""
    summary: Record = {}
    for name, values in subgroups.groups(rows).items():
        summary[name] = {}
        for value, kept in values.items():
            group = rows[kept]
            few = len(group) < FEWEST_IN_SLICE
            found = {"reason": "too few cases"} if few else _shown(figures(group), "groups")
            summary[name][value] = {"n": len(group)} | found
    return summary


def robustness(sound: pd.DataFrame, fused: pd.DataFrame) -> Record:
    """corruptions.{name}[level] from 0 (untouched) to 5, what they do to alpha, and what a missing contrast does."""
    hurt = sound[sound["corruption"].notna()]
    ids = hurt["case_id"].unique()
    if not len(ids):
        return {"corruptions": {}, "corruption_trends": {}, "missing_contrasts": {}, "corruption_cases": 0}
    start = fused[fused["case_id"].isin(ids)]
    summary: Record = {
        "corruptions": {},
        "corruption_trends": {},
        "missing_contrasts": {},
        "corruption_cases": len(ids),
    }
    for name, rows in hurt.groupby("corruption", sort=False):
        if str(name).startswith("without "):
            summary["missing_contrasts"][name] = _level(rows)
            continue
        by_level = {0: start[start["case_id"].isin(rows["case_id"])]} | {
            int(str(level)): part for level, part in rows.groupby("level")
        }
        summary["corruptions"][name] = [{"level": k} | _level(by_level.get(k, rows[:0])) for k in range(6)]
        summary["corruption_trends"][name] = _trends(by_level)
    return summary


def _level(rows: pd.DataFrame) -> Record:
    kept = _shown(figures(rows), "main")
    kept["gate_mean"] = plain(_mean(rows, "gate_mean", "no gate: one modality, or a model without one"))
    return kept | {k: v for k, v in uncertainty(rows).items() if k == "severity_coverage" or k.startswith("flagged")}


def _shown(summary: Record, place: Place) -> Record:
    shown = names_at(place)
    return {name: value for name, value in summary.items() if name in shown}


def _trends(by_level: dict[int, pd.DataFrame]) -> Record:
    """Spearman of the gate with the level, case by case, averaged; accuracy lost at level 3, case by case."""
    every = pd.concat([rows.assign(level=level) for level, rows in by_level.items()])
    wide = every.pivot_table(index=["patient_id", "case_id"], columns="level", values="gate_mean", dropna=False)
    wide = wide.dropna().astype(float)
    who = wide.index.get_level_values(0).to_numpy()
    trend = np.array([_monotone(row) for row in wide.to_numpy()])
    summary = {"spearman_gate_level": plain(mean(trend, who) if len(trend) else absent("no gate to follow"))}
    pairs = by_level[0].merge(by_level.get(3, by_level[0][:0]), on="case_id", suffixes=("", "_3"))
    pairs = pairs[pairs["malignant"].notna()]
    if pairs.empty:
        return summary | {"accuracy_loss_level3": plain(absent("no labelled case"))}
    truth = _label(pairs)
    before, after = ((_numbers(pairs, c) >= THRESHOLD) == truth for c in ("p_malignant", "p_malignant_3"))
    return summary | {"accuracy_loss_level3": plain(loss(before, after, pairs["patient_id"].to_numpy()))}


def _monotone(gates: Values) -> float:
    """Spearman of a case's gate with the level; 0 where the gate does not move."""
    return 0.0 if np.ptp(gates) < 1e-9 else float(spearmanr(np.arange(len(gates)), gates).statistic)


def uncertainty(rows: pd.DataFrame) -> Record:
    """Measured coverage and width of the severity interval, coverage of the label's set, share flagged as strange."""
    summary: Record = {}
    given = rows[rows["severity_low"].notna() & rows["severity_true"].notna()]
    truth = _numbers(given, "severity_true")
    low, high, who = _numbers(given, "severity_low"), _numbers(given, "severity_high"), given["patient_id"].to_numpy()
    none = absent("these weights have no calibration, or no true severity is known")
    summary["severity_coverage"] = plain(share((low <= truth) & (truth <= high), who) if len(given) else none)
    summary["severity_width"] = plain(mean(high - low, who) if len(given) else none)
    sets = ("uncertainty_conformal_benign", "uncertainty_conformal_malignant")
    if set(sets) <= set(rows.columns):
        known = rows[rows["malignant"].notna() & rows[sets[0]].notna()]
        label, names = _label(known), known["patient_id"].to_numpy()
        inside = np.where(label, _numbers(known, sets[1]), _numbers(known, sets[0])) > 0.5
        summary["set_coverage_malignant"] = plain(share(inside[label], names[label]))
        summary["set_coverage_benign"] = plain(share(inside[~label], names[~label]))
        single = _numbers(known, sets[0]) + _numbers(known, sets[1]) == 1
        summary["set_single"] = plain(share(single, names))
    for modality in ("mri", "he"):
        columns = (f"uncertainty_ood_{modality}", f"uncertainty_ood_{modality}_limit")
        if set(columns) <= set(rows.columns):
            known = rows[rows[columns[0]].notna()]
            strange = _numbers(known, columns[0]) > _numbers(known, columns[1])
            summary[f"flagged_{modality}"] = plain(share(strange, known["patient_id"].to_numpy()))
    return summary


def _refused(frame: pd.DataFrame) -> list[Record]:
    rows = frame[frame["problem"].notna()]
    kept: Callable[[Any], Any] = lambda value: None if pd.isna(value) else value  # noqa: E731
    return [
        {"case_id": row["case_id"], "corruption": kept(row["corruption"]), "level": int(row["level"])}
        | {"why": row["problem"]}
        for _, row in rows.iterrows()
    ]


def _roc(rows: pd.DataFrame) -> list[tuple[float, float]]:
    known = select_judged(rows)
    return roc.curve(_label(known), _numbers(known, "p_malignant"))


def _label(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(rows["malignant"].to_numpy() == 1, dtype=bool)


def _numbers(rows: pd.DataFrame, column: str) -> Values:
    return rows[column].to_numpy(dtype=np.float64)


def _mean(rows: pd.DataFrame, column: str, reason: str = "no case has it") -> Figure:
    kept = rows[rows[column].notna()]
    return mean(_numbers(kept, column), kept["patient_id"].to_numpy()) if len(kept) else absent(reason)
