"""Memory of patching a 100,000 x 100,000 px slide: the peak resident set of `bag`, in a fresh process.

`python -m benchmarks.big_slide [--edge PX]`: writes a pyramidal tiled BigTIFF whose tiles are a few shared ones (so
it is small on disk while OpenSlide sees all of it) into a temporary folder, and measures.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

TILE = 512
LEVELS = 7


def jpeg_tiles() -> list[bytes]:
    """Glass and two kinds of tissue as JPEG tiles."""
    rng = np.random.default_rng(0)
    glass = np.full((TILE, TILE, 3), 244, np.uint8)
    tissue = []
    for strength in (0.8, 1.4):
        amounts = rng.exponential([strength, 0.5], size=(TILE // 4, TILE // 4, 2)).repeat(4, 0).repeat(4, 1)
        od = amounts @ np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
        tissue.append(np.clip(255 * np.exp(-od), 0, 255).astype(np.uint8))
    made = []
    for pixels in (glass, *tissue):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=80, subsampling=0)
        made.append(stream.getvalue())
    return made


def write_big_tiff(path: Path, *, edge: int, mpp: float = 0.25) -> None:
    """A tiled, pyramidal BigTIFF of edge x edge px; every tile offset points at one of three JPEG tiles.

    tifffile writes each tile anew, so the directories are laid out by hand (BigTIFF design, bigtiff.org; TIFF 6.0).
    """
    tiles = jpeg_tiles()
    with path.open("wb") as out:
        out.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        places = []
        for tile in tiles:
            places.append((out.tell(), len(tile)))
            out.write(tile)
        link = 8
        for level in range(LEVELS):
            size = -(-edge // 2**level)
            count = -(-size // TILE)
            y, x = np.mgrid[:count, :count] / max(count - 1, 1) - 0.5
            kind = np.where(x**2 + y**2 < 0.16, 1 + (x > 0), 0).ravel()
            offsets = np.array([p[0] for p in places], "<u8")[kind]
            lengths = np.array([p[1] for p in places], "<u8")[kind]
            arrays = []
            for values in (offsets, lengths):
                arrays.append((out.tell(), len(values)))
                out.write(values.tobytes())
            bits = struct.pack("<HHHH", 8, 8, 8, 0)
            per_cm = struct.pack("<II", round(10000 / (mpp * 2**level) * 100), 100)
            tags = [
                (254, 4, 1, struct.pack("<Q", 0 if level == 0 else 1)),
                (256, 4, 1, struct.pack("<Q", size)),
                (257, 4, 1, struct.pack("<Q", size)),
                (258, 3, 3, bits),
                (259, 3, 1, struct.pack("<Q", 7)),
                (262, 3, 1, struct.pack("<Q", 6)),
                (277, 3, 1, struct.pack("<Q", 3)),
                (282, 5, 1, per_cm),
                (283, 5, 1, per_cm),
                (284, 3, 1, struct.pack("<Q", 1)),
                (296, 3, 1, struct.pack("<Q", 3)),
                (322, 4, 1, struct.pack("<Q", TILE)),
                (323, 4, 1, struct.pack("<Q", TILE)),
                *(
                    # One value stands in the entry itself, more stand elsewhere and the entry says where.
                    (code, 16, n, struct.pack("<Q", int(values[0]) if n == 1 else where))
                    for code, values, (where, n) in zip((324, 325), (offsets, lengths), arrays, strict=True)
                ),
                (530, 3, 2, struct.pack("<HHHH", 1, 1, 0, 0)),
            ]
            directory = out.tell()
            out.write(struct.pack("<Q", len(tags)))
            for code, kind_of, n, value in tags:
                out.write(struct.pack("<HHQ", code, kind_of, n) + value)
            after = out.tell()
            out.write(struct.pack("<Q", 0))
            out.seek(link)
            out.write(struct.pack("<Q", directory))
            out.seek(0, io.SEEK_END)
            link = after


def peak_mib() -> float:
    """Largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path: Path) -> None:
    from cmssd_core.slide.patches import PatchSettings, bag
    from cmssd_core.slide.read import read

    slide = read(path).value
    before, begin = peak_mib(), time.perf_counter()
    cut, _, steps = bag(slide, settings=PatchSettings())
    print(
        json.dumps(
            {
                "level_sizes": [list(size) for size in slide.level_sizes],
                "mpp": slide.mpp,
                "steps": steps,
                "bag_mib": cut.patches.nbytes / 2**20,
                "peak_before_mib": round(before),
                "peak_after_mib": round(peak_mib()),
                "seconds": round(time.perf_counter() - begin, 2),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=100_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure is not None:
        measure(chosen.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.tif"
        write_big_tiff(path, edge=chosen.edge)
        print(f"{chosen.edge} x {chosen.edge} px in {path.stat().st_size / 2**20:.1f} MiB on disk")
        told = json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.big_slide", "--measure", str(path)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for name, value in told.items():
            print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
