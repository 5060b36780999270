"""Cohorts with results and no images: tables of labels and answers for the tests of pages that judge answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd


def cohort(
    folder: Path,
    *,
    n: int = 60,
    malignant: float | None = 0.4,
    maps: bool = True,
    models: tuple[str, ...] = ("first",),
    per_patient: int = 1,
    refused: int = 0,
    results: bool = True,
    split: str = "test",
    seed: int = 0,
) -> Path:
    """A cohort.csv of n cases and its results; gives the folder.

    malignant: share of malignant cases, None = no labels. Every further model is worse than the one before it.
    refused: so many cases at the end have no answer and a sentence instead.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    label = np.arange(n) < round((malignant or 0) * n)
    rng.shuffle(label)
    truth = np.where(label, rng.uniform(5, 80, n), 0.0).round(3)
    table = pd.DataFrame({"case_id": [f"case-{i:04d}" for i in range(n)]})
    table["patient_id"] = [f"patient-{i // per_patient:04d}" for i in range(n)]
    table["sex"] = np.where(np.arange(n) % 2, "f", "m")
    table["centre"] = np.where(np.arange(n) < n - 5, "large", "small")
    table["age_years"] = rng.uniform(5, 70, n).round(1)
    table["split"] = split
    if malignant is not None:
        table["malignant"] = label.astype(int)
    if maps:
        table["severity_pct"] = truth
    table.to_csv(folder / "cohort.csv", index=False)
    if results:
        _results(folder / "results", table, label, truth, maps=maps, models=models, refused=refused, rng=rng)
    return folder


def _results(folder: Path, table: pd.DataFrame, label, truth, *, maps, models, refused, rng) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    n, frames = len(table), []
    for rank, model in enumerate(models):
        for given, lift in (("both", 3.0), ("mri", 2.0), ("he", 1.5)):
            logit = (lift - rank) * (label - 0.5) + rng.standard_normal(n)
            frame = table[["case_id", "patient_id", "sex", "centre", "age_years", "split"]].assign(
                model=model, given=given, left=given, corruption=None, level=0, problem=None,
                malignant=label.astype(float) if "malignant" in table else np.nan,
                p_malignant=1 / (1 + np.exp(-logit)), maps=maps and given != "he",
            )  # fmt: skip
            if maps and given != "he":
                found = np.clip(truth + rng.normal(0, 4, n), 0, 100)
                dice = np.where(label, rng.uniform(0.3, 1, n), 1.0)
                frame = frame.assign(severity_pct=found, severity_true=truth, dice=dice, iou=dice / (2 - dice))
                frame = frame.assign(hd95_mm=np.where(label, rng.uniform(1, 30, n), 0.0), one_empty=False)
            frames.append(frame)
    rows = pd.concat(frames, ignore_index=True)
    if refused:
        names = set(table["case_id"].tail(refused))
        bad = table[table["case_id"].isin(names)][["case_id", "patient_id"]]
        rows = rows[~rows["case_id"].isin(names)]
        rows = pd.concat([rows, bad.assign(problem="the file is no image", level=0)], ignore_index=True)
    rows.to_parquet(folder / "predictions.parquet", index=False)
    told = {
        "model": models[0],
        "trained": "nothing, random answers for tests",
        "models": {m: {"model_id": f"{m}-0123", "trained": "nothing, random answers for tests"} for m in models},
    }
    (folder / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
