"""THE table of modalities: name -> how it is called, read, described, prepared and laid into a Batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmssd_core.profile.layout import SUFFIXES as PROFILE_SUFFIXES
from cmssd_core.types import Case, Finding, Input, InputError, Profile, Reading, Slide, Volume
from cmssd_core.volume.contrasts import contrast_columns

if TYPE_CHECKING:
    from cmssd_core.cases.site import Site
    from cmssd_core.cases.tensors import Collated
    from cmssd_core.config import Settings
    from cmssd_core.models.spec import InputSpec, PatchSpec, ProfileSpec, Spec, VolumeSpec
    from cmssd_core.slide.patches import PatchSettings

Prepared = tuple["Input", tuple[Finding, ...], tuple[str, ...]]
BOTH = "both"
VOLUME = "mri"  # the modality that is a Volume: maps lie on its grid


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of input: all that differs by modality below the models.

    label: the word for it on every screen. noun: "a slide", for sentences. columns: of a cohort.csv that name its
    files. suffixes: of its files. read gives a Reading of `kind`; describe says what a file is; prepare takes the noun,
    the modality's own spec and the settings; collate takes prepared cases and that spec. fit: the spec with what it
    takes from the training patients, None where it takes nothing.
    """

    label: str
    noun: str
    kind: type
    columns: tuple[str, ...]
    suffixes: tuple[str, ...]
    read: Callable[..., Reading[Any]]
    describe: Callable[[Path], dict[str, Any]]
    prepare: Callable[[Any, Any, Settings], Prepared]
    collate: Callable[[Sequence[Case], Any], Collated]
    fit: Callable[[Sequence[Any], Any], InputSpec] | None = None


# The rooms that read and prepare are imported when they are asked: one modality need not wait for another's libraries.
def _read_mri(
    source: Path | None, *, contrasts: Mapping[str, Path] | None = None, unpacked_limit_mb: int = 4096
) -> Reading[Volume]:
    from cmssd_core.volume.read import read

    return read(source, contrasts=contrasts, unpacked_limit_mb=unpacked_limit_mb)


def _describe_mri(path: Path) -> dict[str, Any]:
    from cmssd_core.volume.read import describe

    return describe(path)


def _prepare_mri(volume: Volume, spec: VolumeSpec, settings: Settings) -> Prepared:
    from cmssd_core.volume import prepare as mri_prepare
    from cmssd_core.volume import qc as mri_qc

    wanted = mri_prepare.VolumeSettings(
        contrasts=spec.contrasts, size_px=spec.px, spacing_mm=spec.spacing_mm, n4=settings.n4
    )
    prepared, findings, steps = mri_prepare.prepare(volume, settings=wanted)
    return prepared, (*mri_qc.check(volume), *findings), steps


def _collate_mri(cases: Sequence[Case], spec: VolumeSpec) -> Collated:
    from cmssd_core.cases.tensors import collate_volumes

    return collate_volumes(cases, spec)


def _read_he(source: Path, *, mpp: float | None = None, site_mm: Site | None = None) -> Reading[Slide]:
    from cmssd_core.slide.read import read

    return read(source, mpp=mpp, site_mm=site_mm)


def _describe_he(path: Path) -> dict[str, Any]:
    from cmssd_core.slide.read import describe

    return describe(path)


def _prepare_he(slide: Slide, spec: PatchSpec, settings: Settings) -> Prepared:
    from cmssd_core.slide.prepare import prepare

    return prepare(slide, patch_settings=cut_patches({"he": spec}, settings), backend=settings.stain_backend)


def cut_patches(spec: Spec, settings: Settings) -> PatchSettings:
    """How patches are cut for a model of this spec. Raises InputError for a model that reads no slide."""
    from cmssd_core.models.spec import patch_spec
    from cmssd_core.slide.patches import PatchSettings

    one = patch_spec(spec)
    if one is None:
        raise InputError("this model reads no H&E slide; choose another model", "model")
    return PatchSettings(patch_px=one.px, mpp=one.mpp, max_patches=settings.max_patches)


def _collate_he(cases: Sequence[Case], spec: PatchSpec) -> Collated:
    from cmssd_core.cases.tensors import collate_patches

    return collate_patches(cases, spec)


def _read_rna(source: Path, *, patient_id: str | None = None) -> Reading[Profile]:
    from cmssd_core.profile.read import read_profile

    return read_profile(source, patient_id=patient_id)


def _describe_rna(path: Path) -> dict[str, Any]:
    from cmssd_core.profile.read import describe_profile

    return describe_profile(path)


def _prepare_rna(profile: Profile, spec: ProfileSpec, settings: Settings) -> Prepared:
    from cmssd_core.profile.prepare import prepare_profile

    return prepare_profile(profile, genes=spec.genes, statistics=spec.statistics)


def _fit_rna(profiles: Sequence[Profile], spec: ProfileSpec) -> ProfileSpec:
    from cmssd_core.profile.statistics import fit_statistics

    return replace(spec, statistics=fit_statistics(profiles, genes=spec.genes))


def _collate_rna(cases: Sequence[Case], spec: ProfileSpec) -> Collated:
    from cmssd_core.cases.tensors import collate_profiles

    return collate_profiles(cases, spec)


MODALITIES = {
    "mri": Modality(
        label=Volume.label,
        noun="an MRI",
        kind=Volume,
        columns=tuple(contrast_columns()),
        suffixes=(".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm", ".zip"),
        read=_read_mri,
        describe=_describe_mri,
        prepare=_prepare_mri,
        collate=_collate_mri,
    ),
    "he": Modality(
        label=Slide.label,
        noun="a slide",
        kind=Slide,
        columns=("slide",),
        suffixes=(".svs", ".ndpi", ".mrxs", ".scn", ".tif", ".tiff", ".dcm", ".png", ".jpg", ".jpeg"),
        read=_read_he,
        describe=_describe_he,
        prepare=_prepare_he,
        collate=_collate_he,
    ),
    "rna": Modality(
        label=Profile.label,
        noun="an RNA profile",
        kind=Profile,
        columns=("rna",),
        suffixes=PROFILE_SUFFIXES,
        read=_read_rna,
        describe=_describe_rna,
        prepare=_prepare_rna,
        collate=_collate_rna,
        fit=_fit_rna,
    ),
}


def of_given(given: str) -> tuple[str, ...]:
    """The modalities that `name_given` named."""
    return ("mri", "he") if given == BOTH else tuple(given.split("+"))


def name_given(names: Collection[str]) -> str:
    """The name of what was given: "mri" alone, "both" for MRI and slide, "mri+rna" and the like for others."""
    ordered = [name for name in MODALITIES if name in names]
    return BOTH if ordered == ["mri", "he"] else "+".join(ordered)


def describe_given(given: str) -> str:
    """What `name_given` named, in words: "MRI and H&E slide", "MRI alone"."""
    labels = [MODALITIES[name].label for name in of_given(given)]
    return f"{labels[0]} alone" if len(labels) == 1 else " and ".join([", ".join(labels[:-1]), labels[-1]])
