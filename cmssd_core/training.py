"""Training: AdamW and cosine annealing, over a run folder that survives a kill at any moment and resumes bit-exact.

Nothing random is kept in state: what step n does depends on (seed, n) alone. A checkpoint is one safetensors file
that appears by a rename, so there is always a whole one.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cmssd_core import cohort as cohorts
from cmssd_core import samples
from cmssd_core import store as storage
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.losses import LossWeights, loss
from cmssd_core.models import MODELS
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.types import InputError
from cmssd_core.weights_file import WeightsInfo, load, save

CHECKPOINT = "checkpoint.safetensors"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A training run; stored as config.json. steps: of `batch` cases each. learning_rate: at the top of the cosine.

    pretrain_he, pretrain_mri: first steps, with the slide alone, then with the MRI alone, so that either encoder
    learns its own task before they are fused (seed 000, section 3.1). he_rate: factor on the learning rate in the first
    stage. slow_rate: factor, once fused, for the slide's encoder and the gate, which burst or saturate at rates the MRI
    needs. clip: largest norm of each stream's gradient. checkpoint_every: steps between checkpoints. threads: of torch;
    a resumed run must use the same number to be bit-exact. n4: correct the bias field of the images it learns from.
    """

    model: str = "cmssd"
    size: str = "compact"
    seed: int = 1
    steps: int = 1500
    batch: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: int = 50
    pretrain_he: int = 160
    pretrain_mri: int = 0
    he_rate: float = 0.4
    slow_rate: float = 0.1
    clip: float = 1.0
    checkpoint_every: int = 50
    threads: int = 2
    n4: bool = True
    draw: samples.DrawSettings = field(default_factory=samples.DrawSettings)
    loss: LossWeights = field(default_factory=LossWeights)


def settings_from(text: str, **overrides: object) -> TrainSettings:
    """TrainSettings from a JSON object of its fields. Raises InputError for an unknown field or no JSON."""
    try:
        given = json.loads(text) | {name: value for name, value in overrides.items() if value is not None}
        nested = {"draw": samples.DrawSettings, "loss": LossWeights}
        for name, kind in nested.items():
            if name in given:
                given[name] = kind(**given[name])
        chosen = TrainSettings(**given)
        for name, default in asdict(TrainSettings()).items():
            if (
                type(getattr(chosen, name)) is not type(default)
                and not (isinstance(default, float) and isinstance(getattr(chosen, name), int))
                and name not in nested
            ):
                raise TypeError(f"{name} came as {getattr(chosen, name)!r}, expected like {default!r}")
        if chosen.steps <= chosen.pretrain_he + chosen.pretrain_mri:
            raise ValueError(f"{chosen.steps} steps leave none for both modalities after pretrain_he and pretrain_mri")
        return chosen
    except (ValueError, TypeError) as problem:
        raise InputError(f"the training config does not fit ({problem}); expected fields of config.json") from None


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

    init: weights to start from instead of random ones. Raises InputError for an unknown model, an empty split, weights
    of another model, or a run folder that is in use without `resume`.
    """
    if settings.model not in MODELS or settings.size not in MODELS[settings.model].sizes:
        raise InputError(f"no model {settings.model} of size {settings.size}; see cmssd models")
    preparing = (program or default_settings()).model_copy(update={"n4": settings.n4})
    table = cohorts.read(cohort)
    root = cohort if cohort.is_dir() else cohort.parent
    chosen = table[table["split"] == "train"]
    if chosen.empty:
        raise InputError("the cohort has no row with split = train; expected a split column; add it")
    _open_run(out, settings, resume)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model = MODELS[settings.model](settings.size)
    tell = progress or (lambda step, of, what: None)
    paths = samples.prepare_cohort(
        chosen,
        root,
        out / "prepared" / _prepared_as(table, model.spec, preparing),
        spec=model.spec,
        settings=preparing,
        workers=settings.threads,
        progress=lambda done, of: tell(done, of, "preparing"),
    )
    optimizer = _optimizer(model, settings)
    start = _restore(out / CHECKPOINT, model, optimizer) if resume else 0
    if start == 0 and init is not None:
        other, info, _ = load(init)
        if info.name != f"{settings.model}-{settings.size}":
            raise InputError(f"{init.name} holds {info.name}, expected {settings.model}-{settings.size}; give others")
        model.load_state_dict(other.state_dict())
    elif start == 0:
        rng = np.random.default_rng([settings.seed, settings.steps])  # no step draws from this one
        first = paths[: 2 * settings.batch]
        few = [samples.load(path) for path in first]
        model.fit_start(samples.draw(few, tuple(p.stem for p in first), rng=rng, settings=settings.draw)[0])
    with _metrics(out / "metrics.csv", start) as write:
        for step in range(start, settings.steps):
            row = _step(model, optimizer, paths, step, settings)
            write(row)
            tell(step + 1, settings.steps, f"loss {row['total']:.3f}")
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
                _checkpoint(out / CHECKPOINT, model, optimizer, step + 1)
    made = json.loads((root / "synth.json").read_text()) if (root / "synth.json").exists() else None
    trained = (
        f"{len(chosen)} synthetic cases (preset {made['settings']['preset']}), research use only"
        if made
        else f"{len(chosen)} cases of a user's cohort, research use only"
    )
    info = WeightsInfo(model=settings.model, size=settings.size, trained=trained, spec=model.spec)
    save(model, out / "weights.safetensors", info=info)
    return out / "weights.safetensors"


def _prepared_as(table: pd.DataFrame, spec: InputSpec, program: Settings) -> str:
    """A folder name for prepared cases: another cohort, model size or way of preparing gets another one."""
    return storage.key(
        cohort=table.to_csv(index=False),
        spec=asdict(spec),
        n4=program.n4,
        stain=program.stain_backend,
        patches=program.max_patches,
    )[:16]


SLOW = ("phi_he.", "gate.")


def _optimizer(model: Model, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; groups say what has to learn slowly once the modalities are fused, and what is not decayed."""
    groups: list[dict[str, Any]] = []
    for slow in (False, True):
        mine = [(n, p) for n, p in model.named_parameters() if n.startswith(SLOW) == slow]
        # Norms, biases and the mapping start where they should stay unless data says otherwise: no decay to zero.
        for free in (False, True):
            chosen = [p for n, p in mine if (p.ndim < 2 or n.startswith("mapping.")) == free]
            groups.append({"params": chosen, "slow": slow, "weight_decay": 0.0 if free else settings.weight_decay})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95))


def _open_run(out: Path, settings: TrainSettings, resume: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    config = out / "config.json"
    text = json.dumps(asdict(settings), indent=1)
    if config.exists() and not resume and (out / CHECKPOINT).exists():
        raise InputError(f"{out.name} holds a run already; expected a new folder, or --resume to go on with it")
    if config.exists() and resume and config.read_text() != text:
        raise InputError(f"{out.name} was started with other settings (config.json); resume with the same")
    config.write_text(text)


def rate(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step: in each stage linear warm-up, then a cosine to zero (Loshchilov and Hutter, ICLR 2017).

    The stages are the slide alone, the MRI alone, both.
    """
    alone = (settings.pretrain_he, settings.pretrain_mri)
    start, end = 0, alone[0]
    if step >= end:
        start, end = end, end + alone[1]
    if step >= end:
        start, end = end, settings.steps
    done, length = step - start, end - start
    warmup = min(settings.warmup, length // 4)
    if done < warmup:
        return settings.learning_rate * (done + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, length - warmup)))


def _hidden(step: int, settings: TrainSettings) -> str | None:
    if step < settings.pretrain_he:
        return "mri"
    return "he" if step < settings.pretrain_he + settings.pretrain_mri else None


def _step(
    model: Model, optimizer: torch.optim.AdamW, paths: list[Path], step: int, settings: TrainSettings
) -> dict[str, float]:
    started = time.perf_counter()
    rng = np.random.default_rng([settings.seed, step])
    picked = rng.choice(len(paths), min(settings.batch, len(paths)), replace=False)
    batch, targets = samples.draw(
        [samples.load(paths[i]) for i in picked],
        tuple(paths[i].stem for i in picked),
        rng=rng,
        settings=settings.draw,
        hide=_hidden(step, settings),
    )
    model.train()
    slide_alone = step < settings.pretrain_he
    for group in optimizer.param_groups:
        share = settings.he_rate if slide_alone else settings.slow_rate if group["slow"] else 1.0
        group["lr"] = rate(step, settings) * share
    terms = loss(model(batch), targets, batch, weights=settings.loss)
    optimizer.zero_grad(set_to_none=True)
    terms["total"].backward()
    # Stream by stream: where one modality's gradient bursts, the other's step must not shrink with it.
    norms = [nn.utils.clip_grad_norm_(stream.parameters(), settings.clip) for stream in model.children()]
    norm = torch.stack(norms).norm()
    if not bool(torch.isfinite(norm)):
        raise RuntimeError(f"the gradient of step {step} is not finite; lower learning_rate or clip")
    optimizer.step()
    figures = {name: float(value.detach()) for name, value in terms.items()}
    return {"step": step, **figures, "gradient_norm": float(norm), "seconds": time.perf_counter() - started}


def _checkpoint(path: Path, model: Model, optimizer: torch.optim.AdamW, step: int) -> None:
    tensors: dict[str, Tensor] = {f"model.{name}": t for name, t in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value
    part = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: t.contiguous() for name, t in tensors.items()}, str(part), metadata={"step": str(step)})
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(path)


def _restore(path: Path, model: Model, optimizer: torch.optim.AdamW) -> int:
    """Load the checkpoint, if there is one; gives the number of steps done."""
    if not path.exists():
        return 0
    with safe_open(str(path), "pt") as stored:
        step = int(stored.metadata()["step"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if mine:
            optimizer.state[parameter] = mine
    return step


class _metrics:  # noqa: N801 - used as a function
    """metrics.csv, one row a step, flushed; rows after the checkpoint that is resumed from are dropped."""

    def __init__(self, path: Path, start: int) -> None:
        kept: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="") as handle:
                kept = [row for row in csv.DictReader(handle) if row["step"] and int(row["step"]) < start]
        self.columns = [
            "step", "total", "tumour", "bone", "dice", "severity", "malignant", "gradient_norm", "seconds",
        ]  # fmt: skip
        self.handle = path.open("w", newline="")
        self.writer = csv.DictWriter(self.handle, self.columns)
        self.writer.writeheader()
        self.writer.writerows(kept)

    def __enter__(self) -> Callable[[dict[str, float]], None]:
        return self.write

    def write(self, row: dict[str, float]) -> None:
        """Add a row; a term without value in this step stays empty."""
        self.writer.writerow({k: int(v) if k == "step" else f"{v:.6g}" for k, v in row.items()})
        self.handle.flush()

    def __exit__(self, *error: object) -> None:
        self.handle.close()
