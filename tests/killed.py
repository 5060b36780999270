"""Work that is killed with kill -9 at random moments, and what of it is still there: `python tests/killed.py`.

Each kind of work runs in a session of its own, so that whatever still lives of it is found. After every kill no process
of it may live on, no file may be half-written and no result of before may be gone; at the end it goes on, and its
result must be that of the same work uninterrupted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import tiny
from PIL import Image
from places import ROOT
from safetensors.numpy import load_file

from cmssd_core.machine.store import Store
from cmssd_core.reviews.store import open_at
from cmssd_core.training.recipe import Stage, TrainSettings, text_of
from cmssd_core.training.run_folder import history

CLOCK = ("seconds", "timings", "memory", "started")  # in the names of what differs from run to run
RECIPE = TrainSettings(
    stages=(Stage(name="both", steps=6, learning_rate=1e-3, slices=1, patches=1),),
    batch=2, checkpoint_every=2, validate_every=3, warmup=2, n4=False, amp="off", threads=1,
)  # fmt: skip
PATIENCE_S = 15.0  # for the kernel to end what was bound to the killed process; the machine may be busy

REVIEWS = """
import sys
from cmssd_core.reviews.record import Reading
from cmssd_core.reviews.store import open_at
reviews = open_at(sys.argv[1])
for n in range(len(reviews.readings()), 2000):
    kept = reviews.add_reading(Reading("anna", f"{n:064x}", "m", n % 101, {"osteoid": "present"}, True))
    print(kept.token, flush=True)
"""

JOB = """
import os, sys, time
from pathlib import Path
from cmssd_core.config import settings
from cmssd_core.studies import jobs
asked = jobs.ask(Path(sys.argv[1]), Path(sys.argv[2]), settings(), workers=2)
job = jobs.start(asked, settings())
print((settings().cache_dir / "jobs" / job.id / "lock").read_text(), flush=True)
"""


def cmssd(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cmssd_core.cli", *map(str, arguments)]


@dataclass(frozen=True)
class Work:
    """command: of a folder that holds everything the work writes; result: what is the same whenever it was killed."""

    name: str
    command: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    before: Callable[[Path], list[str]] | None = None  # leaves an earlier result in the folder
    is_job: bool = False  # the command only starts it, and prints its process


def works(cohort: Path, *, drawn: int = 24) -> dict[str, Work]:
    """Every kind of work, on one small cohort; drawn: cases of the cohort that is made."""
    (cohort / "config.json").write_text(text_of(RECIPE), encoding="utf-8")

    def predict(case: str) -> Callable[[Path], list[str]]:
        files = cohort / "cases" / case
        given = ("--contrast", f"t1={files / 't1.nii.gz'}", "--he", files / "slide.tif", "--mpp", 1)
        return lambda at: cmssd("predict", *given, "--out", at / "out")

    few = ("--split", "all", "--workers", 2)
    shown = ("--shape", "6,64,64", "--contrasts", "t1,t2", "--slide-px", 256, "--split", "all")
    every = [
        Work("predict", predict("synth-00001"), _predicted, before=predict("synth-00000")),
        Work("evaluate", lambda at: cmssd("evaluate", cohort, *few, "--corruptions", 1, "--out", at / "out"), _figures),
        Work("synth", lambda at: cmssd("synth", at / "out", "--cases", drawn, *shown[:-2], "--workers", 2), _files),
        Work(
            "train",
            lambda at: cmssd("train", cohort, "--config", cohort / "config.json", "--out", at / "out", "--resume"),
            _trained,
        ),
        Work(
            "audit of 3 cases",
            lambda at: cmssd("audit", cohort, *few, "--cases", 3, "--method", "gradcam", "--out", at / "out"),
            _audited,
        ),
        Work("a dashboard's job", lambda at: [sys.executable, "-c", JOB, str(cohort), str(at / "out")], _figures,
             is_job=True),
    ]  # fmt: skip
    return {work.name: work for work in every}


# What must be the same


def timeless(record: Any) -> Any:
    """A record without what a clock or the machine's memory says."""
    if isinstance(record, dict):
        return {k: timeless(v) for k, v in record.items() if not any(word in k for word in CLOCK)}
    return [timeless(one) for one in record] if isinstance(record, list) else record


def _read(path: Path) -> Any:
    return timeless(json.loads(path.read_text(encoding="utf-8")))


def _digests(paths: list[Path]) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in paths}


def _predicted(at: Path) -> Any:
    out = at / "out"
    return _read(out / "prediction.json"), _digests([*out.glob("*.nii.gz"), *out.glob("*.png")])


def _figures(at: Path) -> Any:
    rows = pd.read_parquet(at / "out" / "predictions.parquet")
    rows = rows[[name for name in sorted(rows) if not any(word in name for word in CLOCK)]]
    ordered = rows.sort_values(["case_id", "model", "given", "corruption", "level"], kind="stable")
    return _read(at / "out" / "metrics.json"), ordered.to_csv(index=False)


def _audited(at: Path) -> Any:
    return _read(at / "out" / "audit.json")


def _trained(at: Path) -> Any:
    rows = history(at / "out" / "metrics.csv").drop(columns="seconds")
    weights = {name: array.tobytes() for name, array in load_file(at / "out" / "weights.safetensors").items()}
    return rows.to_csv(index=False), {name: sha256(data).hexdigest() for name, data in weights.items()}


def _files(at: Path) -> Any:
    seen = [path for path in sorted((at / "out").rglob("*")) if path.is_file()]
    return {str(path.relative_to(at)): sha256(path.read_bytes()).hexdigest() for path in seen}


# What is there after a kill


def _gzip(path: Path) -> None:
    with gzip.open(path) as stream:
        stream.read()


def _npz(path: Path) -> None:
    with np.load(path) as stored:
        assert all(stored[name].size >= 0 for name in stored)


def _csv(path: Path) -> None:
    if path.name == "metrics.csv":  # a row a step, added while it trains
        if path.read_bytes().count(b"\n") > 1:
            history(path)
        return
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    pd.read_csv(path)


def _html(path: Path) -> None:
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


WHOLE: dict[str, Callable[[Path], Any]] = {
    ".json": _read, ".geojson": _read, ".fault": _read, ".gz": _gzip, ".npz": _npz, ".csv": _csv, ".html": _html,
    ".parquet": pd.read_parquet, ".safetensors": load_file, ".tif": tifffile.imread,
    ".png": lambda path: Image.open(path).load(),
}  # fmt: skip


def torn(folder: Path) -> list[str]:
    """Files below a folder that bear a result's name and are no whole one; a name that begins with a point is none."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if {"jobs", "cache"} & set(path.relative_to(folder).parts[:1]):
            continue
        try:
            if path.suffix in WHOLE:
                WHOLE[path.suffix](path)
        except Exception as why:
            found.append(f"{path.relative_to(folder)} ({type(why).__name__}: {why})")
    keys = [path.name for path in (folder / "cache").glob("*") if len(path.name) == 64]
    store = Store(folder / "cache", limit_bytes=None)
    return found + [f"cache entry {key[:12]}" for key in keys if store.get(key) is None]


def alive(session: int) -> list[str]:
    """What still runs of a session, whoever its parent is now."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            words = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(number) == session and state not in "ZX":
            found.append(f"{stat.parent.name} {words[:120]}")
    return found


# Killing


@dataclass(frozen=True)
class Tally:
    """What came of one kind of work."""

    name: str
    kills: int = 0
    left: tuple[str, ...] = ()  # processes
    half: tuple[str, ...] = ()  # files
    lost: tuple[str, ...] = ()
    same: bool = False

    @property
    def sound(self) -> bool:
        return self.same and not (self.left or self.half or self.lost)

    def row(self) -> str:
        said = (len(self.left), len(self.half), len(self.lost), "yes" if self.same else "NO")
        return f"| {self.name} | {self.kills} | " + " | ".join(map(str, said)) + " |"


HEAD = """| work | kills | processes left | files half-written | lost | goes on to the same result |
|---|---|---|---|---|---|"""


def environment(at: Path) -> dict[str, str]:
    told = {"CACHE_DIR": str(at / "cache"), "N4": "false", "MAX_PATCHES": "2", "DEVICE": "cpu"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {f"CMSSD_{k}": v for k, v in told.items()} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def started(work: Work, at: Path) -> tuple[int, subprocess.Popen[str]]:
    """The work under way: its process, which leads a session, and the command that was called."""
    at.mkdir(exist_ok=True)
    process = subprocess.Popen(
        work.command(at), cwd=at, env=environment(at), start_new_session=True, text=True,
        stdout=subprocess.PIPE if work.is_job else subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return int(process.communicate()[0]) if work.is_job else process.pid, process


def ended(session: int, process: subprocess.Popen[str], work: Work) -> bool:
    if not work.is_job:
        return process.poll() is not None
    return not alive(session)


def finish(work: Work, at: Path) -> None:
    """The work, uninterrupted."""
    session, process = started(work, at)
    until = time.monotonic() + 600
    while not ended(session, process, work):
        assert time.monotonic() < until, f"{work.name} did not end"
        time.sleep(0.05)
    assert process.returncode == 0, f"{work.name} ended with {process.returncode}"


def first(work: Work, at: Path) -> Any:
    """An earlier result in the folder of the work, where it has one."""
    if work.before is None:
        return None
    finish(replace(work, command=work.before), at)
    return work.result(at)


def kill(work: Work, kills: int, room: Path, rng: random.Random) -> Tally:
    """Kill the work so often, each time going on with what is there; at last compare it with the same uninterrupted."""
    begun = time.monotonic()
    finish(work, room / "whole")
    lasts, whole = time.monotonic() - begun, work.result(room / "whole")
    at, tally = room / "killed", Tally(work.name)
    before, seal = first(work, at), at / "out" / "prediction.json"
    while tally.kills < kills:
        session, process = started(work, at)
        begun, moment = time.monotonic(), rng.uniform(0.05, 1.0) * lasts
        while time.monotonic() - begun < moment and not ended(session, process, work):
            time.sleep(0.005)
        if ended(session, process, work):  # it was faster: its result counts, and it begins anew
            tally = replace(tally, lost=tally.lost + (() if work.result(at) == whole else ("a finished result",)))
            if before is None:
                shutil.rmtree(at)
            else:
                first(work, at)
            continue
        os.kill(session, signal.SIGKILL)
        process.wait()
        until = time.monotonic() + PATIENCE_S
        while (left := alive(session)) and time.monotonic() < until:
            time.sleep(0.02)
        for one in left:
            os.kill(int(one.split()[0]), signal.SIGKILL)
        tally = replace(tally, kills=tally.kills + 1, left=(*tally.left, *left), half=(*tally.half, *torn(at)))
        if before is not None and seal.exists() and work.result(at) not in (before, whole):
            tally = replace(tally, lost=(*tally.lost, "files of two results beside one another"))
    finish(work, at)
    return replace(tally, same=work.result(at) == whole, half=(*tally.half, *torn(at)))


def kill_reviews(kills: int, room: Path, rng: random.Random) -> Tally:
    """Kill a process that saves readings: every one that it called saved is there, and no other but the one after."""
    place, tally, saved = str(room / "reviews.sqlite"), Tally("a review being written"), []
    for _ in range(kills):
        command = [sys.executable, "-c", REVIEWS, place]
        process = subprocess.Popen(
            command, env=environment(room), stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert process.stdout is not None
        saved.append(process.stdout.readline().strip())
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        saved += process.communicate()[0].split()
        kept = {reading.token for reading in open_at(place).readings()}
        lost = tuple(token for token in saved if token not in kept)
        half = ("a reading that nobody was told of, beside the last",) if len(kept - set(saved)) > 1 else ()
        saved = sorted(kept)
        tally = replace(tally, kills=tally.kills + 1, lost=tally.lost + lost, half=tally.half + half)
    numbers = [reading.case_id for reading in open_at(place).readings()]
    return replace(tally, same=numbers == [f"{n:064x}" for n in range(len(numbers))])


#: How often each is killed, of 50 in all.
SHARES = {
    "predict": 10, "evaluate": 8, "synth": 8, "train": 8, "audit of 3 cases": 5, "a dashboard's job": 5,
    "a review being written": 6,
}  # fmt: skip


def matrix(shares: dict[str, int], room: Path, seed: int, *, drawn: int = 24) -> list[Tally]:
    """A tally of each kind of work that is named, as it comes."""
    rng, found = random.Random(seed), []
    cohort = tiny.tiny_cohort(room / "cohort", split="train")
    kinds = works(cohort, drawn=drawn)
    for number, (name, kills) in enumerate(shares.items()):
        at = room / str(number)
        at.mkdir()
        tally = kill(kinds[name], kills, at, rng) if name in kinds else kill_reviews(kills, at, rng)
        print(tally.row(), *tally.left, *tally.half, *tally.lost, sep="\n", flush=True)
        found.append(tally)
    return found


def main() -> int:
    """Prints the table; 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=sorted(SHARES), help="kinds of work; default all")
    chosen = parser.parse_args()
    shares = {name: count for name, count in SHARES.items() if chosen.only is None or name in chosen.only}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as room:
        found = matrix(shares, Path(room), chosen.seed)
    print(HEAD, *(tally.row() for tally in found), sep="\n")
    print(f"{sum(tally.kills for tally in found)} kills in {time.monotonic() - begun:.0f} s, seed {chosen.seed}")
    return 0 if all(tally.sound for tally in found) else 1


if __name__ == "__main__":
    sys.exit(main())
