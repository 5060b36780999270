"""What is on offer: every model and size with what it costs, and its weights where they are shipped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

#: Facts of the code, so they are measured once (`make models`) and kept: to build every model takes ten seconds.
FACTS = Path(__file__).with_name("models.json")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One model of one size. gflop: billions of floating-point operations of one MRI slice and one patch.

    weights: the name of the file that is shipped, None where none is.
    """

    name: str
    size: str
    needs: list[str]
    produces: list[str]
    parameters: int
    gflop: float
    weights: str | None


def list_models() -> tuple[Offer, ...]:
    """Every model and size, in the order of THE table of models."""
    rows = json.loads(FACTS.read_text(encoding="utf-8"))
    return tuple(Offer(**row, weights=name_shipped(row["name"], row["size"])) for row in rows)


def name_shipped(model: str, size: str) -> str | None:
    """The weights file that is shipped for a model of this size."""
    path = FACTS.with_name(f"{model}-{size}.safetensors")
    return path.name if path.is_file() else None
