"""A model over the cases of a cohort, by the very way a user's case goes, summed up with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core import cohort as cohorts
from cmssd_core import inference
from cmssd_core.cohort import admit_row
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.evaluation.metrics import Figure, dice, mean, roc_auc, share
from cmssd_core.model_card import card
from cmssd_core.types import InputError


@dataclass(frozen=True)
class Score:
    """One case's result against its truth; None where truth or answer is missing."""

    case_id: str
    malignant: bool | None
    p_malignant: float
    severity_error: float | None
    dice: float | None


def score(
    table: pd.DataFrame,
    root: Path,
    predictor: inference.Predictor,
    *,
    settings: Settings,
    drop: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Predict every row of the table from its files; drop hides "mri" or "he" from the model."""
    scores = []
    for done, (_, row) in enumerate(table.iterrows(), start=1):
        case = admit_row(row, root)
        truth, name = case.truth, str(row["case_id"])
        if drop is not None:
            case = replace(case, inputs={k: v for k, v in case.inputs.items() if k != drop})
        found = inference.predict(case, predictor, settings=settings)
        scores.append(
            Score(
                name,
                truth.malignant,
                found.p_malignant,
                _severity_error(found.severity_pct, truth.severity_pct) if found.maps else None,
                dice(found.maps["tumour"] >= inference.THRESHOLD, truth.tumour)
                if found.maps and truth.tumour is not None
                else None,
            )
        )
        if progress:
            progress(done, len(table))
    return scores


def _severity_error(found: float | None, truth: float | None) -> float | None:
    """Points off; an answer that is missing although there are maps counts as the worst there could be."""
    if truth is None:
        return None
    return abs(found - truth) if found is not None else max(truth, 100.0 - truth)


def summarise(scores: list[Score]) -> dict[str, Figure]:
    """accuracy (threshold 0.5), auc, dice, severity_mae, and the last two over malignant cases alone.

    A figure whose truth no case has is left out. Raises InputError where no case has any truth.
    """
    labelled = [s for s in scores if s.malignant is not None]
    found: dict[str, Figure] = {}
    if labelled:
        malignant = np.array([bool(s.malignant) for s in labelled])
        p = np.array([s.p_malignant for s in labelled])
        found["accuracy"] = share((p >= inference.THRESHOLD) == malignant)
        area = roc_auc(malignant, p)
        found |= {"auc": area} if area else {}
    for suffix, group in (("", scores), ("_malignant_only", [s for s in labelled if s.malignant])):
        overlaps = np.array([s.dice for s in group if s.dice is not None])
        errors = np.array([s.severity_error for s in group if s.severity_error is not None])
        found |= {f"dice{suffix}": mean(overlaps)} if len(overlaps) else {}
        found |= {f"severity_mae{suffix}": mean(errors)} if len(errors) else {}
    if not found:
        raise InputError("no case has a label or a mask to compare with; expected malignant or tumour_mask columns")
    return found


GIVEN = {"MRI and H&E": None, "MRI alone": "he", "H&E alone": "mri"}


def write_card(cohort: Path, run: Path, *, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """Evaluate a run's weights on the cohort's test split and write model_card.md into the run folder."""
    table, root = cohorts.read(cohort), cohort if cohort.is_dir() else cohort.parent
    test = table[table["split"] == "test"]
    predictor = inference.load(run / "weights.safetensors")
    info = predictor.info
    figures: dict[str, dict[str, Figure]] = {}
    for given, drop in GIVEN.items() if len(test) else ():
        tell = (lambda done, of, given=given: progress(done, of, given)) if progress else None
        figures[given] = summarise(score(test, root, predictor, settings=default_settings(), drop=drop, progress=tell))
    path = run / "model_card.md"
    path.write_text(card(info, run, figures))
    return path
