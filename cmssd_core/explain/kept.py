"""Attributions in the store: what was asked as a content key, and the answer there and back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace

from cmssd_core.config import Settings
from cmssd_core.explain.criteria import Outline
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.explain.targets import Target
from cmssd_core.inference.predict import PIPELINE, Predictor
from cmssd_core.machine import store as storage
from cmssd_core.types import Attribution, Case, Share, Slide, Volume

EXPLAINED = 1  # part of every content key; raised when the same question would get another answer
ARRAYS = ("maps", "inputs", "affine", "patch_xy")


def key(
    case: Case,
    predictor: Predictor,
    method: str,
    target: Target,
    settings: ExplainSettings,
    criteria: Sequence[Outline],
    program: Settings,
) -> str:
    """The content key of one question about one case: all that could change its answer."""
    slide = case.inputs.get("he")
    return storage.key(
        explained=EXPLAINED,
        pipeline=PIPELINE,
        case=case.id,
        model=predictor.model_id,
        method=method,
        target=target.key,
        settings=asdict(settings),
        criteria=[(one.criterion.name, one.criterion.modality, one.digest) for one in criteria],
        mpp=slide.mpp if isinstance(slide, Slide) else None,
        site=slide.site_mm if isinstance(slide, Slide) else None,
        n4=program.n4,
        stain=program.stain_backend,
        patches=program.max_patches,
        device=predictor.device.type,
    )


def keep(store: storage.Store, key: str, summary: Attribution) -> Attribution:
    """Keeps an answer; where the disk refuses, the answer says so."""
    arrays: dict[str, storage.Array] = {f"maps/{name}": values for name, values in summary.maps.items()}
    arrays |= {
        f"inputs/{name}": values for name, values in summary.inputs.items() if values is not summary.maps.get(name)
    }
    if summary.patch_xy is not None:
        arrays["patch_xy"] = summary.patch_xy
    meta = {name: value for name, value in vars(summary).items() if name not in ARRAYS}
    meta |= {"shares": [asdict(share) for share in summary.shares], "notes": list(summary.notes)}
    try:
        store.put(key, arrays=arrays, meta=meta)
    except storage.StoreError as problem:
        return replace(summary, notes=(*summary.notes, f"this answer could not be kept for next time: {problem}"))
    return summary


def load_attribution(store: storage.Store, key: str, case: Case) -> Attribution | None:
    """The answer as it was kept, None where there is none or another version wrote it."""
    # An entry that an older version wrote may lack a field: then it is no answer.
    with contextlib.suppress(storage.StoreError, KeyError, TypeError):
        entry = store.get(key)
        if entry is None:
            return None
        volume = case.inputs.get("mri")
        maps = {name[5:]: values for name, values in entry.arrays.items() if name.startswith("maps/")}
        inputs = {name[7:]: values for name, values in entry.arrays.items() if name.startswith("inputs/")}
        meta = dict(entry.meta)
        meta["shares"] = tuple(Share(**share) for share in meta["shares"])
        meta["notes"] = tuple(meta["notes"])
        return Attribution(
            maps=maps,
            inputs={name: inputs.get(name, values) for name, values in maps.items()},
            affine=volume.affine if isinstance(volume, Volume) and "mri" in maps else None,
            patch_xy=entry.arrays.get("patch_xy"),
            **meta,
        )
    return None
