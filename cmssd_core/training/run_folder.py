"""A training run on disk: its settings, its cases, where it ran, a row of metrics a step, checkpoints that are whole.

A checkpoint is one safetensors file that appears by a rename, so there is always a whole one. A row of metrics counts
once its line has ended. One process trains into a folder at a time.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmssd_core.cohort import table as cohorts
from cmssd_core.machine import store as storage
from cmssd_core.machine.atomic import claim, make_folder, write_atomic
from cmssd_core.models.base import Model
from cmssd_core.training.aggo import Guide
from cmssd_core.training.recipe import TrainSettings, settings_from, text_of
from cmssd_core.types import InputError

COHORT = "cohort.json"
TRUTHS = "truths.json"
CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
BEFORE, AFTER = ("step", "stage", "learning_rate", "total"), ("gradient_norm", "validation", "seconds")
LIBRARIES = ("torch", "numpy", "torchio", "safetensors", "SimpleITK")


def open_run(out: Path, settings: TrainSettings, table: pd.DataFrame, *, resume: bool) -> None:
    """Make the run folder with config.json, cohort.json and environment.json. table: of the whole cohort.

    Raises InputError where it holds a run already, or, with resume, one of other settings or of other cases, and where
    another process trains into it.
    """
    make_folder(out)
    with claim(out):
        _open_run(out, settings, table, resume=resume)


def _open_run(out: Path, settings: TrainSettings, table: pd.DataFrame, *, resume: bool) -> None:
    config = out / "config.json"
    text = text_of(settings)
    if config.exists() and not resume and (out / CHECKPOINT).exists():
        raise InputError(f"{out.name} holds a run already, expected a new folder; name one, or go on with it", "resume")
    if config.exists() and resume and not _same_settings(config, settings):
        raise InputError(f"{out.name} was started with other settings (config.json); resume with the same")
    if config.exists() and resume:
        _same_cases(out, table)
    here = json.dumps(environment(), indent=1)
    seen = json.dumps(describe_cases(table), indent=1)
    write_atomic(out / COHORT, lambda path: path.write_text(seen, encoding="utf-8"))
    write_atomic(out / "environment.json", lambda path: path.write_text(here, encoding="utf-8"))
    write_atomic(config, lambda path: path.write_text(text, encoding="utf-8"))


def keep_truths(out: Path, counts: Mapping[str, int], *, cases: int, left_out: Sequence[str]) -> None:
    """truths.json: how many training cases teach each task, and which were left out for want of an input."""
    summary = {"cases": cases, "with_truth": dict(counts), "left_out": list(left_out)}
    write_atomic(out / TRUTHS, lambda path: path.write_text(json.dumps(summary, indent=1), encoding="utf-8"))


def is_done(out: Path, settings: TrainSettings, table: pd.DataFrame) -> bool:
    """Whether `out` holds the weights of a run with these very settings. Raises InputError where it saw other cases."""
    config = out / "config.json"
    if not (out / "weights.safetensors").exists() or not config.exists():
        return False
    if not _same_settings(config, settings):
        return False
    _same_cases(out, table)
    return True


def _same_settings(config: Path, settings: TrainSettings) -> bool:
    """Whether config.json says the same; one written before a setting was invented had that setting's default."""
    return settings_from(config.read_text(encoding="utf-8")) == settings


def describe_cases(table: pd.DataFrame) -> dict[str, object]:
    """The cases that a run learns from and is chosen by: how many, and a key of what the cohort says of them.

    Not their fold: folds may be added later, and a fold that was chosen is in the split.
    """
    rows = table[table["split"].isin(("train", "val"))]
    words = rows[[name for name in cohorts.COLUMNS if name != "fold" and rows[name].notna().any()]]
    counts = {name: int((rows["split"] == name).sum()) for name in ("train", "val")}
    return counts | {"key": storage.key(rows=words.to_csv(index=False))}


def _same_cases(out: Path, table: pd.DataFrame) -> None:
    """Raise InputError where the run in `out` saw other cases than the table's.

    A run made before its cases were kept is taken at its word.
    """
    kept = out / COHORT
    if not kept.exists():
        return
    then, now = json.loads(kept.read_text(encoding="utf-8")), describe_cases(table)
    if then != now:
        raise InputError(
            f"{now['train']} train and {now['val']} val cases came whose rows are not those of the {then['train']} and "
            f"{then['val']} that {out.name} was started with ({COHORT}); expected the same cohort, split and fold; "
            "give these, or another folder"
        )


def environment() -> dict[str, object]:
    """Python, libraries, processor, and the state of the source's git checkout (None where it is none)."""
    source = Path(__file__).parents[1]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=source, capture_output=True, text=True, check=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ".")
    return {
        "python": platform.python_version(),
        # A CUDA wheel's metadata leave out its build ("+cu130"), which torch itself says.
        "libraries": {name: version(name) for name in LIBRARIES} | {"torch": str(torch.__version__)},
        "processor": platform.machine(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "git_commit": git("rev-parse", "HEAD"),
        "git_changed": None if changed is None else bool(changed),
    }


def checkpoint(out: Path, model: Model, optimizer: torch.optim.Optimizer, guide: Guide, step: int) -> None:
    """Keep everything that step `step` and its successors depend on."""
    tensors: dict[str, Tensor] = {f"model.{name}": t for name, t in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value
    _save(out / CHECKPOINT, tensors, {"step": str(step), "guide": json.dumps(guide.state())})


def restore_checkpoint(out: Path, model: Model, optimizer: torch.optim.Optimizer, guide: Guide) -> int:
    """Load the checkpoint, if there is one; gives the number of steps done."""
    path = out / CHECKPOINT
    if not path.exists():
        return 0
    with safe_open(str(path), "pt") as stored:
        about = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if mine:
            # AdamW counts steps on the CPU; the moments live where the parameter does.
            optimizer.state[parameter] = {k: t if k == "step" else t.to(parameter.device) for k, t in mine.items()}
    guide.restore(json.loads(about["guide"]))
    return int(about["step"])


def history(path: Path) -> pd.DataFrame:
    """metrics.csv of a run, one row a step: step, total, the terms and whatever else it has, NaN where a term is off.

    Raises InputError where it is no such table.
    """
    try:
        table = pd.read_csv(io.StringIO(_whole_lines(path)))
        numbers = table.drop(columns="stage", errors="ignore").astype("float64")
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{path.name} cannot be read, expected the table that cmssd train writes; copy it anew"
        ) from None
    if not {"step", "total"} <= set(numbers) or numbers.empty:
        raise InputError(f"{path.name} has no steps with a loss, expected the table that cmssd train writes; train on")
    return numbers.assign(stage=table["stage"].astype(str)) if "stage" in table else numbers


def keep_best(out: Path, model: Model, step: int) -> None:
    """Keep the model as the best so far."""
    _save(out / BEST, dict(model.state_dict()), {"step": str(step)})


def best(out: Path) -> dict[str, Tensor] | None:
    """The parameters kept as the best; None where the run validated nothing."""
    path = out / BEST
    return load_file(str(path)) if path.exists() else None


def _save(path: Path, tensors: Mapping[str, Tensor], about: dict[str, str]) -> None:
    kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomic(path, lambda part: save_file(kept, str(part), metadata=about))


def _whole_lines(path: Path) -> str:
    """The text of a file less a last line that has not ended: the row that a process is writing, or was killed at."""
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    return text[: text.rfind("\n") + 1]


class Metrics:
    """metrics.csv, a row a step; rows after the checkpoint that is resumed from are dropped.

    Raises InputError where another process trains into the folder, and where a row cannot be written.
    """

    def __init__(self, path: Path, start: int, terms: tuple[str, ...]) -> None:
        self.path, self.names = path, (*BEFORE, *terms, *AFTER)
        self.rows: list[dict[str, str]] = []
        self._open = ExitStack()
        self._open.enter_context(claim(path.parent))
        if path.exists():
            kept = csv.DictReader(io.StringIO(_whole_lines(path)))
            self.rows = [row for row in kept if row["step"] and int(row["step"]) < start]
        text = self._text([dict(zip(self.names, self.names, strict=True)), *self.rows])
        write_atomic(path, lambda part: part.write_bytes(text))
        self._file = self._open.enter_context(path.open("ab", buffering=0))

    def validations(self) -> list[float]:
        """What the looks at the validation split gave so far."""
        return [float(row["validation"]) for row in self.rows if row.get("validation")]

    def write(self, row: Mapping[str, float | str]) -> None:
        """Add a row; a term without value in this step stays empty."""
        text = {k: v if isinstance(v, str) else str(v) if k == "step" else f"{v:.6g}" for k, v in row.items()}
        line = self._text([text])
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:
            os.ftruncate(self._file.fileno(), before)  # a part of a row is none
            raise InputError(
                f"{self.path.name} cannot be written ({problem.strerror}); free some space and go on with the run",
                "resume",
            ) from None
        self.rows.append(text)

    def close(self) -> None:
        """Close the file, and let others train into the folder."""
        self._open.close()

    def _text(self, rows: Sequence[Mapping[str, str]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self.names, extrasaction="ignore").writerows(rows)
        return text.getvalue().encode()
