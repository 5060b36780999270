"""What-if: how soon a change shows, from the question to the answer, on a demo case and on a larger one.

    python -m benchmarks.whatif [--threads 2] [--turns 3]

The case was prepared and encoded before, as it is once the page shows the original; the store is off, so nothing is
answered from it. "processor" is the time of all threads together, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

AIM_SLICE_S, AIM_VOLUME_S = 1.0, 5.0


def larger_case(folder: Path):
    """A synthetic case of 256 x 256 x 24 voxels, two contrasts, with the demo's slide size."""
    from cmssd_core.cohort import table as cohort
    from cmssd_core.synthetic.cohort import SynthSettings, write
    from cmssd_core.synthetic.phantom import ScanSettings

    scan = ScanSettings(shape=(24, 256, 256), in_plane_mm=0.8, slice_mm=4.0, contrasts=("t1", "t2"))
    write(folder, settings=replace(SynthSettings(), cases=1, seed=3, scan=scan, slide_px=768))
    return cohort.admit_row(cohort.read(folder / "cohort.csv").iloc[0], folder, masks=False)


def demo_case():
    from cmssd_core.cohort import table as cohort

    root = Path(__file__).resolve().parents[1] / "data_samples"
    return cohort.admit_row(cohort.read(root / "cohort.csv").iloc[0], root, masks=False)


def changes(case):
    """(what, whether one slice's worth, changes one after the other): another level or place at each turn."""
    from cmssd_core.whatif.change import Change, Damage, box

    x, y, z = case.inputs["mri"].spacing_mm
    wide = 0.25 * case.inputs["mri"].voxels.shape[-1] * min(x, y, z)

    def damage(name: str, turn: int):
        return Change(damages=(Damage(name=name, level=1 + 0.5 * turn),))

    yield (
        "erase a region on one slice",
        True,
        lambda turn: Change(erased=box(3 + turn, (wide, 2 * wide), (wide, 2 * wide))),
    )
    yield "one patch off", True, lambda turn: Change(patches_off=(turn,))
    yield "biopsy site moved", True, lambda turn: Change(site_mm=(float(turn), 0.0, 0.0))
    yield "MRI off", True, lambda turn: Change(off=("mri",), seed=1 + turn)
    yield "H&E off", False, lambda turn: Change(off=("he",), seed=1 + turn)
    yield "a contrast off", False, lambda turn: Change(contrasts_off=(case.inputs["mri"].contrasts[turn % 2],))
    for name in ("fold", "tear", "stain", "defocus", "bias", "noise", "motion"):
        yield name, False, lambda turn, name=name: damage(name, turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--case", choices=("demo", "larger"), action="append")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(chosen.threads))

    from cmssd_core.config import Settings
    from cmssd_core.inference import predict as inference
    from cmssd_core.whatif.ask import Bench, ask, shares

    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(threads=chosen.threads, cache_dir=Path(temporary) / "cache")
        predictor = inference.load(settings=settings)
        for title in chosen.case or ("demo", "larger"):
            case = demo_case() if title == "demo" else larger_case(Path(temporary) / "cohort")
            contrasts, z, y, x = case.inputs["mri"].voxels.shape
            bench = Bench(case, predictor, settings=settings)
            started = time.perf_counter()
            ask(bench, next(changes(case))[2](0))
            patches = len(bench.prepared().inputs["he"].patches)
            print(
                f"\n{title} case: {x} x {y} x {z}, {contrasts} contrasts, {patches} patches; {chosen.threads} threads"
            )
            print(f"first question, nothing prepared or encoded: {time.perf_counter() - started:.2f} s\n")
            print("| change | median s | min s | processor s | aim s | kept |\n|---|---|---|---|---|---|")
            for what, small, make in changes(case):
                times, used = [], []
                for turn in range(1, chosen.turns + 1):
                    began, busy = time.perf_counter(), time.process_time()
                    ask(bench, make(turn))
                    times.append(time.perf_counter() - began)
                    used.append(time.process_time() - busy)
                aim, median = AIM_SLICE_S if small else AIM_VOLUME_S, statistics.median(times)
                kept = "yes" if median <= aim else "no"
                row = f"{median:.2f} | {min(times):.2f} | {statistics.median(used):.2f} | {aim:g} | {kept}"
                print(f"| {what} | {row} |", flush=True)
            began, busy = time.perf_counter(), time.process_time()
            shares(bench)
            took, used_s = time.perf_counter() - began, time.process_time() - busy
            print(f"| Shapley shares, 4 forwards | {took:.2f} | {took:.2f} | {used_s:.2f} | | |", flush=True)


if __name__ == "__main__":
    main()
