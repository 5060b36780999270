"""An audit as one page: verdicts first, each gate with its number, interval and reason, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cmssd_core.evaluation.figure import format_number
from cmssd_core.report import page
from cmssd_core.report.charts import Axis, Series, chart

Record = Mapping[str, Any]
MODALITIES = {"mri": "MRI", "he": "H&E slide"}
MEANS = {
    "PASS": "No gate speaks against these maps. It does not prove that the model is right.",
    "NOT DEMONSTRATED": "Nothing was found that condemns the model, and it was not shown that its maps rest on the "
    "criterion.",
    "FAIL": "The model, or its map, rests on something that is no disease. Do not believe these maps.",
    "NOT ASSESSABLE": "Too few cases have what the audit needs. This says nothing for or against the model.",
}


def render(summary: Record, *, made: datetime | None = None) -> str:
    """A self-contained HTML page of what audit.json holds."""
    verdicts = [{**each, "chart": _controls(each), "own": _own(each)} for each in summary["verdicts"]]
    shared = _shared(summary["verdicts"])
    return page.render(
        "audit.html.j2",
        a=summary,
        verdicts=verdicts,
        shared=shared,
        labels=summary.get("labels", {}),  # an audit.json of an older version has none
        modalities=MODALITIES,
        means=MEANS,
        shown=format_number,
        readers=_readers(summary),
        made=made,
    )


def _shared(verdicts: Any) -> list[Record]:
    """The gates that ask of the model alone: the same in every verdict, so said once."""
    return [g for g in verdicts[0]["gates"] if g["name"].split(" ")[0] in ("G0", "G1")] if verdicts else []


def _own(verdict: Record) -> list[Record]:
    return [g for g in verdict["gates"] if g["name"].split(" ")[0] not in ("G0", "G1")]


def _controls(verdict: Record) -> str:
    """Enrichment of the map on the criterion beside that of the controls; "" where there is none."""
    gate = next((g for g in verdict["gates"] if g["name"] == "G3" and g["value"] is not None), None)
    if gate is None:
        return ""
    scores = {"the map": gate["details"]["enrichment"]}
    scores |= {k.removeprefix("control "): v for k, v in gate["details"].items() if k.startswith("control ")}
    top = max(1.5, *scores.values()) * 1.1
    series = [
        Series(name=f"{name} {value:.1f}", points=[(i + 0.5, 0), (i + 0.5, value)], dots=4)
        for i, (name, value) in enumerate(scores.items())
    ]
    return chart(
        series,
        x=Axis(low=0, high=len(scores), ticks=()),
        y=Axis(low=0, high=top, label="density on the criterion, 1 = chance"),
        guides=[((0, 1), (len(scores), 1))],
        says="; ".join(each.name for each in series),
        size=(420, 220),
    )


def _readers(summary: Record) -> dict[str, str]:
    """How far two readers agree on each criterion, where some cases have two outlines."""
    found: dict[str, str] = {}
    for criterion in summary["criteria"]:
        name = criterion["name"]
        both = [(case["criteria"].get(name) or {}).get("readers") for case in summary["cases"]]
        dice = [each["dice"] for each in both if each and each.get("dice") is not None]
        if dice:
            found[name] = f"Dice {sum(dice) / len(dice):.2f} between two readers, {len(dice)} cases"
    return found
