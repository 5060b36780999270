"""cohort.csv: what is wrong is named by row and column; splits keep patients together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmssd_core import cohort as cohorts
from cmssd_core.types import InputError, Slide, Volume


def test_a_row_becomes_a_case_with_its_truth(cohort: Path) -> None:
    row = cohorts.read(cohort).iloc[0]
    case = cohorts.admit_row(row, cohort)
    volume, slide = case.inputs["mri"], case.inputs["he"]
    assert isinstance(volume, Volume)
    assert isinstance(slide, Slide)
    assert volume.contrasts == ("t1", "t2")
    assert slide.mpp == 1.0
    assert slide.site_mm == (row["site_x_mm"], row["site_y_mm"], row["site_z_mm"])
    assert case.truth.bone is not None
    assert case.truth.bone.shape == volume.voxels.shape[1:]
    assert case.truth.severity_pct == row["severity_pct"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(slide="nowhere.jpg"), r"row 2, column slide: no file nowhere.jpg"),
        (lambda t: t.assign(case_id="same"), r"row 3: case_id 'same' is there twice"),
        (lambda t: t.iloc[:0], "no rows with a case_id"),
        (lambda t: t.drop(columns="case_id"), "no rows with a case_id"),
    ],
)
def test_a_broken_table_is_named_by_row_and_column(change, said: str, cohort: Path, tmp_path: Path) -> None:
    table = pd.read_csv(cohort / "cohort.csv")
    for column in ("slide", *cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS):
        table[column] = [str(cohort / name) if isinstance(name, str) else name for name in table[column]]
    change(table).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match=said):
        cohorts.read(tmp_path)


def test_no_cohort_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cohort\.csv"):
        cohorts.read(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10), st.floats(0, 1))
def test_a_patient_is_never_on_two_sides(patients: int, seed: int, prevalence: float) -> None:
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    table = pd.DataFrame({"patient_id": who.astype(str), "malignant": rng.random(len(who)) < prevalence})
    table["split"] = cohorts.split_by_patient(table, seed=seed)
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert set(table["split"]) <= set(cohorts.SPLITS)


def test_splits_are_70_15_15_and_stratified() -> None:
    table = pd.DataFrame({"patient_id": [str(i) for i in range(1000)], "malignant": [i % 10 < 3 for i in range(1000)]})
    table["split"] = cohorts.split_by_patient(table, seed=1)
    share = table["split"].value_counts(normalize=True)
    assert dict(share) == pytest.approx({"train": 0.70, "val": 0.15, "test": 0.15})
    assert table.groupby("split")["malignant"].mean().to_dict() == pytest.approx(dict.fromkeys(cohorts.SPLITS, 0.3))
