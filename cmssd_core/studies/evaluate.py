"""`cmssd evaluate`: a cohort and weights become metrics.json, two parquet tables and evaluation.html."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmssd_core.cases.modalities import BOTH, describe_given
from cmssd_core.config import Settings
from cmssd_core.evaluation.figure import Figure
from cmssd_core.evaluation.metrics import METRICS, THRESHOLD, names_at
from cmssd_core.evaluation.summary import plain, summarise
from cmssd_core.machine.atomic import write_together
from cmssd_core.models.listing import gflop
from cmssd_core.report import evaluation as page
from cmssd_core.report import notebook
from cmssd_core.studies import run as cohort_run
from cmssd_core.studies.run import Results, RunSettings
from cmssd_core.types import InputError


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
    summary = metrics(results, cohort)
    if not summary["predicted"]:
        first = summary["refused"][0]
        raise InputError(f"no case could be predicted; of {first['case_id']} it was said: {first['why']}")
    seen = features(results.rows)
    kept = results.rows.drop(columns=["seconds_total", *_feature_columns(results.rows)], errors="ignore")
    shown, text = _page(summary, results, cohort), json.dumps(summary, indent=1, allow_nan=False)
    write_together(
        {
            out / "features.parquet": lambda path: seen.to_parquet(path, index=False),
            out / "predictions.parquet": lambda path: kept.to_parquet(path, index=False),
            out / "evaluation.html": lambda path: path.write_text(shown, encoding="utf-8"),
            out / "metrics.json": lambda path: path.write_text(text, encoding="utf-8"),
        }
    )
    return summary


def _feature_columns(rows: pd.DataFrame) -> list[str]:
    return [str(column) for column in rows.columns if str(column).startswith("feature_")]


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a run's rows, those that hold features: case_id, model, and float32 vectors "mri", "he", "fused"."""
    columns = _feature_columns(rows)
    present = rows[rows[columns].notna().any(axis=1)] if columns else rows[:0]
    vectors = {
        column.removeprefix("feature_"): [
            np.asarray(vector, dtype=np.float32) if isinstance(vector, list) else None for vector in present[column]
        ]
        for column in columns
    }
    return pd.DataFrame({"case_id": present["case_id"].tolist(), "model": present["model"].tolist(), **vectors})


def in_words(summary: Metrics) -> list[str]:
    """The main figures, a line each, for a terminal."""
    names = {name: METRICS[name].heading for name in names_at("main")}
    conditions = {"all there is": summary}
    conditions |= {describe_given(name.removesuffix("_only")): part for name, part in summary["by_modality"].items()}
    conditions |= summary["against"]
    wide = 2 + max(map(len, (*conditions, "refused", "model")))
    lines = [" " * wide + "".join(f"{title:<34}" for title in names.values())]
    lines += [
        f"{title:<{wide}}" + "".join(f"{page.words(part[name]):<34}" for name in names)
        for title, part in conditions.items()
    ]
    refused = len({r["case_id"] for r in summary["refused"] if r["corruption"] is None})
    lines += [f"{'refused':<{wide}}{refused} of {summary['cases']} cases (metrics.json says why)"] if refused else []
    return [*lines, f"{'model':<{wide}}{summary['model_id']}, trained on {summary['trained']}"]


def metrics(results: Results, cohort: Path) -> Metrics:
    """The figures of a run with what they were measured on: the models, the settings, the generator's oracle."""
    subject, predictor = next(iter(results.models.items()))
    sound = results.rows["problem"].isna()
    summary = {
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
    return Metrics(summary)


def load_metrics(out: Path) -> Metrics:
    """What an evaluation left in its folder. Raises InputError where there is none that can be read."""
    try:
        return Metrics(json.loads((out / "metrics.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise InputError(f"{out.name} holds no metrics.json that can be read; run cmssd evaluate into it") from None


def _page(summary: Metrics, results: Results, cohort: Path) -> str:
    rows = results.rows
    mine = rows[(rows["model"] == summary["model"]) & (rows["given"] == BOTH)]
    points: list[tuple[float, float]] = []
    if {"severity_true", "severity_pct"} <= set(mine.columns):
        both = mine.dropna(subset=["severity_true", "severity_pct"])
        points = [(float(t), float(f)) for t, f in zip(both["severity_true"], both["severity_pct"], strict=True)]
    return page.render(summary, name=cohort.resolve().name, severities=points)


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
