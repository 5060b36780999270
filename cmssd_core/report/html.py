"""One case as one page: pictures inside, no scripts, nothing fetched, nobody's name."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime

from cmssd_core.report import display, page, pictures
from cmssd_core.report.answers import EXPECTED, describe_answers, name_unanswered
from cmssd_core.types import Case, Prediction, Slide, Volume

_ALT = {
    "tumour": "MRI slice with the largest tumour area, plain and with the tumour probability laid over it; "
    "outlines where tumour and bone reach 0.5",
    "slices": "A few MRI slices through the tumour, each with the tumour probability laid over it",
    "attention": "MRI slice with the fusion gate laid over it: where the gate weighted the MRI, not evidence",
    "slide": "The H&E slide with its patches outlined and coloured by their attention",
}


def render(
    prediction: Prediction,
    case: Case,
    drawn: Mapping[str, bytes],
    *,
    tiers: Sequence[tuple[str, float]],
    made: datetime | None = None,
) -> str:
    """A self-contained HTML page. drawn: PNG bytes by name, as report.files.draw gives them."""
    slide = case.inputs.get("he")
    return page.render(
        "report.html.j2",
        p=prediction,
        case_id=prediction.case_id[:12],
        has_mri=isinstance(case.inputs.get("mri"), Volume),
        has_slide=isinstance(slide, Slide),
        site_mm=slide.site_mm if isinstance(slide, Slide) else None,
        bounds=bounds(tiers),
        images={name: base64.b64encode(png).decode() for name, png in drawn.items()},
        alt=_ALT,
        chart=pictures.area_chart(prediction),
        others=[line for line in describe_answers(prediction) if line.task not in EXPECTED],
        unanswered=name_unanswered(prediction),
        most=display.most_tumour(prediction) if prediction.slices else None,
        made=made,
    )


def bounds(tiers: Sequence[tuple[str, float]]) -> str:
    """The tiers as one phrase: "low from 0 %, moderate from 25 %, high from 50 %"."""
    return ", ".join(f"{name} from {low:g} %" for name, low in tiers)
