"""What a file or folder is: a slide, an MRI, a cohort, weights, or nothing we know; behind `cmssd inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmssd_core import cohort, weights_file
from cmssd_core.modalities import MODALITIES
from cmssd_core.types import InputError


def inspect(path: Path) -> dict[str, Any]:
    """JSON-able facts about `path`; "kind" says what it is, "problem" is None or the sentence it is refused with."""
    if not path.exists():
        raise InputError(f"nothing is at {path.name}; expected a file or folder; check the path")
    if path.suffix == ".safetensors":
        return _told("weights", lambda: {"model_id": weights_file.load(path)[2]})
    if path.name.endswith(".csv") or (path / "cohort.csv").is_file():
        return _told("cohort", lambda: {"cases": len(cohort.read(path))})
    # Both readers say what they make of it; the one that can read it is right, else the one whose suffix fits.
    told = {name: MODALITIES[name].describe(path) for name in ("mri", "he")}
    for name in ("mri", "he"):
        if not told[name]["problem"]:
            return {"reads_as": name, **told[name]}
    only_he = set(MODALITIES["he"].suffixes) - set(MODALITIES["mri"].suffixes)
    likely = "he" if path.name.lower().endswith(tuple(only_he)) else "mri"
    return {"reads_as": None, **told[likely]}


def _told(kind: str, facts: Any) -> dict[str, Any]:
    try:
        return {"kind": kind, "reads_as": kind, "problem": None, **facts()}
    except InputError as problem:
        return {"kind": kind, "reads_as": None, "problem": str(problem)}
