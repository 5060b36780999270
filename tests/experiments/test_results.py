"""The table and figures of docs/results.md: what a cohort does not have is "-", never 0 and never a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core.evaluation.summary import summarise
from experiments import results


def told(malignant: float, *, per_patient: int = 1, models: tuple[str, ...] = ("m",)) -> dict:
    """Figures of made-up answers to forty cases, each given both images and either alone; the later model the worse."""
    rng = np.random.default_rng(0)
    label = (np.arange(40) < 40 * malignant).astype(float)
    frames = [
        pd.DataFrame(
            {
                "case_id": [f"c{i}" for i in range(40)], "patient_id": [f"p{i // per_patient}" for i in range(40)],
                "malignant": label, "model": model, "given": given, "problem": None, "corruption": None, "level": 0,
                "p_malignant": 1 / (1 + np.exp(-(label - 0.5) * (3, 0)[worse] - rng.standard_normal(40))),
            }
        )
        for worse, model in enumerate(models)
        for given in ("both", "mri", "he")
    ]  # fmt: skip
    return summarise(pd.concat(frames), "m")


def test_a_class_without_cases_is_no_share_of_0(tmp_path: Path) -> None:
    results.figures(told(0.0), tmp_path)
    drawn = (tmp_path / "confusion.svg").read_text(encoding="utf-8")
    assert drawn.count(">-</text>") == 2
    assert ">0.000<" not in drawn


def test_what_a_cohort_does_not_have_is_said_and_breaks_nothing() -> None:
    """No generator that knows the truth, one label only, several cases a patient, an oracle of the label alone."""
    cohorts = {
        "real": told(0.5) | {"oracle": None},
        "benign": told(0.0),
        "repeated": told(0.5, per_patient=2) | {"oracle": {"accuracy_mri": {"value": 0.9}, "auc_mri": None}},
    }
    lines = results.table(cohorts)
    assert all(line.count("|") == 3 + 1 + len(cohorts) for line in lines)
    assert next(line for line in lines if "knows the generator, MRI" in line).endswith("| - | - | - |")
    mcnemar, delong = (
        next(line for line in lines if line.startswith(f"| {name}")) for name in ("McNemar", "AUC gained")
    )
    assert mcnemar.count("p = ") == 2
    assert mcnemar.endswith("no test |")
    assert delong.split(" | ")[4] == "-"
    assert delong.endswith(", no test |")


def test_a_baseline_stands_below_the_model_with_what_that_gains() -> None:
    found = told(0.5, models=("m", "noise"))
    first, second = results.baselines(found | {"model": "m"})[2:]
    assert first.startswith("| m |")
    assert first.endswith("| - | - |")
    assert second.startswith("| noise |")
    assert second.count("p = ") == 2
