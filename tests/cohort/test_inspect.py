"""What a file is: a table of genes is told from a cohort, and each is described by its own reader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from places import SAMPLES

from cmssd_core.cohort.inspect import inspect

PROFILE = SAMPLES / "cases" / "synth-00003" / "rna.csv"


@pytest.mark.parametrize("name", ["rna.csv", "genes.CSV", "rna.txt"])
def test_a_table_of_genes_is_a_profile(name: str, tmp_path: Path) -> None:
    shutil.copy(PROFILE, tmp_path / name)
    facts = inspect(tmp_path / name)
    assert (facts["kind"], facts["reads_as"], facts["problem"]) == ("profile", "rna", None)
    assert facts["genes"] == len(pd.read_csv(PROFILE))
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize("ids", ["patient_id", "case_id"])
def test_a_table_of_patients_and_genes_is_no_cohort(ids: str, tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(f"{ids},TP53,RB1\nP1,90,80\nP2,91,81\n", encoding="utf-8")
    facts = inspect(tmp_path / "wide.csv")
    assert (facts["reads_as"], facts["patients"], facts["genes"]) == ("rna", 2, 2)


def test_a_cohort_is_one_by_its_folder_its_name_or_its_columns(cohort: Path, tmp_path: Path) -> None:
    table = pd.read_csv(cohort / "cohort.csv")
    for column in ("slide", *(name for name in table if name.startswith("mri_") or name.endswith("_mask"))):
        table[column] = [str(cohort / cell) if isinstance(cell, str) else cell for cell in table[column]]
    table.to_csv(tmp_path / "mine.csv", index=False)
    for path in (cohort, cohort / "cohort.csv", tmp_path / "mine.csv"):
        found = {"kind": "cohort", "reads_as": "cohort", "problem": None, "cases": len(table), "findings": []}
        assert inspect(path) == found
    (tmp_path / "cohort.csv").write_text("patient_id,TP53\nP1,90\n", encoding="utf-8")
    assert "has no column case_id" in inspect(tmp_path / "cohort.csv")["problem"]


def test_a_broken_profile_earns_the_profiles_sentence(tmp_path: Path) -> None:
    (tmp_path / "rna.csv").write_text("gene,value\nTP53,-1\n", encoding="utf-8")
    facts = inspect(tmp_path / "rna.csv")
    assert facts["reads_as"] is None
    assert facts["problem"].startswith("rna.csv has -1 for gene TP53")
