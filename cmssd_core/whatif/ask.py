"""A change put to an admitted case: the same forward as ever, only what changed prepared and encoded anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from cmssd_core.batches import move_batch
from cmssd_core.cases.collate import collate
from cmssd_core.cases.modalities import cut_patches
from cmssd_core.cases.prepare import prepare
from cmssd_core.cases.site import is_registered
from cmssd_core.config import Settings
from cmssd_core.corruptions.cases import draw, raw_bag
from cmssd_core.corruptions.table import LEVELS, corrupt_bag, corrupt_volume
from cmssd_core.explain.modality_shapley import ModalityShares, modality_shares
from cmssd_core.inference import predict as inference
from cmssd_core.inference.predict import Predictor, Progress
from cmssd_core.machine.store import Store
from cmssd_core.models.spec import patch_spec, volume_spec
from cmssd_core.slide.prepare import normalise_stain
from cmssd_core.slide.prepare import prepare as prepare_slide
from cmssd_core.types import Case, Finding, InputError, PatchBag, Prediction, Slide, Volume
from cmssd_core.whatif.change import Change, Damage, canonical, content_id, words
from cmssd_core.whatif.erase import erase_prepared, erase_shown
from cmssd_core.whatif.memory import Memory

Made = TypeVar("Made")
KEPT = 6  # intermediate results a bench keeps, e.g. the prepared MRI under the last few artefacts


class Bench:
    """One admitted case on the bench: what was prepared and encoded of it stays, so that a change costs its own part.

    donor: another case, whose slide may stand in for the own one. Not safe for two threads: hold the model's lock.
    """

    def __init__(self, case: Case, predictor: Predictor, *, settings: Settings, store: Store | None = None) -> None:
        self.case, self.predictor, self.settings, self.store = case, predictor, settings, store
        self.memory = Memory()
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """What `make` gives, made once while it is among the last KEPT asked for; the prepared original stays."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        for old in [k for k in self._kept if k != "prepared"][:-KEPT]:
            del self._kept[old]
        made: Made = self._kept[key]
        return made

    def prepared(self) -> Case:
        """The original as the model reads it."""
        spec, settings = self.predictor.spec, self.settings
        return self.once("prepared", lambda: prepare(self.case, spec=spec, settings=settings))


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model says of a changed case. case: its raw inputs as changed, for the eye, under an id of its own."""

    change: Change
    case: Case
    prediction: Prediction


def ask(bench: Bench, change: Change, *, donor: Case | None = None, progress: Progress | None = None) -> Answer:
    """The answer to a change, by `inference.predict`; from the store where it is known, under the changed id.

    donor: the case that change.slide_of names. progress(share, what) is called at every step; what it raises ends the
    work and nothing is kept. Raises InputError where nothing would be left, the site lies outside the MRI, or the
    change names what the case does not have.
    """
    change = canonical(change)
    _check(bench.case, change, donor)
    tell = progress or (lambda share, what: None)
    tell(0.0, "making the change")
    case, unerased = _changed(bench, change, donor)

    def ready() -> Case:
        return _prepared(bench, change, case, unerased, tell)

    reached = [0.5]

    def before_each() -> None:
        reached[0] = min(0.8, reached[0] + 0.04)
        tell(reached[0], "running the network")

    with bench.memory.over(bench.predictor.model, before_each):
        prediction = inference.predict(
            case, bench.predictor, settings=bench.settings, store=bench.store, progress=tell, prepared=ready
        )
    return Answer(change, case, prediction)


def sweep(
    bench: Bench,
    name: str,
    *,
    levels: tuple[float, ...] = (0, *LEVELS),
    base: Change | None = None,
    donor: Case | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[float, Prediction], ...]:
    """The answers as one artefact grows from level to level over `base`, each with its level."""
    tell = progress or (lambda share, what: None)
    base = base or Change()
    others = tuple(damage for damage in base.damages if damage.name != name)
    found = []
    for index, level in enumerate(levels):

        def at(share: float, what: str, index: int = index, level: float = level) -> None:
            tell((index + share) / len(levels), f"level {level:g}: {what}")

        change = replace(base, damages=(*others, Damage(name=name, level=level)))
        found.append((level, ask(bench, change, donor=donor, progress=at).prediction))
    tell(1.0, "done")
    return tuple(found)


def shares(
    bench: Bench, change: Change | None = None, *, donor: Case | None = None, progress: Progress | None = None
) -> ModalityShares:
    """Exact Shapley share of each modality in the malignancy logit of the changed case, or of the original."""
    change, tell = canonical(change or Change()), progress or (lambda share, what: None)
    _check(bench.case, change, donor)
    tell(0.0, "making the change")
    ready = _prepared(bench, change, *_changed(bench, change, donor), tell)
    predictor = bench.predictor
    batch = move_batch(collate([ready], predictor.spec), predictor.device)
    with inference.precision(predictor.device), bench.memory.over(predictor.model):
        return modality_shares(
            predictor.model, batch, before_each=lambda share: tell(0.4 + 0.6 * share, "running the network")
        )


def patches(bench: Bench, change: Change, *, donor: Case | None = None) -> PatchBag | None:
    """The patches as the model reads them under a change; None where the slide is away or was never there."""
    change = canonical(change)
    _check(bench.case, change, donor)
    slide = _changed(bench, change, donor)[0].inputs.get("he")
    return _bag(bench, change, slide)[0] if isinstance(slide, Slide) else None


def _check(case: Case, change: Change, donor: Case | None) -> None:
    volume, slide = case.inputs.get("mri"), case.inputs.get("he")
    for name, asked in (
        ("mri", change.contrasts_off or change.erased or change.on("mri")),
        ("he", change.patches_off or change.slide_of or change.site_mm or change.on("he")),
    ):
        if asked and name not in case.inputs:
            words_for = {"mri": "MRI", "he": "H&E slide"}[name]
            raise InputError(f"a change of the {words_for} came, and this case has none; change what is there")
    if not set(case.inputs) - set(change.off):
        raise InputError("every input was taken away, expected at least one to stay; put one back")
    if isinstance(volume, Volume):
        unknown = set(change.contrasts_off) - set(volume.contrasts)
        if unknown:
            raise InputError(f"the MRI has no {', '.join(sorted(unknown))} to take away; choose one it has")
        if set(volume.contrasts) <= set(change.contrasts_off):
            raise InputError("every contrast was taken away, expected one to stay; take the MRI away instead")
    if change.slide_of is not None and (
        donor is None or donor.id != change.slide_of or not isinstance(donor.inputs.get("he"), Slide)
    ):
        raise InputError("the other patient's slide did not come; choose a case that has a slide")
    if change.site_mm is not None and isinstance(slide, Slide):
        moved = replace(slide, site_mm=change.site_mm)
        if not is_registered(replace(case, inputs={**case.inputs, "he": moved})):
            where = "inside the MRI" if isinstance(volume, Volume) else "an MRI to lay it in"
            summary = ", ".join(f"{v:.1f}" for v in change.site_mm)
            raise InputError(f"a biopsy site at {summary} mm came, expected one {where}; choose a point on the scan")


def _changed(bench: Bench, change: Change, donor: Case | None) -> tuple[Case, Volume | None]:
    """The raw case as changed, and its volume before a region was erased."""
    original, inputs, unerased = bench.case, {}, None
    if not change:
        return original, None
    for name, value in original.inputs.items():
        if name in change.off:
            continue
        if isinstance(value, Volume):
            unerased = _volume(bench, change, value)
            region = change.erased
            value = unerased if region is None else erase_shown(unerased, region)
        elif isinstance(value, Slide):
            source = donor.inputs["he"] if donor is not None and change.slide_of is not None else value
            assert isinstance(source, Slide)
            value = replace(source, site_mm=change.site_mm or value.site_mm)
        inputs[name] = value
    text = words(change)
    note = Finding("warning", f"made up, not measured: {'; '.join(text)}", "what-if")
    case = Case(
        content_id(original.id, change),
        inputs,
        steps=(*original.steps, *(f"what-if: {each}" for each in text)),
        findings=(*_of(original.findings, inputs), note),
    )
    return case, unerased


def _volume(bench: Bench, change: Change, volume: Volume) -> Volume:
    if change.contrasts_off:
        kept = [i for i, contrast in enumerate(volume.contrasts) if contrast not in change.contrasts_off]
        volume = replace(volume, voxels=volume.voxels[kept], contrasts=tuple(volume.contrasts[i] for i in kept))

    def make() -> Volume:
        out = volume
        for damage in change.on("mri"):
            out = corrupt_volume(out, damage.name, damage.level, draw(bench.case.id, damage.name, seed=change.seed))
        return out

    if not change.on("mri"):
        return volume
    return bench.once(("volume", change.contrasts_off, change.on("mri"), change.seed), make)


def _prepared(bench: Bench, change: Change, case: Case, unerased: Volume | None, tell: Progress) -> Case:
    base = bench.prepared()
    if not change:
        return base
    inputs: dict[str, Any] = {}
    noticed = list(_of(base.findings[len(bench.case.findings) :], case.inputs))
    steps = list(base.steps[len(bench.case.steps) :])
    spec, settings = bench.predictor.spec, bench.settings
    if unerased is not None and volume_spec(spec) is not None:
        tell(0.1, "preparing the MRI")
        grid = base.inputs["mri"]
        if change.contrasts_off or change.on("mri"):
            alone = Case(case.id, {"mri": unerased})
            ready = bench.once(
                ("mri", change.contrasts_off, change.on("mri"), change.seed),
                lambda: prepare(alone, spec=spec, settings=settings),
            )
            grid = ready.inputs["mri"]
            noticed = [f for f in noticed if not f.where.startswith("mri")] + list(ready.findings)
            steps += [f"changed MRI: {step}" for step in ready.steps]
        assert isinstance(grid, Volume)
        inputs["mri"] = grid if change.erased is None else erase_prepared(grid, unerased, change.erased)
    slide = case.inputs.get("he")
    if isinstance(slide, Slide) and patch_spec(spec) is not None:
        tell(0.3, "preparing the slide")
        cut, found, done = _bag(bench, change, slide)
        if found is not None:
            noticed = [f for f in noticed if not f.where.startswith("slide")] + list(found)
        steps += [f"changed slide: {step}" for step in done]
        inputs["he"] = replace(cut, site_mm=slide.site_mm if is_registered(case) else None)
    return replace(case, inputs=inputs, steps=(*case.steps, *steps), findings=(*case.findings, *noticed))


def _bag(bench: Bench, change: Change, slide: Slide) -> tuple[PatchBag, tuple[Finding, ...] | None, tuple[str, ...]]:
    """The changed slide's patches as the model reads them; findings None where they are the original's."""
    spec, settings = bench.predictor.spec, bench.settings
    ready: tuple[PatchBag, tuple[Finding, ...] | None, tuple[str, ...]]
    if change.on("he"):

        def damaged() -> tuple[PatchBag, tuple[Finding, ...], tuple[str, ...]]:
            raw = bench.once(("raw", change.slide_of), lambda: raw_bag(slide, spec, settings))
            for damage in change.on("he"):
                rng = draw(bench.case.id, damage.name, seed=change.seed)
                raw = corrupt_bag(raw, damage.name, damage.level, rng)
            return normalise_stain(raw, backend=settings.stain_backend)

        ready = bench.once(("he", change.slide_of, change.on("he"), change.seed), damaged)
    elif change.slide_of is not None:
        wanted = cut_patches(spec, settings)
        ready = bench.once(
            ("he", change.slide_of, (), 0),
            lambda: prepare_slide(slide, patch_settings=wanted, backend=settings.stain_backend),
        )
    else:
        own = bench.prepared().inputs["he"]
        assert isinstance(own, PatchBag)
        ready = own, None, ()
    cut, found, steps = ready
    if not change.patches_off:
        return cut, found, steps
    kept = np.setdiff1d(np.arange(len(cut.patches)), change.patches_off)
    if change.patches_off[-1] >= len(cut.patches) or change.patches_off[0] < 0:
        raise InputError(f"a patch beyond the {len(cut.patches)} of this slide was taken away; choose among them")
    if not len(kept):
        raise InputError("every patch was taken away, expected one to stay; take the slide away instead")
    fewer = replace(cut, patches=cut.patches[kept], xy=cut.xy[kept])
    return fewer, found, (*steps, f"{len(kept)} of {len(cut.patches)} patches left, centred anew on the biopsy site")


def _of(findings: tuple[Finding, ...], inputs: Any) -> tuple[Finding, ...]:
    """Remarks without those on an input that is not there."""
    gone = tuple(word for name, word in (("mri", "mri"), ("he", "slide")) if name not in inputs)
    return tuple(finding for finding in findings if not finding.where.startswith(gone)) if gone else tuple(findings)
