"""Contrast names: which contrast an image file or a DICOM series is, from names and headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cmssd_core.types import CONTRASTS, InputError

_TOKENS = {
    "t1": "t1", "t1w": "t1", "t1wi": "t1", "t1c": "t1", "t1ce": "t1", "t1gd": "t1", "t1fs": "t1",
    "t2": "t2", "t2w": "t2", "t2wi": "t2", "t2fs": "t2",
    "stir": "stir", "tirm": "stir",
    "adc": "adc",
    "ct": "ct",
    "pet": "pet", "pt": "pet", "suv": "pet",
}  # fmt: skip
_LOCALIZER = re.compile(r"(?<![a-z])(locali[sz]er|loc|scout|survey|pilot|smartbrain|topogram)(?![a-z])")
_DIFFUSION = re.compile(r"(?<![a-z])(dwi|dti|diff|diffusion|trace|tracew|bval|b\d{2,4})(?![a-z0-9])")
_MAP = re.compile(
    r"(?<![a-z0-9])(t[12](star|rho)?[ _-]?map(ping)?|field[ _-]?map|b0|phase|sub|subtraction|mip)(?![a-z])"
)
_STAR = re.compile(r"t2[ _-]?(\*|s(?![a-z])|star)")


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """What the header of one DICOM frame says of its contrast; times in ms, b in s/mm2, None = not said."""

    modality: str
    descriptions: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    sequence: tuple[str, ...] = ()
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    b_value: float | None = None
    weighting: str | None = None


def named(names: Iterable[str]) -> str | None:
    """The contrast said by the first of `names` that says one ("MR_T1_image" -> "t1"); None where none, or two, do."""
    for name in names:
        found = {_TOKENS[token] for token in re.split(r"[^a-z0-9]+", name.lower()) if token in _TOKENS}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def ask(name: str, because: str) -> InputError:
    """The question to the user where a contrast cannot be told."""
    return InputError(
        f"the contrast of '{name}' cannot be told {because}; say it with --contrast t1=PATH "
        f"(allowed: {', '.join(CONTRASTS)})"
    )


def known(contrast: str) -> str:
    """`contrast` itself in lower case; InputError where it is none of CONTRASTS."""
    if contrast.lower() not in CONTRASTS:
        raise InputError(
            f"'{contrast}' is not a contrast CM-SSD knows; use --contrast t1=PATH with one of {', '.join(CONTRASTS)}"
        )
    return contrast.lower()


def classify(seen: Appearance) -> tuple[str | None, str]:
    """(contrast, what the series is in words) of one DICOM series; contrast None = CM-SSD has no use for it.

    What the scanner's operator wrote is trusted before the timing, for a turbo sequence's echo time alone misleads.
    """
    if seen.modality in ("CT", "PT"):
        if "LOCALIZER" in seen.image_type:
            return None, "a localizer"
        return ("ct", "a CT") if seen.modality == "CT" else ("pet", "a PET")
    kinds = {kind.upper() for kind in seen.image_type}
    text = " ".join(seen.descriptions).lower()
    if kinds & {"LOCALIZER", "PROJECTION IMAGE"} or _LOCALIZER.search(text):
        return None, "a localizer or projection"
    first = seen.descriptions[0].lower() if seen.descriptions else ""
    if any("ADC" in kind.split() for kind in kinds) or named([first]) == "adc" or "apparent diffusion" in text:
        return "adc", "an ADC map"
    if kinds & {"DIFFUSION", "TRACEW", "FA", "DIFFUSION_ANISO"} or seen.weighting == "DIFFUSION" or seen.b_value:
        return None, "a diffusion image, not an ADC map"
    if _DIFFUSION.search(text):
        return None, "a diffusion image, not an ADC map"
    if kinds & {"P", "PHASE", "PHASE MAP", "B0 MAP", "VELOCITY", "T1 MAP", "T2 MAP", "T2_STAR MAP", "SUB"}:
        return None, "a phase image or parameter map"
    if _MAP.search(text):
        return None, "a parameter map or subtraction"
    if "MOSAIC" in kinds:
        return None, "a mosaic of slices in one picture"
    for description in seen.descriptions:
        if _STAR.search(description.lower()):
            return None, "a T2* image"
        said = named([description])
        if said in ("t1", "t2", "stir"):
            return said, f"a {said.upper()}"
    if seen.weighting in ("T1", "T2", "STIR"):
        return seen.weighting.lower(), f"a {seen.weighting}"
    return _by_timing(seen)


def _by_timing(seen: Appearance) -> tuple[str | None, str]:
    echo, repetition, inversion = seen.echo_ms, seen.repetition_ms, seen.inversion_ms
    spin_echo = "SE" in seen.sequence or "IR" in seen.sequence
    if spin_echo and "EP" not in seen.sequence and echo is not None and repetition is not None:
        if "IR" in seen.sequence and inversion and 80 <= inversion <= 300 and repetition >= 1500:
            return "stir", "a STIR by its timing"
        if not inversion and echo <= 30 and 200 <= repetition <= 1200:
            return "t1", "a T1 by its timing"
        if not inversion and echo >= 60 and repetition >= 1800:
            return "t2", "a T2 by its timing"
    return None, "of a contrast the header does not tell"
