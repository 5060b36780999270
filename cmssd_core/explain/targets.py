"""What is explained: one number of a model's output, such as the malignancy logit or a drawn region of a map."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cmssd_core.types import BoolArray, InputError, ModelOutput


@dataclass(frozen=True)
class Kind:
    """One kind of target: what it is in words, its unit, and whether it is read inside a drawn region."""

    label: str
    unit: str
    read: Callable[[ModelOutput], Tensor | None]
    regional: bool = False


def _head(name: str, *, sign: int = 1) -> Callable[[ModelOutput], Tensor | None]:
    def read(output: ModelOutput) -> Tensor | None:
        head = output.heads.get(name, output.also.get(name))
        return head if head is None or sign == 1 else sign * head

    return read


#: What may be explained. Logits, not probabilities: a sigmoid that saturates has no gradient left to share out.
TARGETS: dict[str, Kind] = {
    "malignant": Kind("malignancy", "logit", _head("malignant")),
    "benign": Kind("benign", "logit", _head("malignant", sign=-1)),
    "severity": Kind("severity", "percent", _head("severity_pct")),
    "hazard": Kind("log hazard", "log hazard", _head("risk")),
    "tumour": Kind("tumour map", "mean logit in the region", _head("tumour"), regional=True),
    "bone": Kind("bone map", "mean logit in the region", _head("bone"), regional=True),
    "lesion": Kind("lesion map", "mean logit in the region", _head("lesion"), regional=True),
    "destruction": Kind("map of destroyed cortex", "mean logit in the region", _head("destruction"), regional=True),
}


@dataclass(frozen=True, eq=False)
class Target:
    """One number a case: a kind of TARGETS and, for maps, the region over which it is averaged.

    region: bool (z, y, x) on the grid of the case's MRI as it came, or (slice, y, x) on the prepared grid where a Batch
    is explained.
    """

    name: str = "malignant"
    region: BoolArray | None = None

    def __post_init__(self) -> None:
        if self.name not in TARGETS:
            raise InputError(
                f"target {self.name!r} came, expected one of {', '.join(TARGETS)}; choose one of these", "target"
            )
        if TARGETS[self.name].regional and (self.region is None or not self.region.any()):
            raise InputError(
                f"the {TARGETS[self.name].label} came without a region; draw one on the MRI first", "target"
            )
        if not TARGETS[self.name].regional and self.region is not None:
            raise InputError(f"a region came for {TARGETS[self.name].label}, which is of the whole case; leave it out")

    @property
    def unit(self) -> str:
        """What a point of attribution is measured in."""
        return TARGETS[self.name].unit

    @property
    def words(self) -> str:
        """The target as a reader would say it."""
        size = "" if self.region is None else f" in a region of {int(self.region.sum())} voxels"
        return f"{TARGETS[self.name].label}{size}"

    @property
    def key(self) -> str:
        """What tells this target from others, for a content key."""
        if self.region is None:
            return self.name
        packed = np.packbits(self.region).tobytes() + repr(self.region.shape).encode()
        return f"{self.name}:{hashlib.sha256(packed).hexdigest()}"


def read(target: Target, output: ModelOutput, region: Tensor | None) -> Tensor:
    """The target's number (case,) of an output. region: bool (slice, y, x) on the prepared grid.

    Raises InputError where the output has no such head.
    """
    kind = TARGETS[target.name]
    found = kind.read(output)
    if found is None:
        raise InputError(f"there is no {kind.label} to explain: the model gives none, or the case has no MRI for it")
    if region is None:
        return found
    if region.shape != found.shape[1:]:
        raise InputError(
            f"a region of {tuple(region.shape)} came for maps of {tuple(found.shape[1:])}; draw it on this very MRI"
        )
    inside = found[:, region]
    return inside.mean(1)
