"""A case under every corruption: artefacts put on the raw images, before bias correction, z-score and stain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np

from cmssd_core.cases.modalities import cut_patches
from cmssd_core.cases.prepare import prepare
from cmssd_core.cases.site import is_registered
from cmssd_core.config import Settings
from cmssd_core.corruptions.table import CORRUPTIONS, LEVELS, corrupt_bag, corrupt_volume
from cmssd_core.models.spec import Spec, contrasts_of
from cmssd_core.slide.patches import bag
from cmssd_core.slide.prepare import normalise_stain
from cmssd_core.types import Case, PatchBag, Slide, Volume

#: name, level, the raw case, and a function that prepares it
Variant = tuple[str, int, Case, Callable[[], Case]]


def variants(
    case: Case,
    spec: Spec,
    settings: Settings,
    *,
    seed: int,
    names: Collection[str] | None = None,
    levels: Collection[int] = LEVELS,
) -> Iterator[Variant]:
    """The case under corruptions of the modalities it has, at each level, and with MRI contrasts left out.

    names: of CORRUPTIONS; None = all of them and the missing contrasts. Slide artefacts are put on the patches as the
    scanner gave them: which patches are taken is not changed by them.
    """
    prepared = prepare(case, spec=spec, settings=settings)
    slide, volume = case.inputs.get("he"), case.inputs.get("mri")
    raw = None
    if isinstance(slide, Slide):
        raw = raw_bag(slide, spec, settings)
        raw = raw if is_registered(case) else replace(raw, site_mm=None)
    for name in CORRUPTIONS if names is None else names:
        corruption = CORRUPTIONS[name]
        for level in levels:
            rng = draw(case.id, name, seed=seed)
            if corruption.modality == "he" and raw is not None:
                yield name, level, case, _slide_maker(prepared, raw, name, level, rng, settings)
            elif corruption.modality == "mri" and isinstance(volume, Volume):
                changed = replace(case, inputs={**case.inputs, "mri": corrupt_volume(volume, name, level, rng)})
                yield name, level, changed, _mri_maker(changed, prepared, spec, settings)
    if names is None and isinstance(volume, Volume):
        present = [contrast for contrast in volume.contrasts if contrast in contrasts_of(spec)]
        for count in (1, 2):
            for missing in combinations(present, count) if count < len(present) else ():
                kept = [i for i, contrast in enumerate(volume.contrasts) if contrast not in missing]
                names = tuple(volume.contrasts[i] for i in kept)
                fewer = replace(volume, voxels=volume.voxels[kept], contrasts=names)
                left = replace(case, inputs={**case.inputs, "mri": fewer})
                yield f"without {' and '.join(missing)}", 1, left, _mri_maker(left, prepared, spec, settings)


def raw_bag(slide: Slide, spec: Spec, settings: Settings) -> PatchBag:
    """The patches a model of this spec reads of a slide, in the scanner's own colours."""
    wanted = cut_patches(spec, settings)
    return bag(slide, settings=wanted)[0]


def draw(case_id: str, name: str, *, seed: int) -> np.random.Generator:
    """What a corruption of a case draws from; the same at each level, so that only strength differs."""
    return np.random.default_rng([seed, int(case_id[:8], 16), list(CORRUPTIONS).index(name)])


def _slide_maker(
    prepared: Case, raw: PatchBag, name: str, level: int, rng: np.random.Generator, settings: Settings
) -> Callable[[], Case]:
    def make() -> Case:
        patches = normalise_stain(corrupt_bag(raw, name, level, rng), backend=settings.stain_backend)[0]
        return replace(prepared, inputs={**prepared.inputs, "he": patches})

    return make


def _mri_maker(case: Case, prepared: Case, spec: Spec, settings: Settings) -> Callable[[], Case]:
    def make() -> Case:
        alone = prepare(replace(case, inputs={"mri": case.inputs["mri"]}), spec=spec, settings=settings)
        return replace(prepared, inputs={**prepared.inputs, "mri": alone.inputs["mri"]})

    return make
