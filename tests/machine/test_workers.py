"""Laws of worker processes: none outlives the process that started it, whatever either of them is at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import killed
import pytest
from places import ROOT

from cmssd_core.machine.workers import pool

PARENT = """
import sys
from cmssd_core.machine.workers import pool
import busy
if __name__ == "__main__":
    with pool(2, busy.START, network=False) as processes:
        processes.submit(busy.work, sys.argv[1]).result()
"""
SLOW_IMPORT = """
import multiprocessing, os, time
def START(): pass
def work(place): pass
if multiprocessing.parent_process() is not None:  # in a worker alone
    open(os.environ["PLACE"], "w").close()
    time.sleep(120)
"""
WITHOUT_PYTHON = """
import ctypes
def START(): pass
def work(place):
    open(place, "w").close()
    ctypes.PyDLL(None).sleep(120)  # as a library in C that never lets Python's other threads run
"""
GRANDCHILD = """
from cmssd_core.machine.workers import pool
import time
def START(): pass
def sleep(place):
    open(place, "w").close()
    time.sleep(120)
def work(place):
    with pool(1, network=False) as processes:
        processes.submit(sleep, place).result()
"""


@pytest.mark.parametrize("what", [SLOW_IMPORT, WITHOUT_PYTHON, GRANDCHILD], ids=["imports", "in C", "has a worker"])
def test_no_worker_outlives_a_killed_parent(what: str, tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(what, encoding="utf-8")
    # The worker imports the main file too, and what that imports: it must not be what is waited for.
    parent = (
        PARENT
        if what is not SLOW_IMPORT
        else PARENT.replace("import busy\nif", "if").replace("    with pool", "    import busy\n    with pool")
    )
    (tmp_path / "parent.py").write_text(parent, encoding="utf-8")
    place = tmp_path / "at work"
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(place)], start_new_session=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "PLACE": str(place)},
    )  # fmt: skip
    until = time.monotonic() + 120
    while not place.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert place.exists()
    assert len(killed.alive(process.pid)) > 1  # so that what is found later is found
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 20
    while (left := killed.alive(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    for one in left:
        os.kill(int(one.split()[0]), signal.SIGKILL)
    assert left == []


def test_a_worker_holds_every_library_to_one_thread() -> None:
    with pool(1) as processes:
        assert processes.submit(faults.threads).result() == (1, 1)
