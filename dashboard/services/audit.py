"""An audit for the screen: audit.json as verdicts and gates, and the cases in which map and criterion disagree most."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from cmssd_core.types import InputError
from dashboard.services import cohort as cohorts
from dashboard.services.cohort import State

NAME = "audit.json"
#: What a gate asks, in a clinician's words, by its number.
TITLES: Mapping[str, str] = {
    "G0": "The model works on these cases",
    "G1": "Nothing beside the disease moves the answer",
    "G2": "The answer needs the criterion",
    "G3": "The map lies on the criterion",
    "G4": "The map keeps away from what is no disease",
    "G5": "The map is true to the model",
    "G6": "The map depends on what was learned",
    "G7": "The map is stable",
    "G8": "The maps agree on no place nobody named",
}
#: What a gate's value is, by its number.
_MEASURES = {
    "G0": "AUC", "G1": "shift by it, in standard deviations of the answer",
    "G2": "logits lost beyond as much elsewhere",
    "G3": "enrichment on the criterion beyond the best control", "G4": "mass on it, in times its share of the image",
    "G5": "logits lost beyond a random order", "G6": "rank correlation with a scrambled network's map",
    "G7": "rank correlation with the map under noise", "G8": "peak over mean of the cohort's mean map",
}  # fmt: skip
#: Gates whose value passes below the threshold; of the others it passes above.
BELOW = ("G1", "G4", "G6", "G8")


@dataclass(frozen=True)
class Gate:
    """One gate as audit.json tells it; None where nothing could be said. level: pass, warn, fail or not assessable."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    level: str
    meaning: str
    reason: str
    n: int | None
    details: Mapping[str, Any]

    @property
    def number(self) -> str:
        """ "G3" of "G3 ..."."""
        return self.name.split(" ")[0]

    @property
    def measure(self) -> str:
        """What its value is."""
        if "column" in self.details:
            return "probability that the answer tells one group from the others, same label"
        if self.name == "G8 outside":
            return "shift by filling what lies outside, in standard deviations of the answer"
        return _MEASURES.get(self.number, "value")

    @property
    def title(self) -> str:
        """What it asks, and of what."""
        rest = self.name.removeprefix(self.number).strip()
        return TITLES.get(self.number, self.name) + (f": {rest}" if rest else "")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one criterion by one method, with the gates it rests on."""

    criterion: str
    modality: str
    method: str
    verdict: str
    reason: str
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class Doubtful:
    """A case in which the map lies less on the criterion than a map that knows no model. excess: by how much."""

    case_id: str
    excess: float
    enrichment: float
    control: str


@dataclass(frozen=True, eq=False)
class Report:
    """An audit.json. cases: its rows of cases, () where it holds none. limits: what it says it cannot catch.

    meanings: criterion -> what it means. refused: cases that could not be read.
    """

    path: Path
    overall: str
    reason: str
    model_id: str
    trained: str
    verdicts: tuple[Verdict, ...]
    cases: tuple[Mapping[str, Any], ...]
    limits: tuple[str, ...]
    meanings: Mapping[str, str]
    refused: int


def find_audit(cohort: Path) -> State | None:
    """The newest audit.json of a cohort, beside its results; None where it was not audited yet."""
    folders = (cohort.parent / "results", cohorts.results_to(cohort), goes_to(cohort))
    present = [state for folder in folders if (state := State.of(folder / NAME)) is not None]
    return max(present, key=lambda state: state.time_ns) if present else None


def goes_to(cohort: Path) -> Path:
    """The folder an audit of this cohort is written to, so that the page finds it: never the user's own."""
    return cohorts.results_to(cohort) / "audit"


@st.cache_resource(max_entries=8, show_spinner="Reading the audit")
def report(present: State) -> Report:
    """What audit.json says. InputError where it is none."""
    path = Path(present.path)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        overall = summary["overall"]
        named = overall if isinstance(overall, dict) else {"verdict": overall}
        return Report(
            path=path,
            overall=str(named.get("verdict", "")),
            reason=str(named.get("reason", summary.get("reason", ""))),
            model_id=str(summary.get("model_id", summary.get("model", ""))),
            trained=str(summary.get("trained", "")),
            verdicts=tuple(_verdict(each) for each in summary["verdicts"]),
            cases=tuple(summary.get("cases") or ()),
            limits=tuple(str(each) for each in summary.get("limits") or ()),
            meanings={str(each["name"]): str(each["meaning"]) for each in summary.get("criteria") or ()},
            refused=len(summary.get("refused") or ()),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path.name} cannot be read as an audit, expected one of cmssd audit; run it again") from None


def _verdict(summary: Mapping[str, Any]) -> Verdict:
    return Verdict(
        str(summary["criterion"]), str(summary["modality"]), str(summary["method"]), str(summary["verdict"]),
        str(summary.get("reason", "")), tuple(_gate(each) for each in summary["gates"]),
    )  # fmt: skip


def _gate(summary: Mapping[str, Any]) -> Gate:
    level = summary.get("level") or {True: "pass", False: "fail", None: "not assessable"}[summary["passed"]]
    value, low, high, threshold = (
        None if summary.get(name) is None else float(summary[name]) for name in ("value", "low", "high", "threshold")
    )
    return Gate(
        str(summary["name"]), value, low, high, threshold, str(level), str(summary["meaning"]),
        str(summary.get("reason", "")),
        None if summary.get("n") is None else int(summary["n"]), dict(summary.get("details") or {}),
    )  # fmt: skip


def disagreements(summary: Report, verdict: Verdict, most: int = 50) -> tuple[Doubtful, ...]:
    """Cases by how far the map falls short of the best control on the criterion, the worst first."""
    rows = []
    for case in summary.cases:
        located = ((case.get("criteria") or {}).get(verdict.criterion) or {}).get("located") or {}
        mine = located.get(verdict.method)
        if not mine or mine.get("enrichment") is None:
            continue
        controls = {name: each.get("enrichment") for name, each in (mine.get("controls") or {}).items()}
        known = {name: float(value) for name, value in controls.items() if value is not None}
        if not known:
            continue
        best = max(known, key=lambda name: known[name])
        value = float(mine["enrichment"])
        rows.append(Doubtful(str(case.get("case_id", "")), value - known[best], value, best))
    return tuple(sorted(rows, key=lambda row: row.excess))[:most]


def criteria(summary: Report) -> tuple[str, ...]:
    """The criteria audited, in their order."""
    return tuple(dict.fromkeys(verdict.criterion for verdict in summary.verdicts))


def page(summary: Report) -> bytes | None:
    """audit.html beside the JSON; None where there is none."""
    present = summary.path.with_suffix(".html")
    return present.read_bytes() if present.is_file() else None


def controls(gate: Gate) -> tuple[tuple[str, float], ...]:
    """The map's score and its controls', where a gate holds them; () where not."""
    found = [(name.removeprefix("control "), value) for name, value in gate.details.items()
             if name.startswith("control ") and isinstance(value, int | float)]  # fmt: skip
    own = gate.details.get("enrichment")
    return (("the map", float(own)), *((n, float(v)) for n, v in found)) if own is not None else ()


def known_limits() -> tuple[str, ...]:
    """What this version of the audit cannot catch."""
    from cmssd_core.audit.limits import LIMITS

    return LIMITS


def names(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """What to call each verdict in a list of choices."""
    from cmssd_core.explain.methods import METHODS

    return tuple(
        f"{v.criterion.replace(chr(95), chr(32))} – {METHODS[v.method].label if v.method in METHODS else v.method}"
        for v in verdicts
    )
