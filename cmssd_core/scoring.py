"""One answer beside the truth of its case: the numbers of a row, from which a cohort's figures are made."""

from __future__ import annotations

from typing import Any

from cmssd_core.evaluation.overlap import dice, hd95, iou
from cmssd_core.inference import THRESHOLD
from cmssd_core.types import Case, Prediction, Volume


def scored(found: Prediction, case: Case, *, surfaces: bool) -> dict[str, Any]:
    """A prediction against the truth, as plain numbers. surfaces: with the distance between them, which is slow."""
    volume, truth = case.inputs.get("mri"), case.truth
    severity = truth.severity_pct
    if severity is None and truth.tumour is not None and truth.bone is not None and truth.bone.any():
        severity = 100.0 * float((truth.tumour & truth.bone).sum()) / float(truth.bone.sum())
    row: dict[str, Any] = {
        "left": "both" if len(case.inputs) == 2 else next(iter(case.inputs)),
        "p_malignant": found.p_malignant,
        "severity_pct": found.severity_pct,
        "severity_true": severity,
        "maps": bool(found.maps) or found.severity_pct is not None,
        "tumour_ml": found.tumour_ml,
        "bone_ml": found.bone_ml,
        "gate_mean": found.gate_mean,
        "gate_at_site": found.gate_at_site,
    }
    if found.severity_interval is not None:
        row |= {"severity_low": found.severity_interval[0], "severity_high": found.severity_interval[1]}
    row |= {f"uncertainty_{name}": value for name, value in (found.uncertainty or {}).items()}
    if found.maps and isinstance(volume, Volume):
        for name, mask in (("tumour", truth.tumour), ("bone", truth.bone)):
            if mask is None:
                continue
            seen = found.maps[name] >= THRESHOLD
            prefix = "" if name == "tumour" else "bone_"
            row[f"{prefix}dice"] = dice(seen, mask)
            if name == "tumour":
                row["iou"] = iou(seen, mask)
                row["one_empty"] = bool(seen.any() != mask.any())
                if surfaces:
                    row["hd95_mm"] = hd95(seen, mask, volume.spacing_mm[::-1])
    return row
