"""What a cohort's table was understood to say, where that was not to the letter, and who may be one patient."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cmssd_core.cohort import pairs, tiles
from cmssd_core.cohort.table import read_cells, table_of
from cmssd_core.tables.ids import alike, visits
from cmssd_core.tables.read import first
from cmssd_core.types import Finding, InputError

NAMED = 5  # groups of patients named; the others are counted


def remarks(source: Path) -> tuple[Finding, ...]:
    """Findings about a cohort's table, tiles or pairs: encoding, columns, cells, and who counts as a patient.

    There are none of what cannot be read: what is wrong with it is said by who reads it.
    """
    try:
        if not source.is_file() and not (source / "cohort.csv").is_file():
            return _of_names(source)
        table = tiles.read_cells(table_of(source)) if tiles.are_tiles(source) else read_cells(table_of(source))
    except InputError:
        return ()
    if table.cells.empty or not {"case_id", "slide"} & set(table.cells.columns):
        return ()
    return (*table.findings, *of_patients(table.cells))


def _of_names(folder: Path) -> tuple[Finding, ...]:
    """Of tiles in a folder, how many say no patient; of pairs, who was taken for one patient."""
    if pairs.are_pairs(folder):
        return _of_pairs(pairs.find_pairs(folder), folder.name)
    patients = tiles.patients_in(folder) if tiles.are_tiles(folder) else []
    alone = sum(who is None for who in patients)
    what = f"{alone} of {len(patients)} tiles name no patient; each of them counts as a patient of its own"
    return (Finding("warning", what, folder.name),) if alone else ()


def _of_pairs(table: pd.DataFrame, where: str) -> tuple[Finding, ...]:
    cases = table.groupby("patient_id", sort=False)["case_id"].apply(list)
    shared = cases[cases.map(len) > 1]
    if shared.empty:
        return ()
    what = f"taken as visits of one patient: {_shown([' and '.join(several) for several in shared])}"
    return (Finding("info", f"{what}; give a cohort.csv with patient_id where they are not", where),)


def _shown(groups: list[str]) -> str:
    """The first NAMED of them; the others are counted."""
    return "; ".join(groups[:NAMED]) + (f"; {len(groups) - NAMED} more" if len(groups) > NAMED else "")


def of_patients(cells: pd.DataFrame) -> tuple[Finding, ...]:
    """Rows without a patient, and patients who may be one; cells: by `table.read_cells`."""
    where = "column patient_id"
    if "patient_id" not in cells or cells["patient_id"].isna().all():
        what = (
            "no patient is named, so that each case counts as a patient of its own; add patient_id where some share one"
        )
        return (Finding("warning", what, where),)
    found = []
    nameless = cells["patient_id"].isna()
    if nameless.any():
        what = (
            f"{int(nameless.sum())} of {len(cells)} rows name no patient, the first is row {first(nameless)}; each of "
            "them counts as a patient of its own"
        )
        found.append(Finding("warning", what, where))
    known = cells["patient_id"].dropna().unique()
    for difference, groups in (
        ("leading zeros, case or separators", alike(known)),
        ("a visit or a side", list(visits(known).values())),
    ):
        if groups:
            named = _shown([" and ".join(map(repr, group)) for group in groups])
            what = f"patients who differ in {difference} alone count as several: {named}"
            found.append(Finding("warning", f"{what}; write them alike where they are one", where))
    return tuple(found)
