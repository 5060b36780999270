"""What a file or folder is: slide, MRI, RNA profile, cohort, weights, or nothing we know; behind `cmssd inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.profile.layout import SUFFIXES
from cmssd_core.types import InputError


def inspect(path: Path) -> dict[str, Any]:
    """JSON-able facts about `path`; "kind" says what it is, "problem" is None or the sentence it is refused with."""
    if not path.exists():
        raise InputError(f"nothing is at {path.name}; expected a file or folder; check the path")
    if path.suffix == ".safetensors":
        return _told("weights", lambda: _weights(path))
    if (path / "cohort.csv").is_file() or _lists_cases(path):
        return _told("cohort", lambda: _cases(path))
    if path.is_file() and path.name.lower().endswith(SUFFIXES):
        from cmssd_core.profile.read import describe_profile

        facts = describe_profile(path)
        return {"reads_as": "rna" if facts["readable"] else None, **facts}
    # The readers say what they make of it; the first that can read it is right, else the one whose suffix fits.
    summary = {}
    for name in ("mri", "he"):
        summary[name] = MODALITIES[name].describe(path)
        if not summary[name]["problem"]:
            return {"reads_as": name, **summary[name]}
    only_he = set(MODALITIES["he"].suffixes) - set(MODALITIES["mri"].suffixes)
    likely = "he" if path.name.lower().endswith(tuple(only_he)) else "mri"
    return {"reads_as": None, **summary[likely]}


# Imported where they are needed: torch and pandas take seconds that the inspection of a scan has no use for.
def _weights(path: Path) -> dict[str, Any]:
    from cmssd_core.models import weights

    return {"model_id": weights.load(path)[2]}


def _cases(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from cmssd_core.cohort import table
    from cmssd_core.cohort.remarks import remarks

    return {"cases": len(table.read(path)), "findings": [asdict(finding) for finding in remarks(path)]}


def _lists_cases(path: Path) -> bool:
    """Whether a CSV is a cohort's by its name or its columns; one of genes may share the patients' ids, no more."""
    if not path.is_file() or not path.name.endswith(".csv"):
        return False
    from cmssd_core.cohort.table import COLUMNS
    from cmssd_core.tables.grid import names_in
    from cmssd_core.tables.headers import letters

    names = set(names_in(path))
    ours = set(COLUMNS) - {"case_id", "patient_id"}
    # By letters alone only what no gene is called: COIL is one.
    loose = {letters(column) for column in ours if "_" in column} | {"split"}
    return path.name == "cohort.csv" or bool(names & ours or {letters(name) for name in names} & loose)


def _told(kind: str, facts: Any) -> dict[str, Any]:
    try:
        return {"kind": kind, "reads_as": kind, "problem": None, **facts()}
    except InputError as problem:
        return {"kind": kind, "reads_as": None, "problem": str(problem), "field": problem.field}
