"""Jobs: they outlive who started them, are shared, stop, go on after a kill, and say in a sentence why they ended."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import faults
import pandas as pd
import pytest
import showcase
import tiny
from places import ROOT

from cmssd_core.config import settings
from cmssd_core.studies import jobs
from cmssd_core.studies import run as cohort_run
from cmssd_core.types import InputError

CASES = 5
ENDED = ("stopped", "failed", "interrupted", "done")


SERVER = """
import sys, time
from pathlib import Path
from cmssd_core.studies import jobs
from cmssd_core.studies import run as cohort_run
from cmssd_core.config import settings
jobs.start(jobs.ask(Path(sys.argv[1]), Path(sys.argv[2]), settings(), workers=1), settings())
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Small cases, one of which is no image."""
    folder = tiny.tiny_cohort(tmp_path_factory.mktemp("cohort"), cases=CASES)
    table = pd.read_csv(folder / "cohort.csv")
    (folder / str(table["mri_t1"][2])).write_bytes(b"no image")
    return folder


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings.cache_clear()
    yield
    for job in jobs.list_jobs(settings()):
        if job.state in ("running", "stopping"):
            os.kill(pid(job), signal.SIGKILL)
    settings.cache_clear()


def results() -> Path:
    return settings().cache_dir / "cohorts" / "one"


def folder(job: jobs.Job) -> Path:
    return settings().cache_dir / "jobs" / job.id


def pid(job: jobs.Job) -> int:
    return int((folder(job) / "lock").read_text(encoding="utf-8"))


def until(job: jobs.Job, reached, wait_s: float = 240.0) -> jobs.Job:
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        found = jobs.look(job.id, settings())
        assert found is not None
        if reached(found):
            return found
        time.sleep(0.02)
    raise AssertionError(f"the job stayed {found}")


def test_a_job_is_shared_stopped_killed_and_gone_on_with(cohort):
    asked = jobs.ask(cohort, results(), settings(), workers=1)
    first = jobs.start(asked, settings())
    assert first.state == "running"
    at_first = pid(first)

    # Sessions that ask for the same at once share the one process.
    shared: list[jobs.Job] = []
    sessions = [threading.Thread(target=lambda: shared.append(jobs.start(asked, settings()))) for _ in range(4)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    assert {(job.id, job.state) for job in shared} == {(first.id, "running")}
    assert pid(first) == at_first

    # Killed: what is done stays, and starting again goes on with it.
    until(first, lambda job: job.done >= 1)
    os.kill(at_first, signal.SIGKILL)
    killed = until(first, lambda job: job.state in ENDED)
    assert killed.state == "interrupted"
    assert 1 <= killed.done < CASES
    parts = {path: path.stat().st_mtime_ns for path in (killed.ask.out / "parts").glob("*.json")}
    assert parts

    # Stopped: the same.
    again = jobs.start(asked, settings())
    assert again.id == first.id
    assert pid(again) != at_first
    until(again, lambda job: job.state == "running" and job.of == CASES)
    jobs.stop(again.id, settings())
    stopped = until(again, lambda job: job.state in ENDED)
    assert stopped.state == "stopped"
    assert 1 <= stopped.done < CASES

    # One case that is no image does not end it: its sentence stands in the table.
    jobs.start(asked, settings())
    done = until(again, lambda job: job.state in ENDED)
    assert (done.state, done.done, done.of, done.refused) == ("done", CASES, CASES, 1)
    rows = pd.read_parquet(done.ask.out / "predictions.parquet")
    assert rows["case_id"].nunique() == CASES
    assert rows["problem"].notna().sum() == 1
    assert {path: path.stat().st_mtime_ns for path in parts} == parts  # nothing was computed twice
    assert [job.id for job in jobs.list_jobs(settings())] == [done.id]

    jobs.remove(done.id, settings())
    assert jobs.list_jobs(settings()) == ()
    assert (done.ask.out / "metrics.json").is_file()


def test_a_job_outlives_the_server_that_started_it(cohort):
    asked = jobs.ask(cohort, results(), settings(), workers=1)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(cohort), str(results())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        os.killpg(process.pid, signal.SIGKILL)
    job = jobs.look(jobs.identity(asked), settings())
    assert job is not None
    assert job.state == "running"
    assert until(job, lambda job: job.done >= 1).state == "running"


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "the disk is full; free some space and go on"),
        (InputError(f"x.json cannot be written ({os.strerror(errno.ENOSPC)}); choose"), "the disk is full"),
        (InputError("no case could be predicted"), "no case could be predicted"),
        (ZeroDivisionError(), "the program failed (ZeroDivisionError)"),
    ],
)
def test_what_ends_a_job_is_one_sentence(cohort, monkeypatch, problem, sentence, capsys):
    def fails(*_args, **_keywords):
        raise problem

    asked = jobs.ask(cohort, results(), settings())
    monkeypatch.setattr(subprocess, "Popen", lambda *_args, **_keywords: Started())
    job = jobs.start(asked, settings())
    monkeypatch.setattr("cmssd_core.studies.evaluate.evaluate", fails)
    assert jobs.work(folder(job)) in (1, 2)
    ended = jobs.look(job.id, settings())
    assert ended is not None
    assert ended.state == "failed"
    assert sentence in (ended.sentence or "")
    assert len((ended.sentence or "").splitlines()) == 1
    assert (folder(job) / "end.json").stat().st_size == 4096  # written over what was reserved


class Started:
    """A process that is never one."""

    pid = 2**22 + 1

    def wait(self) -> int:
        return 0


def test_a_folder_without_a_cohort_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"holds no cohort\.csv"):
        jobs.ask(tmp_path, results(), settings())


def test_an_id_is_never_a_path():
    for wrong in ("../../../etc", "", "0123456789abcdeg", "/etc"):
        with pytest.raises(InputError, match="expected the id of a job"):
            jobs.look(wrong, settings())


def test_a_fault_of_ours_on_one_case_does_not_end_a_run_and_is_tried_again(cohort, tmp_path, monkeypatch):
    whole = cohort_run._Worker._clean

    def faulty(self, row):
        return whole(self, row) if not row["case_id"].endswith("1") else 1 / 0

    chosen = cohort_run.RunSettings(split="all", workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(cohort_run._Worker, "_clean", faulty)
        found = cohort_run.run(cohort, tmp_path / "out", chosen=chosen).rows
    said = found[found["problem"].notna()].set_index("case_id")["problem"]
    assert said["synth-00001"] == "the program failed on this case (ZeroDivisionError)"
    assert len(said) == 2  # and the case that is no image
    again = cohort_run.run(cohort, tmp_path / "out", chosen=chosen).rows
    assert set(again[again["problem"].notna()]["case_id"]) == {"synth-00002"}


def test_a_case_that_takes_its_process_down_does_not_end_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort_run, "_set_up", faults.nothing)
    monkeypatch.setattr(cohort_run, "_do", faults.dies_of_one)
    todo = [cohort_run._Job(tmp_path / f"case-{n}.json", {"case_id": f"case-{n}"}, False) for n in range(5)]
    done = list(cohort_run._worked(todo, (), 2))
    assert sorted(done, key=lambda one: one.path) == todo
    assert [one.path.exists() for one in todo] == [True, True, True, False, True]
    assert "it ended the process" in todo[3].fault.read_text(encoding="utf-8")
