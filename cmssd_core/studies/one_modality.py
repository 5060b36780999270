"""`cmssd evaluate` where there is one modality alone: H&E tiles with their class, or MRI with a tumour mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core.cohort.pairs import are_pairs
from cmssd_core.cohort.table import MR_COLUMNS, read_cells
from cmssd_core.cohort.tiles import CLASSES, are_tiles
from cmssd_core.config import Settings
from cmssd_core.evaluation.figure import absent
from cmssd_core.evaluation.metrics import METRICS, OfMasks, drawn_names
from cmssd_core.machine.atomic import make_folder, write_together
from cmssd_core.report import page
from cmssd_core.studies import segmentation as segment
from cmssd_core.studies import tiles
from cmssd_core.types import InputError

Record = dict[str, Any]
NOTE = "Research use only. 95 % intervals."


def kind_of(source: Path) -> str:
    """What stands at `source`: "tiles", "pairs" (MRI with masks), or "cases", a cohort or nothing known."""
    if are_pairs(source) or _masks_alone(source):  # first: a folder of scans may hold pictures too
        return "pairs"
    return "tiles" if source.exists() and are_tiles(source) else "cases"


def _masks_alone(source: Path) -> bool:
    """Whether a table holds scans with a tumour mask and nothing that a whole evaluation could be made of."""
    path = source / "cohort.csv" if source.is_dir() else source
    try:
        table = read_cells(path).cells
    except InputError:
        return False
    filled = {str(name) for name in table.columns if table[name].notna().any()}
    scans = filled & set(MR_COLUMNS)
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
) -> Record:
    """Score "tiles" or "pairs" into `out`: metrics.json, predictions.parquet, evaluation.html; gives the first.

    metrics.json holds what `tiles.evaluate` or `segment.evaluate` gives, and every figure that a whole cohort's has,
    with a reason where there is none. mpp: of tiles that do not say theirs. Raises InputError where nothing can be
    scored.
    """
    make_folder(out)
    tell = (lambda done, of: progress(done, of, kind)) if progress else None
    if kind == "tiles":
        summary = tiles.evaluate(source, weights, mpp=mpp, split=split, program=settings, progress=tell)
        summary |= {name: summary[f"tumour_{name}"] for name in ("accuracy", "auc", "sensitivity", "specificity")}
        why = "tiles have a class and neither a map nor a severity"
    elif mpp is not None:
        raise InputError("microns per pixel came for scans with masks, expected them for tiles; leave them out", "mpp")
    else:
        summary = segment.evaluate(source, weights, split=split, program=settings, progress=tell)
        why = "scans with masks have neither a label nor a severity"
    summary |= {name: asdict(absent(why)) for name in promised() if name not in summary} | {"note": NOTE}
    rows = summary["tiles" if kind == "tiles" else "cases"]
    table, text = pd.DataFrame(rows), json.dumps(summary, indent=1, allow_nan=False)
    shown = page.render(
        "one_modality.html.j2",
        told=summary,
        name=source.resolve().name,
        figures={
            name: each for name, each in summary.items() if isinstance(each, dict) and name not in _again(summary)
        },
        titles={name: metric.title for name, metric in METRICS.items()},
        classes=CLASSES,
        rows=rows,
    )
    write_together(
        {
            out / "predictions.parquet": lambda path: table.to_parquet(path, index=False),
            out / "evaluation.html": lambda path: path.write_text(shown, encoding="utf-8"),
            out / "metrics.json": lambda path: path.write_text(text, encoding="utf-8"),
        }
    )
    return summary


def promised() -> list[str]:
    """Top-level figures that every metrics.json has; without a mask of the bone there is none of it."""
    return [name for name, metric in METRICS.items() if not isinstance(metric.how, OfMasks) or name in drawn_names()]


def _again(summary: Record) -> set[str]:
    """Figures that a page need not show: those that are none, and those that stand under a fuller name too."""
    return {name for name in promised() if summary[name]["value"] is None or f"tumour_{name}" in summary}


def in_words(summary: Record) -> list[str]:
    """The main figures, a line each, for a terminal."""
    return tiles.in_words(summary) if summary["kind"] == "tiles" else segment.in_words(summary)
