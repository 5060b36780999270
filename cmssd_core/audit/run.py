"""`cmssd audit`: cohort, weights and methods become audit.json and audit.html; each case done is kept in the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmssd_core.audit import panel
from cmssd_core.audit.examine import Arrays, AuditSettings, Examiner
from cmssd_core.audit.gates.verdict import together
from cmssd_core.audit.limits import LIMITS
from cmssd_core.audit.measure import Row
from cmssd_core.audit.panel import Line, Spot
from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.split import of_split
from cmssd_core.config import Settings
from cmssd_core.config import settings as default_settings
from cmssd_core.explain.methods import METHODS
from cmssd_core.inference.predict import PIPELINE
from cmssd_core.machine import store as storage
from cmssd_core.machine import workers
from cmssd_core.machine.atomic import make_folder, write_together
from cmssd_core.models import weights as weights_file
from cmssd_core.models.spec import volume_spec
from cmssd_core.report import audit as page
from cmssd_core.types import InputError

FORMAT = 2  # of a kept row; raised when the same input would give another row
SHARES = ("criterion_ablation", "modality_shapley")  # methods that draw no map of their own
KEYS = ("name", "value", "low", "high", "threshold", "meaning", "level", "reason", "n", "p")
Progress = Callable[[int, int, str], None]
Record = dict[str, Any]


@dataclass(frozen=True)
class _Job:
    """One case under one weights file; spot: of the hot spot to be filled, else None."""

    key: str
    row: Row
    maps: bool
    deep: bool
    spot: tuple[tuple[int, ...], ...] | None = None


def audit(
    cohort: Path,
    out: Path,
    *,
    weights: Sequence[Path] = (),
    chosen: AuditSettings | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Record:
    """Audit one or several weights files (seeds or folds of one model) on a cohort; gives what audit.json holds.

    Raises InputError for a cohort, weights, a method or a split that cannot be used.
    """
    settings, chosen = settings or default_settings(), chosen or AuditSettings()
    tell = progress or (lambda done, of, what: None)
    for method in chosen.methods:
        if method not in METHODS or method in SHARES:
            names = ", ".join(name for name in METHODS if name not in SHARES)
            raise InputError(f"method {method!r} came, expected one of {names}; choose one of these", "method")
    table = _chosen(cohorts.read(cohort), chosen)
    root = cohort if cohort.is_dir() else cohort.parent
    paths = tuple(weights) or (settings.weights or weights_file.DEFAULT,)
    make_folder(out)
    runs = [_one(path, root, table, settings, chosen, tell) for path in paths]
    summary = _together(runs) | {"cohort": root.resolve().name, "settings": _plain(chosen), "limits": list(LIMITS)}
    text = json.dumps(summary, indent=1, allow_nan=False)
    shown = page.render(summary)
    write_together(
        {
            out / "audit.html": lambda path: path.write_text(shown, encoding="utf-8"),
            out / "audit.json": lambda path: path.write_text(text, encoding="utf-8"),
        }
    )
    return summary


def in_words(summary: Record) -> list[str]:
    """The verdicts, a line each, for a terminal."""
    lines = [f"{summary['overall']}: {summary['reason']}"]
    for each in summary["verdicts"]:
        label = METHODS[each["method"]].label
        lines.append(f"  {each['criterion']:<22} {label:<22} {each['verdict']:<17} {each['reason']}")
    return lines


def _chosen(table: pd.DataFrame, chosen: AuditSettings) -> pd.DataFrame:
    """At most `cases` rows: half of them malignant where there are so many, those with drawn criteria first."""
    split = "all" if chosen.split == "test" and not (table["split"] == "test").any() else chosen.split
    rows = of_split(table, split)
    columns = [c for c in cohorts.MASK_COLUMNS if c in rows]
    ordered = rows.assign(drawn=rows[columns].notna().sum(axis=1)).sort_values(
        ["drawn", "case_id"], ascending=[False, True], kind="stable"
    )
    malignant = ordered["malignant"] == 1
    half = max(chosen.cases // 2, chosen.cases - int((~malignant).sum()))
    first = ordered[malignant].head(half)
    return pd.concat([first, ordered[~malignant].head(chosen.cases - len(first))]).drop(columns="drawn")


def _one(
    path: Path, root: Path, table: pd.DataFrame, settings: Settings, chosen: AuditSettings, tell: Progress
) -> Record:
    """All of one weights file: cases, then hot spots, then the panel."""
    examiner = Examiner.of(path, root, table, settings, chosen)
    store = storage.open_store(settings)
    rows = [{str(k): v for k, v in row.items() if pd.notna(v)} for _, row in table.iterrows()]
    jobs = [
        _Job(_key(examiner, row, i < chosen.mapped, i < chosen.deep), row, i < chosen.mapped, i < chosen.deep)
        for i, row in enumerate(rows)
    ]
    arguments = (path, root, table, settings, chosen)
    found = _worked(jobs, examiner, store, arguments, lambda done, of: tell(done, of, "cases"))
    kept = [(job, *found[job.key]) for job in jobs if "problem" not in found[job.key][0]]
    refused = [{"case_id": str(job.row["case_id"]), "why": found[job.key][0]["problem"]}
               for job in jobs if "problem" in found[job.key][0]]  # fmt: skip
    spots = {}
    for method in chosen.methods:
        mapped = [(job, row, arrays) for job, row, arrays in kept if f"map {method}" in arrays]
        spots[method] = _spot(method, mapped, examiner, store, arguments, tell)
    measured = [row for _, row, _ in kept]
    criteria = {one.name: one.modality for one in examiner.criteria}
    lines = panel.judge(measured, criteria=criteria, methods=chosen.methods, traps=examiner.asked, spots=spots)
    return {
        "model_id": examiner.predictor.model_id,
        "trained": examiner.predictor.trained,
        "verdicts": [_line(line) for line in lines],
        "cases": measured,
        "refused": refused,
        "criteria": [{"name": c.name, "modality": c.modality, "meaning": c.meaning} for c in examiner.criteria],
    }


def _spot(
    method: str,
    mapped: Sequence[tuple[_Job, Row, Arrays]],
    examiner: Examiner,
    store: storage.Store,
    arguments: tuple[Any, ...],
    tell: Progress,
) -> Spot:
    """The hot spot of a method's MRI maps; where it stands out it is filled in every case that was explained."""
    found, pathology = panel.spot_of(
        [arrays[f"map {method}"][None] for *_, arrays in mapped], [arrays.get("pathology") for *_, arrays in mapped]
    )
    who = [str(row["patient_id"]) for _, row, _ in mapped]
    if found is None or not panel.stands_out(found):
        return Spot(found, np.array([]), len(mapped), pathology, who)
    place = tuple(tuple(int(i) for i in at) for at in np.argwhere(found.mask))
    jobs = [replace(job, key=storage.key(base=job.key, spot=place, shape=found.mask.shape), spot=place)
            for job, *_ in mapped]  # fmt: skip
    filled = _worked(jobs, examiner, store, arguments, lambda done, of: tell(done, of, "hot spot"))
    shift = np.array([filled[job.key][0]["shift"] for job in jobs], dtype=np.float64)
    return Spot(found, shift, len(mapped), pathology, who)


def _key(examiner: Examiner, row: Mapping[str, Any], maps: bool, deep: bool) -> str:
    """What a kept row is kept under: the case's files and columns, the model, and what is measured."""
    root, case_id = examiner.root, str(row["case_id"])
    beside = ("cases", "mapped", "deep", "workers", "split")  # say which cases, not what is measured on one
    chosen = {k: v for k, v in _plain(examiner.chosen).items() if k not in beside}
    criteria = [
        (one.name, one.modality, one.column, one.kind, _states(root / one.masks.get(case_id, "")))
        for one in examiner.criteria
    ]
    donor = examiner.donor and (examiner.donor[0].id, hashlib.sha256(examiner.donor[1].tobytes()).hexdigest())
    return storage.key(
        audit=FORMAT, pipeline=PIPELINE, model=examiner.predictor.model_id, row={k: str(v) for k, v in row.items()},
        files={k: _states(root / v, whole=k.startswith("mri")) for k, v in row.items() if isinstance(v, str)},
        maps=maps, deep=deep and maps, chosen=chosen, n4=examiner.program.n4, stain=examiner.program.stain_backend,
        asked=sorted(f"{k} {v.named}" for k, v in examiner.asked.items()), criteria=criteria, donor=donor,
        generator=examiner.generator and asdict(examiner.generator),
    )  # fmt: skip


def _states(path: Path, *, whole: bool = False) -> list[str]:
    """Size and time of a file; whole: of all files in a folder, such as a DICOM series, too. [] where there is none."""
    files = sorted(path.rglob("*")) if whole and path.is_dir() else [path]
    return [f"{f.relative_to(path)} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files if f.is_file()]


def _plain(chosen: AuditSettings) -> Record:
    summary: Record = json.loads(json.dumps(asdict(chosen)))
    return summary


def _worked(
    jobs: Sequence[_Job],
    examiner: Examiner,
    store: storage.Store,
    arguments: tuple[Any, ...],
    tell: Callable[[int, int], None],
) -> dict[str, tuple[Row, Arrays]]:
    """The rows and maps of all jobs by key, from the store where they are known."""
    found: dict[str, tuple[Row, Arrays]] = {}
    for job in jobs:
        with contextlib.suppress(storage.StoreError):
            entry = store.get(job.key)
            if entry is not None:
                found[job.key] = entry.meta["row"], dict(entry.arrays)
    todo = [job for job in jobs if job.key not in found]
    tell(len(found), len(jobs))
    for job, row, arrays in _done(todo, examiner, arguments):
        found[job.key] = row, arrays
        with contextlib.suppress(storage.StoreError):
            store.put(job.key, arrays=arrays, meta={"row": row})
        tell(len(found), len(jobs))
    return found


def _done(todo: Sequence[_Job], examiner: Examiner, arguments: tuple[Any, ...]) -> Iterator[tuple[_Job, Row, Arrays]]:
    count = min(examiner.chosen.workers or os.cpu_count() or 1, len(todo))
    if count <= 1:
        for job in todo:
            yield job, *_do(examiner, job)
        return
    pool = workers.pool(count, _set_up, *arguments)
    try:
        running = {pool.submit(_do_here, job): job for job in todo}
        for finished in as_completed(running):
            yield running[finished], *finished.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_here: dict[str, Examiner] = {}  # of a worker process alone


def _set_up(*arguments: Any) -> None:
    _here["examiner"] = Examiner.of(*arguments)


def _do_here(job: _Job) -> tuple[Row, Arrays]:
    done = _do(_here["examiner"], job)
    workers.give_back()
    return done


def _do(examiner: Examiner, job: _Job) -> tuple[Row, Arrays]:
    """A job's row and maps. What a case is refused for stands in its row."""
    try:
        if job.spot is None:
            return examiner.examine(job.row, maps=job.maps, deep=job.deep and job.maps)
        grid = volume_spec(examiner.predictor.spec)
        size = 0 if grid is None else grid.px
        mask = np.zeros((size, size), dtype=bool)
        mask[tuple(np.array(job.spot).T)] = True
        return {"shift": examiner.refilled(job.row, mask)}, {}
    except InputError as problem:
        return {"problem": str(problem)}, {}


def _line(line: Line) -> Record:
    gates = [
        {**{k: getattr(g, k) for k in KEYS}, "passed": g.passed, "details": dict(g.details)}
        for g in line.gates
    ]  # fmt: skip
    summary = {k: getattr(line, k) for k in ("criterion", "modality", "method", "verdict", "reason")}
    return {**summary, "gates": gates}


def _together(runs: Sequence[Record]) -> Record:
    """One verdict of several runs: the gates shown are those of the run that fares worst."""
    worst = ("FAIL", "NOT DEMONSTRATED", "PASS", "NOT ASSESSABLE")
    verdicts = []
    for each in zip(*(run["verdicts"] for run in runs), strict=True):
        shown = min(each, key=lambda record: worst.index(record["verdict"]))
        counts = {name: sum(summary["verdict"] == name for summary in each) for name in worst}
        words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        reason = shown["reason"] if len(runs) == 1 else f"of {len(runs)} runs {words}. {shown['reason']}"
        verdicts.append({**shown, "verdict": together([summary["verdict"] for summary in each]), "reason": reason})
    overall = together([summary["verdict"] for summary in verdicts])
    first = next((summary for summary in verdicts if summary["verdict"] == overall), None)
    reason = first["reason"] if first else "no case has a criterion"
    assessed = sum(summary["verdict"] != "NOT ASSESSABLE" for summary in verdicts)
    if 0 < assessed < len(verdicts):
        reason = f"{assessed} of {len(verdicts)} verdicts (a criterion by a method) are assessable. {reason}"
    run = runs[0]
    return {
        "overall": overall,
        "reason": reason,
        "assessable": {"verdicts": assessed, "of": len(verdicts)},
        "model_id": ", ".join(one["model_id"] for one in runs),
        "trained": run["trained"],
        "verdicts": verdicts,
        "labels": {name: METHODS[name].label for name in {summary["method"]: None for summary in verdicts}},
        "criteria": run["criteria"],
        "cases": run["cases"],
        "refused": run["refused"],
        "runs": [{k: one[k] for k in ("model_id", "trained", "verdicts")} for one in runs] if len(runs) > 1 else [],
    }
