"""`cmssd evaluate` where there is one modality alone: H&E tiles with their class, or MRI with a tumour mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core import segment, tiles
from cmssd_core.cohort import MRI_COLUMNS
from cmssd_core.config import Settings
from cmssd_core.evaluation.metrics import absent
from cmssd_core.report import page
from cmssd_core.types import InputError
from cmssd_core.whole import make_folder, write_whole

Told = dict[str, Any]
#: Top-level figures that every metrics.json has.
PROMISED = ("accuracy", "auc", "dice", "iou", "hd95_mm", "severity_mae", "sensitivity", "specificity", "brier")
NOTE = "Research use only. 95 % intervals."


def kind_of(source: Path) -> str:
    """What stands at `source`: "tiles", "pairs" (MRI with masks), or "cases", a cohort or nothing known."""
    if segment.are_pairs(source) or _masks_alone(source):  # first: a folder of scans may hold pictures too
        return "pairs"
    return "tiles" if source.exists() and tiles.are_tiles(source) else "cases"


def _masks_alone(source: Path) -> bool:
    """Whether a table holds scans with a tumour mask and nothing that a whole evaluation could be made of."""
    path = source / "cohort.csv" if source.is_dir() else source
    try:
        table = pd.read_csv(path, dtype=str)
    except (ValueError, OSError):
        return False
    filled = {str(name) for name in table.columns if table[name].notna().any()}
    scans = filled & {name for name in MRI_COLUMNS if name.startswith("mri_")}
    more = filled & {"slide", "malignant", "severity_pct", "bone_mask"}
    return bool(scans and filled & {"tumour_mask", "lesion_mask"}) and not more


def evaluate(
    source: Path,
    out: Path,
    *,
    kind: str,
    weights: Path | None = None,
    mpp: float | None = None,
    split: str = "test",
    settings: Settings | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Told:
    """Score "tiles" or "pairs" into `out`: metrics.json, predictions.parquet, evaluation.html; gives the first.

    metrics.json holds what `tiles.evaluate` or `segment.evaluate` gives, and every figure that a whole cohort's has,
    with a reason where there is none. mpp: of tiles that do not say theirs. Raises InputError where nothing can be
    scored.
    """
    make_folder(out)
    tell = (lambda done, of: progress(done, of, kind)) if progress else None
    if kind == "tiles":
        told = tiles.evaluate(source, weights, mpp=mpp, split=split, program=settings, progress=tell)
        told |= {name: told[f"tumour_{name}"] for name in ("accuracy", "auc", "sensitivity", "specificity")}
        why = "tiles have a class and neither a map nor a severity"
    elif mpp is not None:
        raise InputError("--mpp came for scans with masks, expected it for tiles; leave it out")
    else:
        told = segment.evaluate(source, weights, split=split, program=settings, progress=tell)
        why = "scans with masks have neither a label nor a severity"
    told |= {name: asdict(absent(why)) for name in PROMISED if name not in told} | {"note": NOTE}
    rows = told["tiles" if kind == "tiles" else "cases"]
    write_whole(out / "predictions.parquet", lambda path: pd.DataFrame(rows).to_parquet(path, index=False))
    write_whole(
        out / "metrics.json",
        lambda path: path.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8"),
    )
    text = page.render(
        "one_modality.html.j2",
        told=told,
        name=source.resolve().name,
        figures={name: each for name, each in told.items() if isinstance(each, dict) and name not in _again(told)},
        classes=tiles.CLASSES,
        rows=rows,
    )
    write_whole(out / "evaluation.html", lambda path: path.write_text(text, encoding="utf-8"))
    return told


def _again(told: Told) -> set[str]:
    """Figures that a page need not show: those that are none, and those that stand under a fuller name too."""
    return {name for name in PROMISED if told[name]["value"] is None or f"tumour_{name}" in told}


def in_words(told: Told) -> list[str]:
    """The main figures, a line each, for a terminal."""
    return tiles.in_words(told) if told["kind"] == "tiles" else segment.in_words(told)
