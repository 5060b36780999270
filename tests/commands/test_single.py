"""The command line as scripts see it: exit status, one sentence on stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from PIL import Image
from places import ROOT

from cmssd_core import cli

PREDICTION_KEYS = {
    "case_id", "model_id", "trained", "severity_pct", "severity_reason", "severity_interval", "p_malignant", "tier",
    "uncertainty", "tumour_ml", "bone_ml", "extraosseous_ml", "slices", "quality", "steps", "timings_s",
}  # fmt: skip
FILES = {"prediction.json", "tumour.nii.gz", "bone.nii.gz", "attention.nii.gz", "report.html"}


pytestmark = pytest.mark.usefixtures("quick_commands")


def demo(cohort: Path) -> list[str | Path]:
    source = cohort / "cases/synth-00000"
    return ["predict", "--contrast", f"t1={source}/t1.nii.gz", "--he", source / "slide.tif", "--mpp", "1.0"]


def test_predict_writes_what_is_promised_and_prints_one_json_object(cohort: Path, tmp_path: Path, capsys) -> None:
    assert run(*demo(cohort), "--out", tmp_path / "out", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) >= PREDICTION_KEYS
    assert {path.name for path in (tmp_path / "out").iterdir()} >= FILES
    assert json.loads((tmp_path / "out" / "prediction.json").read_text(encoding="utf-8")) == told


def test_predict_in_words_names_its_doubt(cohort: Path, tmp_path: Path, capsys) -> None:
    assert run(*demo(cohort), "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "Research use only" in said
    assert "trained on" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict"], "neither an MRI nor an H&E slide"),
        (["predict", "--mri", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["predict", "--contrast", "dwi=x.nii.gz"], "expected NAME=PATH with NAME one of t1, t2"),
        (["predict", "--he", "README.md", "--site", "1,2"], "expected X,Y,Z in millimetres"),
        (["predict", "--weights", "README.md", "--mri", "nowhere.nii"], "nowhere.nii"),
        (["predict", "--colour"], "--colour"),
        (["inspect", "nowhere"], "nothing is at nowhere"),
        (["predict", "--contrast", "t1=a.nii", "--contrast", "T1=b.nii"], "t1 came twice (a.nii and b.nii)"),
        (["synth", "x", "--cases", "0"], "0 cases came"),
        (["synth", "x", "--seed", "-1"], "seed -1 came"),
        (["synth", "x", "--workers", "0"], "0 workers came"),
        (["synth", "x", "--split", "exam"], "split 'exam' came, expected one of train, val, test"),
        (["synth", "x", "--preset", "easy"], "preset 'easy' came"),
        (["train", "nowhere"], "no cohort.csv"),
        (["train", "nowhere", "--seed", "-1"], "--seed"),
        (["conjure"], "conjure"),
        ([], "Missing command"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_status_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert "Traceback" not in told.err
    assert told.out == ""
    assert [path for path in tmp_path.iterdir() if path.name != "cache"] == []  # nothing half-written


def test_a_cohort_is_not_made_where_a_file_stands(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("the user's own", encoding="utf-8")
    for place in ("notes.txt", "notes.txt/below"):
        assert run("synth", tmp_path / place, "--cases", "1") == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "the user's own"


@pytest.mark.parametrize("command", [["predict", "--mri", "x.nii"], ["doctor", "--json"]])
def test_a_malformed_variable_is_the_users_mistake(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setenv("CMSSD_THREADS", "abc")
    assert run(*command) == 2
    told = capfd.readouterr()
    assert "CMSSD_THREADS=abc came, expected a valid integer" in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert told.out == ""


def test_our_own_fault_is_told_even_where_a_variable_is_malformed(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("boom")

    monkeypatch.setenv("CMSSD_THREADS", "abc")
    monkeypatch.setattr("cmssd_core.cohort.inspect.inspect", fail)
    assert run("inspect", "x") == 1
    assert "boom" in capsys.readouterr().err
    monkeypatch.setenv("CMSSD_DEBUG", "1")
    with pytest.raises(RuntimeError, match="boom"):
        cli.main(["inspect", "x"])


STOPPED = """
import signal, tempfile, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and its children inherit that
from cmssd_core import cli
from cmssd_core.cohort import inspect as inspection
def wait(path):
    with tempfile.TemporaryDirectory(dir=path):
        print("ready", flush=True)
        while True:  # a signal in the moment before a sleep is told only after it
            time.sleep(0.05)
inspection.inspect = wait
cli.main(["inspect", sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_no_temporary_folder(number: signal.Signals, tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(number)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert said == "interrupted; what was finished is kept\n"
    assert [path for path in tmp_path.iterdir() if path.name != "cache"] == []


DASHBOARD = """
import os, sys
from cmssd_core import cli
from cmssd_core.commands import single
single.sys.executable = sys.argv[1]  # stands in for `python -m dashboard.launch`
print(os.getpid(), flush=True)
cli.main(["app", "--port", "8600", "--headless"])
"""


def test_the_dashboard_takes_the_place_of_the_command(tmp_path: Path) -> None:
    """No second process waits beside the server, and a signal to the command is one to the server."""
    server = tmp_path / "server"
    server.write_text('#!/bin/sh\necho $$ "$@"\nexec sleep 60\n', encoding="utf-8")
    server.chmod(0o755)
    started = subprocess.Popen(
        [sys.executable, "-c", DASHBOARD, str(server)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline().split() == [str(started.pid)]
    assert started.stdout.readline().split() == [
        str(started.pid), "-m", "dashboard.launch", "--port", "8600", "--headless",
    ]  # fmt: skip
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=30)
    assert started.returncode == -signal.SIGTERM


def test_our_own_fault_is_exit_status_1_and_an_interrupt_130(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("boom")

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cmssd_core.cohort.inspect.inspect", fail)
    assert run("inspect", "x") == 1
    assert "boom" in capsys.readouterr().err
    monkeypatch.setattr("cmssd_core.cohort.inspect.inspect", stop)
    assert run("inspect", "x") == 130
    assert capsys.readouterr().err == "interrupted; what was finished is kept\n"


def test_inspect_says_what_each_kind_is(cohort: Path, tmp_path: Path, capsys) -> None:
    for path, kind in [
        (cohort, "cohort"),
        (cohort / "cases/synth-00000/t1.nii.gz", "mri"),
        (cohort / "cases/synth-00000/t2.nii.gz", "mri"),
        (cohort / "cases/synth-00000/slide.tif", "he"),
    ]:
        assert run("inspect", path, "--json") == 0
        assert json.loads(capsys.readouterr().out)["reads_as"] == kind
    with Image.open(cohort / "cases/synth-00000/slide.tif") as slide:
        slide.save(tmp_path / "slide.jpg")
    assert run("inspect", tmp_path / "slide.jpg", "--json") == 2  # a JPEG does not say its mpp
    told = capsys.readouterr()
    assert "--mpp" in told.err
    assert json.loads(told.out)["kind"] == "slide"


def test_models_lists_every_size_with_its_cost(capsys) -> None:
    assert run("models", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["name"], row["size"]) for row in rows} >= {("cmssd", "reference"), ("cmssd", "compact")}
    assert all(set(row) >= {"needs", "produces", "parameters", "gflop", "weights"} for row in rows)
