"""Seconds a forward pass takes: one 256 x 256 MRI slice and one 256 x 256 H&E patch, on 2 threads.

python -m benchmarks.network
"""

from __future__ import annotations

import statistics
import time

import torch

from cmssd_core.models import MODELS
from cmssd_core.models.listing import example, gflop

PAPER_S = 0.45  # seed 000, section 3.4: seconds a paired sample, on two RTX 4090
REPEATS = 30


def main() -> None:
    torch.set_num_threads(2)
    print(f"{'size':<11}{'M params':>9}{'GFLOP':>7}{'precision':>10}{'min s':>8}{'median s':>9}{'paper / median':>16}")
    for size in ("reference", "compact"):
        model = MODELS["cmssd"](size).eval().to(memory_format=torch.channels_last)
        batch, operations = example(model, px=256), gflop(model, px=256)
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        for precision in ("float32", "bfloat16"):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                for _ in range(3):
                    model(batch)
                times = []
                for _ in range(REPEATS):
                    started = time.perf_counter()
                    model(batch)
                    times.append(time.perf_counter() - started)
            median = statistics.median(times)
            print(
                f"{size:<11}{parameters:>9.1f}{operations:>7.1f}{precision:>10}{min(times):>8.3f}{median:>9.3f}"
                f"{PAPER_S / median:>16.1f}"
            )


if __name__ == "__main__":
    main()
