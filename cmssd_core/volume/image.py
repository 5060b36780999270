"""Image files: NIfTI, NRRD and MetaImage become a Stack, in the file's own space."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cmssd_core.types import Finding
from cmssd_core.volume.contrasts import CONTRASTS, SUV
from cmssd_core.volume.files.door import SCAN_FLOOR, SUFFIXES, read_header, read_voxels, suffix
from cmssd_core.volume.stack import Stack, sound

__all__ = ["SUFFIXES", "facts", "read_image", "suffix"]


def read_image(path: Path, *, contrast: str, limit_mb: int) -> Stack:
    """A Stack from one image file. Raises InputError for a damaged file and for all that is not one 3-D grey image."""
    header, raw = read_voxels(path, limit_mb=limit_mb, floor=SCAN_FLOOR)
    where = f"mri {contrast}"
    findings = [Finding(level, what, where) for level, what in header.remarks]
    if CONTRASTS[contrast].unit == SUV:
        findings.append(
            Finding("info", "values are taken as SUV by body weight; the file does not say their unit", where)
        )
    voxels = header.values(raw)
    sound(voxels, header.affine, name=path.name)
    files = [path] if header.beside is None else [path, header.beside]
    return Stack(
        contrast=contrast, voxels=voxels, affine=header.affine, digest=_digest(files), findings=tuple(findings)
    )


def facts(path: Path) -> dict[str, object]:
    """What the header says, for an inspection: kind, size (x, y, z), spacing in mm, pixel type."""
    header = read_header(path)
    return {
        "kind": header.kind,
        "size": [*header.size, *([header.volumes] if header.volumes != 1 else [])],
        "spacing_mm": [round(s, 4) for s in header.spacing_mm],
        "pixel_type": header.pixel_type,
        "components": header.components,
    }


def _digest(files: list[Path]) -> str:
    parts = []
    for file in files:
        with file.open("rb") as handle:
            parts.append(hashlib.file_digest(handle, "sha256").digest())
    return hashlib.sha256(b"".join(parts)).hexdigest() if len(parts) > 1 else parts[0].hex()
