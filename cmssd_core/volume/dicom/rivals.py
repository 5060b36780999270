"""Rivals: which of several series stands for a contrast; content decides, and a finding says what else there was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cmssd_core.types import Finding, InputError
from cmssd_core.volume.contrast import LOCALIZER, MOSAIC, PHASE, UNTOLD, ask, dixon
from cmssd_core.volume.contrasts import CONTRASTS, MR
from cmssd_core.volume.dicom.frames import Frame
from cmssd_core.volume.dicom.grouping import Series
from cmssd_core.volume.dicom.headers import names
from cmssd_core.volume.origin import examinations

#: A series with fewer than this share of the most slices is a part of an image, whatever it shows.
_SHORT = 0.5
#: Echoes that differ by less than this factor make the same contrast.
_SAME_ECHO = 1.5
#: Where a T2 is weighted as readers know it, ms.
_T2_ECHO_MS = 90.0


@dataclass(frozen=True, eq=False)
class Survey:
    """What a set of files holds: series, how many DICOM objects of other kinds, in words, and the files that are
    called DICOM and cannot be read."""

    series: tuple[Series, ...]
    others: Counter[str]
    lost: tuple[Path, ...] = ()


def choose(found: Survey, *, name: str) -> tuple[dict[str, Series], tuple[Finding, ...]]:
    """One series for each contrast the headers tell, and findings on what is not used. InputError where none is, or
    where they come from two examinations."""
    chosen: dict[str, Series] = {}
    findings: list[Finding] = []
    for series in found.series:
        if series.contrast is None:
            findings.append(Finding("info", f"a series is not used: {series.described}", "mri"))
    useful = [series for series in found.series if series.contrast is not None]
    _one_examination(useful, name=name)
    for contrast in sorted({series.contrast for series in useful if series.contrast}):
        rivals = [series for series in useful if series.contrast == contrast]
        chosen[contrast], notes = _best(rivals, contrast, name=name)
        findings.extend(notes)
    if not chosen:
        words = "; ".join(f"{n} x {what}" for what, n in Counter(s.described for s in found.series).items())
        raise ask(name, f"from its headers (found {words})")
    if len({series.frames[0].origin.study for series in chosen.values()} - {""}) > 1:
        findings.append(Finding("warning", f"{', '.join(chosen)} come from different studies of one day", "mri"))
    findings.extend(_unused(found, where="mri"))
    return chosen, tuple(findings)


def matching(found: Survey, contrast: str, *, name: str) -> tuple[Series, tuple[Finding, ...]]:
    """The series the user means by `contrast`. Raises InputError where the modality contradicts the word, where all
    that is left is a phase image or a mosaic, or where it comes from two examinations."""
    modality = CONTRASTS[contrast].dicom
    able = [series for series in found.series if series.frames[0].seen.modality == modality]
    if not able:
        raise InputError(
            f"'{name}' was given as {contrast} but its header says {found.series[0].frames[0].seen.modality}; "
            "name the contrast it is"
        )
    sound = [series for series in able if series.what not in (MOSAIC, PHASE)]
    if not sound:
        what = able[0].what
        why = "its slices have no places of their own" if what == MOSAIC else "its values are no brightness"
        raise InputError(
            f"'{name}' was given as {contrast}, but its header describes {what}: {why}; "
            f"give the {'slices' if what == MOSAIC else 'magnitude'} as the scanner exports them"
        )
    untold = [series for series in sound if series.what == UNTOLD]
    unused = [series for series in sound if series.contrast is None and series.what != LOCALIZER]
    rivals = [series for series in sound if series.contrast == contrast] or untold or unused or sound
    _one_examination(rivals, name=name)
    series, findings = _best(rivals, contrast, name=name)
    if series.contrast != contrast and series.what != UNTOLD:
        what = f"was given as {contrast}, but its header describes {series.what}"
        findings += (Finding("warning", what, f"mri {contrast}"),)
    return series, (*findings, *_unused(found, where=f"mri {contrast}"))


def _unused(found: Survey, *, where: str) -> tuple[Finding, ...]:
    """What lies beside the series: images that were lost, and objects that are no image."""
    notes = []
    if found.lost:
        several = len(found.lost) > 1
        what = (
            f"{len(found.lost)} DICOM file{'s are' if several else ' is'} empty, cut short or damaged and not used "
            f"({names(found.lost)}): slices may be missing; copy or export {'them' if several else 'it'} again"
        )
        notes.append(Finding("severe", what, where))
    notes += [
        Finding("info", f"{n} file{'s' if n > 1 else ''} not used: {what}", where)
        for what, n in found.others.items()
        if what != "slide"
    ]
    return tuple(notes)


def _one_examination(series: Sequence[Series], *, name: str) -> None:
    found = examinations({str(i): each.frames[0].origin for i, each in enumerate(series)})
    if found is not None:
        count, apart = found
        raise InputError(
            f"'{name}' holds {count} examinations {apart}; give the files of one, or each contrast by itself if they "
            "are to be read together"
        )


def _best(rivals: list[Series], contrast: str, *, name: str) -> tuple[Series, tuple[Finding, ...]]:
    """The rival that shows the contrast best, and a finding on the others."""
    most = max(len(series.frames) for series in rivals)
    nearest = min(_off_echo(series, contrast) for series in rivals)
    best = min(rivals, key=lambda series: _rank(series, contrast, most=most, nearest=nearest))
    if len(rivals) == 1:
        return best, ()
    if len(best.frames) == 1 and CONTRASTS[contrast].dicom == MR:
        raise InputError(
            f"'{name}' holds {len(rivals)} series of one slice each that could be {contrast} and do not make one even "
            "series; give the files of one series"
        )
    others = [series for series in rivals if series is not best]
    sizes = ", ".join(str(len(series.frames)) for series in [best, *others][:6]) + (", ..." if len(rivals) > 6 else "")
    left = ", ".join(dict.fromkeys(_told(series) for series in others[:6])) + (", ..." if len(others) > 6 else "")
    what = f"{len(rivals)} series could be this contrast ({sizes} slices); used is {_told(best)}, not used: {left}"
    return best, (Finding("warning", what, f"mri {contrast}"),)


def _rank(series: Series, contrast: str, *, most: int, nearest: float) -> tuple[float | str | bool, ...]:
    """The smaller the better; nothing in it hangs on how files are called. most: slices of the longest rival;
    nearest: how far the best echo of all is off."""
    first = series.frames[0]
    return (
        len(series.frames) < _SHORT * most,
        dixon(first.seen) == "water",
        _off_echo(series, contrast) > nearest + math.log(_SAME_ECHO),
        -len(series.frames),
        first.enhanced_by_agent,
        first.number,
        first.seen.echo_ms or 0.0,
        *(_in_time(first, key) for key in ("time", "acquisition", "trigger", "stack")),
        min(frame.uid for frame in series.frames),
        min(frame.index for frame in series.frames),
    )


def _off_echo(series: Series, contrast: str) -> float:
    """How far, as a logarithm, an echo is from where the contrast is told: the shorter the better but for a T2."""
    echo = series.frames[0].seen.echo_ms
    if not echo or echo <= 0:
        return 0.0
    if CONTRASTS[contrast].acquisition == "T2":
        return abs(math.log(echo / _T2_ECHO_MS))
    return math.log(echo) if CONTRASTS[contrast].acquisition == "T1" else 0.0


def _in_time(frame: Frame, key: str) -> float:
    try:
        return float(frame.apart[key])
    except ValueError:
        return 0.0


def _told(series: Series) -> str:
    """A series by what may tell it from its rivals."""
    first = series.frames[0]
    species = dixon(first.seen)
    words = [f"the {species} image" if species else f"the one of {len(series.frames)} slices"]
    if first.seen.echo_ms is not None:
        words.append(f"echo {first.seen.echo_ms:g} ms")
    if first.enhanced_by_agent:
        words.append("with contrast agent")
    words.extend(f"{key} {_in_time(first, key):g}" for key in ("time", "stack") if _in_time(first, key))
    return " ".join(words)
