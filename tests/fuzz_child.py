"""The child of the fuzzer: reads one file after the other as it is told and says what came of each.

Started by tests/fuzz.py as a program; a line of JSON in, a line of JSON out. It lives until a file ends it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cmssd_core.types import InputError, Volume

#: Past this the child gets no more memory. Above the law's 2 GB, so that what breaks the law is measured and told.
MOST_MB = 4096


def _volume(path: Path) -> bytes:
    from cmssd_core.volume.read import read

    volume = read(contrasts={"t1": path}, unpacked_limit_mb=512).value
    return volume.voxels.tobytes() + volume.affine.tobytes()


def _mask(path: Path) -> bytes:
    from fuzz_seeds import AFFINE, SHAPE

    from cmssd_core.volume.mask import read_mask

    like = Volume(np.zeros((1, *SHAPE), np.float32), AFFINE, ("t1",))
    return bytes(read_mask(path, like=like).tobytes())


def _slide(path: Path) -> bytes:
    from cmssd_core.slide.read import read, thumbnail

    slide = read(path, mpp=0.5).value
    return bytes(thumbnail(slide, max_px=96)[0].tobytes())


def _described(path: Path) -> bytes:
    from cmssd_core.cohort.inspect import inspect

    json.dumps(inspect(path), allow_nan=False)
    return b""


def _geojson(path: Path) -> bytes:
    from cmssd_core.slide.geojson import read_geojson

    json.dumps(read_geojson(path.read_bytes(), width=96, height=80), allow_nan=False)
    return b""


def _cohort(path: Path) -> bytes:
    from cmssd_core.cohort.check import check
    from cmssd_core.cohort.table import read

    check(path, root=path.parent)
    read(path)
    return b""


def _tiles(path: Path) -> bytes:
    from cmssd_core.cohort.tiles import are_tiles, find_tiles

    are_tiles(path)
    find_tiles(path)
    return b""


def _rna(path: Path) -> bytes:
    from cmssd_core.profile.read import describe_profile, read_profile

    json.dumps(describe_profile(path, patient_id="P1"), allow_nan=False)
    return bytes(read_profile(path, patient_id="P1").value.values.tobytes())


def _weights(path: Path) -> bytes:
    from cmssd_core.models.weights import load

    load(path)
    return b""


# Readers that are not: what the fuzzer must notice.
def _faulty(path: Path) -> bytes:
    words = path.read_text(encoding="utf-8")
    if words == "raise":
        raise KeyError("a fault of the program")
    if words == "end":
        os.abort()
    if words == "hang":
        time.sleep(600)
    if words == "eat":
        return bytes(np.ones(500 << 20, np.uint8)[:1].tobytes())
    if words == "refuse":
        raise InputError("this is refused")
    return words.encode()


READERS: dict[str, Callable[[Path], bytes]] = {
    "volume": _volume, "mask": _mask, "slide": _slide, "inspect": _described, "geojson": _geojson, "cohort": _cohort,
    "tiles": _tiles, "rna": _rna, "weights": _weights, "faulty": _faulty,
}  # fmt: skip


def _peak_mb() -> float:
    """The most memory this process held since the last call; counted anew from here on."""
    with open("/proc/self/status", encoding="ascii") as status:
        peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    with open("/proc/self/clear_refs", "w", encoding="ascii") as counted:
        counted.write("5")
    return peak_kb / 1024


def answer(reader: str, path: Path) -> dict[str, object]:
    """What came of one file: "refused", "read" with a digest, or "fault" with the exception's kind and place."""
    _peak_mb()
    start = time.perf_counter()
    said: dict[str, object] = {}
    try:
        said = {"came": "read", "digest": hashlib.sha256(READERS[reader](path)).hexdigest()}
    except InputError as refused:
        sentence = str(refused)
        clean = "\n" not in sentence and str(path.parent) not in sentence and "Traceback" not in sentence
        said = {"came": "refused" if clean else "fault", "what": sentence[:400]}
    except Exception as fault:
        frames = traceback.extract_tb(fault.__traceback__)
        ours = [frame for frame in frames if "cmssd_core" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).parent.name}/{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        said = {"came": "fault", "what": f"{type(fault).__name__} at {place}: {str(fault)[:200]}"}
    return {**said, "seconds": time.perf_counter() - start, "peak_mb": _peak_mb()}


def main() -> None:
    """Answer until there is no more to read."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MB << 20, MOST_MB << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    # What a library prints must not come between the lines of the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(answer(asked["reader"], Path(asked["path"]))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
