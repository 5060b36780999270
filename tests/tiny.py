"""A tiny synthetic cohort for tests that need real files end to end."""

from __future__ import annotations

from pathlib import Path

from cmssd_core.synthetic.cohort import SynthSettings, write
from cmssd_core.synthetic.phantom import ScanSettings

TINY = SynthSettings(
    cases=4,
    seed=5,
    scan=ScanSettings(shape=(6, 64, 64), in_plane_mm=2.5, slice_mm=8.0, contrasts=("t1", "t2")),
    slide_px=256,
)


def tiny_cohort(folder: Path, *, split: str | None = None, cases: int = 4, seed: int = 5) -> Path:
    """Write a cohort of a few small cases and give its folder."""
    from dataclasses import replace

    write(folder, settings=replace(TINY, cases=cases, seed=seed, split=split))
    return folder
