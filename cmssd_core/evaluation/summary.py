"""Results case by case become figures: all that metrics.json holds, with interval and n, or null and a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from cmssd_core.evaluation import agreement, calibration, roc, subgroups
from cmssd_core.evaluation.metrics import Figure, Values, absent, loss, mean, share
from cmssd_core.evaluation.subgroups import FEWEST_IN_SLICE

THRESHOLD = 0.5
Told = dict[str, Any]


def summarise(frame: pd.DataFrame, subject: str) -> Told:
    """All figures of the model `subject`, and of every other model in the frame against it.

    frame: one row a case and condition, as evaluate.run gives it.
    """
    frame = frame.reindex(columns=[*frame.columns, *(c for c in NEEDED if c not in frame)])
    sound = frame[frame["problem"].isna()]
    clean = sound[sound["corruption"].isna()]
    mine = clean[clean["model"] == subject]
    fused = mine[mine["given"] == "both"]
    others = [str(name) for name in clean["model"].dropna().unique() if name != subject]
    known = fused[fused["malignant"].notna()]
    return {
        **figures(fused),
        "prevalence": plain(share(_label(known), known["patient_id"].to_numpy())),
        "cases": int(frame["case_id"].nunique()),
        "patients": int(frame["patient_id"].nunique()),
        "refused": _refused(frame),
        "confusion": confusion(fused),
        "roc": _roc(fused),
        "calibration": calibrated(fused),
        "severity_agreement": severity_agreement(fused),
        "hd95_one_mask_empty": int(fused["one_empty"].fillna(False).astype(bool).sum()),
        "malignant_only": on_maps(fused[fused["malignant"] == 1]),
        "by_modality": {
            f"{given}_only": {
                **figures(alone),
                "malignant_only": on_maps(alone[alone["malignant"] == 1]),
                "roc": _roc(alone),
                **compared(fused, alone),
            }
            for given in ("mri", "he")
            for alone in [mine[mine["given"] == given]]
        },
        "against": {
            name: {**figures(other), "malignant_only": on_maps(other[other["malignant"] == 1]), "roc": _roc(other)}
            | compared(fused, other)
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
    "severity_pct", "severity_true", "severity_low", "severity_high", "dice", "iou", "hd95_mm", "bone_dice",
    "one_empty", "gate_mean", "memory_mb",
)  # fmt: skip


def plain(figure: Figure) -> Told:
    """A figure as JSON: value, low, high, n, and a reason where value is null."""
    return {name: value for name, value in asdict(figure).items() if name != "reason" or value is not None}


def figures(rows: pd.DataFrame) -> Told:
    """The figures every condition has: of the label at THRESHOLD, of p, of the maps and the severity."""
    return on_label(rows) | on_maps(rows)


def on_label(rows: pd.DataFrame) -> Told:
    """accuracy, sensitivity, specificity, auc, brier of the rows that have a label."""
    known = rows[rows["malignant"].notna()]
    if known.empty:
        none = plain(
            absent("no case has a label in the column malignant" if len(rows) else "no case in this condition")
        )
        return dict.fromkeys(("accuracy", "sensitivity", "specificity", "auc", "brier"), none)
    truth, p, who = _label(known), _numbers(known, "p_malignant"), known["patient_id"].to_numpy()
    right = (p >= THRESHOLD) == truth
    return {
        "accuracy": plain(share(right, who)),
        "sensitivity": plain(share(right[truth], who[truth]) if truth.any() else absent("no malignant case")),
        "specificity": plain(share(right[~truth], who[~truth]) if not truth.all() else absent("no benign case")),
        "auc": plain(roc.auc(truth, p, who)),
        "brier": plain(mean((p - truth) ** 2, who)),
    }


def on_maps(rows: pd.DataFrame) -> Told:
    """dice, iou, hd95_mm, bone_dice, severity_mae of the rows that have maps and a truth."""
    told = {name: plain(_mean(rows, name, "no case has both a map and a mask")) for name in MAPS}
    error = np.asarray(severity_error(rows), dtype=np.float64)
    kept = ~np.isnan(error)
    value = mean(error[kept], rows["patient_id"].to_numpy()[kept])
    none = absent("no case has both a map and a known severity")
    return told | {"severity_mae": plain(value if kept.any() else none)}


MAPS = ("dice", "iou", "hd95_mm", "bone_dice")


def severity_error(rows: pd.DataFrame) -> pd.Series[float]:
    """Points off; an answer that is missing although there are maps counts as the worst there could be."""
    found, truth = rows["severity_pct"].astype(float), rows["severity_true"].astype(float)
    worst = np.maximum(truth, 100.0 - truth)
    return (found - truth).abs().where(found.notna(), worst).where(rows["maps"].fillna(False).astype(bool))


def confusion(rows: pd.DataFrame) -> Told:
    """Counts, and the share of the cases that truly are so, with Wilson's interval."""
    known = rows[rows["malignant"].notna()]
    truth, called = _label(known), _numbers(known, "p_malignant") >= THRESHOLD
    cells = {"tp": (True, True), "fn": (True, False), "fp": (False, True), "tn": (False, False)}
    who = known["patient_id"].to_numpy()
    return {
        name: {"count": int(((truth == is_so) & (called == said)).sum())}
        | plain(share(called[truth == is_so] == said, who[truth == is_so]))
        for name, (is_so, said) in cells.items()
    }


def calibrated(rows: pd.DataFrame) -> Told:
    """ece, slope, intercept and the reliability table of p."""
    known = rows[rows["malignant"].notna()]
    if known.empty:
        return {"ece": plain(absent("no case has a label")), "table": []}
    truth, p, who = _label(known), _numbers(known, "p_malignant"), known["patient_id"].to_numpy()
    slope, intercept = calibration.slope(truth, p, who)
    table = [asdict(b) | {"malignant": plain(b.malignant)} for b in calibration.reliability(truth, p, who)]
    ece = calibration.ece(truth, p, who)
    return {"ece": plain(ece), "slope": plain(slope), "intercept": plain(intercept), "table": table}


def severity_agreement(rows: pd.DataFrame) -> Told:
    """Bland and Altman's bias and limits and ICC(A,1) of the severity, where both are known."""
    both = rows[rows["severity_pct"].notna() & rows["severity_true"].notna()]
    if both.empty:
        none = plain(absent("no case has both a found and a true severity"))
        return dict.fromkeys(("bias", "lower", "upper", "icc"), none) | {"slope": None}
    found, truth, who = _numbers(both, "severity_pct"), _numbers(both, "severity_true"), both["patient_id"].to_numpy()
    limits = agreement.bland_altman(found, truth, who)
    told = {name: plain(getattr(limits, name)) for name in ("bias", "lower", "upper")}
    return told | {"slope": limits.slope, "icc": plain(agreement.icc(found, truth, who))}


def compared(one: pd.DataFrame, other: pd.DataFrame) -> Told:
    """Paired tests on the cases both answered: McNemar on being right, DeLong on the areas; `one` less `other`.

    A test whose p is None says why in its reason.
    """
    pairs = one.merge(other, on="case_id", suffixes=("", "_other"))
    pairs = pairs[pairs["malignant"].notna()]
    if pairs.empty:
        return {"mcnemar": None, "auc_difference": plain(absent("no labelled case has both answers"))}
    truth, who = _label(pairs), pairs["patient_id"].to_numpy()
    p, q = _numbers(pairs, "p_malignant"), _numbers(pairs, "p_malignant_other")
    test = roc.mcnemar((p >= THRESHOLD) == truth, (q >= THRESHOLD) == truth, who)
    return {"mcnemar": asdict(test), "auc_difference": asdict(roc.difference(truth, p, q, who))}


def slices(rows: pd.DataFrame) -> Told:
    """Figures by centre, field, scanner, sex and age band, where the cohort says them; small groups say "too few"."""
    told: Told = {}
    for name, values in subgroups.groups(rows).items():
        told[name] = {}
        for value, kept in values.items():
            group = rows[kept]
            few = len(group) < FEWEST_IN_SLICE
            found = {k: v for k, v in figures(group).items() if k in SLICE} if not few else {"reason": "too few cases"}
            told[name][value] = {"n": len(group)} | found
    return told


SLICE = ("accuracy", "sensitivity", "specificity", "auc", "dice", "severity_mae")


def robustness(sound: pd.DataFrame, fused: pd.DataFrame) -> Told:
    """corruptions.{name}[level] from 0 (untouched) to 5, what they do to alpha, and what a missing contrast does."""
    hurt = sound[sound["corruption"].notna()]
    ids = hurt["case_id"].unique()
    if not len(ids):
        return {"corruptions": {}, "corruption_trends": {}, "missing_contrasts": {}, "corruption_cases": 0}
    start = fused[fused["case_id"].isin(ids)]
    told: Told = {"corruptions": {}, "corruption_trends": {}, "missing_contrasts": {}, "corruption_cases": len(ids)}
    for name, rows in hurt.groupby("corruption", sort=False):
        if str(name).startswith("without "):
            told["missing_contrasts"][name] = _level(rows)
            continue
        by_level = {0: start[start["case_id"].isin(rows["case_id"])]} | {
            int(str(level)): part for level, part in rows.groupby("level")
        }
        told["corruptions"][name] = [{"level": k} | _level(by_level.get(k, rows[:0])) for k in range(6)]
        told["corruption_trends"][name] = _trends(by_level)
    return told


def _level(rows: pd.DataFrame) -> Told:
    kept = {k: v for k, v in figures(rows).items() if k in ("accuracy", "auc", "dice", "severity_mae")}
    kept["gate_mean"] = plain(_mean(rows, "gate_mean", "no gate: one modality, or a model without one"))
    return kept | {k: v for k, v in uncertainty(rows).items() if k == "severity_coverage" or k.startswith("flagged")}


def _trends(by_level: dict[int, pd.DataFrame]) -> Told:
    """Spearman of the gate with the level, case by case, averaged; accuracy lost at level 3, case by case."""
    every = pd.concat([rows.assign(level=level) for level, rows in by_level.items()])
    wide = every.pivot_table(index=["patient_id", "case_id"], columns="level", values="gate_mean", dropna=False)
    wide = wide.dropna().astype(float)
    who = wide.index.get_level_values(0).to_numpy()
    trend = np.array([_monotone(row) for row in wide.to_numpy()])
    told = {"spearman_gate_level": plain(mean(trend, who) if len(trend) else absent("no gate to follow"))}
    pairs = by_level[0].merge(by_level.get(3, by_level[0][:0]), on="case_id", suffixes=("", "_3"))
    pairs = pairs[pairs["malignant"].notna()]
    if pairs.empty:
        return told | {"accuracy_loss_level3": plain(absent("no labelled case"))}
    truth = _label(pairs)
    before, after = ((_numbers(pairs, c) >= THRESHOLD) == truth for c in ("p_malignant", "p_malignant_3"))
    return told | {"accuracy_loss_level3": plain(loss(before, after, pairs["patient_id"].to_numpy()))}


def _monotone(gates: Values) -> float:
    """Spearman of a case's gate with the level; 0 where the gate does not move."""
    return 0.0 if np.ptp(gates) < 1e-9 else float(spearmanr(np.arange(len(gates)), gates).statistic)


def uncertainty(rows: pd.DataFrame) -> Told:
    """Measured coverage and width of the severity interval, coverage of the label's set, share flagged as strange."""
    told: Told = {}
    given = rows[rows["severity_low"].notna() & rows["severity_true"].notna()]
    truth = _numbers(given, "severity_true")
    low, high, who = _numbers(given, "severity_low"), _numbers(given, "severity_high"), given["patient_id"].to_numpy()
    none = absent("these weights have no calibration, or no true severity is known")
    told["severity_coverage"] = plain(share((low <= truth) & (truth <= high), who) if len(given) else none)
    told["severity_width"] = plain(mean(high - low, who) if len(given) else none)
    sets = ("uncertainty_conformal_benign", "uncertainty_conformal_malignant")
    if set(sets) <= set(rows.columns):
        known = rows[rows["malignant"].notna() & rows[sets[0]].notna()]
        label, names = _label(known), known["patient_id"].to_numpy()
        inside = np.where(label, _numbers(known, sets[1]), _numbers(known, sets[0])) > 0.5
        told["set_coverage_malignant"] = plain(share(inside[label], names[label]))
        told["set_coverage_benign"] = plain(share(inside[~label], names[~label]))
        single = _numbers(known, sets[0]) + _numbers(known, sets[1]) == 1
        told["set_single"] = plain(share(single, names))
    for modality in ("mri", "he"):
        columns = (f"uncertainty_ood_{modality}", f"uncertainty_ood_{modality}_limit")
        if set(columns) <= set(rows.columns):
            known = rows[rows[columns[0]].notna()]
            strange = _numbers(known, columns[0]) > _numbers(known, columns[1])
            told[f"flagged_{modality}"] = plain(share(strange, known["patient_id"].to_numpy()))
    return told


def _refused(frame: pd.DataFrame) -> list[Told]:
    rows = frame[frame["problem"].notna()]
    kept: Callable[[Any], Any] = lambda value: None if pd.isna(value) else value  # noqa: E731
    return [
        {"case_id": row["case_id"], "corruption": kept(row["corruption"]), "level": int(row["level"])}
        | {"why": row["problem"]}
        for _, row in rows.iterrows()
    ]


def _roc(rows: pd.DataFrame) -> list[tuple[float, float]]:
    known = rows[rows["malignant"].notna()]
    return roc.curve(_label(known), _numbers(known, "p_malignant"))


def _label(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(rows["malignant"].to_numpy() == 1, dtype=bool)


def _numbers(rows: pd.DataFrame, column: str) -> Values:
    return rows[column].to_numpy(dtype=np.float64)


def _mean(rows: pd.DataFrame, column: str, reason: str = "no case has it") -> Figure:
    kept = rows[rows[column].notna()]
    return mean(_numbers(kept, column), kept["patient_id"].to_numpy()) if len(kept) else absent(reason)
