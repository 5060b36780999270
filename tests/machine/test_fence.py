"""Laws of the fence: what goes wrong in the child is one sentence here, and the log says kind and place alone."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

import misreaders
import numpy as np
import pytest
from places import ROOT, TESTS

from cmssd_core.machine.fence import Fence
from cmssd_core.types import InputError

NAME = "knee.nii.gz"
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its limits")


@pytest.fixture(autouse=True)
def found_by_the_child(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def refusal(function, fence, path="/home/j.miller/knee.nii.gz"):
    with pytest.raises(InputError) as refused:
        fence.run(function, name=NAME, path=path)
    return str(refused.value)


def test_answer_and_arrays_come_back_and_nothing_stays(tmp_path):
    asked = {"a": (1, None, "ü"), "path": tmp_path / "a", "fields": {"array": 0.1 + 0.2}}
    answer = Fence(within=tmp_path).run(misreaders.echo, name=NAME, said=asked)
    assert answer["said"] == asked
    assert answer["pid"] != os.getpid()
    assert answer["folder"].startswith(str(tmp_path))
    assert np.array_equal(answer["array"], [[0, 1, 2], [3, 4, 5]])
    assert not answer["array"].flags.writeable
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_comes_through_with_its_field():
    with pytest.raises(InputError, match="an orange came") as refused:
        Fence().run(misreaders.refuse, name=NAME, path="")
    assert refused.value.field == "mri"


def test_a_fault_is_one_sentence_and_the_log_keeps_kind_and_place(caplog):
    with caplog.at_level(logging.WARNING):
        sentence = refusal(misreaders.stumble, Fence())
    assert NAME in sentence
    assert "\n" not in sentence
    assert "KeyError" in caplog.text
    assert "misreaders.py:" in caplog.text
    assert "Miller" not in sentence + caplog.text
    assert "/" not in "".join(record.getMessage() for record in caplog.records)


@linux
def test_a_crash_is_one_sentence_and_the_log_keeps_kind_and_place(caplog):
    with caplog.at_level(logging.WARNING):
        sentence = refusal(misreaders.crash, Fence())
    assert sentence == f"'{NAME}' is damaged in a way that ended the program that read it; export it again"
    assert "SIGSEGV" in caplog.text
    assert "misreaders.py:" in caplog.text
    assert "Miller" not in caplog.text
    assert "/" not in "".join(record.getMessage() for record in caplog.records)


def test_a_child_that_leaves_without_an_answer_is_a_crash():
    assert "ended the program" in refusal(misreaders.leave, Fence())


def test_what_takes_too_long_is_ended_and_leaves_nothing(tmp_path):
    start = time.monotonic()
    sentence = refusal(misreaders.spin, Fence(seconds=2, within=tmp_path))
    assert "cannot be read within 2 seconds" in sentence
    assert time.monotonic() - start < 30
    assert list(tmp_path.iterdir()) == []


@linux
def test_what_takes_too_much_memory_is_refused():
    assert "needs more than 1 GB of memory" in refusal(misreaders.eat, Fence(memory_mb=1024))


@linux
def test_the_child_has_limits_and_neither_secrets_nor_torch(monkeypatch):
    secrets = {"CMSSD_OIDC_CLIENT_SECRET": "s1", "CMSSD_COOKIE_SECRET": "s2", "CMSSD_REVIEWS": "s3", "AWS_TOKEN": "s4"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    around = Fence(memory_mb=1000, seconds=7).run(misreaders.look_around, name=NAME, path="")
    assert not set(secrets) & set(around["environment"])
    assert not set(secrets.values()) & set(around["environment"].values())
    assert around["limits"]["RLIMIT_DATA"] == 1000 << 20
    assert around["limits"]["RLIMIT_CORE"] == 0
    assert around["limits"]["RLIMIT_CPU"] == 7 * (os.cpu_count() or 1)
    assert not {"torch", "streamlit", "pandas"} & set(around["modules"])


@linux
def test_the_child_ends_with_its_parent(tmp_path):
    told = tmp_path / "pid"
    program = (
        "import misreaders; from cmssd_core.machine.fence import Fence; "
        f"Fence().run(misreaders.wait, name='a', path={str(told)!r})"
    )
    paths = os.pathsep.join([str(ROOT), str(TESTS)])
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}) as parent:
        until = time.monotonic() + 30
        while not (told.exists() and told.read_text(encoding="utf-8")) and time.monotonic() < until:
            time.sleep(0.05)
        child = int(told.read_text(encoding="utf-8"))
        parent.kill()
    until = time.monotonic() + 10
    while _lives(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as state:
            return state.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
