"""cohort.csv: what is wrong is named by row and column; splits keep patients together."""

from __future__ import annotations

import time
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


def absolute(cohort: Path) -> pd.DataFrame:
    """The tiny cohort's table with paths that hold from anywhere."""
    table = pd.read_csv(cohort / "cohort.csv")
    for column in ("slide", *cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS):
        table[column] = [str(cohort / name) if isinstance(name, str) else name for name in table[column]]
    return table


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(slide="nowhere.jpg"), r"row 2, column slide: no file nowhere.jpg"),
        (lambda t: t.assign(case_id="same"), r"row 3: case_id 'same' is there twice"),
        (lambda t: t.assign(case_id=["a", None, "b", "c"]), r"row 3, column case_id: nothing came, .* rename"),
        (lambda t: t.assign(case_id=["a", "b", "..", "c"]), r"row 4, column case_id: '\.\.' came"),
        (lambda t: t.assign(case_id=["a", "../b", "c", "d"]), r"row 3, column case_id: '\.\./b' came"),
        (lambda t: t.iloc[:0], "no rows with a case_id"),
        (lambda t: t.drop(columns="case_id"), "no rows with a case_id"),
        (lambda t: t.assign(malignant=[0, 1, 2, 1]), r"row 4, column malignant: '2' came, expected 0 or 1; mend"),
        (lambda t: t.assign(malignant=[True] * 4), r"row 2, column malignant: 'True' came, expected 0 or 1"),
        (lambda t: t.assign(event=["", "yes", 1, 0]), r"row 3, column event: 'yes' came"),
        (lambda t: t.assign(split="Train"), r"row 2, column split: 'Train' came, expected one of train, val, test"),
        (lambda t: t.assign(severity_pct=[0, 50, 100, 100.5]), r"row 5, column severity_pct: '100\.5' came"),
        (lambda t: t.assign(severity_pct=-1), r"row 2, column severity_pct: '-1' came, .*from 0 to 100"),
        (lambda t: t.assign(slide_mpp=0), r"row 2, column slide_mpp: '0' came, .*above 0"),
        (lambda t: t.assign(slide_mpp="0,5"), r"row 2, column slide_mpp: '0,5' came"),
        (lambda t: t.assign(time_months="-inf"), r"row 2, column time_months: '-inf' came"),
        (lambda t: t.assign(te_ms=[1, 2, "inf", 3]), r"row 4, column te_ms: 'inf' came, expected a finite number"),
        (lambda t: t.assign(site_y_mm=[1, None, 2, 3]), r"row 3, column site_y_mm: nothing came, .*all three"),
        (
            lambda t: t.assign(patient_id=["p", "q", "p", "q"], split=["train", "val", "test", "val"]),
            r"row 4, column split: patient 'p' is in train and in test, .*same split",
        ),
    ],
)
def test_a_broken_table_is_named_by_row_and_column(change, said: str, cohort: Path, tmp_path: Path) -> None:
    change(absolute(cohort)).to_csv(tmp_path / "cohort.csv", index=False)
    with pytest.raises(InputError, match=said) as mistake:
        cohorts.read(tmp_path)
    assert len(str(mistake.value).splitlines()) == 1


def test_a_row_has_the_number_it_has_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("case_id,malignant\na,1\n\n,\nb,\nc,maybe\n")
    with pytest.raises(InputError, match=r"row 6, column malignant: 'maybe' came"):
        cohorts.read(tmp_path)
    (tmp_path / "cohort.csv").write_text("case_id,malignant\na,1\n\n,\nb,\n")
    assert list(cohorts.read(tmp_path)["case_id"]) == ["a", "b"]


def test_cells_beyond_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text("case_id,malignant\na,1,7\n")
    with pytest.raises(InputError, match="more cells than its header"):
        cohorts.read(tmp_path)


def test_what_belongs_to_a_slide_waits_for_one(cohort: Path, tmp_path: Path) -> None:
    absolute(cohort).assign(slide=None).to_csv(tmp_path / "cohort.csv", index=False)
    case = cohorts.admit_row(cohorts.read(tmp_path).iloc[0], tmp_path)
    assert set(case.inputs) == {"mri"}


def test_a_hundred_thousand_rows_are_checked_in_seconds(tmp_path: Path) -> None:
    n = 100_000
    table = pd.DataFrame({"case_id": [f"c{i}" for i in range(n)], "patient_id": [f"p{i // 2}" for i in range(n)]})
    table.assign(malignant=1, severity_pct=3.5, split="train").to_csv(tmp_path / "cohort.csv", index=False)
    began = time.process_time()
    assert len(cohorts.read(tmp_path)) == n
    assert time.process_time() - began < 10


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
