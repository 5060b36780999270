"""Folders: which files make one examination, images or DICOM, never one of the two in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cmssd_core.types import Finding, InputError
from cmssd_core.volume.dicom.headers import DAMAGED, header, looks_dicom, names, refusal
from cmssd_core.volume.image import suffix

#: Files in the folder of one examination, and what to do where there are more.
FILES_LIMIT, OF_ONE = 50_000, "give the folder of one examination"
_MASK = re.compile(r"(?<![a-z])(masks?|seg(m|mentations?)?|labels?|labelmap|rois?)(?![a-z])")


@dataclass(frozen=True, eq=False)
class Source:
    """Files that belong together: image files, or everything else, which may be DICOM. name: what the user gave.
    findings: on files that are not used."""

    name: str
    kind: str
    images: tuple[Path, ...]
    files: tuple[Path, ...]
    findings: tuple[Finding, ...] = ()


def open_folder(folder: Path, *, name: str, kind: str) -> Source:
    """The files of a folder. Raises InputError for links that lead nowhere, for too many files, and for images beside
    DICOM, but for masks by their names: of those a finding says that they are not used."""
    files = _below(folder, name=name, kind=kind)
    images = [path for path in files if suffix(path)]
    others = [path for path in files if not suffix(path)]
    if not files:
        raise InputError(f"'{name}' holds no files; expected a DICOM series or an image")
    if not images:
        return Source(name, f"{kind} of DICOM", (), tuple(files))
    scans, objects = _dicom(others)
    if not scans:
        notes = [f"{n} file{'s' if n > 1 else ''} not used: {what}" for what, n in objects.items()]
        findings = tuple(Finding("info", what, "mri") for what in notes)
        return Source(name, f"{kind} of images", tuple(images), (), findings)
    if not all(_named_mask(path) for path in images):
        raise InputError(
            f"'{name}' holds DICOM files ({names(scans)}) and image files ({names(images)}), and one examination is "
            "one or the other; give the images and the folder of the DICOM files apart"
        )
    what = f"{len(images)} image file{'s' if len(images) > 1 else ''} named as a mask and not used ({names(images)})"
    return Source(name, f"{kind} of DICOM", (), tuple(others), (Finding("warning", what, "mri"),))


def _below(folder: Path, *, name: str, kind: str) -> list[Path]:
    files: list[Path] = []
    for path in folder.rglob("*"):
        if path.name.startswith("."):
            continue
        if path.is_symlink() and (kind != "folder" or not path.is_file()):
            raise InputError(
                f"'{name}' holds symbolic links to folders or to files that are not there; fetch what they stand for "
                "(datalad get), or give the files themselves"
            )
        if path.is_file():
            files.append(path)
            if len(files) > FILES_LIMIT:
                raise InputError(f"'{name}' holds more than {FILES_LIMIT} files; {OF_ONE}")
    return sorted(files)


def _dicom(files: Sequence[Path]) -> tuple[list[Path], Counter[str]]:
    """Scans in DICOM, damaged ones too, and how many DICOM objects there are that are no scan, in words."""
    scans: list[Path] = []
    objects: Counter[str] = Counter()
    for path in files:
        # What is called neither way is not parsed: it may be the voxels of a .mhd, gigabytes of them.
        if not (looks_dicom(path) or _bare(path)):
            continue
        head = header(path)
        what = DAMAGED if head is None and looks_dicom(path) else None if head is None else refusal(head)
        if (head is not None and what is None) or what == DAMAGED:
            scans.append(path)
        elif what is not None and what != "slide" and "DICOMDIR" not in what:
            objects[what] += 1
    return scans, objects


def _bare(path: Path) -> bool:
    """Whether a name has no suffix, as those of many scanners: what follows its last dot is a number."""
    return not path.suffix or path.suffix[1:].isdigit()


def _named_mask(path: Path) -> bool:
    # A capital after a small letter begins a word, as in TumourMask.
    return _MASK.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.name).lower()) is not None
