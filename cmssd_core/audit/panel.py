"""From rows of measurements to gates and verdicts: one line for each criterion and method, corrected by Holm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.audit.gates import checks as gates
from cmssd_core.audit.gates.gate import Gate
from cmssd_core.audit.gates.resamples import ALPHA, holm
from cmssd_core.audit.gates.screens import HotSpot, hot_spot
from cmssd_core.audit.gates.verdict import Verdict, verdict
from cmssd_core.audit.measure import Row

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrapInfo:
    """What the words of G1 and G4 need. named: the cohort says that its cases carry it, so a shift by it fails.

    A pasted probe that nobody has seen in the cohort only warns: an honest model may be upset by what it never met.
    of: the trap that this is another sight of, "" = of itself.
    """

    what: str
    region: str = ""
    named: bool = False
    of: str = ""


@dataclass(frozen=True, eq=False)
class Spot:
    """A method's hot spot over n MRI maps, and by how many logits filling it moved each case more than its mirror.

    pathology: as `spot_of` gives it. patients: of the maps; None = each of another.
    """

    found: HotSpot | None
    shift: Floats
    n: int
    pathology: float | None
    patients: Sequence[str] | None = None


@dataclass(frozen=True)
class Line:
    """The verdict on one criterion by one method, and the gates it rests on."""

    criterion: str
    modality: str
    method: str
    verdict: Verdict
    reason: str
    gates: tuple[Gate, ...]


def spot_of(maps: Sequence[Any], pathology: Sequence[Any]) -> tuple[HotSpot | None, float | None]:
    """Where MRI maps (slice, y, x) on one grid agree, and the share of that spot that is bone or lesion in any case.

    pathology: bone and lesion of each case (y, x), None where nobody drew them.
    """
    found = hot_spot(maps)
    known = [p for p in pathology if p is not None]
    return found, float(np.any(known, axis=0)[found.mask].mean()) if known and found is not None else None


def stands_out(found: HotSpot | None) -> bool:
    """Whether a spot is worth filling to see what it does."""
    return found is not None and found.ratio > gates.HOT


def judge(
    rows: Sequence[Row],
    *,
    criteria: Mapping[str, str],
    methods: Sequence[str],
    traps: Mapping[str, TrapInfo],
    spots: Mapping[str, Spot],
) -> list[Line]:
    """rows: one a case, as audit/examine.py writes them. criteria: name -> modality. spots: by method."""
    shared = model_gates(rows, traps)
    sights: dict[str, set[str]] = {}
    for g in shared:
        if "trap" in g.details:
            name = str(g.details["trap"])
            sights.setdefault(traps[name].of or name, set()).add(g.level)
    harmless = {name for name, levels in sights.items() if levels == {"pass"}}
    maps = {
        (method, modality): _map_gates(rows, method, modality, traps, harmless, spots.get(method))
        for method in methods
        for modality in set(criteria.values())
    }
    lines = []
    for criterion, modality in criteria.items():
        needed = _necessity(rows, criterion)
        for method in methods:
            own = (needed, _localisation(rows, criterion, method), *maps[method, modality])
            lines.append(Line(criterion, modality, method, "NOT ASSESSABLE", "", (*shared, *own)))
    return [_concluded(line) for line in _corrected(lines)]


def model_gates(rows: Sequence[Row], traps: Mapping[str, TrapInfo]) -> list[Gate]:
    """G0 and G1: what is asked of the model alone, whatever the method."""
    known = [row for row in rows if row["malignant"] is not None]
    answers, malignant, who = _column(known, "logit"), _malignant(known), _patients(known)
    found = [gates.works(answers, malignant, who)]
    spread = float(_column(rows, "logit").std()) if rows else 0.0
    for name, info in traps.items():
        had = [row for row in rows if row["traps"].get(name) is not None]
        labelled = bool(had) and all(row["malignant"] is not None for row in had)
        found.append(
            gates.trap(
                name,
                np.array([row["traps"][name]["clean"] for row in had], dtype=float),
                np.array([row["traps"][name]["trapped"] for row in had], dtype=float),
                _malignant(had) if labelled else None,
                spread=spread,
                what=info.what,
                region=info.region,
                named=info.named,
                patients=_patients(had),
                carry=sum(name in row.get("own", ()) for row in rows),
            )
        )
    columns = sorted({column for row in known for column in row["groups"]})
    groups = {column: [row["groups"].get(column) for row in known] for column in columns}
    found += gates.hospitals(answers, malignant, groups, who) if known else []
    return found


def _necessity(rows: Sequence[Row], criterion: str) -> Gate:
    had = [row for row in rows if (row["criteria"].get(criterion) or {}).get("necessity")]
    summary = [row["criteria"][criterion]["necessity"] for row in had]
    return gates.necessity(_column(summary, "fall"), _column(summary, "elsewhere"), _patients(had))


def _localisation(rows: Sequence[Row], criterion: str, method: str) -> Gate:
    had = [row for row in rows if ((row["criteria"].get(criterion) or {}).get("located") or {}).get(method)]
    summary = [row["criteria"][criterion]["located"][method] for row in had]
    names = sorted(set.intersection(*(set(each["controls"]) for each in summary))) if summary else []
    # An empty control, such as the map of an untrained network, lies on nothing.
    controls = {name: np.array([each["controls"][name]["enrichment"] or 0.0 for each in summary]) for name in names}
    return gates.localisation(_column(summary, "enrichment"), controls, _patients(had))


def _map_gates(
    rows: Sequence[Row],
    method: str,
    modality: str,
    traps: Mapping[str, TrapInfo],
    harmless: Collection[str],
    spot: Spot | None,
) -> list[Gate]:
    """G4 to G8 of one method's maps of one modality. harmless: traps with which the answer does not move."""
    found = []
    for name in traps:
        on = [row for row in rows if (row["forbidden"].get(method) or {}).get(name, {}).get("modality") == modality]
        if on:
            values = np.array([row["forbidden"][method][name]["enrichment"] for row in on], dtype=float)
            dense = gates.forbidden(name, values, _patients(on))
            if dense.level == "fail" and name in harmless:  # an error of the map, not of the model
                words = f"{dense.reason} The answer does not move with it: the map errs, not the model."
                dense = replace(dense, level="warn", reason=words)
            found.append(dense)
    had = [row for row in rows if (row["faithful"].get(method) or {}).get(modality)]
    summary = [row["faithful"][method][modality] for row in had]
    gaps = np.array([each["gap"] for each in summary if each.get("gap") is not None], dtype=float)
    rise, odd = _known(summary, "insertion") - _known(summary, "insertion_random"), _known(summary, "infidelity")
    true, chance = _column(summary, "deletion"), _column(summary, "deletion_random")
    found.append(gates.faithful(true, chance, gaps, _patients(had), insertion=rise, infidelity=odd))
    again = [row for row in rows if (row["sound"].get(method) or {}).get(modality)]
    sound = [row["sound"][method][modality] for row in again]

    def whose(name: str) -> list[str]:
        return _patients([row for row, summary in zip(again, sound, strict=True) if summary.get(name) is not None])

    steps = [each.get("cascade") or {} for each in sound]
    cascade = {part: _known(steps, part) for part in dict.fromkeys(part for each in steps for part in each)}
    found.append(gates.sane(_known(sound, "scrambled"), cascade=cascade, patients=whose("scrambled")))
    steady = (_known(sound, "noise"), _known(sound, "baselines"), _known(sound, "sensitivity_max"))
    found.append(gates.stable(*steady, patients=whose("noise")))
    if modality == "mri":
        spread = float(_column(rows, "logit").std()) if rows else 0.0
        if spot is not None:
            place, of = spot.found, spot.pathology
            found.append(gates.hot(place, spot.shift, spread=spread, n=spot.n, pathology=of, patients=spot.patients))
        apart = [row for row in rows if row["outside"].get(method)]
        away = [row["outside"][method] for row in apart]
        found.append(gates.outside(_column(away, "fall"), _column(away, "elsewhere"), _patients(apart), spread=spread))
    return found


def _corrected(lines: Sequence[Line]) -> list[Line]:
    """Holm over criteria and methods: a gate that passes by itself must still do so among all that were tried."""
    out = list(lines)
    for name in ("G2", "G3"):
        tested = [(i, g) for i, line in enumerate(out) for g in line.gates if g.name == name and g.p is not None]
        # One criterion's necessity is one test, however many methods show it.
        distinct = {(out[i].criterion, out[i].method if name == "G3" else ""): g for i, g in tested}
        adjusted = dict(zip(distinct, holm([g.p or 0.0 for g in distinct.values()]), strict=True))
        for i, g in tested:
            p = adjusted[out[i].criterion, out[i].method if name == "G3" else ""]
            changed = replace(g, details={**g.details, "p_holm": p})
            if g.level == "pass" and p > ALPHA:
                reason = f"{g.reason} Among {len(distinct)} tests this may be chance (Holm p = {p:.2f})."
                changed = replace(changed, level="warn", reason=reason)
            out[i] = replace(out[i], gates=tuple(changed if each is g else each for each in out[i].gates))
    return out


def _concluded(line: Line) -> Line:
    words, reason = verdict(line.gates)
    return replace(line, verdict=words, reason=reason)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([row[name] for row in rows if row.get(name) is not None], dtype=np.float64)


def _malignant(rows: Sequence[Row]) -> npt.NDArray[np.bool_]:
    return np.array([bool(row["malignant"]) for row in rows], dtype=bool)


def _patients(rows: Sequence[Row]) -> list[str]:
    return [str(row["patient_id"]) for row in rows]
