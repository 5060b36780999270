"""Traps of one case: each probe laid on it, the cohort's own trap where it has one, twins where they can be drawn."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from cmssd_core import cohort as cohorts
from cmssd_core.audit.panel import TrapInfo
from cmssd_core.audit.probes import PROBES
from cmssd_core.cases import channels, prepare
from cmssd_core.config import Settings
from cmssd_core.explain.placing import on_grid
from cmssd_core.models.base import InputSpec
from cmssd_core.mri.mask import read_mask
from cmssd_core.slide.patches import PatchSettings, bag
from cmssd_core.slide.prepare import normalised
from cmssd_core.synthetic.case import name_of, write_case
from cmssd_core.synthetic.phantom import ScanSettings
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.synthetic.shortcuts import SHORTCUTS
from cmssd_core.types import Case, Slide, Volume

Mask = npt.NDArray[np.bool_]
DRAWN, TWIN = "drawn trap", " twin"  # names, and the end of a name, of what is no probe
PLAUSIBLE = ("oedema",)  # lies where disease may lie: a map there is no fault
ALIKE = 0.5  # overlap (intersection over union) from which a drawn trap is taken for a probe's


@dataclass(frozen=True, eq=False)
class Laid:
    """One modality of a case with a trap: image (slice, contrast, y, x) or (patch, 3, y, x); mask on it, or None."""

    modality: str
    image: Tensor
    mask: Mask | None


def laid(name: str, case: Case, prepared: Case, spec: InputSpec, settings: Settings, *, seed: int) -> Laid | None:
    """A probe on the raw case, prepared again; None where the case lacks its modality."""
    probe = PROBES[name]
    rng = np.random.default_rng([seed, int(case.id[:8], 16), list(PROBES).index(name)])
    volume, slide, grid = case.inputs.get("mri"), case.inputs.get("he"), prepared.inputs.get("mri")
    if probe.modality == "mri" and isinstance(volume, Volume) and isinstance(grid, Volume):
        images = dict(zip(volume.contrasts, volume.voxels, strict=True))
        changed, where = probe.lay(images, volume.affine, rng)
        voxels = np.stack([changed[c] for c in volume.contrasts]).astype(np.float32)
        alone = replace(case, inputs={"mri": replace(volume, voxels=voxels)})
        again = prepare(alone, spec=spec, settings=settings).inputs["mri"]
        assert isinstance(again, Volume)
        mask = None if where is None else np.asarray(on_grid(where, volume.affine, like=grid))
        return Laid("mri", channels(again, spec), mask)
    if probe.modality == "he" and isinstance(slide, Slide):
        wanted = PatchSettings(patch_px=spec.patch_px, mpp=spec.patch_mpp, max_patches=settings.max_patches)
        raw = bag(slide, settings=wanted)[0]
        changed, mask = probe.lay(raw.patches, raw.mpp, rng)
        patches = normalised(replace(raw, patches=changed), backend=settings.stain_backend)[0].patches
        return Laid("he", torch.tensor(patches).permute(0, 3, 1, 2).float() / 255, mask)
    return None


def infos(root: Path, table: pd.DataFrame, generator: SynthSettings | None) -> dict[str, TrapInfo]:
    """What is asked of every case, and what of it the cohort itself names."""
    named = {name for row in _trapped(table) for name in _alike(row, root)}
    found = {name: TrapInfo(probe.what, probe.region, name in named) for name, probe in PROBES.items()}
    if generator is not None and generator.shortcut != "none":
        what = SHORTCUTS[generator.shortcut].split(";")[0]
        found[f"{generator.shortcut}{TWIN}"] = TrapInfo(what, TWIN_REGIONS[generator.shortcut], True)
    if _trapped(table) and not named and generator is None:
        found[DRAWN] = TrapInfo("what the cohort's column trap_mask marks", "where trap_mask lies", True)
    return found


TWIN_REGIONS = {
    "marker": "first corner of the MRI's slices",
    "pen": "a line on the slide",
    "coil": "",
    "oedema": "the marrow around the lesion",
    "jpeg": "",
}


def _trapped(table: pd.DataFrame) -> list[Mapping[str, Any]]:
    if "trap_mask" not in table:
        return []
    return [dict(row) for _, row in table[table["trap_mask"].notna()].iterrows()]


def _alike(row: Mapping[str, Any], root: Path) -> list[str]:
    """Probes that lie where a case's drawn trap lies."""
    case = cohorts.admit_row(pd.Series(row, dtype=object), root, masks=False)
    volume = case.inputs.get("mri")
    if not isinstance(volume, Volume):
        return []
    drawn = read_mask(root / str(row["trap_mask"]), like=volume)
    found = []
    for name, probe in PROBES.items():
        if probe.modality != "mri" or not probe.region or name.startswith("moving"):
            continue
        images = dict(zip(volume.contrasts, volume.voxels, strict=True))
        where = probe.lay(images, volume.affine, np.random.default_rng(0))[1]
        if where is not None and (where & drawn).sum() >= ALIKE * (where | drawn).sum():
            found.append(name)
    return found


def donor_of(root: Path, table: pd.DataFrame) -> tuple[Case, Mask]:
    """The first case that carries the cohort's drawn trap, and the trap (z, y, x)."""
    row = _trapped(table)[0]
    case = cohorts.admit_row(pd.Series(row, dtype=object), root, masks=False)
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    return case, np.asarray(read_mask(root / str(row["trap_mask"]), like=volume))


def generator_of(root: Path) -> SynthSettings | None:
    """The settings a synthetic cohort was made with, None where it is none or made by another version."""
    path = root / "settings.json"
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        scan = {**told.pop("scan")}
        shape, contrasts = tuple(scan.pop("shape")), tuple(scan.pop("contrasts"))
        return SynthSettings(scan=ScanSettings(shape=shape, contrasts=contrasts, **scan), **told)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def twins(
    case_id: str, malignant: bool, generator: SynthSettings, spec: InputSpec, settings: Settings
) -> tuple[Case, Case, Mask | None] | None:
    """The case prepared without and with its cohort's shortcut, rendered from one seed; where it lies on the MRI.

    None for a case the generator did not make, or that leaves the shortcut no room.
    """
    number = next((n for n in range(generator.cases) if name_of(n) == case_id), None)
    if number is None or generator.shortcut == "none":
        return None
    always = replace(generator, shortcut_correlation=1.0 if malignant else 0.0)
    prepared, where = [], None
    with tempfile.TemporaryDirectory() as made:
        for settled, folder in ((replace(generator, shortcut="none"), "clean"), (always, "trapped")):
            root = Path(made) / folder
            (root / "cases").mkdir(parents=True)
            write_case(root, number, settled)
            row = json.loads((root / "cases" / case_id / "case.json").read_text(encoding="utf-8"))
            if settled is always and not row["trap"]:
                return None
            case = cohorts.admit_row(pd.Series(row, dtype=object).dropna(), root, masks=False)
            prepared.append(prepare(case, spec=spec, settings=settings))
            volume, grid = case.inputs.get("mri"), prepared[-1].inputs.get("mri")
            if row.get("trap_mask") and isinstance(volume, Volume) and isinstance(grid, Volume):
                drawn = read_mask(root / row["trap_mask"], like=volume)
                where = np.asarray(on_grid(drawn, volume.affine, like=grid))
    return prepared[0], prepared[1], where


def pasted(case: Case, prepared: Case, donor: Case, drawn: Mask, spec: InputSpec, settings: Settings) -> Laid | None:
    """What lies under a donor's drawn trap (z, y, x), at the same place of this case's MRI, as bright as there."""
    volume, source, grid = case.inputs.get("mri"), donor.inputs.get("mri"), prepared.inputs.get("mri")
    if not (isinstance(volume, Volume) and isinstance(source, Volume) and isinstance(grid, Volume)):
        return None
    shape = volume.voxels.shape[1:]
    at = np.ix_(*(np.minimum(np.arange(n) * m // n, m - 1) for n, m in zip(shape, drawn.shape, strict=True)))
    there, voxels = drawn[at], volume.voxels.copy()
    for slot, contrast in enumerate(volume.contrasts):
        like = source.contrasts.index(contrast) if contrast in source.contrasts else 0
        scale = float(np.percentile(voxels[slot], 99.5)) / max(float(np.percentile(source.voxels[like], 99.5)), 1e-6)
        voxels[slot] = np.where(there, source.voxels[like][at] * scale, voxels[slot])
    again = prepare(replace(case, inputs={"mri": replace(volume, voxels=voxels)}), spec=spec, settings=settings)
    changed = again.inputs["mri"]
    assert isinstance(changed, Volume)
    return Laid("mri", channels(changed, spec), np.asarray(on_grid(there, volume.affine, like=grid)))
