"""How long an audit takes and how much memory its processes hold together, from an empty cache.

    python -m benchmarks.audit_time [COHORT] [what else cmssd audit takes]

Memory is looked at twice a second; what processes share through files, such as libraries, is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "data_samples"
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def tree(pid: int) -> list[int]:
    """A process and all below it that still run."""
    below = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        below += [int(child) for child in task.read_text(encoding="utf-8").split()]
    return [pid, *(each for child in below for each in tree(child))]


def resident_mb(pid: int) -> float:
    """Resident memory of a process without what it shares through files, such as libraries."""
    _, resident, shared, *_ = (int(pages) for pages in Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split())
    return (resident - shared) * PAGE_MB


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("cohort", nargs="?", type=Path, default=DEMO, help="default: the demo cohort")
    words.add_argument("--out", type=Path, help="keeps the audit there; default: nowhere")
    given, others = words.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        out = given.out or Path(folder)
        command = [sys.executable, "-m", "cmssd_core.cli", "audit", str(given.cohort), "--out", str(out), *others]
        began, most = time.perf_counter(), 0.0
        running = subprocess.Popen(command, env=os.environ | {"CMSSD_CACHE_DIR": cache})
        while running.poll() is None:
            with contextlib.suppress(OSError, ValueError):  # one of them has just ended
                most = max(most, sum(resident_mb(pid) for pid in tree(running.pid)))
            time.sleep(0.5)
    print(f"{time.perf_counter() - began:.0f} s, at most {most / 1024:.2f} GB, status {running.returncode}")


if __name__ == "__main__":
    main()
