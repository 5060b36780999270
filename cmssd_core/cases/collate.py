"""Prepared Cases become one Batch, modality by modality; and a Batch as it would be without some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cmssd_core.batches import device_of
from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.models.spec import Spec
from cmssd_core.types import Batch, Case

SITE = ("mri", "he")  # modalities that a biopsy site relates


def collate(cases: Sequence[Case], spec: Spec) -> Batch:
    """The modalities of `spec` as one Batch; items are padded to the most, a missing modality is all padding."""
    parts = {name: MODALITIES[name].collate(cases, one) for name, one in spec.items()}
    return Batch(
        ids=tuple(case.id for case in cases),
        inputs={name: part.inputs for name, part in parts.items() if part.inputs is not None},
        valid={name: part.valid for name, part in parts.items()},
        present={name: part.present for name, part in parts.items()},
        geometry={key: value for part in parts.values() for key, value in part.geometry.items()},
    )


def hide_modalities(batch: Batch, spec: Spec, *names: str) -> Batch:
    """The batch as it would be had its cases come without these modalities."""
    nothing = [Case(case_id, {}) for case_id in batch.ids]
    device = device_of(batch)
    for name in names:
        blank = MODALITIES[name].collate(nothing, spec[name])
        geometry = {**batch.geometry, **{key: value.to(device) for key, value in blank.geometry.items()}}
        if name in SITE and "mri.site_known" in geometry:  # without one of the two it is not known
            geometry["mri.site_known"] = torch.zeros_like(geometry["mri.site_known"])
            geometry["mri.site_voxel"] = torch.zeros_like(geometry["mri.site_voxel"])
        batch = replace(
            batch,
            inputs={key: value for key, value in batch.inputs.items() if key != name},
            valid={**batch.valid, name: blank.valid.to(device)},
            present={**batch.present, name: blank.present.to(device)},
            geometry=geometry,
        )
    return batch
