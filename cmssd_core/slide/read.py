"""Read a slide: OpenSlide formats and plain images become a Slide with a resolution one can trust, or a sentence."""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openslide

from cmssd_core.slide import sound, tiff
from cmssd_core.slide.digest import dicom_header, digest, slide_files
from cmssd_core.slide.frames import check_frames
from cmssd_core.slide.pixels import (
    OpenedSlide,
    exif_orientation,
    is_plain,
    open_slide,
    open_source,
    region,
    thumbnail,
    unreadable,
)
from cmssd_core.types import Finding, InputError, Reading, Slide

__all__ = ["describe", "open_slide", "read", "region", "thumbnail"]

#: Microns per pixel outside these bounds are no slide scan: 0.05 is finer than light resolves, 20 is below 1x.
MPP_BOUNDS = (0.05, 20.0)
#: A file's own word above this is believed of no scan until the user says it.
COARSEST_MPP = 8.0
_WHERE = "slide"
_LOG = logging.getLogger("cmssd.slide")
_RADIOLOGY = {"MR": "an MRI", "CT": "a CT", "PT": "a PET"}


def read(
    source: Path, *, mpp: float | None = None, site_mm: tuple[float, float, float] | None = None
) -> Reading[Slide]:
    """A slide from its file; pixels stay on disk, label and macro images are never opened.

    mpp: microns per level-0 pixel, for files that do not say it or say it wrongly (the argument wins, with a
    finding). Of the file's own words, OpenSlide's `openslide.mpp-x/y`, and of a TIFF that no scanner's format is known
    of its OME-XML, then its Aperio header, then ImageJ's description, then its resolution tag are believed, within
    MPP_BOUNDS, and up to COARSEST_MPP; the dpi of PNG and JPEG is a printer's setting and never is. Level-0 pixels are
    the stored ones: a tag Orientation of a TIFF or in EXIF turns nothing and is a finding. site_mm: where the biopsy
    was taken, RAS+ mm.
    Raises InputError where the file is missing, is something else, is damaged, cannot be decoded, has no resolution
    or several pictures of which none is the largest.
    """
    source = Path(source)
    with _one_sentence(source):
        return _read(source, mpp=mpp, site_mm=site_mm)


@contextmanager
def _one_sentence(source: Path) -> Iterator[None]:
    """Whatever a library raises over a file leaves as one InputError; the log keeps its kind and place, not its words.

    Libraries quote paths and contents, and raise what no list of exceptions foresees.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as reason:
        place = reason.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "?" if place is None else f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
        _LOG.warning("a slide was not read: %s at %s", type(reason).__name__, where)
        raise InputError(
            f"{source.name} cannot be read as a slide ({type(reason).__name__}); check that it opens in another viewer "
            "and export it again as .svs, pyramidal .tif, .png or .jpg"
        ) from reason


def _read(source: Path, *, mpp: float | None, site_mm: tuple[float, float, float] | None) -> Reading[Slide]:
    _refuse_what_is_no_slide(source)
    _refuse_bad_mpp(mpp, source)
    if site_mm is not None and (len(site_mm) != 3 or not all(math.isfinite(v) for v in site_mm)):
        raise InputError(f"the biopsy site needs three finite numbers x,y,z in mm (RAS+), got {site_mm}", "site")
    beside = sound.check(source)
    check_frames(slide_files(source))
    with open_slide(Slide(path=source, level_sizes=(), mpp=None)) as held:
        beside += _decodes(held)
        opened = held.source
        words, findings = _said_mpp(opened, source)
        findings = (*beside, *_pictures(source), *_burned_in(source), *findings)
        if mpp is None and words is not None and words > COARSEST_MPP:
            raise InputError(
                f"{source.name} says {words:.3g} microns per pixel, at most {COARSEST_MPP:g} were expected of a scan; "
                "say them if they are right, or what they are: 0.25 is usual for a 40x scan, 0.5 for 20x, 1.0 for 10x",
                "mpp",
            )
        if mpp is None and words is None:
            raise InputError(
                f"{source.name} says no microns per pixel{_hint(opened)}; say them: "
                "0.25 is usual for a 40x scan, 0.5 for 20x, 1.0 for 10x",
                "mpp",
            )
        if mpp is not None and words is not None and abs(mpp / words - 1) > 0.02:
            findings = (
                *findings,
                Finding(
                    "warning",
                    f"the file says {words:.4g} microns per pixel, the user said {mpp:.4g}; the user's is used",
                    _WHERE,
                ),
            )
        slide = Slide(
            path=source.resolve(),
            level_sizes=tuple((int(w), int(h)) for w, h in opened.level_dimensions),
            mpp=mpp if mpp is not None else words,
            site_mm=None if site_mm is None else (float(site_mm[0]), float(site_mm[1]), float(site_mm[2])),
        )
        origin = "the user" if mpp is not None else "the file"
        step = f"slide read as {_format(opened)}, {slide.mpp:.4g} microns per pixel from {origin}"
    return Reading(value=slide, digest=digest(source), findings=findings, steps=(step,))


def describe(source: Path) -> dict[str, Any]:
    """What `cmssd inspect` shows of a slide, JSON-able and without names.

    Keys: kind, format, level_sizes, mpp, objective, readable, problem (the sentence `read` would refuse it with, or
    None), field (what of the question it is about), findings.
    """
    source = Path(source)
    summary: dict[str, Any] = {
        "kind": "slide",
        "format": None,
        "level_sizes": [],
        "mpp": None,
        "objective": None,
        "readable": False,
        "problem": None,
        "field": None,
        "findings": [],
    }
    try:
        with _one_sentence(source):
            _refuse_what_is_no_slide(source)
            opened = open_source(source)
            try:
                summary["format"] = _format(opened)
                summary["level_sizes"] = [[int(w), int(h)] for w, h in opened.level_dimensions]
                summary["objective"] = opened.properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
                words, findings = _said_mpp(opened, source)
                findings = (*_pictures(source), *_burned_in(source), *findings)
                summary["mpp"] = words
                summary["findings"] = [{"level": f.level, "what": f.what, "where": f.where} for f in findings]
            finally:
                opened.close()
        found = read(source).findings
        summary["findings"] = [{"level": f.level, "what": f.what, "where": f.where} for f in found]
        summary["readable"] = True
    except InputError as problem:
        summary["problem"], summary["field"] = str(problem), problem.field
    return summary


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
        raise InputError(f"{name} looks like {radiology}, not like a slide; pass it as the MRI", "mri")
    header = dicom_header(source)
    if header is not None and header.modality not in ("", "None", "SM"):
        raise InputError(
            f"{name} is a DICOM object of modality {header.modality[:16]}, a slide has modality SM; "
            "pass the slide's own .dcm"
        )
    if header is not None and header.tile[0] * header.tile[1] > tiff.TILE_LIMIT_PX:
        raise InputError(
            f"{name} is cut into tiles of {header.tile[0]} x {header.tile[1]} px, at most 4096 x 4096 were expected; "
            "export it with tiles of 256 or 512 px"
        )
    slide_files(source)
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
        return _RADIOLOGY.get(header.modality)
    if source.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")):
        return "an MRI/CT by its name"
    return None


def _refuse_bad_mpp(mpp: float | None, source: Path) -> None:
    low, high = MPP_BOUNDS
    if mpp is not None and not (math.isfinite(mpp) and low <= mpp <= high):
        raise InputError(
            f"{mpp:g} microns per pixel for {source.name} is not possible, {low} to {high:g} was expected; "
            "0.25 is usual for a 40x scan, 0.5 for 20x, 1.0 for 10x",
            "mpp",
        )


def _decodes(opened: OpenedSlide) -> tuple[Finding, ...]:
    """Decodes a little of every level, at its corner and its middle: OpenSlide opens files whose pixels it cannot read.

    Raises InputError where neither can be decoded; a single place that cannot is a finding.
    """
    found: list[Finding] = []
    scales = opened.source.level_downsamples
    for level, (width, height) in enumerate(opened.source.level_dimensions):
        size, scale = (min(16, width), min(16, height)), scales[level]
        lost = []
        for fraction in (0.0, 0.5):
            corner = (int((width - size[0]) * fraction * scale), int((height - size[1]) * fraction * scale))
            source = opened.source
            try:
                source.read_region(corner, level, size)
            except (openslide.OpenSlideError, OSError, ValueError) as reason:
                lost.append((corner, reason))
                opened.replace(source)
        if len(lost) > 1:
            raise InputError(unreadable(opened.slide.path, lost[0][1])) from lost[0][1]
        for (x, y), _ in lost:
            what = f"the slide cannot be decoded at x {x}, y {y} of its level {level}; export it again"
            found.append(Finding("severe", what, _WHERE))
    return tuple(found)


def _pictures(source: Path) -> tuple[Finding, ...]:
    """What is to be said of a TIFF's several pictures, and of any picture that other programs turn."""
    if not is_plain(source):
        return ()
    summary = tiff.survey(source, plain=True)
    turned = exif_orientation(source) if summary is None else summary.turned
    what = (
        f"the file's tag Orientation is {turned}: other programs turn or mirror the picture; it is read as it is "
        "stored, so compare places and outlines with the stored pixels"
    )
    found = () if turned is None else (Finding("warning", what, _WHERE),)
    return found if summary is None else found + tiff.several(summary)


def _burned_in(source: Path) -> tuple[Finding, ...]:
    """A finding where a DICOM slide says that words are burned into its pixels; its label's do not count."""
    headers = (dicom_header(file) for file in slide_files(source) if dicom_header(source) is not None)
    if not any(header is not None and header.burned_in for header in headers):
        return ()
    what = (
        "the file says that its pixels show words (BurnedInAnnotation is YES), which may name the patient; look at the "
        "slide before passing anything on"
    )
    return (Finding("severe", what, _WHERE),)


def _said_mpp(opened: openslide.AbstractSlide, source: Path) -> tuple[float | None, tuple[Finding, ...]]:
    """Microns per pixel in the file's own words, None where it has none worth believing."""
    low, high = MPP_BOUNDS
    told = _told(opened, source)
    known = [(who, [v for v in pair if low <= v <= high]) for who, *pair in told]
    worth = [(who, values, math.sqrt(values[0] * values[-1])) for who, values in known if values]
    if not worth:
        return None, ()
    who, values, mean = worth[0]
    found = [
        f"{who} says {mean:.4g} microns per pixel, {other} {value:.4g}; {who}'s is used"
        for other, _, value in worth[1:]
        if abs(value / mean - 1) > 0.02
    ]
    found += [
        f"{doubted} says {told_x:.3g} microns per pixel, which no slide scan has; {who}'s {mean:.4g} is used"
        for doubted, told_x, _ in told[: [one[0] for one in told].index(who)]
    ]
    if max(values) / min(values) > 1.02:
        found.append(f"pixels are not square: {values[0]:.4g} by {values[-1]:.4g} microns; {mean:.4g} is used for both")
    return mean, tuple(Finding("warning", what, _WHERE) for what in found)


def _told(opened: openslide.AbstractSlide, source: Path) -> tuple[tuple[str, float, float], ...]:
    """Who says how many microns per pixel in x and y, the most trustworthy first."""
    summary = tiff.survey(source, plain=True) if is_plain(source) else None
    if summary is not None:
        return summary.largest.said
    keys = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    words = [word for word in (_number(opened.properties.get(key)) for key in keys) if word is not None]
    return (("the scanner's header", words[0], words[-1]),) if words else ()


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
