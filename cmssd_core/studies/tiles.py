"""Tiles alone: tissue classes read off encoder features, scored on a cohort of tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cmssd_core.cohort.split import of_split
from cmssd_core.cohort.tiles import CLASSES, find_tiles
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.evaluation.figure import absent, share
from cmssd_core.evaluation.roc import auc
from cmssd_core.inference import predict as inference
from cmssd_core.inference.tile_head import Values, head_of, load_head, tile_features, tile_patches
from cmssd_core.models.weights import DEFAULT
from cmssd_core.types import InputError


def in_words(summary: dict[str, Any]) -> list[str]:
    """The figures of `evaluate` as lines for a terminal."""
    lines = []
    for name in (key for key in summary if key.startswith(("tumour_", "three_", "recall_"))):
        found, label = summary[name], name.replace("_", " ")
        if found["value"] is None:
            lines.append(f"{label}: none, {found['reason']}")
            continue
        doubt = found["reason"] or "too few for an interval"
        doubt = doubt if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        lines.append(f"{label}: {found['value']:.3f} ({doubt}; {found['n']} tiles)")
    lines += [f"refused {row['tile']}: {row['why']}" for row in summary["refused"]]
    few = f"tiles of {summary['n_patients']} patients, counted as if independent, which flatters the intervals"
    return [*lines, few, f"{summary['model_id']}; classes learned on {summary['trained']}"]


def evaluate(
    source: Path,
    weights: Path | None = None,
    *,
    head: Path | None = None,
    mpp: float | None = None,
    split: str = "all",
    program: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Tissue classes of tiles (a folder or a table, see `find_tiles`) against their names.

    head: None = the one beside the weights. split: of a table that has one, see `cohort.of_split`. Gives JSON-able
    figures of `figures` with "kind", "model_id", "trained", one row a tile, and what was refused. Raises InputError
    where tiles, weights or head cannot be used.
    """
    program = program or default_settings()
    table, root = find_tiles(source, mpp=mpp)
    table = of_split(table, split)
    chosen = weights or program.weights or DEFAULT
    predictor = inference.load(chosen, settings=program)
    known = load_head(head or head_of(chosen), model_id=predictor.model_id)
    seen, refused = [], {}
    for done in range(len(table)):
        try:
            (bag,) = tile_patches(table.iloc[done : done + 1], root, predictor, program=program)
            seen.append(np.full(len(known.mean), np.nan) if bag is None else tile_features(bag, predictor))
        except InputError as problem:
            refused[table.index[done]] = {"tile": str(table["slide"].iloc[done]), "why": str(problem)}
        if progress:
            progress(done + 1, len(table))
    table = table.drop(index=list(refused))
    if table.empty:
        first = next(iter(refused.values()))
        raise InputError(f"no tile could be read; of {first['tile']} it was said: {first['why']}")
    p = known(np.stack(seen))
    rows = [
        {
            "tile": str(name),
            "patient_id": str(who),
            "tissue_class": words,
            **dict(zip(known.classes, map(float, each), strict=True)),
        }
        for name, who, words, each in zip(table["slide"], table["patient_id"], table["tissue_class"], p, strict=True)
    ]
    found = figures(p, known.classes, table["tissue_class"].tolist(), table["patient_id"].tolist())
    return {"kind": "tiles", "model_id": predictor.model_id, "trained": known.trained, **found, "tiles": rows,
            "refused": list(refused.values())}  # fmt: skip


def figures(p: Values, classes: tuple[str, ...], words: list[str], patients: list[str]) -> dict[str, Any]:
    """Tumour against none over all tiles; three classes over the patients who show all three, else why not.

    Intervals are Wilson's and DeLong's over tiles as if each came from a patient of its own, which flatters: tiles of
    one patient resemble one another. n_patients stands beside them.
    """
    truth, who = np.array(words), np.array(patients)
    tumour, p_tumour = truth != "non_tumor", 1.0 - p[:, classes.index("non_tumor")]
    called = np.array(classes)[p.argmax(1)]
    found: dict[str, Any] = {
        "n_patients": len(set(patients)),
        "tumour_accuracy": asdict(share((p_tumour >= 0.5) == tumour)),
        "tumour_sensitivity": asdict(share((p_tumour >= 0.5)[tumour])),
        "tumour_specificity": asdict(share((p_tumour < 0.5)[~tumour])),
        "tumour_auc": asdict(auc(tumour, p_tumour)),
    }
    whole = [name for name in np.unique(who) if set(truth[who == name]) == set(CLASSES)]
    rows = np.isin(who, whole)
    if len(classes) < len(CLASSES) or not whole:
        why = "no patient shows all three classes, so patient and class cannot be told apart"
        return {**found, "three_classes": asdict(absent(why)), "confusion": None}
    confusion = [[int(((truth == a) & (called == b) & rows).sum()) for b in CLASSES] for a in CLASSES]
    recalls = {f"recall_{name}": asdict(share((called == name)[rows & (truth == name)])) for name in CLASSES}
    return {**found, "three_classes": asdict(share((called == truth)[rows])), **recalls, "confusion": confusion}
