"""How long a Deep Zoom tile takes from a warm handle: `python -m benchmarks.tiles [SLIDE ...]`; aim 30 ms (median).

Every tile is cut, encoded and answered anew by the route itself (no tile cache), over all levels, in random order; then
from the cache, stain-normalised, and with four threads asking at once.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.requests import Request

from cmssd_core.slide.read import read
from cmssd_core.slide.stain import REFERENCE, Stain
from cmssd_core.types import Slide
from dashboard import holdings, routes
from dashboard.holdings import HeldSlide, Holding
from dashboard.viewers import tiles

DEMO = Path(__file__).resolve().parents[1] / "data_samples" / "cases" / "synth-00000" / "slide.tif"
COUNT = 300


def places(slide: Slide) -> list[tuple[int, int, int]]:
    """Up to COUNT tiles (level, column, row), as many of the finest level as of all others together."""
    shape = tiles.pyramid(slide)
    found: list[tuple[int, int, int]] = []
    for level in range(shape.levels):
        scale = 2 ** (shape.levels - 1 - level)
        columns, rows = (math.ceil(math.ceil(size / scale) / tiles.TILE_PX) for size in (shape.width, shape.height))
        every = [(level, column, row) for column in range(columns) for row in range(rows)]
        found += random.Random(level).sample(every, min(len(every), COUNT // 2))
    random.Random(0).shuffle(found)
    return found[:COUNT]


def answer(holding: Holding, name: str, place: tuple[int, int, int]) -> None:
    """Asks the route as the server does, session and cookie checked."""
    level, column, row = place
    scope = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"",
        "headers": [(b"cookie", f"{holdings.COOKIE}={holding.browser}".encode())],
        "path_params": {"secret": holding.secret, "name": name, "level": level, "column": column, "row": row},
    }  # fmt: skip
    assert routes.tile(Request(scope)).status_code == 200, place


def times_ms(
    holding: Holding, name: str, asked: list[tuple[int, int, int]], *, threads: int
) -> tuple[list[float], list[float]]:
    """Milliseconds each request took, sorted: on the clock, and of a core's own work."""

    def timed(place: tuple[int, int, int]) -> tuple[float, float]:
        started, worked = time.perf_counter(), time.thread_time()
        answer(holding, name, place)
        return (time.perf_counter() - started) * 1000, (time.thread_time() - worked) * 1000

    with ThreadPoolExecutor(threads) as pool:
        took, core = zip(*pool.map(timed, asked), strict=True)
    return sorted(took), sorted(core)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", nargs="*", type=Path, help="default: the demo slide")
    print(
        "| slide | pixels | tiles | how | median ms | 95 % ms | median of a core's ms |\n|---|---|---|---|---|---|---|"
    )
    for path in parser.parse_args().slides or [DEMO]:
        slide = read(path, mpp=0.5 if path.suffix in (".png", ".jpg") else None).value
        stain = Stain(REFERENCE.vectors, REFERENCE.max_concentration * 0.9)
        holding = Holding(session="benchmark", browser="b" * 43)
        holdings._holdings[holding.secret] = holding
        holding.hold("plain", HeldSlide(slide, None))
        holding.hold("stained", HeldSlide(slide, stain))
        asked, (width, height) = places(slide), slide.level_sizes[0]
        answer(holding, "plain", asked[0])  # warm
        for how, name, threads, cached in (
            ("warm handle", "plain", 1, False), ("warm handle, 4 threads", "plain", 4, False),
            ("stain-normalised", "stained", 1, False), ("from the cache", "plain", 1, True),
        ):  # fmt: skip
            tiles.CACHE.limit_bytes = 10**9 if cached else 0
            if cached:
                times_ms(holding, name, asked, threads=1)
            took, core = times_ms(holding, name, asked, threads=threads)
            high = took[int(0.95 * (len(took) - 1))]
            said = f"{statistics.median(took):.1f} | {high:.1f} | {statistics.median(core):.1f}"
            print(f"| {path.suffix} | {width} x {height} | {len(asked)} | {how} | {said} |", flush=True)


if __name__ == "__main__":
    main()
