"""What 8-bit weights cost: the same weights in fp16 and in 8 bits per channel, evaluated on the same cases.

    python -m experiments.eight_bit WEIGHTS COHORT --out DIR

Writes DIR/<name>.8bit.safetensors and prints size and figures of both with the difference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cmssd_core.evaluation.summary import figures
from cmssd_core.models import weights as weights_file
from cmssd_core.studies import run as cohort_run

SHOWN = ("accuracy", "auc", "dice", "severity_mae")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("weights", type=Path)
    words.add_argument("cohort", type=Path)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--workers", type=int, default=1)
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model, info, _ = weights_file.load(given.weights)
    small = given.out / f"{given.weights.stem}.8bit.safetensors"
    weights_file.save(model, small, info=info, dtype=torch.int8)
    ran = cohort_run.run(given.cohort, given.out, weights=given.weights, against=(small,), workers=given.workers)
    rows = ran.rows[ran.rows["problem"].isna() & (ran.rows["given"] == "both")]
    one, other = (figures(rows[rows["model"] == name]) for name in ran.models)
    print(f"{given.weights.stat().st_size / 1e6:.2f} MB against {small.stat().st_size / 1e6:.2f} MB")
    for name in SHOWN:
        print(f"{name}: {one[name]['value']:.4f} against {other[name]['value']:.4f} "
              f"({other[name]['value'] - one[name]['value']:+.4f}, n = {one[name]['n']})")  # fmt: skip


if __name__ == "__main__":
    main()
