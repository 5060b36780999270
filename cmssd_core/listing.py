"""What is on offer: every model and size with its parameters, its GFLOP for one pair, and its shipped weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cmssd_core.models import MODELS
from cmssd_core.models.base import Model
from cmssd_core.types import Batch
from cmssd_core.weights_file import SHIPPED


def pair(model: Model, *, px: int | None = None) -> Batch:
    """One MRI slice and one H&E patch, as a Batch of zeros with a biopsy site; px: edge of both, default the spec's."""
    spec = model.spec
    mri_px, patch_px = px or spec.mri_px, px or spec.patch_px
    there = torch.ones(1, dtype=torch.bool)
    return Batch(
        ("pair",),
        {
            "mri": torch.zeros(1, 1, 3, len(spec.contrasts), mri_px, mri_px),
            "he": torch.zeros(1, 1, 3, patch_px, patch_px),
        },
        {"mri": there[None], "he": there[None]},
        {"mri": there, "he": there, "site": there},
        torch.zeros(1, 1, 2),
        torch.zeros(1, 3),
        torch.ones(1),
    )


def gflop(model: Model, *, px: int | None = None) -> float:
    """Billions of floating-point operations of one forward pass of a pair; a multiply and an add count as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(pair(model, px=px))
    return float(counter.get_total_flops()) / 1e9


@dataclass(frozen=True)
class Part:
    """One part of a model: its name in the model's file, its parameters, and its GFLOP of one pair."""

    name: str
    parameters: int
    gflop: float


def parts(model: Model) -> tuple[Part, ...]:
    """The parts of a model in the order of its file; they sum up to the whole.

    What is computed or learned outside of any part is the last one, named "" (left out where there is none).
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(pair(model))
    counted, root = counter.get_flop_counts(), type(model).__name__
    found = [
        Part(
            name,
            sum(p.numel() for p in part.parameters()),
            sum(counted.get(f"{root}.{name}", {}).values()) / 1e9,
        )
        for name, part in model.named_children()
    ]
    rest = Part(
        "",
        sum(p.numel() for p in model.parameters()) - sum(part.parameters for part in found),
        counter.get_total_flops() / 1e9 - sum(part.gflop for part in found),
    )
    return (*found, rest) if rest.parameters or rest.gflop > 1e-9 else tuple(found)


def listing() -> list[dict[str, Any]]:
    """One row for each model and size: name, size, needs, produces, parameters, gflop, weights (file name or None)."""
    rows = []
    for name, kind in MODELS.items():
        for size in kind.sizes:
            model = kind(size)
            shipped = SHIPPED / f"{name}-{size}.safetensors"
            rows.append(
                {
                    "name": name,
                    "size": size,
                    "needs": list(kind.needs),
                    "produces": list(kind.produces),
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "gflop": round(gflop(model), 2),
                    "weights": shipped.name if shipped.is_file() else None,
                }
            )
    return rows
