"""What a model costs: parameters and GFLOP of one pair, of the whole and of its parts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models import MODELS
from cmssd_core.models.base import Model
from cmssd_core.models.spec import InputSpec, PatchSpec, VolumeSpec
from cmssd_core.types import Batch
from cmssd_core.weights.offer import FACTS, Offer, name_shipped


def example(model: Model, *, px: int | None = None) -> Batch:
    """One slice, one patch, one profile of zeros, of what the model reads, with a biopsy site; px: edge of images."""
    available = torch.ones(1, dtype=torch.bool)
    inputs = {name: _zeros(one, px) for name, one in model.spec.items()}
    return Batch(
        ids=("example",),
        inputs=inputs,
        valid=dict.fromkeys(inputs, available[None]),
        present=dict.fromkeys(inputs, available),
        geometry={
            "mri.spacing_mm": torch.ones(1), "mri.site_voxel": torch.zeros(1, 3), "mri.site_known": available,
            "he.patch_mm": torch.zeros(1, 1, 2),
        },
    )  # fmt: skip


def _zeros(spec: InputSpec, px: int | None) -> Tensor:
    if isinstance(spec, VolumeSpec):
        return torch.zeros(1, 1, 3, len(spec.contrasts), px or spec.px, px or spec.px)
    if isinstance(spec, PatchSpec):
        return torch.zeros(1, 1, 3, px or spec.px, px or spec.px)
    return torch.zeros(1, 1, len(spec.genes))


def gflop(model: Model, *, px: int | None = None) -> float:
    """Billions of floating-point operations of one forward pass of a pair; a multiply and an add count as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(example(model, px=px))
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
        model.eval()(example(model))
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


def measure_models() -> tuple[Offer, ...]:
    """Every model and size as it is now, built and run once."""
    return tuple(
        Offer(
            name=name,
            size=size,
            needs=list(kind.needs),
            produces=list(kind.tasks),
            parameters=sum(p.numel() for p in model.parameters()),
            gflop=round(gflop(model), 2),
            weights=name_shipped(name, size),
        )
        for name, kind in MODELS.items()
        for size in kind.sizes
        for model in (kind(size),)
    )


def main() -> None:
    """Measures the models anew and writes weights/models.json: `python -m cmssd_core.models.listing`."""
    rows = [{k: v for k, v in asdict(offer).items() if k != "weights"} for offer in measure_models()]
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    write_atomic(FACTS, lambda path: path.write_text(f"[\n  {lines}\n]\n", encoding="utf-8"))


if __name__ == "__main__":
    main()
