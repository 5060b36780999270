"""From files to a written report: a 256 x 256 x 24 volume and a slide; cold, without N4, from the cache; peak memory.

    python -m benchmarks.pipeline [SLIDE] [--mpp X] [--size compact|reference]

Process start is not counted: everything is imported and the model is loaded before the clock runs. Each way runs in
its own process, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = ("cold", "cold, N4 off", "from the cache")
DEMO = Path(__file__).resolve().parents[1] / "data_samples" / "cases" / "synth-00000" / "slide.tif"


def scan_file(folder: Path) -> Path:
    """A synthetic T1 volume of 256 x 256 x 24 voxels, as a NIfTI."""
    import numpy as np
    import SimpleITK as sitk

    from cmssd_core.synthetic.centres import centre
    from cmssd_core.synthetic.latents import Latent
    from cmssd_core.synthetic.phantom import ScanSettings, scan
    from cmssd_core.volume.itk import to_image

    settings = ScanSettings(shape=(24, 256, 256), in_plane_mm=0.8, slice_mm=4.0, contrasts=("t1",))
    body = scan(Latent(True, 0.8, 0.8, 0.5, 30.0), centre(0, seed=1), settings=settings, rng=np.random.default_rng(1))
    path = folder / "t1.nii.gz"
    sitk.WriteImage(to_image(body.images["t1"].astype(np.int16), body.affine), str(path))
    return path


def weights_file(folder: Path, size: str) -> Path:
    """Weights of the size: the shipped ones, else random ones, which take as long."""
    from cmssd_core.models import MODELS
    from cmssd_core.models.weights import SHIPPED, WeightsInfo, save

    shipped = SHIPPED / f"cmssd-{size}.safetensors"
    if shipped.exists():
        return shipped
    model = MODELS["cmssd"](size)
    save(model, folder / "w.safetensors", info=WeightsInfo(model="cmssd", size=size, trained="-", spec=model.spec))
    return folder / "w.safetensors"


def one(way: str, mri: Path, slide: Path, mpp: float | None, weights: Path, folder: Path) -> None:
    import torch

    from cmssd_core.cases import admit as cases
    from cmssd_core.config import Settings
    from cmssd_core.inference import predict as inference
    from cmssd_core.machine.store import Store
    from cmssd_core.report import files

    torch.set_num_threads(2)
    settings = Settings(n4=way != "cold, N4 off", cache_dir=folder / "cache")
    predictor = inference.load(weights, settings=settings)
    store = Store(settings.cache_dir / way.replace(" ", "_"), limit_bytes=None)

    def run() -> float:
        started = time.perf_counter()
        case = cases.admit(contrasts={"t1": mri}, he=slide, mpp=mpp)
        found = inference.predict(case, predictor, settings=settings, store=store)
        files.write(found, case, folder / "out", tiers=settings.severity_tiers, store=store)
        inner = time.perf_counter() - started
        print(f"   parts: {dict(found.timings_s)}", file=sys.stderr)
        return inner

    seconds = run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if way == "from the cache":
        seconds = run()
    print(f"{way:<16}{seconds:>8.2f} s to the report{peak:>8.2f} GB peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", nargs="?", type=Path, default=DEMO, help="default: the demo slide")
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--size", default="compact")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.way:
        weights = weights_file(chosen.folder, chosen.size)
        one(chosen.way, chosen.folder / "t1.nii.gz", chosen.slide, chosen.mpp, weights, chosen.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        scan_file(Path(temporary))
        print(f"{chosen.size}, 256 x 256 x 24 voxels and {chosen.slide.name}, 2 threads")
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.pipeline", str(chosen.slide), "--size", chosen.size]
            command += ["--way", way, "--folder", temporary] + (["--mpp", str(chosen.mpp)] if chosen.mpp else [])
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
