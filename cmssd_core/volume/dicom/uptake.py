"""Uptake: the factor that makes standardised uptake values (SUV by body weight) of a PET series, from its headers.

SUVbw = activity concentration (Bq/mL) at the time of the scan x body weight (g) / dose decayed to that time (Bq), as in
the vendor-neutral pseudocode of QIBA's FDG-PET profile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

_PHILIPS_FACTOR = (0x7053, 0x1000)
#: A dose beyond these, in Bq, is in another unit; so is a weight in kg.
_DOSE_BQ = (1e6, 1e11)
_WEIGHT_KG = (1.0, 400.0)
#: So many half-lives after the injection nothing is left to see: the clocks of the header do not fit together.
_HALF_LIVES = 10


@dataclass(frozen=True, kw_only=True)
class PetHeader:
    """What the header of one PET picture says of its unit; None = not said. Times are the scanner's own clock.

    philips_factor: SUV per stored unit, in a private element of that maker, where Units is CNTS.
    """

    units: str
    suv_type: str
    corrected_image: tuple[str, ...]
    decay_correction: str
    weight_kg: float | None
    dose_bq: float | None
    half_life_s: float | None
    injected: datetime | None
    injected_clock: str
    series_time: datetime | None
    acquired: datetime | None
    philips_factor: float | None


def read_pet_header(head: Any) -> PetHeader:
    """The fields of a pydicom header that SUV is made from; broken ones count as not said."""
    tracer: Any = next(iter(head.get("RadiopharmaceuticalInformationSequence") or []), {})
    philips = head.get(_PHILIPS_FACTOR)
    return PetHeader(
        units=_text(head.get("Units")),
        suv_type=_text(head.get("SUVType")),
        corrected_image=tuple(_text(part) for part in _several(head.get("CorrectedImage"))),
        decay_correction=_text(head.get("DecayCorrection")),
        weight_kg=_number(head.get("PatientWeight")),
        dose_bq=_number(tracer.get("RadionuclideTotalDose")),
        half_life_s=_number(tracer.get("RadionuclideHalfLife")),
        injected=_moment(str(tracer.get("RadiopharmaceuticalStartDateTime") or "")),
        injected_clock=str(tracer.get("RadiopharmaceuticalStartTime") or ""),
        series_time=_moment(f"{head.get('SeriesDate') or ''}{head.get('SeriesTime') or ''}"),
        acquired=_moment(
            str(head.get("AcquisitionDateTime") or "")
            or f"{head.get('AcquisitionDate') or ''}{head.get('AcquisitionTime') or ''}"
        ),
        philips_factor=None if philips is None else _number(philips.value),
    )


def suv_factor(headers: Sequence[PetHeader]) -> tuple[float | None, str]:
    """What multiplies the rescaled values of a series into SUVbw (g/mL), and how it was found; None and why not."""
    first = headers[0]
    if len({(each.units, each.suv_type, each.dose_bq, each.weight_kg) for each in headers}) > 1:
        return None, "its slices differ in unit, dose or weight"
    if first.units == "GML":
        if first.suv_type not in ("", "BW"):
            return None, f"it is in SUV by {first.suv_type}, not by body weight"
        return 1.0, "the header says SUV by body weight"
    if first.units == "CNTS" and first.philips_factor:
        return first.philips_factor, "counts times the factor of the maker"
    if first.units != "BQML":
        return None, f"its unit is {first.units or 'not said'}, not Bq/mL"
    if "ATTN" not in first.corrected_image:
        return None, "it is not corrected for attenuation"
    for what, value, (least, most) in (
        ("the weight of the patient", first.weight_kg, _WEIGHT_KG),
        ("the dose", first.dose_bq, _DOSE_BQ),
        ("the half-life", first.half_life_s, (1.0, 1e9)),
    ):
        if value is None or not least <= value <= most:
            return None, f"its header does not say {what}" if not value else f"its header gives no credible {what[4:]}"
    assert first.weight_kg is not None
    assert first.dose_bq is not None
    assert first.half_life_s is not None
    per_dose = first.weight_kg * 1000 / first.dose_bq
    if first.decay_correction == "ADMIN":
        return per_dose, "Bq/mL by weight and dose, decay corrected to the injection by the scanner"
    if first.decay_correction != "START":
        return None, "it is not corrected for decay"
    waited = _seconds_since_injection(headers)
    if waited is None:
        return None, "its header does not say when the injection and the scan were"
    if not 0 <= waited <= _HALF_LIVES * first.half_life_s:
        return None, "its times of injection and scan do not fit together"
    decayed = 2.0 ** (-waited / first.half_life_s)
    return per_dose / decayed, f"Bq/mL by weight and dose, {waited / 60:.0f} min of decay after the injection"


def _seconds_since_injection(headers: Sequence[PetHeader]) -> float | None:
    """From the injection to the time the scanner corrected to: the start of the series, or of its first picture.

    A series time later than the first picture is that of something derived from the scan, not of the scan.
    """
    first = headers[0]
    times = [each.acquired for each in headers if each.acquired is not None]
    start = min(times, default=None)
    if first.series_time is not None and (start is None or first.series_time <= start):
        start = first.series_time
    if start is None:
        return None
    injected = first.injected
    if injected is None:
        injected = _moment(f"{start:%Y%m%d}{first.injected_clock}") if first.injected_clock else None
        if injected is not None and injected > start:
            injected -= timedelta(days=1)  # the clock alone: injected before midnight, scanned after
    return None if injected is None else (start - injected).total_seconds()


def _moment(text: str) -> datetime | None:
    """DICOM's YYYYMMDDHHMMSS.FFFFFF without its time zone: the same clock wrote all of a header's times."""
    match = re.fullmatch(r"(\d{8})(\d{2})(\d{2})(\d{2})?(\.\d{1,6})?([+-]\d{4})?", text.strip())
    if match is None:
        return None
    day, hour, minute, second, fraction, _ = match.groups()
    try:
        whole = datetime.strptime(f"{day}{hour}{minute}{second or '00'}", "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return whole + timedelta(seconds=float(fraction or 0))


def _several(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _text(value: Any) -> str:
    return str(value or "").strip().upper()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None
