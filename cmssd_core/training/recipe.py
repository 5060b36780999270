"""The recipe of a training run: its stages, its optimizer, how batches are drawn and what each loss term weighs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar, get_type_hints

from cmssd_core.tasks.table import TASKS
from cmssd_core.training.losses import LossSettings, terms_of, usual_weight
from cmssd_core.types import InputError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some steps of one kind. hide: "mri" or "he" is not shown in this stage; None shows both.

    learning_rate: at the top of this stage's cosine. slices, patches: drawn from a case. crop_px: edge of the window
    cut from each slice near the bone, 0 = the whole slice (coarse to fine: cheap steps first). slow_rate: factor on the
    learning rate of what a model calls slow, which bursts or saturates at rates the rest needs. alone: name of an extra
    term of the model that alone is computed and learned, which may take hundreds of steps but hardly any time.
    """

    name: str
    steps: int
    learning_rate: float
    hide: str | None = None
    slices: int = 4
    patches: int = 6
    crop_px: int = 0
    slow_rate: float = 1.0
    alone: str | None = None


STAGES = (
    Stage(name="damage alone", steps=300, learning_rate=3e-3, slices=3, alone="damage"),
    Stage(name="slide alone", steps=300, learning_rate=6e-4, hide="mri", patches=8),
    Stage(name="MRI alone, windows", steps=1500, learning_rate=1.5e-3, hide="he", crop_px=64),
    Stage(name="MRI alone", steps=500, learning_rate=8e-4, hide="he"),
    Stage(name="both", steps=600, learning_rate=6e-4, slow_rate=0.2),
)


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """How a training case is varied.

    modality_dropout: share of batches in which one modality is hidden (section 3.3 of seed 000: 0.15), any one of them.
    contrast_dropout: chance that a contrast of a case is hidden, one always stays. site_dropout: chance that a known
    biopsy site is hidden. artefacts: chance that a case's MRI, and that its slide, gets an artefact of random strength.
    gain, shift: spread of the change of MRI intensities; stain: of the optical density of the slide's colours. mirror:
    mirror slices, turn patches.
    """

    modality_dropout: float = 0.3
    contrast_dropout: float = 0.2
    site_dropout: float = 0.5
    artefacts: float = 0.3
    gain: float = 0.1
    shift: float = 0.1
    stain: float = 0.1
    mirror: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A training run; stored as config.json.

    batch: cases a step; accumulate: parts it is computed in. warmup: steps, at the start of each stage. aggo: limit the
    gradient stream by stream (aggo.py) instead of all at once to norm 1. amp: "bf16" or "off". validate_every: steps
    between looks at the validation split in the last stage; patience: looks without improvement before it stops; the
    best weights are kept. checkpoint_every: steps between checkpoints. threads: of torch; a resumed run must use the
    same number to be bit-exact. n4: correct the bias field of the images it learns from. frozen: parameters whose names
    begin so stay as they start (for ablations). inputs: the size whose pixels are read instead of the size's own; by
    "compact" the reference size learns from a quarter of the pixels, and a run with --init goes on at its own.
    """

    model: str = "cmssd"
    size: str = "compact"
    inputs: str | None = None
    seed: int = 1
    stages: tuple[Stage, ...] = STAGES
    batch: int = 16
    accumulate: int = 1
    weight_decay: float = 0.02
    warmup: int = 40
    aggo: bool = True
    amp: str = "bf16"
    validate_every: int = 50
    patience: int = 8
    checkpoint_every: int = 50
    threads: int = 2
    n4: bool = True
    frozen: tuple[str, ...] = ()
    draw: DrawSettings = field(default_factory=DrawSettings)
    loss: LossSettings = field(default_factory=LossSettings)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


Group = TypeVar("Group", Stage, DrawSettings, LossSettings, TrainSettings)


def settings_from(text: str, **overrides: object) -> TrainSettings:
    """TrainSettings from a JSON object of its fields. Raises InputError for an unknown field or no JSON."""
    try:
        given = json.loads(text)
        if not isinstance(given, dict):
            raise TypeError(f"a {type(given).__name__} came, not an object")
        given |= {name: value for name, value in overrides.items() if value is not None}
        if "stages" in given:
            given["stages"] = tuple(_checked(Stage(**_stage(stage))) for stage in given["stages"])
        if "frozen" in given:
            given["frozen"] = tuple(str(name) for name in given["frozen"])
        if "draw" in given:
            given["draw"] = _checked(DrawSettings(**given["draw"]))
        if "loss" in given:
            given["loss"] = _loss(given["loss"])
        chosen = _checked(TrainSettings(**given))
        if not chosen.stages or min(stage.steps for stage in chosen.stages) < 0 or chosen.steps < 1:
            raise ValueError("the stages hold no step")
        if min(chosen.batch, chosen.accumulate, chosen.checkpoint_every, chosen.validate_every, chosen.threads) < 1:
            raise ValueError("batch, accumulate, checkpoint_every, validate_every and threads are whole numbers from 1")
        if chosen.amp not in ("bf16", "off"):
            raise ValueError(f"amp came as {chosen.amp!r}, expected bf16 or off")
        return chosen
    except (ValueError, TypeError) as problem:
        raise InputError(
            f"the training config does not fit ({problem}); expected fields of config.json", "config"
        ) from None


def _stage(given: dict[str, Any]) -> dict[str, Any]:
    """A stage as config.json says it; version 0.1 wrote "damage_only" where "alone" says which term."""
    old = given.pop("damage_only", None)
    return given | {"alone": "damage"} if old else given


def _loss(given: dict[str, object]) -> LossSettings:
    """Weights of terms by name, and focal_gamma, in one object. Raises TypeError for an unknown term."""
    known = terms_of(tuple(TASKS), ("gate", "damage", "focal_gamma"))
    for name, value in given.items():
        if name not in known or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"loss {name} came as {value!r}, expected a number for one of {', '.join(known)}")
    weights = {name: float(value) for name, value in given.items() if isinstance(value, (int, float))}
    gamma = weights.pop("focal_gamma", LossSettings().focal_gamma)
    # Version 0.1 wrote every weight: a run that it began is of the same settings as one that names none.
    return LossSettings(focal_gamma=gamma, weights={k: v for k, v in weights.items() if v != usual_weight(k)})


def _checked(settings: Group) -> Group:
    """The same settings, if every plain field has its declared type (a whole number may stand for a float)."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        wanted: tuple[type, ...] = {
            int: (int,), float: (int, float), str: (str,), bool: (bool,), str | None: (str, type(None))
        }.get(kind, ())  # fmt: skip
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            raise TypeError(f"{name} came as {value!r}, expected {' or '.join(t.__name__ for t in wanted)}")
    return settings


def for_needs(
    settings: TrainSettings, needs: tuple[str, ...], optional: tuple[str, ...], *, extra_terms: tuple[str, ...] = ()
) -> TrainSettings:
    """The recipe for a model of these modalities.

    A stage that shows it nothing gives its steps to the others; where nothing may be missing nothing is dropped out;
    one modality has no other to wait for, so nothing learns slowly; a stage of an extra term that the model does not
    have is left out.
    """
    mine = tuple(stage for stage in settings.stages if stage.alone is None or stage.alone in extra_terms)
    settings = replace(settings, stages=mine or settings.stages)
    if not optional:
        settings = replace(settings, draw=replace(settings.draw, modality_dropout=0.0))
    if len(needs) > 1:
        return settings
    kept = [replace(stage, slow_rate=1.0) for stage in settings.stages if stage.hide not in needs]
    return scale_steps(replace(settings, stages=tuple(kept)), settings.steps) if kept else settings


def scale_steps(settings: TrainSettings, steps: int) -> TrainSettings:
    """The recipe with its stages' steps in the same proportion and `steps` in all."""
    of = settings.steps
    ends = [round(steps * sum(s.steps for s in settings.stages[: i + 1]) / of) for i in range(len(settings.stages))]
    lengths = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    stages = tuple(replace(stage, steps=n) for stage, n in zip(settings.stages, lengths, strict=True))
    return replace(settings, stages=stages)


def stage_of(step: int, settings: TrainSettings) -> tuple[Stage, int]:
    """The stage a step belongs to, and its number within it."""
    for stage in settings.stages:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise ValueError(f"step {step} lies behind the last stage")


def rate(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step: stage by stage linear warm-up, then a cosine (Loshchilov and Hutter, ICLR 2017)."""
    stage, done = stage_of(step, settings)
    warmup = min(settings.warmup, stage.steps // 4)
    if done < warmup:
        return stage.learning_rate * (done + 1) / warmup
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, stage.steps - warmup)))


def text_of(settings: TrainSettings) -> str:
    """config.json."""
    loss = {"focal_gamma": settings.loss.focal_gamma, **settings.loss.weights}
    return json.dumps(asdict(settings) | {"loss": loss}, indent=1)
