"""How nouns show themselves in a notebook: short, with their doubt, readable on light and dark ground."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from cmssd_core.config import settings
from cmssd_core.evaluation.metrics import METRICS
from cmssd_core.report.answers import EXPECTED, describe_answers, name_unanswered
from cmssd_core.report.display import lay_out, window
from cmssd_core.report.evaluation import words
from cmssd_core.report.html import bounds
from cmssd_core.slide.read import thumbnail
from cmssd_core.types import Case, Finding, InputError, PatchBag, Prediction, Slide, Uint8Array, Volume

NOTE = "Research use only, no diagnostic validity."
_TALL_PX = 220


def install() -> None:
    """Let Jupyter draw nouns: nouns know no picture, so a notebook says once that it wants them drawn.

    Raises RuntimeError outside of IPython.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        raise RuntimeError("there is no IPython session here; call install() in a notebook")
    html = shell.display_formatter.formatters["text/html"]
    for noun, draw in DRAWINGS.items():
        html.for_type(noun, draw)


def prediction(p: Prediction) -> str:
    """Severity with its interval, probability, volumes, the gate, and what the model was trained on."""
    rows = []
    if p.severity_pct is not None:
        interval = "interval not calibrated"
        if p.severity_interval is not None:
            interval = f"{p.severity_interval[0]:.1f} to {p.severity_interval[1]:.1f} %"
        rows.append(("severity", f"{p.severity_pct:.1f} % ({interval})"))
    elif "severity_pct" in p.answers:
        rows.append(("severity", f"none: {p.severity_reason or 'no reason was recorded'}"))
    if p.tier:
        rows.append(("tier", f"{p.tier}, unvalidated ({bounds(settings().severity_tiers)})"))
    if p.p_malignant is not None:
        rows.append(("probability of malignancy", f"{p.p_malignant:.3f}"))
    others = [line for line in describe_answers(p) if line.task not in EXPECTED]
    rows += [(line.title.lower(), f"{line.value} ({line.doubt})") for line in others]
    unanswered = name_unanswered(p)
    if unanswered:
        rows.append(("not answered", unanswered))
    if p.tumour_ml is not None:
        outside = "" if p.extraosseous_ml is None else f", {p.extraosseous_ml:.1f} mL of it outside the bone"
        rows.append(("tumour", f"{p.tumour_ml:.1f} mL{outside}"))
    if p.bone_ml is not None:
        rows.append(("affected bone", f"{p.bone_ml:.1f} mL"))
    if p.gate_mean is not None:
        rows.append(("mean gate", f"{p.gate_mean:.2f} (1 = MRI, 0 = slide): how inputs were mixed, not evidence"))
    rows += [("model", p.model_id), ("trained on", p.trained)]
    return _block(f"Prediction for case {p.case_id[:12]}", rows, findings=p.quality)


def case(one: Case) -> str:
    """What was given, what is known, and what speaks against the inputs, with a small picture of each image."""
    rows, pictures = [], []
    for name, given in one.inputs.items():
        if isinstance(given, Volume):
            z, y, x = given.voxels.shape[1:]
            spacing = " x ".join(f"{mm:.2g}" for mm in given.spacing_mm)
            rows.append((name, f"{', '.join(given.contrasts)}; {x} x {y} x {z} voxels of {spacing} mm"))
            pictures.append((f"middle slice of the {given.contrasts[0]}", _middle(given)))
        elif isinstance(given, Slide):
            width, height = given.level_sizes[0]
            mpp = "resolution unknown" if given.mpp is None else f"{given.mpp:g} microns a pixel"
            site = "unregistered" if given.site_mm is None else "biopsy site known"
            rows.append((name, f"slide of {width} x {height} pixels, {mpp}; {site}"))
            pictures += _slide(given)
        elif isinstance(given, PatchBag):
            rows.append((name, f"{len(given.patches)} patches of {given.mpp:g} microns a pixel"))
    truth = one.truth
    known = [] if "malignant" not in truth.labels else ["malignant" if truth.labels["malignant"] else "benign"]
    known += [] if "severity_pct" not in truth.labels else [f"severity {truth.labels['severity_pct']:.1f} %"]
    known += [f"{name} mask" for name in ("tumour", "bone", "lesion") if name in truth.masks]
    rows.append(("known answer", ", ".join(known) or "none"))
    return _block(f"Case {one.id[:12]}", rows, findings=one.findings, pictures=pictures)


def metrics(summary: Mapping[str, Any]) -> str:
    """The main figures of an evaluation, each with its interval and n, the fused model beside each input alone."""
    parts = {"all there is": summary, **{k.replace("_", " "): v for k, v in summary.get("by_modality", {}).items()}}
    head = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in ("", *parts))
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        + "".join(f"<td style='text-align:left'>{escape(words(part.get(key)))}</td>" for part in parts.values())
        + "</tr>"
        for key, name in ((key, metric.title) for key, metric in METRICS.items())
        if key in summary
    )
    refused = len({each["case_id"] for each in summary.get("refused", ())})
    rows = [
        ("cases", f"{summary.get('cases')}, of which {refused} refused"),
        ("model", f"{summary.get('model_id')}, trained on {summary.get('trained')}"),
    ]
    return (
        _block("Evaluation of a cohort", rows)
        + f"<table><tr>{head}</tr>{body}</table><p>95 % intervals; a figure without one rests on too few cases.</p>"
    )


def results(models: Sequence[str], cases: int, refused: int, rows: int) -> str:
    """What a run over a cohort holds, before figures are made of it."""
    summary = [
        ("cases", f"{cases}, of which {refused} refused"), ("models", ", ".join(models)), ("rows", str(rows)),
        ("figures", "with their intervals: cmssd_core.studies.evaluate.metrics"),
    ]  # fmt: skip
    return _block("Results of a cohort", summary)


def _block(
    title: str,
    rows: Iterable[tuple[str, str]],
    *,
    findings: Sequence[Finding] = (),
    pictures: Iterable[tuple[str, Uint8Array]] = (),
) -> str:
    lines = [*rows, *((f"{f.level} ({f.where})", f.what) for f in findings)]
    table = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in lines
    )
    images = "".join(
        f"<img alt='{escape(alt, quote=True)}' src='data:image/png;base64,{_png(rgb)}' style='margin-right:8px'>"
        for alt, rgb in pictures
    )
    return f"<p><b>{escape(title)}</b>. {NOTE}</p>{images}<table>{table}</table>"


#: What `install` has Jupyter draw.
DRAWINGS: dict[type, Callable[[Any], str]] = {Prediction: prediction, Case: case}


def _middle(volume: Volume) -> Uint8Array:
    voxels = volume.voxels[0]
    layout = lay_out(volume.affine, voxels.shape)
    plane = layout.slice_of(voxels, layout.count // 2)
    low, high = window(voxels)
    grey = np.clip((np.nan_to_num(plane, nan=low) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    wide = round(_TALL_PX * plane.shape[1] * layout.col_mm / (plane.shape[0] * layout.row_mm))
    return np.asarray(Image.fromarray(grey).resize((max(1, wide), _TALL_PX), Image.Resampling.BICUBIC))


def _slide(slide: Slide) -> list[tuple[str, Uint8Array]]:
    try:
        return [("the slide", thumbnail(slide, max_px=_TALL_PX)[0])]
    except (InputError, OSError):  # its file went away: what is known of it is still told
        return []


def _png(picture: Uint8Array) -> str:
    out = BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return b64encode(out.getvalue()).decode()
