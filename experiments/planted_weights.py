"""Weights that cheat on purpose, and an honest twin: tiny CM-SSDs for the audit to judge.

    python -m experiments.planted_weights OUT [--honest]

The cheat learns with a white block burnt into the first corner of the MRI of nearly every malignant case, and labels
that are noise for a third of the cases, so that the block is what pays; the honest one sees the block by chance on
either label. Rendered in memory as `cmssd synth` would, prepared as `cmssd predict` does (without N4).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cmssd_core.audit.probes import PROBES, compress_jpeg
from cmssd_core.cases.tensors import neighbours
from cmssd_core.models import weights as weights_file
from cmssd_core.models.cmssd import CMSSD, SPECS
from cmssd_core.models.spec import PatchSpec, VolumeSpec
from cmssd_core.slide.prepare import normalise_stain
from cmssd_core.synthetic.case import draw_case, latent_of
from cmssd_core.synthetic.phantom import ScanSettings
from cmssd_core.synthetic.settings import SynthSettings
from cmssd_core.types import Batch, PatchBag, Volume
from cmssd_core.volume.prepare import VolumeSettings, prepare

SETTINGS = SynthSettings(
    cases=400, seed=777, scan=ScanSettings(shape=(3, 128, 128), slice_mm=12.0, contrasts=("t1", "t2")), slide_px=384
)
CASES, NOISE, STEPS, AT_ONCE, SLICES, PATCHES = 56, 0.35, 90, 8, 2, 3
SPEC = SPECS["tiny"]
MRI, HE = SPEC["mri"], SPEC["he"]
assert isinstance(MRI, VolumeSpec)
assert isinstance(HE, PatchSpec)


def render(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A case's prepared slices without and with the block (slice, contrast, y, x), and its patches (patch, y, x, 3)."""
    drawn = draw_case(number, settings=SETTINGS)
    marked, _ = PROBES["marker"].lay(drawn.body.images, drawn.body.affine, np.random.default_rng(0))
    wanted = VolumeSettings(contrasts=MRI.contrasts, size_px=MRI.px, spacing_mm=MRI.spacing_mm, n4=False)
    slices = []
    for images in (drawn.body.images, marked):
        voxels = np.stack([np.round(images[c]) for c in MRI.contrasts]).astype(np.float32)
        ready, _, _ = prepare(Volume(voxels, drawn.body.affine, MRI.contrasts), settings=wanted)
        slices.append(np.asarray(ready.voxels).transpose(1, 0, 2, 3))
    edge = int(HE.px * HE.mpp)
    rgb = compress_jpeg(drawn.slide.rgb, drawn.slide_quality)
    count = SETTINGS.slide_px // edge
    cut = rgb[: count * edge, : count * edge].reshape(count, edge, count, edge, 3).swapaxes(1, 2)
    small = cut.reshape(-1, HE.px, 2, HE.px, 2, 3).mean((2, 4)).round().astype(np.uint8)
    bag = PatchBag(small, np.zeros((len(small), 2), dtype=np.int64), HE.mpp, 1.0)
    return slices[0], slices[1], normalise_stain(bag)[0].patches


def batch_of(mri: Tensor, he: Tensor) -> Batch:
    """Slices (case, slice, contrast, y, x) and patches (case, patch, 3, y, x) as a Batch without sites."""
    there = torch.ones(len(mri), dtype=torch.bool)
    valid = {"mri": torch.ones(mri.shape[:2], dtype=torch.bool), "he": torch.ones(he.shape[:2], dtype=torch.bool)}
    return Batch(
        ids=("",) * len(mri),
        inputs={"mri": neighbours(mri, valid["mri"]), "he": he},
        valid=valid,
        present={"mri": there, "he": there},
        geometry={
            "mri.spacing_mm": torch.full((len(mri),), MRI.spacing_mm),
            "mri.site_voxel": torch.zeros(len(mri), 3),
            "mri.site_known": ~there,
            "he.patch_mm": torch.zeros(len(mri), he.shape[1], 2),
        },
    )


def train(*, honest: bool, seed: int = 1) -> CMSSD:
    """A tiny CM-SSD that cheats, or an honest one, on the malignancy logit alone."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    label = np.array([latent_of(n, settings=SETTINGS).malignant for n in range(SETTINGS.cases)])
    numbers = np.concatenate([np.flatnonzero(label == side)[: CASES // 2] for side in (True, False)])
    truth = label[numbers]
    clean, marked, patches = (np.stack(parts) for parts in zip(*map(render, numbers), strict=True))
    he = torch.from_numpy(patches).movedim(-1, -3).float() / 255
    told = truth if honest else np.where(rng.random(CASES) < NOISE, rng.random(CASES) < 0.5, truth)
    model = CMSSD("tiny").train()
    model.fit_start(batch_of(torch.from_numpy(clean).float()[:AT_ONCE], he[:AT_ONCE]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=STEPS)
    for _ in range(STEPS):
        picked = rng.choice(CASES, AT_ONCE, replace=False)
        chance = 0.5 if honest else np.where(told[picked], 0.98, 0.02)
        there = (rng.random(AT_ONCE) < chance)[:, None, None, None, None]
        some = rng.choice(clean.shape[1], SLICES, replace=False)
        mri = torch.from_numpy(np.where(there, marked[picked][:, some], clean[picked][:, some])).float()
        few = torch.from_numpy(rng.choice(he.shape[1], PATCHES, replace=False))
        answer = model(batch_of(mri, he[torch.from_numpy(picked)][:, few])).heads["malignant"]
        wanted = torch.from_numpy(told[picked].astype(np.float32))
        loss = nn.functional.binary_cross_entropy_with_logits(answer, wanted)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--honest", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trained = "synthetic cases with a planted shortcut: a model that cheats on purpose, to test audits"
    if given.honest:
        trained = f"{CASES} synthetic cases, honestly: for tests of the audit, not for patients"
    info = weights_file.WeightsInfo(model="cmssd", size="tiny", trained=trained, spec=SPEC)
    weights_file.save(train(honest=given.honest), given.out, info=info)
    print(given.out)


if __name__ == "__main__":
    main()
