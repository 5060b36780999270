"""Traps of one case: each probe laid on it, the cohort's own trap pasted or removed, twins where they can be drawn."""

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
from scipy.ndimage import binary_dilation
from torch import Tensor

from cmssd_core.audit.panel import TrapInfo
from cmssd_core.audit.probes import PROBES
from cmssd_core.cases.modalities import cut_patches
from cmssd_core.cases.prepare import prepare
from cmssd_core.cases.tensors import channels
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.explain import criteria as drawn
from cmssd_core.explain.placing import on_grid
from cmssd_core.models.spec import Spec, contrasts_of
from cmssd_core.slide.patches import bag
from cmssd_core.slide.prepare import normalise_stain
from cmssd_core.synthetic.case import name_of, write_case
from cmssd_core.synthetic.phantom import ScanSettings
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.synthetic.shortcuts import SHORTCUTS
from cmssd_core.types import Case, PatchBag, Slide, Volume

Mask = npt.NDArray[np.bool_]
DRAWN = "drawn trap"  # what no probe is like
REMOVED, TWIN = " removed", " twin"  # ends of names: a trap that cases came with, filled; the same patient both ways
PLAUSIBLE = ("oedema",)  # lies where disease may lie: a map there is no fault
ALIKE = 0.5  # overlap (intersection over union) from which a drawn trap is taken for a probe's
RIM_PX, AROUND_PX = 1, 6  # of a trap: what is filled with it, and what it is made to look like
#: Columns of a cohort that say where a case's own trap lies.
MASKS = (
    drawn.Criterion("trap_mask", "mri", "What is no disease, on the MRI.", column="trap_mask"),
    drawn.Criterion("trap_slide_mask", "he", "What is no disease, on the slide.", column="trap_slide_mask"),
)
#: Shortcuts that a generator renders: on which modality, and where.
TWINS = {
    "marker": ("mri", "first corner of the MRI's slices"),
    "pen": ("he", "a line on the slide"),
    "coil": ("mri", ""),
    "oedema": ("mri", "the marrow around the lesion"),
    "jpeg": ("he", ""),
}


@dataclass(frozen=True, eq=False)
class Laid:
    """One modality of a case with a trap: image (slice, contrast, y, x) or (patch, 3, y, x); mask on it, or None."""

    modality: str
    image: Tensor
    mask: Mask | None


@dataclass(frozen=True, eq=False)
class Own:
    """A trap that a case came with, as somebody drew it. names: the probes that it is like, or DRAWN."""

    names: tuple[str, ...]
    outline: drawn.Outline

    @property
    def modality(self) -> str:
        """ "mri" or "he"."""
        return self.outline.criterion.modality


def lay_trap(name: str, case: Case, prepared: Case, spec: Spec, settings: Settings, *, seed: int) -> Laid | None:
    """A probe on the raw case, prepared again; None where the case or the model has not its modality."""
    probe = PROBES[name]
    if probe.modality not in spec:
        return None
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
        return Laid("mri", channels(again, contrasts_of(spec)), mask)
    if probe.modality == "he" and isinstance(slide, Slide):
        raw = _patches(slide, spec, settings)
        changed, mask = probe.lay(raw.patches, raw.mpp, rng)
        return Laid("he", _stained(raw, changed, settings), mask)
    return None


def own(row: Mapping[str, Any], root: Path, case: Case) -> list[Own]:
    """The traps that a case of a cohort came with, by its columns. Raises InputError for a mask that cannot be read."""
    found = []
    for outline in drawn.outlines(pd.Series(dict(row), dtype=object), root, case, MASKS).values():
        if outline is not None:
            names = ("pen",) if outline.voxels is None else _alike(outline.voxels, case) or (DRAWN,)
            found.append(Own(names, outline))
    return found


def infos(root: Path, table: pd.DataFrame, generator: SynthSettings | None) -> dict[str, TrapInfo]:
    """What is asked of every case, and what of it the cohort itself names."""
    named = {name for row in _trapped(table) for one in own(row, root, _case(row, root)) for name in one.names}
    found = {name: TrapInfo(probe.what, probe.region, name in named) for name, probe in PROBES.items()}
    if generator is not None and generator.shortcut != "none":  # twins show it better than any paste or fill
        what = SHORTCUTS[generator.shortcut].split(";")[0]
        found[f"{generator.shortcut}{TWIN}"] = TrapInfo(what, TWINS[generator.shortcut][1], True)
        return found
    if DRAWN in named:
        found[DRAWN] = TrapInfo("what the cohort's column trap_mask marks", "where trap_mask lies", True)
    for name in [name for name in found if name in named]:
        seen = f"{found[name].what}, beside the same images with it filled,"
        found[f"{name}{REMOVED}"] = TrapInfo(seen, found[name].region, True, of=name)
    return found


def _trapped(table: pd.DataFrame, masks: tuple[drawn.Criterion, ...] = MASKS) -> list[Mapping[str, Any]]:
    columns = [one.column for one in masks if one.column in table]
    return [dict(row) for _, row in table[table[columns].notna().any(axis=1)].iterrows()] if columns else []


def _case(row: Mapping[str, Any], root: Path) -> Case:
    return cohorts.admit_row(pd.Series(dict(row), dtype=object), root, masks=False)


def _alike(voxels: Mask, case: Case) -> tuple[str, ...]:
    """Probes that lie where a case's drawn trap (z, y, x) lies."""
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    images = dict(zip(volume.contrasts, volume.voxels, strict=True))
    found = []
    for name, probe in PROBES.items():
        if probe.modality != "mri" or not probe.region or name.startswith("moving"):
            continue
        where = probe.lay(images, volume.affine, np.random.default_rng(0))[1]
        if where is not None and (where & voxels).sum() >= ALIKE * (where | voxels).sum():
            found.append(name)
    return tuple(found)


def donor_of(root: Path, table: pd.DataFrame) -> tuple[Case, Mask]:
    """The first case that carries the cohort's drawn trap, and the trap (z, y, x)."""
    for row in _trapped(table, MASKS[:1]):
        case = _case(row, root)
        for one in own(row, root, case):
            if DRAWN in one.names and one.outline.voxels is not None:
                return case, one.outline.voxels
    raise ValueError("no case carries a drawn trap")


def generator_of(root: Path) -> SynthSettings | None:
    """The settings a synthetic cohort was made with, None where it is none or made by another version."""
    path = root / "settings.json"
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        scan = {**summary.pop("scan")}
        shape, contrasts = tuple(scan.pop("shape")), tuple(scan.pop("contrasts"))
        return SynthSettings(scan=ScanSettings(shape=shape, contrasts=contrasts, **scan), **summary)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def twins(
    case_id: str, malignant: bool, generator: SynthSettings, spec: Spec, settings: Settings
) -> tuple[Case, Case, Mask | None] | None:
    """The case prepared without and with its cohort's shortcut, rendered from one seed; where it lies on the latter.

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
            case = _case({key: value for key, value in row.items() if value is not None}, root)
            prepared.append(prepare(case, spec=spec, settings=settings))
            for one in own(row, root, case):
                if one.modality not in spec:
                    continue
                where = place_of(one, case, prepared[-1])
    return prepared[0], prepared[1], where


def place_of(one: Own, case: Case, prepared: Case) -> Mask:
    """Where a case's own trap lies on its prepared slices or patches, (image, y, x)."""
    return np.asarray(drawn.mark(one.outline, case, prepared).mask[0].numpy())


def remove_trap(one: Own, case: Case, prepared: Case, spec: Spec, settings: Settings) -> Laid | None:
    """A case without its own trap: filled on the raw image with what lies around it, and prepared again.

    None where the trap leaves nothing to fill it with.
    """
    volume, slide, where = case.inputs.get("mri"), case.inputs.get("he"), place_of(one, case, prepared)
    if one.outline.voxels is not None and isinstance(volume, Volume):
        filled = _filled(np.moveaxis(volume.voxels, 0, -1), one.outline.voxels)
        if filled is None:
            return None
        alone = replace(case, inputs={"mri": replace(volume, voxels=np.ascontiguousarray(np.moveaxis(filled, -1, 0)))})
        again = prepare(alone, spec=spec, settings=settings).inputs["mri"]
        assert isinstance(again, Volume)
        return Laid("mri", channels(again, contrasts_of(spec)), where)
    if one.modality == "he" and isinstance(slide, Slide):
        raw = _patches(slide, spec, settings)
        filled = _filled(raw.patches, where)
        return None if filled is None else Laid("he", _stained(raw, filled, settings), where)
    return None


def _filled(images: npt.NDArray[Any], mask: Mask) -> npt.NDArray[Any] | None:
    """Images (image, y, x, channel) with a mask and its rim like what lies around them on the same image, at median."""
    rim, around = (np.ones((1, 2 * px + 1, 2 * px + 1)) for px in (RIM_PX, AROUND_PX))
    gone = binary_dilation(mask, rim)
    ring = binary_dilation(gone, around) & ~gone
    if not ring.any():
        return None
    out, anywhere = images.copy(), np.median(images[ring], axis=0)
    for i in np.flatnonzero(gone.any((1, 2))):
        out[i][gone[i]] = np.median(images[i][ring[i]], axis=0) if ring[i].any() else anywhere
    return out


def _patches(slide: Slide, spec: Spec, settings: Settings) -> PatchBag:
    """The patches that a model reads of a slide, before stain normalisation."""
    wanted = cut_patches(spec, settings)
    return bag(slide, settings=wanted)[0]


def _stained(raw: PatchBag, patches: npt.NDArray[np.uint8], settings: Settings) -> Tensor:
    """Changed patches in the place of a bag's own, normalised as they are for the model: (patch, 3, y, x)."""
    again = normalise_stain(replace(raw, patches=patches), backend=settings.stain_backend)[0].patches
    return torch.tensor(again).permute(0, 3, 1, 2).float() / 255


def paste_trap(case: Case, prepared: Case, donor: Case, trap: Mask, spec: Spec, settings: Settings) -> Laid | None:
    """What lies under a donor's drawn trap (z, y, x), at the same place of this case's MRI, as bright as there."""
    volume, source, grid = case.inputs.get("mri"), donor.inputs.get("mri"), prepared.inputs.get("mri")
    if not (isinstance(volume, Volume) and isinstance(source, Volume) and isinstance(grid, Volume)):
        return None
    shape = volume.voxels.shape[1:]
    at = np.ix_(*(np.minimum(np.arange(n) * m // n, m - 1) for n, m in zip(shape, trap.shape, strict=True)))
    present, voxels = trap[at], volume.voxels.copy()
    for slot, contrast in enumerate(volume.contrasts):
        like = source.contrasts.index(contrast) if contrast in source.contrasts else 0
        scale = float(np.percentile(voxels[slot], 99.5)) / max(float(np.percentile(source.voxels[like], 99.5)), 1e-6)
        voxels[slot] = np.where(present, source.voxels[like][at] * scale, voxels[slot])
    again = prepare(replace(case, inputs={"mri": replace(volume, voxels=voxels)}), spec=spec, settings=settings)
    changed = again.inputs["mri"]
    assert isinstance(changed, Volume)
    return Laid("mri", channels(changed, contrasts_of(spec)), np.asarray(on_grid(present, volume.affine, like=grid)))
