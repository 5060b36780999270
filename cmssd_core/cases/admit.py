"""Files become a Case: one patient, read by each modality's own reader."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmssd_core.cases.fenced import read
from cmssd_core.cases.site import Site, is_registered
from cmssd_core.machine.fence import Fence
from cmssd_core.types import Case, Finding, InputError, Reading, Slide, about


def admit(
    *,
    mri: Path | None = None,
    contrasts: Mapping[str, Path] | None = None,
    he: Path | None = None,
    mpp: float | None = None,
    site_mm: Site | None = None,
    rna: Path | None = None,
    patient_id: str | None = None,
    unpacked_limit_mb: int = 4096,
    fence: Fence | None = None,
) -> Case:
    """Read one patient's files; at least one of `mri`, `he` and `rna`.

    mri: file, DICOM folder or zip; contrasts: name -> such a path. he: slide or tile; mpp: its microns per level-0
    pixel where the file does not say. site_mm: where the biopsy was taken, RAS+ mm. rna: a profile, or a table of many
    patients in which patient_id is one. fence: the files are a stranger's, and each modality is read in a child process
    within these limits; None = read here. Raises InputError.
    """
    readings: dict[str, Reading[Any]] = {}
    if mri is not None or contrasts:
        with about("mri"):
            readings["mri"] = read(
                "mri", fence, source=mri, contrasts=contrasts or None, unpacked_limit_mb=unpacked_limit_mb
            )
    if he is not None:
        with about("he"):
            readings["he"] = read("he", fence, source=he, mpp=mpp, site_mm=site_mm)
    if rna is not None:
        with about("rna"):
            readings["rna"] = read("rna", fence, source=rna, patient_id=patient_id)
    if not readings:
        raise InputError("neither an MRI nor an H&E slide came; expected at least one of them; add one", "inputs")
    if he is None and not (mpp is None and site_mm is None):
        raise InputError("microns per pixel or a biopsy site came without a slide; add it, or leave them out", "he")
    digests = [f"{name}:{reading.digest}" for name, reading in readings.items()]
    case = Case(
        id=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        inputs={name: reading.value for name, reading in readings.items()},
        steps=tuple(step for reading in readings.values() for step in reading.steps),
        findings=tuple(finding for reading in readings.values() for finding in reading.findings),
    )
    return replace(case, findings=(*case.findings, *_check_site(case)))


def _check_site(case: Case) -> list[Finding]:
    slide = case.inputs.get("he")
    if not isinstance(slide, Slide) or slide.site_mm is None or is_registered(case):
        return []
    if "mri" not in case.inputs:
        return [Finding("warning", "a biopsy site came without an MRI and is not used", "site")]
    return [Finding("severe", "the biopsy site lies outside the MRI; the slide is treated as unregistered", "site")]
