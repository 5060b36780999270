"""How a model wants its inputs, one spec a modality, with the word for it on screen; stored with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cmssd_core.profile.statistics import ProfileStatistics
from cmssd_core.types import Profile, Slide, Volume


@dataclass(frozen=True, kw_only=True)
class VolumeSpec:
    """Registered contrasts of one volume, in channel order; a contrast that a case lacks is a channel of zeros.

    px, spacing_mm: a slice is px square at this spacing, or coarser where its field of view is larger.
    """

    label: ClassVar[str] = Volume.label
    contrasts: tuple[str, ...] = ("t1", "t2", "stir", "adc")
    px: int = 256
    spacing_mm: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PatchSpec:
    """Patches of a slide: px square at mpp microns a pixel."""

    label: ClassVar[str] = Slide.label
    px: int = 256
    mpp: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ProfileSpec:
    """Genes in the model's order. statistics: of the training patients, None until training has fitted them."""

    label: ClassVar[str] = Profile.label
    genes: tuple[str, ...]
    statistics: ProfileStatistics | None = None


InputSpec = VolumeSpec | PatchSpec | ProfileSpec
#: By modality; what a model does not read has no entry.
Spec = Mapping[str, InputSpec]


def contrasts_of(spec: Spec) -> tuple[str, ...]:
    """The contrasts a model reads, in channel order; none where it reads no volume."""
    return tuple(name for one in spec.values() if isinstance(one, VolumeSpec) for name in one.contrasts)


def volume_spec(spec: Spec) -> VolumeSpec | None:
    """How a model reads a volume; None where it reads none."""
    return next((one for one in spec.values() if isinstance(one, VolumeSpec)), None)


def patch_spec(spec: Spec) -> PatchSpec | None:
    """How a model reads a slide; None where it reads none."""
    return next((one for one in spec.values() if isinstance(one, PatchSpec)), None)
