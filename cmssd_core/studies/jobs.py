"""A cohort's results as a job: a process of its own that outlives tab and server, tells how far it is, and goes on.

Each job has a folder under the cache, named by where its results go, so that the same question is the same job. The
process holds the folder's lock as long as it lives: whoever asks for a job that runs shares it, and a job that was
killed is one that neither ended nor holds its lock. Its own workers end with it, however it ends. Parts that are done
are kept by cohort_run, so starting again goes on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cmssd_core.config import Settings
from cmssd_core.machine import store
from cmssd_core.machine.atomic import make_folder, write_atomic
from cmssd_core.types import InputError

State = Literal["running", "stopping", "stopped", "failed", "interrupted", "done"]
Kind = Literal["evaluate", "audit"]

_ASK, _PROGRESS, _END, _LOCK, _LOG, _STOP = "ask.json", "progress.json", "end.json", "lock", "log", "stop"
_END_BYTES = 4096  # reserved before the work starts: a full disk must not keep a job from saying that it is full
_PID_BYTES = 16
_TELL_S = 0.3
_SOURCE = str(Path(__file__).resolve().parents[2])  # a bare checkout is not installed
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is to be computed: as in cohort_run.RunSettings.

    cohort: its table. weights: the file. out: the folder for metrics.json, predictions.parquet and evaluation.html.
    kind: the cohort's results, or the audit of the explanations, whose out gets audit.json and audit.html.
    """

    cohort: Path
    weights: Path
    out: Path
    split: str = "all"
    workers: int | None = None
    kind: Kind = "evaluate"


@dataclass(frozen=True)
class Job:
    """How a job stands. `done` of `of` parts; `sentence` says why it ended where it did not end well.

    refused: cases that could not be computed; each one's sentence stands in the table. None until it is done.
    """

    id: str
    ask: Ask
    state: State
    done: int
    of: int
    sentence: str | None
    refused: int | None
    started_s: float


def ask(
    cohort: Path,
    out: Path,
    settings: Settings,
    *,
    split: str = "all",
    workers: int | None = None,
    kind: Kind = "evaluate",
) -> Ask:
    """The question of a cohort's results by the model in use; `cohort` is a cohort.csv or its folder."""
    table = cohort / "cohort.csv" if cohort.is_dir() else cohort
    if not table.is_file():
        raise InputError(f"{cohort.name} holds no cohort.csv; expected a cohort folder or its CSV; check the path")
    from cmssd_core.models.weights import DEFAULT  # the job's workers import this file, and need no torch for it

    weights = settings.weights or DEFAULT
    return Ask(
        cohort=table.resolve(), weights=weights.resolve(), out=out.absolute(), split=split, workers=workers, kind=kind
    )


def identity(asked: Ask) -> str:
    """The id of the job whose results go where these do: two never write into one folder."""
    return store.key(out=str(asked.out))[:16]


def start(asked: Ask, settings: Settings) -> Job:
    """Starts a job, or goes on with it; one that runs already is shared. Raises InputError where there is no room."""
    folder = _folder(identity(asked), settings)
    make_folder(folder)
    with _held(folder) as lock:
        if lock is not None:
            _begin(folder, asked, lock)
    found = look(folder.name, settings)
    if found is None:
        raise InputError(f"the job's folder {folder.name} went away while it was started; start it again")
    return found


def stop(job_id: str, settings: Settings) -> None:
    """Asks a job that runs to end; the cases at work are finished first, and what is done is kept."""
    folder = _folder(job_id, settings)
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / _LOCK).read_text(encoding="utf-8"))
        if not _runs(folder):
            return
        (folder / _STOP).touch()
        os.kill(pid, signal.SIGTERM)


def look(job_id: str, settings: Settings) -> Job | None:
    """How a job stands; None where there is none."""
    folder = _folder(job_id, settings)
    summary = _read(folder / _ASK)
    if summary is None:
        return None
    asked = _asked(summary["ask"])
    progress = _read(folder / _PROGRESS) or {"done": 0, "of": 0}
    runs, asked_to_stop = _runs(folder), (folder / _STOP).exists()
    # A process that was stopped before it listened, like one that was killed, says nothing at its end.
    end: dict[str, Any] = {"state": "stopped" if asked_to_stop else "interrupted", "sentence": None, "refused": None}
    if runs:
        end["state"] = "stopping" if asked_to_stop else "running"
    else:
        end |= _read(folder / _END) or {}
    return Job(
        id=job_id,
        ask=asked,
        state=end["state"],
        done=progress["done"],
        of=progress["of"],
        sentence=end["sentence"],
        refused=end["refused"],
        started_s=summary["started_s"],
    )


def list_jobs(settings: Settings) -> tuple[Job, ...]:
    """All jobs of this installation, the one started last first."""
    with contextlib.suppress(OSError):
        found = [look(path.name, settings) for path in _room(settings).iterdir()]
        return tuple(sorted((job for job in found if job), key=lambda job: -job.started_s))
    return ()


def remove(job_id: str, settings: Settings) -> None:
    """Forgets a job that does not run; its results stay."""
    folder = _folder(job_id, settings)
    if not _runs(folder):
        shutil.rmtree(folder, ignore_errors=True)


def work(folder: Path) -> int:
    """The job's process: computes, tells its progress, and how it ended; gives the exit status."""
    from cmssd_core.config import settings
    from cmssd_core.studies.evaluate import evaluate
    from cmssd_core.studies.run import RunSettings

    summary = _read(folder / _ASK)
    assert summary is not None
    asked, last = _asked(summary["ask"]), 0.0

    def progress(done: int, of: int, _what: str) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_S or done in (0, of):
            _write(folder / _PROGRESS, {"done": done, "of": of})
            last = time.monotonic()

    ended: dict[str, Any] = {"state": "failed", "refused": None, "sentence": None}
    status = 2
    try:
        if asked.kind == "audit":
            from cmssd_core.audit.examine import AuditSettings
            from cmssd_core.audit.run import audit

            panel = AuditSettings(split=asked.split, workers=asked.workers)
            made = audit(
                asked.cohort, asked.out, weights=(asked.weights,), chosen=panel, settings=settings(), progress=progress
            )
        else:
            chosen = RunSettings(split=asked.split, workers=asked.workers)
            made = evaluate(
                asked.cohort, asked.out, weights=asked.weights, chosen=chosen, settings=settings(), progress=progress
            )
        ended |= {"state": "done", "refused": len({each["case_id"] for each in made["refused"]})}
        status = 0
    except KeyboardInterrupt:
        ended["state"] = "stopped"
        status = 130
    except Exception as problem:
        if any(words in str(problem) for words in _FULL):
            ended["sentence"] = "the disk is full; free some space and go on: what was done is kept"
        elif isinstance(problem, InputError):
            ended["sentence"] = str(problem)
        else:
            traceback.print_exc()
            ended["sentence"] = f"the program failed ({type(problem).__name__}); {folder / _LOG} says where"
            status = 1
    ended["sentence"] = ended["sentence"] and str(ended["sentence"])[:900]
    with (folder / _END).open("r+b") as file:  # over the reserved bytes
        file.write(json.dumps(ended, ensure_ascii=False).encode().ljust(_END_BYTES))
    return status


def _begin(folder: Path, asked: Ask, lock: int) -> None:
    """Starts the process and leaves it the lock: its file stays open there, so the lock is never free in between."""
    summary = {"ask": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(asked).items()}}
    try:
        _write(folder / _ASK, {**summary, "started_s": time.time()})
        (folder / _END).write_bytes(b" " * _END_BYTES)
        (folder / _STOP).unlink(missing_ok=True)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b" " * _PID_BYTES, 0)
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cmssd_core.studies.jobs", str(folder), str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it
                env={**os.environ, "PYTHONPATH": os.pathsep.join([_SOURCE, os.environ.get("PYTHONPATH", "")])},
            )
        os.pwrite(lock, str(process.pid).encode(), 0)
    except OSError as problem:
        raise _no_room(problem) from None
    threading.Thread(target=process.wait, daemon=True).start()  # no zombie is left while the server lives


def _no_room(problem: OSError) -> InputError:
    why = problem.strerror or problem
    return InputError(f"the job cannot be started ({why}); free some space or set CMSSD_CACHE_DIR")


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[int | None]:
    """The job's lock as an open file, None where a process has it that works."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise _no_room(problem) from None
    try:
        for _ in range(50):  # those who look hold it for a moment
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield lock
                return
            time.sleep(0.01)
        yield None
    finally:
        os.close(lock)  # frees it, unless the process we started holds the same open file


def _runs(folder: Path) -> bool:
    """Whether a process works on the job."""
    try:
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _room(settings: Settings) -> Path:
    return settings.cache_dir / "jobs"


def _folder(job_id: str, settings: Settings) -> Path:
    if not (len(job_id) == 16 and set(job_id) <= set("0123456789abcdef")):
        raise InputError(f"{job_id!r} came, expected the id of a job; choose one of the list")
    return _room(settings).absolute() / job_id


def _asked(summary: dict[str, Any]) -> Ask:
    places = {name: Path(summary[name]) for name in ("cohort", "weights", "out")}
    return Ask(**places, split=summary["split"], workers=summary["workers"], kind=summary.get("kind", "evaluate"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def _write(path: Path, summary: dict[str, Any]) -> None:
    write_atomic(path, lambda part: part.write_text(json.dumps(summary), encoding="utf-8"))


def _stop_once(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the cases at work are being finished
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop_once)
    os.set_inheritable(int(sys.argv[2]), False)
    sys.exit(work(Path(sys.argv[1])))
