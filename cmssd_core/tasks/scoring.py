"""One answer beside the truth of its case: the numbers of a row, from which a cohort's figures are made."""

from __future__ import annotations

from typing import Any

from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Case, Prediction, Volume


def score(found: Prediction, case: Case, *, given: str, surfaces: bool) -> dict[str, Any]:
    """A prediction against the truth, as plain numbers; what the model does not answer has no column.

    given: the name of what the case came with. surfaces: with the distance between them, which is slow.
    """
    volume = next((value for value in case.inputs.values() if isinstance(value, Volume)), None)
    row: dict[str, Any] = {
        "left": given,
        "maps": bool(found.maps) or found.severity_pct is not None,
        "tumour_ml": found.tumour_ml,
        "bone_ml": found.bone_ml,
        "gate_mean": found.gate_mean,
        "gate_at_site": found.gate_at_site,
    }
    row |= {f"uncertainty_{name}": value for name, value in (found.uncertainty or {}).items()}
    for name in (*found.answers, *found.maps):
        if name in TASKS:
            row |= TASKS[name].kind.row(TASKS[name], found, case.truth, volume, surfaces)
    return row
