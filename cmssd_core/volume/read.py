"""Reading an examination: files, folders and zips of MRI become one Volume in the scan's own space."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmssd_core.types import Finding, InputError, Reading, Volume, about
from cmssd_core.volume.archive import unpack
from cmssd_core.volume.contrast import ask, check_contrast, name_contrast, unweighted
from cmssd_core.volume.dicom import rivals
from cmssd_core.volume.dicom import series as dicom
from cmssd_core.volume.dicom.headers import SLIDE_SUFFIXES, describe_refusal, header, refusal
from cmssd_core.volume.dicom.rivals import Survey
from cmssd_core.volume.folder import Source, open_folder
from cmssd_core.volume.image import SUFFIXES, facts, read_image, suffix
from cmssd_core.volume.stack import Stack, join

_log = logging.getLogger(__name__)
_SLIDE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")


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
    return _read(source, contrasts or {}, limit_mb=unpacked_limit_mb, look=lambda *_: None)


def _read(
    source: Path | None, contrasts: Mapping[str, Path], *, limit_mb: int, look: Callable[[Source, Survey], None]
) -> Reading[Volume]:
    """What `read` promises; `look` is shown each source before it is judged, for headers are parsed once."""
    if source is None and not contrasts:
        raise InputError("no MRI came; expected one examination, or files by contrast; give one", "mri")
    stacks: list[Stack] = []
    findings: list[Finding] = []
    if source is not None:
        with _refused(Path(source)), _opened(Path(source), limit_mb=limit_mb) as opened:
            survey = _survey(opened, limit_mb=limit_mb)
            look(opened, survey)
            stacks, notes = _inferred(opened, survey, limit_mb=limit_mb)
            findings.extend((*opened.findings, *notes))
    for contrast, path in sorted((check_contrast(name), Path(path)) for name, path in contrasts.items()):
        if any(stack.contrast == contrast for stack in stacks):
            raise InputError(f"{contrast} was given twice; give each contrast once", "contrast")
        with about("contrast"), _refused(path), _opened(path, limit_mb=limit_mb) as opened:
            survey = _survey(opened, limit_mb=limit_mb)
            look(opened, survey)
            stacks.append(_declared(opened, survey, contrast, limit_mb=limit_mb))
            findings.extend(replace(finding, where=f"mri {contrast}") for finding in opened.findings)
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
    spacing_mm) or None, findings, steps, digest, problem, field (what of the question it is about).
    """
    summary: dict[str, Any] = {
        "kind": None, "series": [], "volume": None, "findings": [], "steps": [], "digest": None, "problem": None,
        "field": None,
    }  # fmt: skip

    def look(opened: Source, survey: Survey) -> None:
        summary["kind"] = opened.kind
        summary["series"] += _series_facts(opened, survey)

    try:
        reading = _read(source, contrasts or {}, limit_mb=unpacked_limit_mb, look=look)
    except InputError as problem:
        summary["problem"], summary["field"] = str(problem), problem.field
        return summary
    volume = reading.value
    summary["volume"] = {
        "contrasts": list(volume.contrasts),
        "size": list(reversed(volume.voxels.shape[1:])),
        "spacing_mm": [round(s, 4) for s in volume.spacing_mm],
    }
    summary["findings"] = [{"level": f.level, "what": f.what, "where": f.where} for f in reading.findings]
    summary["steps"] = list(reading.steps)
    summary["digest"] = reading.digest
    return summary


def _series_facts(opened: Source, survey: Survey) -> list[dict[str, Any]]:
    if opened.images:
        return [
            {"contrast": name_contrast([_stem(path), path.parent.name]), **facts(path), "files": 1}
            for path in opened.images
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
        for series in survey.series
    ]


def _survey(opened: Source, *, limit_mb: int) -> Survey:
    if opened.images:
        return Survey(series=(), others=Counter())
    return dicom.survey(opened.files, name=opened.name, limit_mb=limit_mb)


def _inferred(opened: Source, survey: Survey, *, limit_mb: int) -> tuple[list[Stack], tuple[Finding, ...]]:
    if not opened.images:
        chosen, findings = rivals.choose(survey, name=opened.name)
        return [
            dicom.stack(series, contrast=contrast, name=opened.name, limit_mb=limit_mb)
            for contrast, series in chosen.items()
        ], findings
    found: dict[str, Path] = {}
    for path in opened.images:
        # The folder of a lone file in a zip is the user's; the temporary one above it says nothing.
        contrast = name_contrast(
            [_stem(path), path.parent.name, *([Path(opened.name).stem] if len(opened.images) == 1 else [])]
        )
        if contrast is None:
            what = unweighted(_stem(path))
            raise ask(path.name, f"from its name, which says {what}" if what else "from its name")
        if contrast in found:
            raise InputError(
                f"'{opened.name}' holds several images named like {contrast}; say which one is {contrast}",
                "contrast",
            )
        found[contrast] = path
    return [read_image(path, contrast=contrast, limit_mb=limit_mb) for contrast, path in found.items()], ()


def _declared(opened: Source, survey: Survey, contrast: str, *, limit_mb: int) -> Stack:
    if len(opened.images) > 1:
        raise InputError(f"'{opened.name}' holds {len(opened.images)} images; give the one that is {contrast}")
    if opened.images:
        return read_image(opened.images[0], contrast=contrast, limit_mb=limit_mb)
    series, findings = rivals.matching(survey, contrast, name=opened.name)
    return dicom.stack(series, contrast=contrast, name=opened.name, limit_mb=limit_mb, findings=findings)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Inside, whatever goes wrong is the file's fault and one sentence; the log keeps kind and place, no values."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.warning("%s at %s:%s", type(error).__name__, Path(place.filename).name, place.lineno)
        raise InputError(f"'{path.name}' is damaged and cannot be read; copy or export it again") from error


@contextmanager
def _opened(path: Path, *, limit_mb: int) -> Iterator[Source]:
    """The files behind a path; those of a zip live as long as the block."""
    name = path.name or str(path)
    try:
        if path.is_dir():
            yield open_folder(path, name=name, kind="folder")
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
            yield open_folder(Path(folder), name=name, kind="zip")
        return
    if suffix(path):
        yield Source(name, "image", (path,), ())
        return
    if _slide(path, head):
        raise InputError(
            f"'{name}' looks like a slide or picture, not an MRI; if it is the H&E slide, pass it as that", "he"
        )
    found = header(path)
    if found is None:
        raise InputError(
            f"'{name}' is not an image CM-SSD knows; expected DICOM, {', '.join(SUFFIXES)} or a zip of them"
        )
    what = refusal(found)
    if what and "DICOMDIR" in what:
        yield open_folder(path.parent, name=name, kind="DICOMDIR")
        return
    if what:
        raise describe_refusal(what, name)
    yield Source(name, "DICOM file", (), (path,))


def _slide(path: Path, head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return False
    return path.name.lower().endswith(SLIDE_SUFFIXES) or head.startswith(_SLIDE_MAGIC)


def _stem(path: Path) -> str:
    return path.name[: -len(suffix(path) or "")]
