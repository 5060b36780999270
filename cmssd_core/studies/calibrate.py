"""Fit a calibration on a cohort's val split: temperature, conformal limits, clouds of features; beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core.cases.modalities import BOTH, MODALITIES
from cmssd_core.config import Settings
from cmssd_core.evaluation.calibration import conformal_quantile, logit, temperature
from cmssd_core.evaluation.distance import Cloud, fit
from cmssd_core.evaluation.figure import Bools, Patients, Values
from cmssd_core.evaluation.per_case import severity_error
from cmssd_core.inference.calibration import LABELS, Calibration, Limits, path_of, save
from cmssd_core.models.weights import DEFAULT
from cmssd_core.studies import run as cohort_run
from cmssd_core.studies.run import RunSettings
from cmssd_core.types import InputError

COVERAGE = 0.9
FEWEST = 20  # patients; below, neither a temperature nor a cloud says anything


def calibrate(
    cohort: Path,
    out: Path,
    *,
    weights: Path | None = None,
    workers: int | None = None,
    coverage: float = COVERAGE,
    settings: Settings | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Predict the val split into `out`/parts, fit, and write the file beside the weights; gives its path.

    An older calibration of these weights has no say and is replaced. Raises InputError where the split holds too few
    patients or one label only.
    """
    path = weights or (settings.weights if settings else None) or DEFAULT
    chosen = RunSettings(split="val", workers=workers, features=True, calibrated=False)
    results = cohort_run.run(cohort, out, weights=path, chosen=chosen, settings=settings, progress=progress)
    model_id = next(iter(results.models.values())).model_id
    rows = results.rows[results.rows["problem"].isna()]
    if "p_malignant" not in rows:
        raise InputError("a model that does not answer malignancy came, expected one that does; choose other weights")
    both = rows[rows["given"] == BOTH]
    labelled = both[both["malignant"].notna()]
    patients = labelled["patient_id"].nunique()
    if patients < FEWEST or both["malignant"].nunique() < 2:
        raise InputError(
            f"the val split holds {len(labelled)} labelled cases of {patients} patients, expected at least {FEWEST} "
            "with both labels; calibrate on a larger cohort"
        )
    given = {str(name): _limits(part, coverage) for name, part in rows.groupby("left")}
    fitted = Calibration(
        model_id=model_id,
        fitted_on=f"{both['case_id'].nunique()} cases of the val split",
        coverage=coverage,
        given={name: limits for name, limits in given.items() if limits is not None},
        clouds=_clouds(both),
    )
    save(fitted, path_of(path))
    return path_of(path)


def _limits(rows: pd.DataFrame, coverage: float) -> Limits | None:
    known = rows[rows["malignant"].notna()]
    truth, who = np.asarray(known["malignant"].to_numpy() == 1), known["patient_id"].to_numpy()
    if known["patient_id"].nunique() < FEWEST or truth.all() or not truth.any():
        return None
    logits = logit(known["p_malignant"].to_numpy(dtype=np.float64))
    divided = temperature(truth, logits)
    p = 1 / (1 + np.exp(-logits / divided))
    strange = np.where(truth, 1 - p, p)
    error = severity_error(known)
    of_label = {"benign": ~truth, "malignant": truth}
    called = {"benign": p < 0.5, "malignant": p >= 0.5}

    def limit(scores: Values, kept: Bools) -> float | None:
        return conformal_quantile(_worst(scores[kept], who[kept]), coverage=coverage)

    return Limits(
        n=len(known),
        temperature=divided,
        set_limit={label: limit(strange, of_label[label]) for label in LABELS},
        severity_half={label: limit(error, called[label] & ~np.isnan(error)) for label in LABELS},
    )


def _worst(scores: Values, patients: Patients) -> Values:
    """One score a patient, the worst: what is promised is promised of new patients."""
    return np.asarray(pd.Series(scores).groupby(np.asarray(patients)).max(), dtype=np.float64)


def _clouds(rows: pd.DataFrame) -> dict[str, Cloud]:
    """A cloud for each modality whose encoder gave features in enough cases, the classes' means apart."""
    found = {}
    for modality in MODALITIES:
        column = f"feature_{modality}"
        known = rows[rows[column].notna() & rows["malignant"].notna()] if column in rows else rows[:0]
        if known["patient_id"].nunique() >= FEWEST:
            features = np.stack([np.asarray(vector, dtype=np.float64) for vector in known[column]])
            label = np.asarray(known["malignant"].to_numpy() == 1)
            found[modality] = fit(features, label, known["patient_id"].to_numpy())
    return found
