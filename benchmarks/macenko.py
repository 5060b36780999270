"""Macenko, this project's against staintools 2.1.2: fit and transform of one 1024 x 1024 tile, timed turn by turn.

`python -m benchmarks.macenko [TILE] [--repeats N] [--agree FOLDER]`: without a tile, one is painted; with a folder,
the mean absolute difference on every tile of it is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cmssd_core.slide import stain
from cmssd_core.types import InputError, Uint8Array


def painted(size: int = 1024) -> Uint8Array:
    """A tile of two stains with nuclei-like spots, uint8 (size, size, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.exponential([0.8, 0.5], size=(size // 8, size // 8, 2)).repeat(8, 0).repeat(8, 1)
    amounts = coarse * rng.uniform(0.7, 1.3, (size, size, 2))
    return np.clip(255 * np.exp(-amounts @ stain.REFERENCE.vectors), 0, 255).astype(np.uint8)


def rgb(path: Path) -> Uint8Array:
    return np.array(Image.open(path).convert("RGB"))


def native(tile: Uint8Array, target: stain.Stain) -> Uint8Array:
    return stain.normalise(tile, source=stain.estimate(tile), target=target)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def speed(tile: Uint8Array, *, repeats: int) -> None:
    import staintools

    theirs = staintools.StainNormalizer("macenko")
    theirs.fit(tile.copy())
    target = stain.estimate(tile)
    native(tile, target)
    theirs.transform(tile.copy())
    taken: dict[str, list[float]] = {"native": [], "staintools": []}
    for _ in range(repeats):
        taken["native"].append(seconds(lambda: native(tile, target)))
        taken["staintools"].append(seconds(lambda: theirs.transform(tile.copy())))
    print(
        f"fit + transform of {tile.shape[1]} x {tile.shape[0]} px, {repeats} turns, {torch.get_num_threads()} threads"
    )
    print(f"{'':12}{'min s':>9}{'median s':>10}")
    for name, times in taken.items():
        print(f"{name:12}{min(times):9.3f}{statistics.median(times):10.3f}")
    ratios = [min(taken["staintools"]) / min(taken["native"])]
    ratios.append(statistics.median(taken["staintools"]) / statistics.median(taken["native"]))
    print(f"{'ratio':12}{ratios[0]:9.1f}{ratios[1]:10.1f}")


def agreement(folder: Path, *, target: Path) -> None:
    import staintools

    theirs = staintools.StainNormalizer("macenko")
    theirs.fit(rgb(target))
    goal = stain.estimate(rgb(target))
    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg", ".tif")):
        tile = rgb(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                expected = theirs.transform(tile.copy())
        except Exception as reason:
            print(f"{path.name}: staintools refuses it ({type(reason).__name__})")
            continue
        try:
            off = np.abs(native(tile, goal).astype(int) - expected)
        except InputError as reason:
            print(f"{path.name}: only we refuse it ({reason})")
            continue
        rows.append((off.mean(), off.max(), path.name))
    means = [row[0] for row in rows]
    print(f"{len(rows)} tiles: mean absolute difference {np.mean(means):.3f} on average, {max(means):.3f} at most")
    print(f"worst tile {max(rows)[2]}; largest difference of one value {max(row[1] for row in rows)} grey levels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tile", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--agree", type=Path, help="folder of tiles; torchstain/target.png in it is the target")
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    speed(painted() if chosen.tile is None else rgb(chosen.tile), repeats=chosen.repeats)
    if chosen.agree is not None:
        agreement(chosen.agree, target=chosen.agree / "torchstain" / "target.png")


if __name__ == "__main__":
    main()
