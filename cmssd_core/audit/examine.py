"""One case of an audit: read, prepared, and everything measured on it, as one row of plain numbers and a few maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmssd_core.audit import measure, traps
from cmssd_core.audit.gates import localisation
from cmssd_core.audit.measure import Explained, Plan, Region, Row, Trapped
from cmssd_core.audit.panel import TrapInfo
from cmssd_core.audit.probes import PROBES
from cmssd_core.audit.subject import Subject
from cmssd_core.batches import device_of, move_batch
from cmssd_core.cases.collate import collate
from cmssd_core.cases.prepare import prepare
from cmssd_core.cases.tensors import neighbours
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.explain import criteria as drawn
from cmssd_core.explain import sanity
from cmssd_core.explain.placing import on_grid
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.inference import predict as inference
from cmssd_core.models.base import Model
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.types import Batch, Case, Volume
from cmssd_core.volume.body import body_mask

Mask = npt.NDArray[np.bool_]
Arrays = dict[str, npt.NDArray[Any]]
GROUPS = ("centre", "scanner", "field_t", "coil")
GLASS = 0.9  # a slide's pixel brighter than this is no tissue
SECOND = "_2"  # column suffix of a second reader's mask


def _other_fill(settings: ExplainSettings) -> ExplainSettings:
    return replace(settings, fill_mri="air", fill_he="mean")


#: Methods whose map hangs on a baseline, and the settings with another one; the others have none.
ANOTHER: Mapping[str, Callable[[ExplainSettings], ExplainSettings]] = {
    "integrated_gradients": lambda settings: replace(settings, baseline_mri="air", baseline_he="mean"),
    "occlusion": _other_fill,
    "kernel_shap": _other_fill,
    "lime": _other_fill,
}


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """methods: names of METHODS. cases: at most so many are read, mapped: of these are explained, deep: of these are
    explained again under noise and from another baseline. patches: at most so many of a slide. seed: of all draws.
    """

    methods: tuple[str, ...] = ("integrated_gradients", "gradcam")
    split: str = "test"
    cases: int = 40
    mapped: int = 24
    deep: int = 6
    patches: int = 24
    seed: int = 0
    workers: int | None = None
    plan: Plan = field(default_factory=lambda: Plan(shifts=6, noise=2))


@dataclass(frozen=True, eq=False)
class Examiner:
    """What is the same for all cases of an audit."""

    predictor: inference.Predictor
    scrambled: Model
    cascade: tuple[tuple[str, Model], ...]
    root: Path
    program: Settings
    chosen: AuditSettings
    criteria: tuple[drawn.Criterion, ...]
    asked: Mapping[str, TrapInfo]
    generator: SynthSettings | None
    donor: tuple[Case, Mask] | None

    @staticmethod
    def of(weights: Path, root: Path, table: pd.DataFrame, program: Settings, chosen: AuditSettings) -> Examiner:
        """Loads the model. Raises InputError for weights or criteria that cannot be used."""
        settings = program.model_copy(update={"max_patches": min(chosen.patches, program.max_patches)})
        predictor = inference.load(weights, settings=settings)
        scrambled = sanity.scramble_weights(predictor.model, seed=chosen.seed)
        generator = traps.generator_of(root)
        cascade = tuple(sanity.stages(predictor.model, seed=chosen.seed, count=chosen.plan.cascade))
        asked = traps.infos(root, table, generator)
        donor = traps.donor_of(root, table) if traps.DRAWN in asked else None
        listed = drawn.criteria(root)
        return Examiner(predictor, scrambled, cascade, root, settings, chosen, listed, asked, generator, donor)

    def examine(self, row: Mapping[str, Any], *, maps: bool, deep: bool) -> tuple[Row, Arrays]:
        """One row of the cohort. Raises InputError for a case that cannot be read."""
        case = cohorts.admit_row(pd.Series(dict(row), dtype=object), self.root)
        spec, rng = self.predictor.spec, np.random.default_rng([self.chosen.seed, int(case.id[:8], 16)])
        prepared = prepare(case, spec=spec, settings=self.program)
        batch = move_batch(collate([prepared], spec), self.predictor.device)
        subject = Subject(self.predictor.model, batch)
        found: Row = {
            "case_id": str(row["case_id"]), "patient_id": str(row.get("patient_id") or row["case_id"]),
            "malignant": _label(case), "logit": subject.answer(),
            "groups": {column: str(row[column]) for column in GROUPS if row.get(column) is not None},
            "own": [], "traps": {}, "criteria": {}, "faithful": {}, "sound": {}, "outside": {}, "forbidden": {},
            "patches": _count_items(batch, "he"), "slices": _count_items(batch, "mri"),
        }  # fmt: skip
        shown = self._trapped(subject, row, case, prepared, found)
        rooms = {name: room(name, case, prepared, subject) for name in subject.images}
        regions = self._regions(row, case, prepared, found, subject)
        for name, region in regions.items():
            found["criteria"][name] |= {
                "necessity": measure.necessity(subject, region, rooms[region.modality], plan=self.chosen.plan, rng=rng)
            }
        arrays: Arrays = {}
        bone = _pathology(case, prepared)
        if bone is not None:
            arrays["pathology"] = np.asarray(bone.any(0))
        for method in self.chosen.methods if maps else ():
            self._mapped(method, subject, rooms, regions, bone, shown, found, arrays, deep=deep, rng=rng)
        return _plain(found), arrays

    def refilled(self, row: Mapping[str, Any], spot: Mask) -> float:
        """How many logits further the answer moves when a spot (y, x) of all slices is filled than its mirror image."""
        case = cohorts.admit_row(pd.Series(dict(row), dtype=object), self.root)
        prepared = prepare(case, spec=self.predictor.spec, settings=self.program)
        batch = move_batch(collate([prepared], self.predictor.spec), self.predictor.device)
        subject = Subject(self.predictor.model, batch)
        return measure.refill_spot(subject, spot, room("mri", case, prepared, subject))

    def _trapped(
        self, subject: Subject, row: Mapping[str, Any], case: Case, prepared: Case, found: Row
    ) -> dict[str, Trapped]:
        """Answers with and without every trap into `found`; the case with each that is named and has a place."""
        spec, device = self.predictor.spec, self.predictor.device
        own = [one for one in traps.own(row, self.root, case) if one.modality in subject.images]
        found["own"] = sorted({name for one in own for name in one.names})
        on, off = self._laid(case, prepared, {one.modality for one in own}), self._removed(own, case, prepared)
        for modality in subject.images:
            some = {name: overlay for name, overlay in (on | off).items() if overlay.modality == modality}
            changed = [overlay.image.to(device) for overlay in some.values()]
            for name, answer in zip(some, subject.answers(modality, changed) if some else (), strict=True):
                clean, trapped = (found["logit"], float(answer)) if name in on else (float(answer), found["logit"])
                found["traps"][name] = {"clean": clean, "trapped": trapped}
        shown = {
            name: Trapped(with_image(subject, overlay), Region(overlay.modality, overlay.mask))
            for name, overlay in on.items()
            if overlay.mask is not None and overlay.modality in subject.images and self.asked[name].named
        }
        for one in own:
            region = Region(one.modality, traps.place_of(one, case, prepared))
            shown |= {name: Trapped(subject.batch, region) for name in one.names if name in self.asked}
        twin = next((name for name in self.asked if name.endswith(traps.TWIN)), None)
        if twin is not None and self.generator is not None and _label(case) is not None:
            shortcut = self.generator.shortcut
            pair = traps.twins(found["case_id"], bool(_label(case)), self.generator, spec, self.program)
            if pair is not None:
                batches = [move_batch(collate([one], spec), device) for one in pair[:2]]
                without, having = (Subject(self.predictor.model, one).answer() for one in batches)
                found["traps"][twin] = {"clean": without, "trapped": having}
                if pair[2] is not None and shortcut not in traps.PLAUSIBLE:
                    shown[twin] = Trapped(batches[1], Region(traps.TWINS[shortcut][0], pair[2]))
        return shown

    def _laid(self, case: Case, prepared: Case, carry: Collection[str]) -> dict[str, traps.Laid]:
        """Every trap on the case, but those that the cohort names on modalities that carry one of their own."""
        spec = self.predictor.spec
        found: dict[str, traps.Laid] = {}
        for name, info in self.asked.items():
            overlay = None
            if name in PROBES and not (info.named and PROBES[name].modality in carry):
                overlay = traps.lay_trap(name, case, prepared, spec, self.program, seed=self.chosen.seed)
            elif name == traps.DRAWN and self.donor is not None and "mri" not in carry:
                overlay = traps.paste_trap(case, prepared, *self.donor, spec, self.program)
            if overlay is not None:
                found[name] = overlay
        return found

    def _removed(self, own: Sequence[traps.Own], case: Case, prepared: Case) -> dict[str, traps.Laid]:
        """The case without each trap it came with."""
        found: dict[str, traps.Laid] = {}
        for one in own:
            names = [f"{name}{traps.REMOVED}" for name in one.names]
            wanted = [name for name in names if name in self.asked]
            overlay = traps.remove_trap(one, case, prepared, self.predictor.spec, self.program) if wanted else None
            found |= {name: overlay for name in wanted if overlay is not None}
        return found

    def _regions(
        self, row: Mapping[str, Any], case: Case, prepared: Case, found: Row, subject: Subject
    ) -> dict[str, Region]:
        """Drawn criteria of the case on what the model reads of it; what two readers agree on goes into `found`."""
        series = pd.Series(dict(row), dtype=object)
        regions = {}
        for name, outline in drawn.outlines(series, self.root, case, self.criteria).items():
            if outline is None or outline.criterion.modality not in subject.images:
                found["criteria"][name] = None
                continue
            mask = drawn.mark(outline, case, prepared).mask[0].numpy()
            regions[name] = Region(outline.criterion.modality, mask)
            found["criteria"][name] = {"present": bool(mask.any()), "located": {}}
            column = outline.criterion.column
            other = row.get(f"{column}{SECOND}") if column else None
            if other is not None:
                second = drawn.outline(outline.criterion, self.root / str(other), case)
                theirs = drawn.mark(second, case, prepared).mask[0].numpy()
                found["criteria"][name]["readers"] = measure.readers(mask, theirs)
        return regions

    def _mapped(
        self, method: str, subject: Subject, rooms: Mapping[str, Mask], regions: Mapping[str, Region],
        bone: Mask | None, shown: Mapping[str, Trapped], found: Row, arrays: Arrays, *, deep: bool,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """A method's maps held against criteria, model, traps and themselves, into `found`; the MRI's into `arrays`."""
        plan = self.chosen.plan

        def explain(model: Model, batch: Batch, other: bool) -> Explained | None:
            wanted = ExplainSettings(memory_mb=512, seed=self.chosen.seed, max_windows=200)
            if other:
                if method not in ANOTHER:
                    return None
                wanted = ANOTHER[method](wanted)
            return measure.explain_cases(method, model, batch, wanted)[0]

        own = explain(subject.model, subject.batch, False)
        untaught = explain(self.scrambled, subject.batch, False)
        assert own is not None
        assert untaught is not None
        positive = {name: localisation.positive(a) for name, a in own.maps.items()}
        for name, region in regions.items():
            if region.modality in positive:
                found["criteria"][name]["located"][method] = measure.locate_map(
                    positive[region.modality], subject.grey(region.modality), region, rooms[region.modality],
                    localisation.positive(untaught.maps[region.modality]), rng=rng,
                )  # fmt: skip
        found["faithful"][method] = {}
        for name, a in own.maps.items():
            true = measure.faithful(subject, name, a, rooms[name], plan=plan, rng=rng, deep=deep)
            if true is not None:
                found["faithful"][method][name] = {**true, "gap": own.gap}
        if deep:
            steps = {part: explain(model, subject.batch, False) for part, model in self.cascade}
            found["sound"][method] = measure.sound(
                subject, explain, own, untaught, plan=plan, seed=self.chosen.seed,
                cascade={part: each for part, each in steps.items() if each is not None},
            )  # fmt: skip
        if "mri" in positive and positive["mri"].any():
            arrays[f"map {method}"] = positive["mri"].sum(0).astype(np.float32)
            if bone is not None:
                found["outside"][method] = measure.outside(
                    subject, positive["mri"], bone, rooms["mri"], plan=plan, rng=rng
                )
        found["forbidden"][method] = {}
        for name, trapped in shown.items() if deep or len(shown) == 1 else ():
            region = trapped.region
            on = own if trapped.batch is subject.batch else explain(subject.model, trapped.batch, False)
            if on is not None and region.modality in on.maps:
                dense = localisation.enrichment(localisation.positive(on.maps[region.modality]), region.mask)
                if dense is not None:
                    found["forbidden"][method][name] = {"modality": region.modality, "enrichment": dense}


def with_image(subject: Subject, overlay: traps.Laid) -> Batch:
    """The subject's case with one modality's image in the place of its own."""
    image = overlay.image.to(device_of(subject.batch))[None]
    if overlay.modality == "mri":
        image = neighbours(image, subject.batch.valid["mri"])
    return replace(subject.batch, inputs={**subject.batch.inputs, overlay.modality: image})


def room(modality: str, case: Case, prepared: Case, subject: Subject) -> Mask:
    """Where anything can be, on the prepared images: the body on the MRI, tissue on the slide."""
    volume, grid = case.inputs.get("mri"), prepared.inputs.get("mri")
    if modality == "mri" and isinstance(volume, Volume) and isinstance(grid, Volume):
        body = np.asarray(on_grid(body_mask(volume.voxels[0], volume.spacing_mm), volume.affine, like=grid))
        return body if body.any() else np.ones_like(body)
    tissue: Mask = subject.grey("he") < GLASS
    return tissue if tissue.any() else np.ones_like(tissue)


def _pathology(case: Case, prepared: Case) -> Mask | None:
    """Bone and lesion on the prepared slices, None where nobody drew the bone."""
    volume, grid, truth = case.inputs.get("mri"), prepared.inputs.get("mri"), case.truth
    if not isinstance(volume, Volume) or not isinstance(grid, Volume) or "bone" not in truth.masks:
        return None
    masks = [truth.masks[name] for name in ("bone", "lesion", "tumour") if name in truth.masks]
    return np.asarray(on_grid(np.logical_or.reduce(masks), volume.affine, like=grid))


def _plain(value: Any) -> Any:
    """Numbers as JSON has them: no NumPy, None for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(float(value)) else None
    return value


def _label(case: Case) -> bool | None:
    """Whether the case is malignant, None where that is not known."""
    known = case.truth.labels.get("malignant")
    return None if known is None else bool(known)


def _count_items(batch: Batch, modality: str) -> int:
    """How many slices or patches the model is given; 0 of a modality it does not read."""
    return int(batch.valid[modality].sum()) if modality in batch.valid else 0
