"""Reading an examination: files, folders and zips of MRI become one Volume in the scan's own space."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmssd_core.mri import dicom
from cmssd_core.mri.archive import unpack
from cmssd_core.mri.contrast import ask, known, named
from cmssd_core.mri.frames import SLIDE_SUFFIXES, header, refusal, refused
from cmssd_core.mri.image import SUFFIXES, facts, read_image, suffix
from cmssd_core.mri.stack import Stack, join
from cmssd_core.types import Finding, InputError, Reading, Volume

_SLIDE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
_FILES_LIMIT = 50_000


@dataclass(frozen=True, eq=False)
class _Source:
    """Files that belong together: image files, or everything else, which may be DICOM. name: what the user gave."""

    name: str
    kind: str
    images: tuple[Path, ...]
    files: tuple[Path, ...]


def read(
    source: Path | None = None,
    *,
    contrasts: Mapping[str, Path] | None = None,
    unpacked_limit_mb: int = 4096,
) -> Reading[Volume]:
    """One examination as a Volume of raw scanner units, float32 (contrast, z, y, x), on the source's own grid.

    source: NIfTI, NRRD, MetaImage, a DICOM file or folder, or a zip of those; the contrast is told from names and
    headers. contrasts: the same kinds of path, by contrast name, where the user says it; instead of source or beside
    it. Contrasts on other grids are resampled onto the one with the finest pixels. digest: sha256 of the bytes used
    and their contrast names, whatever the files are called and in whatever order they lie.

    Raises InputError, one sentence, for everything that is not one patient's sound 3-D examination.
    """
    if source is None and not contrasts:
        raise InputError("no MRI came; expected one examination, or files by contrast (--contrast t1=PATH); give one")
    stacks: list[Stack] = []
    findings: list[Finding] = []
    if source is not None:
        with _opened(Path(source), limit_mb=unpacked_limit_mb) as opened:
            stacks, notes = _inferred(opened, limit_mb=unpacked_limit_mb)
            findings.extend(notes)
    for contrast, path in sorted((known(name), Path(path)) for name, path in (contrasts or {}).items()):
        if any(stack.contrast == contrast for stack in stacks):
            raise InputError(f"{contrast} was given twice; give each contrast once")
        with _opened(path, limit_mb=unpacked_limit_mb) as opened:
            stacks.append(_declared(opened, contrast, limit_mb=unpacked_limit_mb))
    volume, notes, steps = join(stacks)
    digest = hashlib.sha256("".join(sorted(f"{stack.contrast}:{stack.digest};" for stack in stacks)).encode())
    size = " x ".join(str(n) for n in reversed(volume.voxels.shape[1:]))
    spacing = " x ".join(f"{s:.2f}" for s in volume.spacing_mm)
    steps = (f"read {', '.join(volume.contrasts)}: {size} voxels of {spacing} mm", *steps)
    return Reading(value=volume, digest=digest.hexdigest(), findings=(*findings, *notes), steps=steps)


def describe(
    source: Path | None = None,
    *,
    contrasts: Mapping[str, Path] | None = None,
    unpacked_limit_mb: int = 4096,
) -> dict[str, Any]:
    """What `read` would make of the same arguments, as JSON-able facts; a problem stands under "problem", unraised.

    Keys: kind, series (contrast, what, modality, size, spacing_mm, files, transfer_syntax), volume (contrasts, size,
    spacing_mm) or None, findings, steps, digest, problem.
    """
    told: dict[str, Any] = {
        "kind": None, "series": [], "volume": None, "findings": [], "steps": [], "digest": None, "problem": None,
    }  # fmt: skip
    try:
        for path in [Path(path) for path in (source, *(contrasts or {}).values()) if path is not None]:
            with _opened(path, limit_mb=unpacked_limit_mb) as opened:
                told["kind"] = opened.kind
                told["series"] += _series_facts(opened)
        reading = read(source, contrasts=contrasts, unpacked_limit_mb=unpacked_limit_mb)
    except InputError as problem:
        told["problem"] = str(problem)
        return told
    volume = reading.value
    told["volume"] = {
        "contrasts": list(volume.contrasts),
        "size": list(reversed(volume.voxels.shape[1:])),
        "spacing_mm": [round(s, 4) for s in volume.spacing_mm],
    }
    told["findings"] = [{"level": f.level, "what": f.what, "where": f.where} for f in reading.findings]
    told["steps"] = list(reading.steps)
    told["digest"] = reading.digest
    return told


def _series_facts(opened: _Source) -> list[dict[str, Any]]:
    if opened.images:
        return [
            {"contrast": named([_stem(path), path.parent.name]), **facts(path), "files": 1} for path in opened.images
        ]
    return [
        {
            "contrast": series.contrast,
            "what": series.what,
            "kind": "DICOM",
            "modality": series.frames[0].seen.modality,
            "size": [series.frames[0].shape[1], series.frames[0].shape[0], len(series.frames)],
            "spacing_mm": [round(s, 4) for s in reversed(series.frames[0].spacing_mm or ())],
            "files": len({frame.path for frame in series.frames}),
            "transfer_syntax": series.frames[0].transfer_syntax,
        }
        for series in dicom.survey(opened.files, name=opened.name).series
    ]


def _inferred(opened: _Source, *, limit_mb: int) -> tuple[list[Stack], tuple[Finding, ...]]:
    if not opened.images:
        chosen, findings = dicom.choose(dicom.survey(opened.files, name=opened.name), name=opened.name)
        return [
            dicom.stack(series, contrast=contrast, name=opened.name, limit_mb=limit_mb)
            for contrast, series in chosen.items()
        ], findings
    found: dict[str, Path] = {}
    for path in opened.images:
        # The folder of a lone file in a zip is the user's; the temporary one above it says nothing.
        contrast = named(
            [_stem(path), path.parent.name, *([Path(opened.name).stem] if len(opened.images) == 1 else [])]
        )
        if contrast is None:
            raise ask(path.name, "from its name")
        if contrast in found:
            raise InputError(
                f"'{opened.name}' holds several images named like {contrast}; "
                f"say which one with --contrast {contrast}=PATH"
            )
        found[contrast] = path
    return [read_image(path, contrast=contrast, limit_mb=limit_mb) for contrast, path in found.items()], ()


def _declared(opened: _Source, contrast: str, *, limit_mb: int) -> Stack:
    if len(opened.images) > 1:
        raise InputError(f"'{opened.name}' holds {len(opened.images)} images; give the one that is {contrast}")
    if opened.images:
        return read_image(opened.images[0], contrast=contrast, limit_mb=limit_mb)
    series, findings = dicom.matching(dicom.survey(opened.files, name=opened.name), contrast, name=opened.name)
    return dicom.stack(series, contrast=contrast, name=opened.name, limit_mb=limit_mb, findings=findings)


@contextmanager
def _opened(path: Path, *, limit_mb: int) -> Iterator[_Source]:
    """The files behind a path; those of a zip live as long as the block."""
    name = path.name or str(path)
    try:
        if path.is_dir():
            yield _folder(path, name=name, kind="folder")
            return
        if not path.is_file():
            raise InputError(f"'{name}' does not exist; give an image file, a DICOM folder or a zip")
        with path.open("rb") as handle:
            head = handle.read(132)
    except OSError as error:
        raise InputError(f"'{name}' cannot be opened; check that it may be read") from error
    if not head:
        raise InputError(f"'{name}' is empty; copy or export it again")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06") or name.lower().endswith(".zip"):
        with tempfile.TemporaryDirectory(prefix="cmssd-") as folder:
            unpack(path, into=Path(folder), limit_mb=limit_mb)
            yield _folder(Path(folder), name=name, kind="zip")
        return
    if suffix(path):
        yield _Source(name, "image", (path,), ())
        return
    if _slide(path, head):
        raise InputError(f"'{name}' looks like a slide or picture, not an MRI; if it is the H&E slide, pass it as --he")
    found = header(path)
    if found is None:
        raise InputError(
            f"'{name}' is not an image CM-SSD knows; expected DICOM, {', '.join(SUFFIXES)} or a zip of them"
        )
    what = refusal(found)
    if what and "DICOMDIR" in what:
        yield _folder(path.parent, name=name, kind="DICOMDIR")
        return
    if what:
        raise refused(what, name)
    yield _Source(name, "DICOM file", (), (path,))


def _folder(folder: Path, *, name: str, kind: str) -> _Source:
    files: list[Path] = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            files.append(path)
            if len(files) > _FILES_LIMIT:
                raise InputError(f"'{name}' holds more than {_FILES_LIMIT} files; give the folder of one examination")
    files.sort()
    images = tuple(path for path in files if suffix(path))
    if images:
        return _Source(name, f"{kind} of images", images, ())
    if not files:
        raise InputError(f"'{name}' holds no files; expected a DICOM series or an image")
    return _Source(name, f"{kind} of DICOM", (), tuple(files))


def _slide(path: Path, head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return False
    return path.name.lower().endswith(SLIDE_SUFFIXES) or head.startswith(_SLIDE_MAGIC)


def _stem(path: Path) -> str:
    return path.name[: -len(suffix(path) or "")]
