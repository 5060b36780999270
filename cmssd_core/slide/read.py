"""Read a slide: OpenSlide formats and plain images become a Slide with a resolution one can trust, or a sentence."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import openslide
from PIL import Image

from cmssd_core.slide.digest import dicom_header, digest
from cmssd_core.slide.pixels import open_slide, open_source, region, thumbnail, unreadable
from cmssd_core.types import Finding, InputError, Reading, Slide

__all__ = ["describe", "open_slide", "read", "region", "thumbnail"]

#: Microns per pixel outside these bounds are no slide scan: 0.05 is finer than light resolves, 20 is below 1x.
MPP_BOUNDS = (0.05, 20.0)
_WHERE = "slide"
_RADIOLOGY = {"MR": "an MRI", "CT": "a CT", "PT": "a PET"}


def read(
    source: Path, *, mpp: float | None = None, site_mm: tuple[float, float, float] | None = None
) -> Reading[Slide]:
    """A slide from its file; pixels stay on disk, label and macro images are never opened.

    mpp: microns per level-0 pixel, for files that do not say it or say it wrongly (the argument wins, with a
    finding). Of the file's own words, OpenSlide's `openslide.mpp-x/y` and a plain TIFF's resolution tag are believed,
    within MPP_BOUNDS; the dpi of PNG and JPEG is a printer's setting and never is. EXIF rotation is ignored: level-0
    pixels are the stored ones. site_mm: where the biopsy was taken, RAS+ mm.
    Raises InputError where the file is missing, is something else, cannot be decoded or has no resolution.
    """
    source = Path(source)
    _refuse_what_is_no_slide(source)
    _refuse_bad_mpp(mpp, source)
    if site_mm is not None and (len(site_mm) != 3 or not all(math.isfinite(v) for v in site_mm)):
        raise InputError(f"the biopsy site needs three finite numbers x,y,z in mm (RAS+), got {site_mm}")
    opened = open_source(source)
    try:
        _refuse_undecodable(opened, source)
        said, findings = _said_mpp(opened, source)
        if mpp is None and said is None:
            raise InputError(
                f"{source.name} says no microns per pixel{_hint(opened)}; pass --mpp "
                "(0.25 is usual for a 40x scan, 0.5 for 20x, 1.0 for 10x)"
            )
        if mpp is not None and said is not None and abs(mpp / said - 1) > 0.02:
            findings = (
                *findings,
                Finding(
                    "warning",
                    f"the file says {said:.4g} microns per pixel, the user said {mpp:.4g}; the user's is used",
                    _WHERE,
                ),
            )
        slide = Slide(
            path=source.resolve(),
            level_sizes=tuple((int(w), int(h)) for w, h in opened.level_dimensions),
            mpp=mpp if mpp is not None else said,
            site_mm=None if site_mm is None else (float(site_mm[0]), float(site_mm[1]), float(site_mm[2])),
        )
        origin = "the user" if mpp is not None else "the file"
        step = f"slide read as {_format(opened)}, {slide.mpp:.4g} microns per pixel from {origin}"
    finally:
        opened.close()
    return Reading(value=slide, digest=digest(source), findings=findings, steps=(step,))


def describe(source: Path) -> dict[str, Any]:
    """What `cmssd inspect` shows of a slide, JSON-able and without names.

    Keys: kind, format, level_sizes, mpp, objective, readable, problem (the sentence `read` would refuse it with, or
    None), findings.
    """
    source = Path(source)
    told: dict[str, Any] = {
        "kind": "slide",
        "format": None,
        "level_sizes": [],
        "mpp": None,
        "objective": None,
        "readable": False,
        "problem": None,
        "findings": [],
    }
    try:
        _refuse_what_is_no_slide(source)
        opened = open_source(source)
        try:
            told["format"] = _format(opened)
            told["level_sizes"] = [[int(w), int(h)] for w, h in opened.level_dimensions]
            told["objective"] = opened.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
            said, findings = _said_mpp(opened, source)
            told["mpp"] = said
            told["findings"] = [{"level": f.level, "what": f.what, "where": f.where} for f in findings]
        finally:
            opened.close()
        read(source)
        told["readable"] = True
    except InputError as problem:
        told["problem"] = str(problem)
    return told


def _refuse_what_is_no_slide(source: Path) -> None:
    name = source.name
    if not source.exists():
        raise InputError(f"there is no file {name}; check the path of the slide")
    if source.is_dir():
        raise InputError(
            f"{name} is a folder, one slide file was expected; pass the .svs, .mrxs, .tif or one .dcm file in it"
        )
    if not source.is_file():
        raise InputError(f"{name} is no ordinary file; pass a slide file")
    try:
        with source.open("rb") as stream:
            head = stream.read(512)
    except OSError as reason:
        raise InputError(f"{name} cannot be opened ({reason.strerror}); check who may read it") from reason
    if not head:
        raise InputError(f"{name} is empty (0 bytes); copy or export the slide again")
    radiology = _radiology(source, head)
    if radiology is not None:
        raise InputError(f"{name} looks like {radiology}, not like a slide; pass it as --mri")
    header = dicom_header(source)
    if header is not None and header.get("Modality") not in (None, "SM"):
        raise InputError(
            f"{name} is a DICOM object of modality {header.get('Modality')}, a slide has modality SM; "
            "pass the slide's own .dcm"
        )
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise InputError(f"{name} is a zip archive, one slide file was expected; unpack it and pass the slide in it")
    if head[:5] == b"%PDF-":
        raise InputError(f"{name} is a PDF, a slide was expected; export the image as .tif or .png")


def _radiology(source: Path, head: bytes) -> str | None:
    """What kind of MRI or CT file this is, None where it is none."""
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(source) as stream:
                head = stream.read(512)
        except (OSError, EOFError, zlib.error):
            return "an MRI (NIfTI)" if source.name.lower().endswith(".nii.gz") else None
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "an MRI/CT (NIfTI)"
    if head[:4] == b"NRRD":
        return "an MRI/CT (NRRD)"
    if b"ObjectType" in head and b"NDims" in head:
        return "an MRI/CT (MetaImage)"
    header = dicom_header(source)
    if header is not None:
        return _RADIOLOGY.get(str(header.get("Modality")))
    if source.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")):
        return "an MRI/CT by its name"
    return None


def _refuse_bad_mpp(mpp: float | None, source: Path) -> None:
    low, high = MPP_BOUNDS
    if mpp is not None and not (math.isfinite(mpp) and low <= mpp <= high):
        raise InputError(
            f"{mpp:g} microns per pixel for {source.name} is not possible, {low} to {high:g} was expected; "
            "0.25 is usual for a 40x scan, 0.5 for 20x, 1.0 for 10x"
        )


def _refuse_undecodable(opened: openslide.AbstractSlide, source: Path) -> None:
    """Decode a little of every level: OpenSlide opens files whose pixels it cannot read."""
    try:
        for level, (width, height) in enumerate(opened.level_dimensions):
            size = (min(16, width), min(16, height))
            scale = opened.level_downsamples[level]
            for fraction in (0.0, 0.5):
                corner = (int((width - size[0]) * fraction * scale), int((height - size[1]) * fraction * scale))
                opened.read_region(corner, level, size)
    except (openslide.OpenSlideError, OSError, ValueError) as reason:
        raise InputError(unreadable(source, reason)) from reason


def _said_mpp(opened: openslide.AbstractSlide, source: Path) -> tuple[float | None, tuple[Finding, ...]]:
    """Microns per pixel in the file's own words, None where it has none worth believing."""
    if isinstance(opened, openslide.ImageSlide):
        said = _tiff_resolution(source)
    else:
        said = tuple(
            _number(opened.properties.get(key))
            for key in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        )
    low, high = MPP_BOUNDS
    known = [value for value in said if value is not None and low <= value <= high]
    if not known:
        return None, ()
    mean = math.sqrt(known[0] * known[-1])
    if max(known) / min(known) > 1.02:
        what = f"pixels are not square: {known[0]:.4g} by {known[-1]:.4g} microns; {mean:.4g} is used for both"
        return mean, (Finding("warning", what, _WHERE),)
    return mean, ()


def _tiff_resolution(source: Path) -> tuple[float | None, ...]:
    with Image.open(source, formats=("PNG", "JPEG", "TIFF")) as image:
        dpi = image.info.get("dpi") if image.format == "TIFF" else None
        if dpi is None:
            return ()
        return tuple(25400 / float(value) if value else None for value in dpi)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _hint(opened: openslide.AbstractSlide) -> str:
    power = _number(opened.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))
    return "" if power is None else f" (only an objective of {power:g}x)"


def _format(opened: openslide.AbstractSlide) -> str:
    if isinstance(opened, openslide.ImageSlide):
        return "a plain image"
    return str(opened.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown format"))
