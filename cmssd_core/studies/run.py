"""A model over the cases of a cohort, by the very way a user's case goes: one result a case and condition, kept.

A case is read and prepared once and predicted under every condition: all there is, MRI alone, H&E alone, other weights
whose inputs are prepared alike. Each part that is done is a file, so a run that was killed goes on. Figures are made of
the parts by evaluation/summary.py. A refused case is tried again by the next run: the file it misses may be there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmssd_core.cases.modalities import BOTH, MODALITIES, name_given
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.split import of_split
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.inference import predict as inference
from cmssd_core.machine import store as storage
from cmssd_core.machine import workers
from cmssd_core.machine.atomic import make_folder, write_atomic
from cmssd_core.models.spec import InputSpec
from cmssd_core.models.weights import DEFAULT
from cmssd_core.report import notebook
from cmssd_core.studies.conditions import can_answer, conditions
from cmssd_core.tasks.scoring import score
from cmssd_core.types import Case, InputError, about

FORMAT = 3  # of a part; raised when the same input would give another part
Row = dict[str, Any]
Progress = Callable[[int, int, str], None]
FULL = (errno.ENOSPC, errno.EDQUOT)  # not the case's fault


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """split: "test", "val" or "all". drop: a modality that is hidden from every model.

    corruptions: cases put through the table of corruptions, drawn by `seed`. workers: processes of one torch thread
    each; None = one a core. features: keep each encoder's features and the fused ones of what is given in full.
    calibrated: by what lies beside the weights.
    """

    split: str = "test"
    drop: str | None = None
    corruptions: int = 0
    workers: int | None = None
    seed: int = 0
    features: bool = False
    calibrated: bool = True


@dataclass(frozen=True)
class Results:
    """rows: one a case and condition, with the cohort's columns. models: name -> predictor, the subject first."""

    rows: pd.DataFrame
    models: dict[str, inference.Predictor]
    settings: RunSettings
    corrupted: tuple[str, ...]  # case_ids

    def _repr_html_(self) -> str:
        refused = self.rows[self.rows["problem"].notna() & self.rows["corruption"].isna()]
        counts = {"cases": self.rows["case_id"].nunique(), "refused": refused["case_id"].nunique()}
        return notebook.results(tuple(self.models), **counts, rows=len(self.rows))


@dataclass(frozen=True)
class _Job:
    """One part: a row of the cohort under all conditions, or under all corruptions."""

    path: Path
    row: Row
    corrupt: bool

    @property
    def fault(self) -> Path:
        """Where it is told why the case has no answer; it is tried again when the run goes on."""
        return self.path.with_suffix(".fault")

    @property
    def answered(self) -> bool:
        """Whether the part is there. One of an earlier version that holds a refusal is removed, to be tried again."""
        if not self.path.exists():
            return False
        if any({"model", "corruption"} & set(line) for line in _lines(self.path)):
            return True
        self.path.unlink(missing_ok=True)
        return False

    def refuse(self, why: str) -> None:
        """Tell why there is no answer instead of writing the part."""
        rows = [{"case_id": self.row["case_id"], "problem": why}]
        write_atomic(self.fault, lambda part: part.write_text(json.dumps(rows), encoding="utf-8"))

    def fail(self, why: str) -> None:
        """Tell a fault of the program instead of writing the part."""
        self.refuse(f"the program failed on this case ({why})")


class _Worker:
    """What a process needs for its jobs: predictors by name, loaded once."""

    def __init__(self, weights: dict[str, Path], root: Path, settings: Settings, chosen: RunSettings) -> None:
        self.predictors = _loaded(weights, settings, chosen)
        self.root, self.settings, self.chosen = root, settings, chosen

    def do(self, job: _Job) -> None:
        """Write the part of a job, whole or not at all, or what the case is refused for."""
        try:
            rows = self._corrupted(job.row) if job.corrupt else self._clean(job.row)
        except InputError as problem:
            job.refuse(str(problem))
            return
        except Exception as fault:  # one broken case does not end a run
            if isinstance(fault, OSError) and fault.errno in FULL:
                raise
            job.fail(type(fault).__name__)
            return
        write_atomic(job.path, lambda part: part.write_text(json.dumps(rows, allow_nan=False), encoding="utf-8"))

    def _admit(self, row: Row) -> Case:
        case = cohorts.admit_row(pd.Series(row, dtype=object), self.root, reads=_reads(self.predictors))
        case = _only(case, [name for name in case.inputs if name != self.chosen.drop])
        if not case.inputs:
            raise InputError(f"nothing is left of the case without {self.chosen.drop}")
        return case

    def _clean(self, row: Row) -> list[Row]:
        started = time.perf_counter()
        case = self._admit(row)
        read_s = time.perf_counter() - started
        rows: list[Row] = []
        prepared: dict[frozenset[tuple[str, InputSpec]], Case] = {}
        for name, predictor in self.predictors.items():
            if not can_answer(predictor.model, case.inputs):
                continue
            started = time.perf_counter()
            spec = frozenset(predictor.spec.items())
            if spec not in prepared:
                prepared[spec] = prepare(case, spec=predictor.spec, settings=self.settings)
            seconds = {"read": read_s, "prepare": time.perf_counter() - started}
            for given, left in conditions(predictor.model, case.inputs).items():
                shown, ready = _only(case, left), _only(prepared[spec], left)
                found, features = inference.answer_and_features(shown, ready, predictor)
                summary = score(found, shown, given=name_given(shown.inputs), surfaces=True)
                if self.chosen.features and given == BOTH:
                    summary |= {f"feature_{modality}": vector.tolist() for modality, vector in features.items()}
                if given == BOTH:
                    summary |= {f"seconds_{k}": round(v, 4) for k, v in (seconds | dict(found.timings_s)).items()}
                    summary["memory_mb"] = _peak_memory_mb()
                rows.append({"case_id": row["case_id"], "model": name, "given": given, **summary})
        name, subject = next(iter(self.predictors.items()))
        if not can_answer(subject.model, case.inputs):
            problem = _unread(name, subject, case)
            if not rows:
                raise InputError(problem)
            rows.append({"case_id": row["case_id"], "problem": problem})  # others answered
        return rows

    def _corrupted(self, row: Row) -> list[Row]:
        from cmssd_core.corruptions.cases import variants  # TorchIO takes a second to import

        predictor = next(iter(self.predictors.values()))
        case, rows = self._admit(row), []
        for name, level, raw, make in variants(case, predictor.spec, self.settings, seed=self.chosen.seed):
            line = {"case_id": row["case_id"], "corruption": name, "level": level}
            try:
                found = inference.answer(raw, make(), predictor)
                summary = score(found, raw, given=name_given(raw.inputs), surfaces=False)
            except InputError as problem:  # an artefact that leaves nothing to read is refused, as it should be
                summary = {"problem": str(problem)}
            rows.append(line | summary)
        return rows


def run(
    cohort: Path,
    out: Path,
    *,
    weights: Path | None = None,
    against: tuple[Path, ...] = (),
    chosen: RunSettings | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Results:
    """Predict the cohort's cases under every condition; parts are kept in out/parts and taken from there.

    Raises InputError for a cohort, weights or a split that cannot be used.
    """
    settings, chosen = settings or default_settings(), chosen or RunSettings()
    tell = progress or (lambda done, of, what: None)
    table = _chosen_rows(cohorts.read(cohort), chosen)
    root = cohort if cohort.is_dir() else cohort.parent
    paths = _named((weights or settings.weights or DEFAULT, *against), settings)
    models = _loaded(paths, settings, chosen)
    jobs, corrupted = _jobs(table, root, out / "parts", models, settings, chosen)
    todo = [job for job in jobs if not job.answered]
    done = len(jobs) - len(todo)
    tell(done, len(jobs), "cases")
    for job in _worked(todo, (paths, root, settings, chosen), chosen.workers):
        done += 1
        tell(done, len(jobs), "corruptions" if job.corrupt else "cases")
    parts = [job.path if job.path.exists() else job.fault for job in jobs]
    lines = [line for part in parts for line in _lines(part)]
    return Results(_frame(lines, table), models, chosen, corrupted)


def _lines(part: Path) -> list[Row]:
    lines: list[Row] = json.loads(part.read_text(encoding="utf-8"))
    return lines


def _chosen_rows(table: pd.DataFrame, chosen: RunSettings) -> pd.DataFrame:
    if chosen.drop not in (None, *MODALITIES):
        raise InputError(
            f"drop {chosen.drop!r} came, expected one of {', '.join(MODALITIES)}; choose one of these", "drop"
        )
    return of_split(table, chosen.split)


def _loaded(weights: dict[str, Path], settings: Settings, chosen: RunSettings) -> dict[str, inference.Predictor]:
    return {
        name: inference.load(path, settings=settings, calibrated=chosen.calibrated) for name, path in weights.items()
    }


def _named(paths: tuple[Path, ...], settings: Settings) -> dict[str, Path]:
    """Names for the weights files: model and size, with the file's name where two are of one kind."""
    from cmssd_core.models.weights import load

    named: dict[str, Path] = {}
    for path in paths:
        with about("against"):
            name = load(path)[1].name
        stem = path.parent.name if path.stem == "weights" else path.stem
        name = name if name not in named else f"{name} ({stem})"
        if name in named:
            raise InputError(f"{path.name} came twice, expected each weights file once; leave one out", "against")
        named[name] = path
    return named


def _jobs(
    table: pd.DataFrame,
    root: Path,
    parts: Path,
    models: dict[str, inference.Predictor],
    settings: Settings,
    chosen: RunSettings,
) -> tuple[list[_Job], tuple[str, ...]]:
    make_folder(parts)
    first = next(iter(models.values()))
    common = {
        "format": FORMAT, "pipeline": inference.PIPELINE, "drop": chosen.drop, "n4": settings.n4,
        "stain": settings.stain_backend, "patches": settings.max_patches, "device": first.device.type,
    }  # fmt: skip
    jobs = []
    rows = [{str(k): v for k, v in row.items() if pd.notna(v)} for _, row in table.iterrows()]
    corrupted, reads = _subset(table, chosen.corruptions), _reads(models)
    for row in rows:
        content = {
            **common, "row": {k: str(v) for k, v in row.items()}, "files": cohorts.file_states(row, root, reads=reads),
        }  # fmt: skip
        key = storage.key(**content, features=chosen.features, models={n: _identity(m) for n, m in models.items()})
        jobs.append(_Job(parts / f"{row['case_id']}-{key[:16]}.json", row, False))
        if row["case_id"] in corrupted:
            key = storage.key(**content, model=_identity(first), seed=chosen.seed)
            jobs.append(_Job(parts / f"{row['case_id']}-corrupted-{key[:16]}.json", row, True))
    return sorted(jobs, key=lambda job: job.corrupt), corrupted


def _identity(predictor: inference.Predictor) -> str:
    return f"{predictor.model_id} {predictor.calibration.digest if predictor.calibration else None}"


def _subset(table: pd.DataFrame, count: int) -> tuple[str, ...]:
    """case_ids of `count` cases that have both modalities, evenly spread over each label in its share."""
    both = table[table["slide"].notna() & table[list(cohorts.MR_COLUMNS)].notna().any(axis=1)]
    ordered = both.sort_values(["malignant", "case_id"], kind="stable")["case_id"].tolist()
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return tuple(str(ordered[i]) for i in places) if count > 0 else ()


def _worked(todo: list[_Job], arguments: tuple[Any, ...], processes: int | None) -> Iterator[_Job]:
    """Do the jobs, giving each as it is done."""
    count = min(processes or os.cpu_count() or 1, len(todo))
    if count <= 1:
        worker = _Worker(*arguments) if todo else None
        for job in todo:
            assert worker is not None
            worker.do(job)
            yield job
        return
    left = todo
    while left:
        pool = workers.pool(count, _set_up, *arguments)
        try:
            running = {pool.submit(_do, job): job for job in left}
            for finished in as_completed(running):
                finished.result()
                left = [job for job in left if job is not running[finished]]
                yield running[finished]
        except BrokenProcessPool:
            # A library took a worker down with it. It was at one of the first cases that are left: each alone tells.
            yield from _alone([job for job in left[:count] if not job.path.exists()], arguments)
            yield from (job for job in left[:count] if job.path.exists())
            left = left[count:]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _alone(suspects: list[_Job], arguments: tuple[Any, ...]) -> Iterator[_Job]:
    for job in suspects:
        with workers.pool(1, _set_up, *arguments) as pool:
            try:
                pool.submit(_do, job).result()
            except BrokenProcessPool:
                job.fail("it ended the process")
        if not job.path.exists():
            yield job


_here: dict[str, _Worker] = {}  # of a worker process alone


def _set_up(*arguments: Any) -> None:
    _here["worker"] = _Worker(*arguments)


def _do(job: _Job) -> None:
    _here["worker"].do(job)


def _reads(predictors: Mapping[str, inference.Predictor]) -> tuple[str, ...]:
    """The modalities that are read of a row: those of every case, and what else one of the models needs."""
    needed = {name for predictor in predictors.values() for name in predictor.model.needs}
    return tuple(name for name in MODALITIES if name in needed or name in cohorts.READ_BY_ALL)


def _only(case: Case, names: Collection[str]) -> Case:
    return replace(case, inputs={name: value for name, value in case.inputs.items() if name in names})


def _unread(name: str, predictor: inference.Predictor, case: Case) -> str:
    """That the model cannot answer the case, in a sentence."""
    model = predictor.model
    needed = [modality for modality in model.needs if modality not in model.optional] or model.needs
    came, expected = (" and ".join(MODALITIES[m].noun for m in some) for some in (sorted(case.inputs), needed))
    return f"{came} came, {name} needs {expected}; add it to the cohort, or take other weights"


def _peak_memory_mb() -> float | None:
    """The largest resident memory of this process so far, None where the system does not say."""
    with contextlib.suppress(ImportError):
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return None


COLUMNS = ("case_id", "patient_id", "malignant", "age_years", "sex", "centre", "scanner", "field_t", "split")


FOLLOWED = ("event", "time_months")  # beside the risk of a model that gives one


def _frame(lines: list[Row], table: pd.DataFrame) -> pd.DataFrame:
    """All results as one table beside what the cohort says of the cases; level 0 where nothing was corrupted."""
    frame = pd.DataFrame(lines)
    for column in ("model", "given", "corruption", "problem"):
        frame[column] = frame[column].astype(object) if column in frame else None
    frame["level"] = frame["level"].fillna(0).astype(int) if "level" in frame else 0
    columns = (*COLUMNS, *(FOLLOWED if "risk" in frame else ()))
    joined: pd.DataFrame = frame.merge(table[list(columns)], on="case_id", how="left")
    return joined
