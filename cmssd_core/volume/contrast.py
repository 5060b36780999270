"""Contrast names: which contrast an image file or a DICOM series is, from names and headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cmssd_core.types import InputError
from cmssd_core.volume.contrasts import CONTRASTS, MR, contrast_of_word

UNTOLD = "of a contrast the header does not tell"
MOSAIC = "a mosaic of slices in one picture"
PHASE = "a phase, real or imaginary image"
LOCALIZER = "a localizer or projection"
DIFFUSION = "a diffusion image, not an ADC map"
COMPUTED = "a mask, a map or something else that was computed from an image"

_LOCALIZER = re.compile(r"(?<![a-z])(locali[sz]er|loc|scout|survey|pilot|smartbrain|topogram)(?![a-z])")
_DIFFUSION = re.compile(r"(?<![a-z])(dwi|dti|diff|diffusion|trace|tracew|bval|b\d{2,4})(?![a-z0-9])")
_MAP = re.compile(
    r"(?<![a-z0-9])([qr]?[tr][12]w?(star|rho|\*)?[ _.-]?(map(s|ping|ped)?|relax\w*|times?|values?)|[qr][12]|[tr]1rho"
    r"|(field|parameter|fat|water)[ _-]?(map|fraction)|pdff|b[01]|phase|sub(traction|tracted)?|difference|mip"
    r"|ktrans)"
    r"(?![a-z0-9])"
)
#: Images of their own, in names of files and series. What radiologists call T1 FLAIR is T1-weighted, and stays so.
_FLAIR = re.compile(r"flair|dark[ _-]?fluid")
_T1 = re.compile(r"(?<![a-z0-9])t1")
_OTHER = re.compile(r"(?<![a-z0-9])(swi|swan|qsm|mtr|mtsat)(?![a-z])")
#: In names of files alone what was computed from an image: a scanner's "seg" is a segmented readout. A masked, warped
#: or bias-corrected image is an image; fa15 is a flip angle, MD_001 a patient.
_COMPUTED = re.compile(
    r"(?<![a-z0-9])([a-z0-9]*(masks?|segs?|segmentations?|labels?|labelmaps?)|rois?|[gcp]tv\d*|gt|ground[ _-]?truth"
    r"|parc(ellations?)?|contours?|annotations?|pred(ictions?)?|overlay|attention|saliency|heat[ _-]?map"
    r"|prob(s|map|ability|abilities)?|pve(seg)?|posteriors?|uncertainty|entropy|variance|stddev"
    r"|(n4[ _-]?)?bias(?![ _-]*(fields?[ _-]*)?(corr|remov|free|restor|n4))([ _-]?fields?)?"
    r"|\d*(inverse[ _-]?)?warp([ _-]?fields?)?|deformation|displacement|jac(obian)?|xfm"
    r"|snr|noise(?![ _-]*(corr|remov|free|red|supp|filt))([ _-]?map)?|residuals?|texture|distance|ratio|minus"
    r"|perf(usion)?|asl|r?cb[fv]|mtt|ttp|tmax|fa(?![ _-]?\d)|(?<=[ _.-])md(?![ _-]?\d))(?![a-z0-9])"
)
_STAR = re.compile(r"[tr]2[ _-]?(\*|s(?![a-z])|star)")
#: Phases of the contrast agent or of the two species of Dixon, not of the signal.
_NO_SIGNAL_PHASE = re.compile(
    r"(arterial|venous|portal|delayed|late|early|equilibrium|biliary|hepatobiliary|parenchymal|nephrographic|excretory"
    r"|in|out|out[ _-]of|opp|opposed|first|second|third|multi)[ _-]?phase"
)
#: In the names of files a first word such as b12 or sub-01 is a person's, and a pilot is a study.
_NAMED_LOCALIZER = re.compile(r"(?<![a-z])(locali[sz]er|scout|topogram)(?![a-z])")
_NAMED_PERSON = re.compile(r"^b\d+(?=[ _-])|(?<![a-z0-9])sub-?\d[a-z0-9]*|(?<![a-z0-9])sub-[a-z0-9]+")
_DIXON = {
    "in-phase": ({"IN_PHASE", "IP", "INPHASE", "IN"}, r"in[ _-]?phase|ip|in"),
    "water": ({"WATER", "W"}, r"water(?![ _-]?(exc|sat|sup|frac|map))|w"),
    "opposed-phase": (
        {"OUT_PHASE", "OPP_PHASE", "OPPOSED_PHASE", "OP", "OUTPHASE", "OUT", "OPP"},
        r"(out|out[ _-]?of|opp|opposed)[ _-]?phase|(?<!post[ _-])(?<!pre[ _-])op|opp|out",
    ),
    "fat": ({"FAT", "F"}, r"fat(?![ _-]?(sat|sup|sep|nul|rem|nav|frac|map))|f"),
}
_DIXON_WORDS = re.compile(
    r"dixon|ideal|lava|vibe|flex|thrive|(?<![a-z])(fat|water|(in|out|opp\w*)[ _-]?phase)(?![a-z])"
)
_PARAMETERS = {
    "T1_MAP", "T2_MAP", "T2_STAR_MAP", "R1_MAP", "R2_MAP", "R2_STAR_MAP", "T1MAP", "T2MAP", "B0_MAP", "B0", "B1",
    "SUB", "SUBTRACTION", "FF", "WF", "PDFF", "FAT_FRACTION", "WATER_FRACTION", "FAT_FRAC", "T2_STAR", "R2_STAR",
    "RCBV", "RCBF", "MTT", "TTP", "PBP", "KTRANS",
}  # fmt: skip
_PHASE_KINDS = {
    "P", "PHASE", "PHASE_MAP", "VELOCITY", "VELOCITY_MAP", "R", "REAL", "I", "IMAGINARY", "PHASE_DIFFERENCE",
}  # fmt: skip


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


def name_contrast(names: Iterable[str]) -> str | None:
    """The contrast said by the first of `names` that says one ("MR_T1_image" -> "t1"); None where none, or two, do.

    A name that says a map, a phase, a subtraction, a diffusion image or a mask ("T1_map", "t1_seg") says none, nor does
    any after it.
    """
    for name in names:
        what = unweighted(name)
        if what is not None:
            return "adc" if what == DIFFUSION and _says_adc(name.lower()) else None
        found = _contrasts_in(name)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _contrasts_in(name: str) -> set[str]:
    """The contrasts that words of a name stand for; FLAIR alone where it is one of them, as it is T2-weighted."""
    words = (contrast_of_word(word) for word in re.split(r"[^a-z0-9]+", name.lower()))
    found = {word for word in words if word is not None}
    flair = contrast_of_word("flair")
    return {flair} if flair in found and flair is not None else found


def unweighted(name: str) -> str | None:
    """What the name of a file says it is instead of a weighted image, a parameter map say; None where nothing."""
    text = _words(name)
    if _NAMED_LOCALIZER.search(text):
        return LOCALIZER
    return COMPUTED if _COMPUTED.search(text) else _by_words(text)


def _words(name: str) -> str:
    """A name in lower case without its person; a capital after a small letter begins a word, as in T1wMap."""
    return _NAMED_PERSON.sub(" ", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def dixon(seen: Appearance) -> str | None:
    """Which image of a Dixon sequence this is: in-phase, water, opposed-phase or fat; None where it is not said."""
    kinds = _kinds(seen)
    # The second value of an image type ("PRIMARY") and those before it are about other things.
    said = [name for name, (tokens, _) in _DIXON.items() if tokens & kinds]
    if said:
        return said[0] if len(said) == 1 else None
    return next(filter(None, (_dixon_by_name(text.lower()) for text in seen.descriptions)), None)


def _dixon_by_name(text: str) -> str | None:
    if not _DIXON_WORDS.search(text):
        return None
    said = [name for name, (_, words) in _DIXON.items() if re.search(rf"(?<![a-z0-9])({words})(?![a-z0-9])", text)]
    return said[0] if len(said) == 1 else None


def _by_words(text: str) -> str | None:
    """What lower-case words of a person say an image is instead of a weighted one."""
    if _DIFFUSION.search(text):
        return DIFFUSION
    if _STAR.search(text) and not _MAP.search(text):
        return "a T2* image"
    if _FLAIR.search(text) and not _T1.search(text) and contrast_of_word("flair") is None:
        return "a FLAIR image"
    if _OTHER.search(text):
        return "a susceptibility or magnetisation transfer image"
    if _MAP.search(_NO_SIGNAL_PHASE.sub(" ", text)):
        return "a parameter map, phase image or subtraction"
    species = _dixon_by_name(text)
    return f"the {species} image of a Dixon sequence" if species in ("fat", "opposed-phase") else None


def _kinds(seen: Appearance) -> set[str]:
    return {re.sub(r"[ -]+", "_", kind.strip().upper()) for kind in seen.image_type}


def ask(name: str, because: str) -> InputError:
    """The question to the user where a contrast cannot be told."""
    return InputError(
        f"the contrast of '{name}' cannot be told {because}; say which of {', '.join(CONTRASTS)} it is", "contrast"
    )


def check_contrast(contrast: str) -> str:
    """`contrast` itself in lower case; InputError where it is none of CONTRASTS."""
    if contrast.lower() not in CONTRASTS:
        raise InputError(
            f"'{contrast}' is not a contrast CM-SSD knows; expected one of {', '.join(CONTRASTS)}; name one", "contrast"
        )
    return contrast.lower()


def classify(seen: Appearance) -> tuple[str | None, str]:
    """(contrast, what the series is in words) of one DICOM series; contrast None = CM-SSD has no use for it.

    What the scanner's operator wrote is trusted before the timing, for a turbo sequence's echo time alone misleads.
    """
    if seen.modality != MR:
        if "LOCALIZER" in seen.image_type:
            return None, "a localizer"
        rows = [name for name, row in CONTRASTS.items() if row.dicom == seen.modality]
        if rows:
            words = name_contrast(seen.descriptions)
            contrast = words if words in rows else rows[0]
            return contrast, f"a {CONTRASTS[contrast].label}"
    kinds = _kinds(seen)
    text = " ".join(seen.descriptions).lower()
    if "MOSAIC" in kinds:
        return None, MOSAIC
    if kinds & {"LOCALIZER", "PROJECTION_IMAGE", "MIP", "MNIP"} or _LOCALIZER.search(text):
        return None, LOCALIZER
    if kinds & _PHASE_KINDS:
        return None, PHASE
    first = seen.descriptions[0].lower() if seen.descriptions else ""
    if any("ADC" in kind.split("_") for kind in kinds) or _says_adc(first) or "apparent diffusion" in text:
        return "adc", "an ADC map"
    if kinds & {"DIFFUSION", "TRACEW", "FA", "DIFFUSION_ANISO"} or seen.weighting == "DIFFUSION" or seen.b_value:
        return None, DIFFUSION
    if kinds & _PARAMETERS:
        return None, "a parameter map or subtraction"
    species = dixon(seen)
    if species in ("fat", "opposed-phase"):
        return None, f"the {species} image of a Dixon sequence"
    what = _by_words(text)
    if what is not None:
        return None, what
    for description in seen.descriptions:
        named = _contrasts_in(description)
        words = next(iter(named)) if len(named) == 1 and _by_words(_words(description)) is None else None
        if words is not None and CONTRASTS[words].dicom == MR and not CONTRASTS[words].quantitative:
            return words, f"a {CONTRASTS[words].label}" + (f", {species}" if species else "")
    for contrast, row in CONTRASTS.items():
        if row.acquisition is not None and row.acquisition == seen.weighting:
            return contrast, f"a {row.label}"
    return _by_timing(seen)


def _says_adc(text: str) -> bool:
    return "adc" in re.split(r"[^a-z0-9]+", text)


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
    return None, UNTOLD
