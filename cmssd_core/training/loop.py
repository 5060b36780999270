"""Training: a recipe's stages over a run folder that survives a kill at any moment and resumes bit-exact.

Nothing random is kept in state: which cases step n takes depends on (seed, epoch), what is drawn of a case on (seed,
step, case). So a step is the same computed whole, in parts, or by several processes (torchrun), up to rounding.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cmssd_core.batches import move_batch
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.machine import store as storage
from cmssd_core.machine.device import choose_device
from cmssd_core.models import MODELS
from cmssd_core.models.base import Model
from cmssd_core.models.spec import Spec, contrasts_of
from cmssd_core.models.weights import WeightsInfo, load, save
from cmssd_core.tasks.kinds import Targets
from cmssd_core.training import draws, run_folder, samples
from cmssd_core.training.aggo import Guide
from cmssd_core.training.eligible import count_truths, fit_spec, keep_readable
from cmssd_core.training.losses import sum_losses, terms_of
from cmssd_core.training.recipe import Stage, TrainSettings, for_needs, rate, stage_of
from cmssd_core.training.samples import Sample
from cmssd_core.training.team import Team
from cmssd_core.types import Batch, InputError, about

Progress = Callable[[int, int, str], None]
VALIDATED = 64  # cases at most, the same ones each time


def train(
    cohort: Path,
    out: Path,
    *,
    settings: TrainSettings,
    resume: bool = False,
    init: Path | None = None,
    program: Settings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train on the cohort's train split into the run folder `out`; gives the path of weights.safetensors.

    init: weights to start from instead of random ones. Under torchrun every process calls this and they share each
    step. Raises InputError for an unknown model, an empty split, weights of another model, or a run folder that is in
    use without `resume`, or with it one of other settings or cases.
    """
    if settings.model not in MODELS or settings.size not in MODELS[settings.model].sizes:
        raise InputError(f"no model {settings.model} of size {settings.size}; see cmssd models", "model")
    given = program or default_settings()
    preparing = given.model_copy(update={"n4": settings.n4})
    table = cohorts.read(cohort)
    root = cohort if cohort.is_dir() else cohort.parent
    chosen = table[table["split"] == "train"]
    if chosen.empty:
        raise InputError("the cohort has no row with split = train; expected a split column; add it")
    kind = MODELS[settings.model]
    readable = kind(settings.size).spec
    usable = keep_readable(chosen, kind, readable)
    left_out = sorted(set(chosen["case_id"]) - set(usable["case_id"]))
    chosen = usable
    settings = for_needs(settings, kind.needs, kind.optional, extra_terms=kind.extra_terms)
    spec = None if settings.inputs is None else _spec_of(settings.inputs, settings)
    team = Team()
    device = choose_device(given)
    if team.first:
        run_folder.open_run(out, settings, table, resume=resume)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model = MODELS[settings.model](settings.size)
    if spec is not None:
        model.spec = spec
    fit_spec(model, chosen, root)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(settings.frozen))
    tell = progress if progress and team.first else (lambda step, of, what: None)

    def prepared(rows: pd.DataFrame) -> list[Path]:
        return samples.prepare_cohort(
            rows,
            root,
            out / "prepared" / _prepared_as(table, model.spec, preparing),
            spec=model.spec,
            settings=preparing,
            workers=settings.threads,
            progress=lambda done, of: tell(done, of, "preparing"),
        )

    held_out = keep_readable(_validation(table), kind, readable, refuse=False)
    team.in_turn(lambda: (prepared(chosen), prepared(held_out)))
    paths, checked = prepared(chosen), prepared(held_out)
    truths = count_truths(paths, kind)
    if team.first:
        run_folder.keep_truths(out, truths, cases=len(paths), left_out=left_out)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, guide = _optimizer(model, settings), Guide()
    start = run_folder.restore_checkpoint(out, model, optimizer, guide) if resume else 0
    if start == 0:
        _start(model, init, paths, settings, device)
    held = [samples.load(path) for path in checked]
    metrics = (
        run_folder.Metrics(out / "metrics.csv", start, terms_of(kind.tasks, kind.extra_terms)) if team.first else None
    )
    looks = team.same(metrics.validations() if metrics else [])
    try:
        for step in range(start, settings.steps):
            row = _step(model, optimizer, guide, paths, step, settings, team, device)
            if _looks(step, settings) and held:
                looks.append(_validate(model, held, checked, settings, device))
                row["validation"] = looks[-1]
                if looks[-1] == min(looks) and team.first:
                    run_folder.keep_best(out, model, step + 1)
            if metrics:
                metrics.write(row)
            loss = f"loss {row['total']:.3f}" if "total" in row else "no truth to learn from"
            tell(step + 1, settings.steps, f"{row['stage']}, {loss}")
            if team.first and ((step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps):
                run_folder.checkpoint(out, model, optimizer, guide, step + 1)
            if looks and len(looks) - int(np.argmin(looks)) > settings.patience:
                break
    finally:
        if metrics:
            metrics.close()
    if team.first:
        _finish(model, out, root, len(chosen), settings)
    team.wait()
    return out / "weights.safetensors"


def _finish(model: Model, out: Path, root: Path, cases: int, settings: TrainSettings) -> None:
    kept = run_folder.best(out)
    if kept is not None:
        model.load_state_dict(kept)
    made = json.loads((root / "synth.json").read_text(encoding="utf-8")) if (root / "synth.json").exists() else None
    trained = (
        f"{cases} synthetic cases (preset {made['settings']['preset']}), research use only"
        if made
        else f"{cases} cases of a user's cohort, research use only"
    )
    info = WeightsInfo(model=settings.model, size=settings.size, trained=trained, spec=model.spec)
    save(model, out / "weights.safetensors", info=info)


def _spec_of(size: str, settings: TrainSettings) -> Spec:
    """The pixels of another size, of the same contrasts."""
    kind = MODELS[settings.model]
    contrasts = contrasts_of(kind(settings.size).spec)
    spec = kind(size).spec if size in kind.sizes else None
    if spec is None or contrasts_of(spec) != contrasts:
        raise InputError(
            f"inputs came as {size}, expected a size of {settings.model} that reads {', '.join(contrasts)}; see cmssd "
            "models",
            "config",
        )
    return spec


def _start(model: Model, init: Path | None, paths: list[Path], settings: TrainSettings, device: torch.device) -> None:
    """Random weights fitted to the scale of the first cases, or those of `init`."""
    if init is not None:
        with about("init"):
            other, info, _ = load(init)
        if info.name != f"{settings.model}-{settings.size}":
            raise InputError(
                f"{init.name} holds {info.name}, expected {settings.model}-{settings.size}; give others", "init"
            )
        model.load_state_dict(other.state_dict())
        return
    first = paths[: 2 * settings.batch]
    stage = Stage(name="start", steps=1, learning_rate=0.0)
    few = _draw(first, list(range(len(first))), -1, stage, settings, spec=model.spec)
    model.fit_start(_moved(*few, device)[0])


def _validation(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "val"].head(VALIDATED)


def _prepared_as(table: pd.DataFrame, spec: Spec, program: Settings) -> str:
    """A folder name for prepared cases: another cohort, model size or setting of preparing gets another one."""
    return storage.key(
        cohort=table.to_csv(index=False),
        spec={name: asdict(one) for name, one in spec.items()},
        n4=program.n4,
        stain=program.stain_backend,
        patches=program.max_patches,
    )[:16]


def _optimizer(model: Model, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; groups say what may have to learn slowly, and what is not decayed."""
    groups: list[dict[str, Any]] = []
    for slow in (False, True):
        mine = [(n, p) for n, p in model.named_parameters() if n.startswith(model.slow) == slow and p.requires_grad]
        # Norms, biases and the like start where they should stay unless data says otherwise: no decay to zero.
        for free in (False, True):
            chosen = [p for n, p in mine if (p.ndim < 2 or n.startswith(model.undecayed)) == free]
            groups.append({"params": chosen, "slow": slow, "weight_decay": 0.0 if free else settings.weight_decay})
    # eps above the rounding of a gradient: a weight that hardly matters must not take full steps along noise.
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-3, betas=(0.9, 0.95), eps=1e-5)


def pick_cases(step: int, cases: int, settings: TrainSettings) -> list[int]:
    """The cases of a step: epochs are shuffled by (seed, epoch) and follow one another without a gap."""
    found: list[int] = []
    place = step * settings.batch
    while len(found) < min(settings.batch, cases):
        epoch, at = divmod(place, cases)
        order = np.random.default_rng([settings.seed, 0, epoch]).permutation(cases)
        new = [int(i) for i in order[at : at + settings.batch - len(found)]]
        found += new
        place += len(new)
    return found


def _draw(
    paths: list[Path], which: list[int], step: int, stage: Stage, settings: TrainSettings, *, spec: Spec
) -> tuple[Batch, Targets]:
    """The cases `which` as step `step` sees them."""
    hide = stage.hide
    dice = np.random.default_rng([settings.seed, 1, step + 1])
    droppable = MODELS[settings.model].optional
    if hide is None and stage.alone is None and droppable and dice.random() < settings.draw.modality_dropout:
        hide = str(dice.choice(list(droppable)))
    shown = replace(stage, hide=hide)
    rows: list[Sample] = []
    for i in which:
        rng = np.random.default_rng([settings.seed, 2, step + 1, i])
        rows.append(draws.draw(samples.load(paths[i]), stage=shown, settings=settings.draw, rng=rng))
    return draws.batch_samples(rows, tuple(paths[i].stem for i in which), spec=spec, hide=hide)


def _step(
    model: Model,
    optimizer: torch.optim.AdamW,
    guide: Guide,
    paths: list[Path],
    step: int,
    settings: TrainSettings,
    team: Team,
    device: torch.device,
) -> dict[str, float | str]:
    started = time.perf_counter()
    stage, _ = stage_of(step, settings)
    which = pick_cases(step, len(paths), settings)
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate(step, settings) * (stage.slow_rate if group["slow"] else 1.0)
    optimizer.zero_grad(set_to_none=True)
    names = ("total", *terms_of(model.tasks, model.extra_terms))
    sums = torch.zeros(
        len(names), 2, dtype=torch.float64, device=device
    )  # of each term its sum, and whether it was there
    mine = which[team.rank :: team.size]
    for part in np.array_split(np.array(mine), min(settings.accumulate, len(mine))) if mine else ():
        batch, targets = _moved(*_draw(paths, [int(i) for i in part], step, stage, settings, spec=model.spec), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp == "bf16"):
            output = model(batch) if stage.alone is None else model.part(stage.alone, batch)
        extra = model.extra_loss(output, batch, targets.spoilt, cases=len(which))
        if stage.alone is not None:
            terms = {"total": extra[stage.alone], **extra}
        else:
            terms = sum_losses(output, targets, batch, extra=extra, settings=settings.loss, cases=len(which))
        terms["total"].backward()
        for i, name in enumerate(names):
            if name in terms and len(terms) > 1:  # a step that taught nothing has no loss, not one of 0
                sums[i] += torch.tensor([float(terms[name].detach()), 1.0], dtype=torch.float64, device=device)
    team.sum_gradients(model, sums)
    norm = float(guide.limit(model)) if settings.aggo else float(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
    if not np.isfinite(norm):
        raise RuntimeError(f"the gradient of step {step} is not finite; lower the stage's learning_rate")
    optimizer.step()
    figures = {name: value for name, (value, present) in zip(names, sums.tolist(), strict=True) if present}
    return {
        "step": step,
        "stage": stage.name,
        "learning_rate": rate(step, settings),
        **figures,
        "gradient_norm": norm,
        "seconds": time.perf_counter() - started,
    }


def _looks(step: int, settings: TrainSettings) -> bool:
    """Whether the validation split is looked at after this step: in the last stage, and at its end."""
    stage, done = stage_of(step, settings)
    return stage is settings.stages[-1] and ((done + 1) % settings.validate_every == 0 or step + 1 == settings.steps)


@torch.no_grad()
def _validate(
    model: Model, held: list[Sample], paths: list[Path], settings: TrainSettings, device: torch.device
) -> float:
    """Mean total loss of the validation cases, nothing hidden or varied, the same slices and patches each time."""
    model.eval()
    still = replace(
        settings.draw, contrast_dropout=0.0, site_dropout=0.0, artefacts=0.0, gain=0.0, shift=0.0, stain=0.0,
        mirror=False,
    )  # fmt: skip
    stage = replace(settings.stages[-1], hide=None, crop_px=0, slices=8)
    total = 0.0
    for i in range(0, len(held), 4):
        some = held[i : i + 4]
        rows = [
            draws.draw(s, stage=stage, settings=still, rng=np.random.default_rng([3, i, n])) for n, s in enumerate(some)
        ]
        batch, targets = _moved(
            *draws.batch_samples(rows, tuple(p.stem for p in paths[i : i + 4]), spec=model.spec), device
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp == "bf16"):
            output = model(batch)
        extra = model.extra_loss(output, batch, targets.spoilt, cases=len(held))
        terms = sum_losses(output, targets, batch, extra=extra, settings=settings.loss, cases=len(held))
        total += float(terms["total"])
    return total


def _moved(batch: Batch, targets: Targets, device: torch.device) -> tuple[Batch, Targets]:
    """Both on the device."""

    def move(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    present = Targets(
        masks=move(targets.masks),
        labels=move(targets.labels),
        time_months=None if targets.time_months is None else targets.time_months.to(device),
        event=None if targets.event is None else targets.event.to(device),
        spoilt=move(targets.spoilt),
    )
    return move_batch(batch, device), present
