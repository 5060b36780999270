"""Laws of the table of contrasts: its rows agree with each other, and a new contrast is one row."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

from cmssd_core.cohort.table import COLUMNS, MR_COLUMNS, MRI_COLUMNS
from cmssd_core.volume.contrasts import CONTRASTS, contrast_of_word


def test_no_two_rows_share_a_column_a_label_or_a_word():
    rows = CONTRASTS.values()
    for facts in (
        [row.column for row in rows],
        [row.label for row in rows],
        [word for name, row in CONTRASTS.items() for word in (name, *row.aliases)],
        [row.acquisition for row in rows if row.acquisition],
    ):
        assert len(facts) == len(set(facts))


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_window_has_a_unit_and_holds_air_at_its_lower_end(name):
    row = CONTRASTS[name]
    if row.limits is None:
        assert row.scale == "zscore"
        assert row.air is None
        return
    assert row.scale == "window"
    assert row.unit
    assert row.air is not None
    assert row.body_above is not None
    assert row.air <= row.limits[0] < row.limits[1]
    assert row.air < row.body_above


@pytest.mark.parametrize(
    ("word", "contrast"),
    [
        *((word, "t1") for word in ("t1", "t1w", "t1wi", "t1c", "t1ce", "t1gd", "t1fs")),
        *((word, "t2") for word in ("t2", "t2w", "t2wi", "t2fs")),
        *(("stir", "stir"), ("tirm", "stir"), ("adc", "adc"), ("ct", "ct")),
        *(("pet", "pet"), ("pt", "pet"), ("suv", "pet"), ("flair", None), ("", None), ("t", None)),
    ],
)
def test_words_of_names_stand_for_the_contrasts_they_always_did(word, contrast):
    assert contrast_of_word(word) == contrast


def test_columns_of_a_cohort_are_the_tables():
    assert MRI_COLUMNS == {
        "mri_t1": "t1",
        "mri_t2": "t2",
        "mri_stir": "stir",
        "mri_adc": "adc",
        "ct": "ct",
        "pet": "pet",
    }
    assert MR_COLUMNS == ("mri_t1", "mri_t2", "mri_stir", "mri_adc")
    assert set(MRI_COLUMNS) < set(COLUMNS)


# In a process of its own, because columns are taken from the table once, when the program starts.
ONE_ROW_MORE = """
import json, sys
from pathlib import Path
from cmssd_core.volume.contrasts import CONTRASTS, Contrast

CONTRASTS["flair"] = Contrast(label="FLAIR", column="mri_flair", aliases=("dark",), acquisition="FLUID_ATTENUATED")
CONTRASTS["t1ce"] = Contrast(label="T1 CE", column="mri_t1ce")

import numpy as np
import pandas as pd
import SimpleITK as sitk
from cmssd_core.cases.collate import collate
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.pairs import find_pairs
from cmssd_core.commands.single import _contrasts
from cmssd_core.config import Settings
from cmssd_core.models.spec import VolumeSpec
from cmssd_core.volume.contrast import Appearance, classify
from cmssd_core.volume.read import read

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
for name in ("scan_t1", "scan_t1ce", "scan_dark"):
    image = sitk.GetImageFromArray(rng.normal(300, 40, (4, 24, 24)).astype(np.float32))
    sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
mask = sitk.GetImageFromArray(np.ones((4, 24, 24), np.uint8))
sitk.WriteImage(mask, str(folder / "scan_mask.nii.gz"))
row = {"case_id": "a", "mri_t1": "scan_t1.nii.gz", "mri_flair": "scan_dark.nii.gz", "mri_t1ce": "scan_t1ce.nii.gz"}
pd.DataFrame([row]).to_csv(folder / "cohort.csv", index=False)

case = cohorts.admit_row(cohorts.read(folder).iloc[0], folder)
spec = {"mri": VolumeSpec(contrasts=("flair", "t1ce", "t2"), px=24)}
ready = prepare(case, spec=spec, settings=Settings(n4=True))
channels = collate([ready], spec).inputs["mri"][0, :, 1]
print(json.dumps({
    "named": read(folder / "scan_dark.nii.gz").value.contrasts,
    "given": sorted(_contrasts(["flair=x.nii", "T1CE=y.nii"])),
    "series": classify(Appearance(modality="MR", weighting="FLUID_ATTENUATED")),
    "pairs": sorted(find_pairs(folder).dropna(axis=1).columns),
    "case": case.inputs["mri"].contrasts,
    "ready": ready.inputs["mri"].contrasts,
    "corrected": [step.split(":")[0] for step in ready.steps if "bias field" in step],
    "filled": [bool(channels[:, i].any()) for i in range(3)],
}))
"""


def test_a_new_contrast_is_one_row(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ONE_ROW_MORE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "named": ["flair"],
        "given": ["flair", "t1ce"],
        "series": ["flair", "a FLAIR"],
        "pairs": ["case_id", "mri_flair", "mri_t1", "mri_t1ce", "patient_id", "tumour_mask"],
        "case": ["t1", "flair", "t1ce"],
        "ready": ["flair", "t1ce"],
        "corrected": ["flair", "t1ce"],
        "filled": [True, True, False],
    }
