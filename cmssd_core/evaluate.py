"""`cmssd evaluate`: a cohort and weights become metrics.json, two parquet tables and evaluation.html."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmssd_core import cohort_run
from cmssd_core.cohort_run import Results, RunSettings
from cmssd_core.config import Settings
from cmssd_core.evaluation.metrics import Figure
from cmssd_core.evaluation.summary import plain, summarise
from cmssd_core.inference import THRESHOLD
from cmssd_core.listing import gflop
from cmssd_core.report import evaluation as page
from cmssd_core.report import notebook
from cmssd_core.types import InputError
from cmssd_core.whole import write_whole


class Metrics(dict[str, Any]):
    """What metrics.json holds; in a notebook its main figures with their intervals."""

    def _repr_html_(self) -> str:
        return notebook.metrics(self)


def evaluate(
    cohort: Path,
    out: Path,
    *,
    weights: Path | None = None,
    against: tuple[Path, ...] = (),
    chosen: RunSettings | None = None,
    settings: Settings | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Metrics:
    """Evaluate weights on a cohort into the folder `out`; gives what metrics.json holds.

    features.parquet: one row a case and model with what the model saw in it as float32 lists, by which like cases are
    found: "mri" and "he" (encoders' averages) and, of a model that fuses, "fused".
    Raises InputError for a cohort, weights or a split that cannot be used, and where no case could be predicted.
    """
    chosen = replace(chosen or RunSettings(), features=True)
    results = cohort_run.run(
        cohort, out, weights=weights, against=against, chosen=chosen, settings=settings, progress=progress
    )
    told = metrics(results, cohort)
    if not told["predicted"]:
        first = told["refused"][0]
        raise InputError(f"no case could be predicted; of {first['case_id']} it was said: {first['why']}")
    seen = features(results.rows)
    write_whole(out / "features.parquet", lambda path: seen.to_parquet(path, index=False))
    kept = results.rows.drop(columns=["seconds_total", *_feature_columns(results.rows)], errors="ignore")
    write_whole(out / "predictions.parquet", lambda path: kept.to_parquet(path, index=False))
    write_whole(
        out / "metrics.json",
        lambda path: path.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8"),
    )
    write_whole(out / "evaluation.html", lambda path: path.write_text(_page(told, results, cohort), encoding="utf-8"))
    return told


def _feature_columns(rows: pd.DataFrame) -> list[str]:
    return [str(column) for column in rows.columns if str(column).startswith("feature_")]


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a run's rows, those that hold features: case_id, model, and float32 vectors "mri", "he", "fused"."""
    columns = _feature_columns(rows)
    there = rows[rows[columns].notna().any(axis=1)] if columns else rows[:0]
    vectors = {
        column.removeprefix("feature_"): [
            np.asarray(vector, dtype=np.float32) if isinstance(vector, list) else None for vector in there[column]
        ]
        for column in columns
    }
    return pd.DataFrame({"case_id": there["case_id"].tolist(), "model": there["model"].tolist(), **vectors})


def in_words(told: Metrics) -> list[str]:
    """The main figures, a line each, for a terminal."""
    names = {"accuracy": "accuracy", "auc": "AUC", "dice": "Dice", "severity_mae": "severity MAE"}
    conditions = {
        "both": told,
        "MRI alone": told["by_modality"]["mri_only"],
        "H&E alone": told["by_modality"]["he_only"],
    }
    conditions |= told["against"]
    wide = 2 + max(map(len, (*conditions, "refused", "model")))
    lines = [" " * wide + "".join(f"{title:<34}" for title in names.values())]
    lines += [
        f"{title:<{wide}}" + "".join(f"{page.words(part[name]):<34}" for name in names)
        for title, part in conditions.items()
    ]
    refused = len({r["case_id"] for r in told["refused"] if r["corruption"] is None})
    lines += [f"{'refused':<{wide}}{refused} of {told['cases']} cases (metrics.json says why)"] if refused else []
    return [*lines, f"{'model':<{wide}}{told['model_id']}, trained on {told['trained']}"]


def metrics(results: Results, cohort: Path) -> Metrics:
    """The figures of a run with what they were measured on: the models, the settings, the generator's oracle."""
    subject, predictor = next(iter(results.models.items()))
    sound = results.rows["problem"].isna()
    told = {
        **summarise(results.rows, subject),
        "predicted": int(results.rows[sound]["case_id"].nunique()),
        "model": subject,
        "model_id": predictor.model_id,
        "trained": predictor.trained,
        "models": {
            name: {
                "model_id": each.model_id,
                "trained": each.trained,
                "parameters": sum(p.numel() for p in each.model.parameters()),
                "gflop_per_pair": round(gflop(each.model.cpu()), 3),
            }
            for name, each in results.models.items()
        },
        "oracle": _oracle(cohort),
        "settings": asdict(results.settings),
        "threshold": THRESHOLD,
        "note": "Research use only. 95 % intervals; patients are the unit.",
    }
    return Metrics(told)


def kept(out: Path) -> Metrics:
    """What an evaluation left in its folder. Raises InputError where there is none that can be read."""
    try:
        return Metrics(json.loads((out / "metrics.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise InputError(f"{out.name} holds no metrics.json that can be read; run cmssd evaluate into it") from None


def _page(told: Metrics, results: Results, cohort: Path) -> str:
    rows = results.rows
    mine = rows[(rows["model"] == told["model"]) & (rows["given"] == "both")]
    points: list[tuple[float, float]] = []
    if {"severity_true", "severity_pct"} <= set(mine.columns):
        both = mine.dropna(subset=["severity_true", "severity_pct"])
        points = [(float(t), float(f)) for t, f in zip(both["severity_true"], both["severity_pct"], strict=True)]
    return page.render(told, name=cohort.resolve().name, severities=points)


def _oracle(cohort: Path) -> dict[str, Any] | None:
    """What one gets who knows the generator, of a synthetic cohort; None for any other."""
    stated = (cohort if cohort.is_dir() else cohort.parent) / "synth.json"
    if not stated.is_file():
        return None
    try:
        made = json.loads(stated.read_text(encoding="utf-8"))
        cases = int(made["settings"]["cases"])
        return {name: _figure(value, cases) for name, value in made["oracle"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{stated.name} of the cohort cannot be read; make the cohort anew, or remove it") from None


def _figure(value: Any, cases: int) -> Any:
    plainly = isinstance(value, int | float) and not isinstance(value, bool)
    return plain(Figure(float(value), None, None, cases)) if plainly else value
