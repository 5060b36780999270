"""How long the command line takes until it answers, beside importing torch: whole processes, in alternation."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SCAN = Path(__file__).resolve().parents[1] / "data_samples" / "cases" / "synth-00000" / "t1.nii.gz"
CMSSD = [sys.executable, "-m", "cmssd_core.cli"]


def seconds(command: list[str], *, first_line: bool = False) -> float:
    """From the start of a process to its end, or to the first line it prints."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if first_line:
            process.stdout.readline()
            took = time.perf_counter() - begun
            process.kill()
            return took
        process.stdout.read()
    return time.perf_counter() - begun


def main() -> None:
    """Prints a table: median seconds and the share of torch's, with the aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "broken_t1.nii.gz"
        broken.write_text("no image\n", encoding="utf-8")
        commands = {
            "python -c 'import torch'": ([sys.executable, "-c", "import torch"], 1.0),
            "cmssd --help": ([*CMSSD, "--help"], 1 / 8),
            "cmssd inspect, one NIfTI": ([*CMSSD, "inspect", str(SCAN)], 1 / 3),
            "cmssd doctor, first line": ([*CMSSD, "doctor"], 1 / 3),
            "cmssd predict, a text file as .nii.gz": ([*CMSSD, "predict", "--mri", str(broken)], 1 / 3),
            "cmssd models --json": ([*CMSSD, "models", "--json"], 1.5),
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(turns + 1):
            for name, (command, _) in commands.items():
                took = seconds(command, first_line="first line" in name)
                if turn:  # the first one fills the disk's cache
                    taken[name].append(took)
    torch_s = median(taken["python -c 'import torch'"])
    print(f"medians of {turns} turns\n\n| command | s | of torch's | aim |\n|---|---|---|---|")
    for name, (_, aim) in commands.items():
        share = median(taken[name]) / torch_s
        print(f"| {name} | {median(taken[name]):.2f} | {share:.3f} | {'' if share == 1 else f'{aim:.3f}'} |")


if __name__ == "__main__":
    main()
