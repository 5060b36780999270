"""N4 against ITK's: time, likeness of the corrected scans, and what is left of a known bias. `python -m benchmarks.n4`

ITK runs at its defaults without shrinking, on all cores, for minutes a scan. Real scans (not yet corrected) come from
the folder that CMSSD_TEST_DATA names; without it only the phantoms run. Name scans or phantoms to run those alone.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cmssd_core.volume.body import body_mask
from cmssd_core.volume.n4 import N4Settings, correct_bias
from cmssd_core.volume.read import read

DATA = Path(os.environ.get("CMSSD_TEST_DATA") or "no real data") / "mri"
SCANS = {
    "sct-spine t1w": DATA / "sct-spine/t1/t1w.nii.gz",
    "hippocampus 003": DATA / "msd-hippocampus/imagesTr/hippocampus_003.nii.gz",
    "pyradiomics brain1": DATA / "pyradiomics/brain1_image.nrrd",
    "prostatex t2": DATA / "prostatex-picai/ProstateX-0000/4.000000-t2tsetra-00702",
}
PHANTOMS = {"phantom, bias 1.7 to 1": 0.3, "phantom, bias 3.2 to 1": 0.6}


def by_itk(voxels, mask, spacing_mm):
    image, marked = sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing_mm)
    marked.SetSpacing(spacing_mm)
    return sitk.GetArrayFromImage(sitk.N4BiasFieldCorrectionImageFilter().Execute(image, marked))


def phantom(strength, shape=(24, 96, 96)):
    """(truth, biased, body): a limb with fat, muscle, marrow and a lesion under a smooth simulated bias."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.hypot(y, x) / 0.85
    truth = np.where(radius < 1, 900.0, 0)
    truth[radius < 0.8] = 350
    truth[np.hypot(y - 0.1, x + 0.2) < 0.25] = 60
    truth[np.hypot(y - 0.1, x + 0.2) < 0.18] = 800
    truth[np.hypot(np.hypot(y + 0.3, x - 0.3), 0.5 * z) < 0.2] = 520
    truth = np.abs(truth + np.random.default_rng(0).normal(0, 12, shape)).astype(np.float32)
    bias = np.exp(strength * (0.6 * x - 0.5 * y**2 + 0.3 * z + 0.4 * x * y))
    return truth, (truth * bias).astype(np.float32), radius < 1


def left_over(found, truth, body):
    """Coefficient of variation of what is left of the bias, in percent."""
    inside = body & (truth > 100)
    ratio = found[inside] / truth[inside]
    return 100 * float(ratio.std() / ratio.mean())


def timed(call):
    start = time.perf_counter()
    out = call()
    return out, time.perf_counter() - start


def row(name, voxels, mask, spacing_mm, truth=None):
    (ours, _), ours_s = timed(lambda: correct_bias(voxels, mask, spacing_mm, settings=N4Settings()))
    theirs, theirs_s = timed(lambda: by_itk(voxels, mask, spacing_mm))
    likeness = np.corrcoef(ours[mask], theirs[mask])[0, 1]
    rest = ""
    if truth is not None:
        before, us, them = (left_over(image, truth, mask) for image in (voxels, ours, theirs))
        rest = f"{before:8.1f} {us:8.1f} {them:8.1f}"
    size = " x ".join(str(n) for n in reversed(voxels.shape))
    print(
        f"{name:24} {size:>15} {ours_s:8.2f} {theirs_s:8.1f} {theirs_s / ours_s:7.0f}x {likeness:9.4f}  {rest}",
        flush=True,
    )


def main(chosen):
    print("CV = what is left of the known bias inside the body, % (before, ours, ITK's)")
    print(
        f"{'scan':24} {'size':>15} {'ours s':>8} {'ITK s':>8} {'faster':>8} {'corr.':>9}  "
        f"{'CV':>8} {'ours':>8} {'ITK':>8}"
    )
    for name, strength in PHANTOMS.items():
        if not chosen or name in chosen:
            truth, image, body = phantom(strength)
            row(name, image, body, (1.8, 1.8, 5.0), truth)
    for name, path in SCANS.items():
        if path.exists() and (not chosen or name in chosen):
            volume = read(contrasts={"t1": path}).value
            voxels = volume.voxels[0]
            row(name, voxels, body_mask(voxels, volume.spacing_mm), volume.spacing_mm)


if __name__ == "__main__":
    main(sys.argv[1:])
