"""What an audit's gates make of a model: PASS, NOT DEMONSTRATED, FAIL or NOT ASSESSABLE, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cmssd_core.audit.gates.gate import MEANINGS, Gate

Verdict = Literal["PASS", "NOT DEMONSTRATED", "FAIL", "NOT ASSESSABLE"]

#: Gates whose failure means that the model must not be believed, and those that only fail to show that it may.
HARD = ("G0", "G1", "G4", "G8")
SHOWING = ("G0", "G1", "G2", "G3", "G4", "G5", "G6")


def verdict(gates: Sequence[Gate]) -> tuple[Verdict, str]:
    """What the gates of one criterion, modality and method make of a model, and why in one sentence.

    FAIL: the model does not work, or a hard gate fails. PASS: G0 to G6 all pass, or all but G4 where no trap has a
    place. NOT ASSESSABLE: labels or the criterion are missing. NOT DEMONSTRATED: anything else.
    """
    by = {name: [g for g in gates if g.name.split(" ")[0] == name] for name in (*MEANINGS,)}
    failed = [g for name in HARD for g in by[name] if g.level == "fail"]
    if failed:
        worst = sorted(failed, key=lambda g: ("G1", "G4", "G8", "G0").index(g.name.split(" ")[0]))[0]
        return "FAIL", f"{worst.name}: {worst.reason}"
    for name in ("G0", "G2", "G3"):
        if not by[name] or all(g.level == "not assessable" for g in by[name]):
            missing = by[name][0].reason if by[name] else "it was not measured"
            return "NOT ASSESSABLE", f"{name}: {missing}"
    weak = [g for name in SHOWING for g in by[name] if g.level == "warn"]
    unseen = [name for name in ("G1", "G5", "G6") if all(g.level == "not assessable" for g in by[name])]
    if weak:
        return "NOT DEMONSTRATED", f"{weak[0].name}: {weak[0].reason}"
    if unseen:
        return "NOT DEMONSTRATED", f"{unseen[0]} could not be assessed"
    if all(g.level == "not assessable" for g in by["G4"]):
        return "PASS", "every gate from G0 to G6 passes but G4, which was not measured: no trap lies on these maps"
    return "PASS", "every gate from G0 to G6 passes"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of several seeds or folds: any FAIL fails, only all PASS pass; the not assessable are left out."""
    assessed = [v for v in verdicts if v != "NOT ASSESSABLE"]
    if not assessed:
        return "NOT ASSESSABLE"
    if "FAIL" in assessed:
        return "FAIL"
    return "PASS" if set(assessed) == {"PASS"} else "NOT DEMONSTRATED"
