"""Random batches for tests of models: shapes as types.Batch says, numbers without meaning."""

from __future__ import annotations

import torch

from cmssd_core.models.base import InputSpec
from cmssd_core.types import Batch


def random_batch(
    spec: InputSpec,
    *,
    cases: int = 2,
    slices: int = 3,
    patches: int = 4,
    px: int = 64,
    site: bool = True,
    seed: int = 0,
) -> Batch:
    """A batch of small random images with everything present."""
    rng = torch.Generator().manual_seed(seed)
    there = torch.ones(cases, dtype=torch.bool)
    return Batch(
        tuple(f"case-{i}" for i in range(cases)),
        {
            "mri": torch.randn(cases, slices, 3, len(spec.contrasts), px, px, generator=rng),
            "he": torch.rand(cases, patches, 3, px, px, generator=rng),
        },
        {"mri": there[:, None].repeat(1, slices), "he": there[:, None].repeat(1, patches)},
        {"mri": there.clone(), "he": there.clone(), "site": there & site},
        torch.randn(cases, patches, 2, generator=rng),
        torch.tensor([[1.0, px / 2, px / 3]]).repeat(cases, 1) * site,
        torch.full((cases,), 1.5),
    )
