"""Ids of patients: one spelling for one patient, and the patient in a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmssd_core.tables.ids import alike, clean, joined, loose, named_patient, patient_of, visits


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("P1", "P1"),
        (" P1\u00a0", "P1"),
        ("\ufeffP\u200b1", "P1"),
        ("P  1", "P 1"),
        ("12.0", "12"),
        ("012.0", "012"),
        ("1.20", "1.20"),
        ("Mu\u0308ller", "M\u00fcller"),
        ("\u200b", ""),
    ],
)
def test_a_patient_has_one_spelling(text: str, who: str) -> None:
    assert patient_of(text) == who


@given(st.text(max_size=12))
def test_a_spelling_is_settled_once_and_for_all(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert patient_of(patient_of(text)) == patient_of(text)


def test_what_looks_like_one_patient() -> None:
    assert alike(["Case3", "Case-3", "case_03", "Case30"]) == [("Case3", "Case-3", "case_03")]
    assert alike(["12", "012", "112", "1-12", "A12", "B12", "P1", "P10", "P01", "-", "?"]) == [
        ("12", "012"),
        ("P1", "P01"),
    ]
    assert loose("A-12") == loose("a12") != loose("a112")
    assert joined(["Case-3", "x", "case_03"]) == ["Case-3", "x", "Case-3"]


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("Viable___Case-4-A15-2939.jpg", "Case-4"),
        ("Viable_Case 4.jpg", "Case-4"),
        ("P9-B12-15791.jpg", "P9"),
        ("P53_Case-4.jpg", "Case-4"),
        ("TCGA.DX.A1KU.01A_P53.png", "TCGA-DX-A1KU"),
        ("sub-01_ses-2_P53.png", "sub-01"),
        ("C3L-00123-21_P53.png", "C3L-00123"),
        ("SHOWCASE3.png", None),
        ("MP3.png", None),
    ],
)
def test_the_patient_in_a_name(name: str, who: str | None) -> None:
    found = named_patient(name, weak=True)
    assert (found and found[0]) == who


def test_ids_are_one_patient_where_only_a_visit_tells_them_apart() -> None:
    assert visits(["P1_v1", "P2", "P1_v2", "P1"]) == {"P1": ("P1_v1", "P1_v2", "P1")}
    assert visits(["P1_v1", "P2_v1", "OS_T1", "OS_T2", "v1", "v2", "L_001", "R_001", "1_v1", "1_v1"]) == {}
