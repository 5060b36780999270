"""The power of the audit as tables: detection and false alarms by trap with Wilson intervals, and who caught what."""

from __future__ import annotations

from collections import Counter
from typing import Any

from scipy.stats import binomtest

Found = dict[str, Any]
MOVES = 0.1  # of AUC under reversal: a model that moves less is no effective cheat


def table(found: list[Found]) -> str:
    """All tables, as Markdown. found: what audit_power writes of each model."""
    fair = [f for f in found if f["strength"] == "honest"]
    honest = [f for f in fair if not moved(f)]
    trained = [f for f in found if f["strength"] != "honest"]
    cheats = [f for f in trained if moved(f)]
    upset = [f for f in fair if moved(f)]
    lines = [
        f"{len(found)} models. {len(trained)} were taught to cheat, {len(cheats)} of them do (AUC moves by at least "
        f"{MOVES} under reversal). {len(fair)} were taught honestly, {len(honest)} of them are; {len(upset)} are moved "
        f"by their trap all the same (AUC by at least {MOVES}) and count for neither: the audit fails "
        f"{sum(failed(f, 'named') for f in upset)} of them. Shares with 95 % Wilson intervals.",
        "",
        "| trap | cheats | FAIL, trap named | FAIL, nobody named it | honest | FAIL, named | FAIL, unnamed |",
        "|---|---|---|---|---|---|---|",
    ]
    for trap in [*sorted({f["trap"] for f in found}), None]:
        bad, good = ([f for f in group if trap in (None, f["trap"])] for group in (cheats, honest))
        cells = [str(len(bad)), *(share(bad, arm) for arm in ("named", "blind"))]
        cells += [str(len(good)), *(share(good, arm) for arm in ("named", "blind"))]
        lines.append(f"| {trap or '**all**'} | " + " | ".join(cells) + " |")
    lines += ["", "| gate | cheats it fails (named) | alone | honest it fails |", "|---|---|---|---|"]
    kinds = {name: [caught(f, "named") for f in group] for name, group in (("bad", cheats), ("good", honest))}
    counts = Counter(g for gates in kinds["bad"] for g in gates)
    for gate, count in counts.most_common():
        alone = sum(gates == {gate} for gates in kinds["bad"])
        lines.append(f"| {gate} | {count} | {alone} | {sum(gate in gates for gates in kinds['good'])} |")
    lines += ["", "| plain metric alone | cheats it would have passed | honest it passes |", "|---|---|---|"]
    for metric in sorted({m for f in found for m in f["plain"]}):
        passed = [f"{sum(f['plain'].get(metric, False) for f in g)} of {len(g)}" for g in (cheats, honest)]
        lines.append(f"| {metric} | {passed[0]} | {passed[1]} |")
    return "\n".join(lines)


def moved(f: Found) -> bool:
    """Whether the trap moves the model, on cases that it neither learned from nor is audited on."""
    return abs(f["auc_with"] - f["auc_against"]) >= MOVES


def failed(f: Found, arm: str) -> bool:
    """Whether the audit fails the model on any criterion."""
    return "FAIL" in f[arm]["verdicts"].values()


def caught(f: Found, arm: str) -> set[str]:
    """The hard gates that failed; probes count as one kind."""
    names = {key.split("|")[1] for key, gate in f[arm]["gates"].items() if gate["level"] == "fail"}
    return {"G1 a pasted probe" if " probe " in f" {n} " else f"{n.split(' ')[0]} {kind(n, f)}".strip() for n in names}


def kind(name: str, f: Found) -> str:
    """What a gate looked at, whatever the trap's name is."""
    rest = name.partition(" ")[2]
    return "twin" if name == f"G1 {f['trap']}" else "column of the hospital" if name.startswith("G1") else (
        "" if name.startswith("G4") else rest
    )  # fmt: skip


def share(found: list[Found], arm: str) -> str:
    """A share that FAILs, with Wilson's 95 % interval."""
    if not found:
        return "-"
    k = sum(failed(f, arm) for f in found)
    low, high = binomtest(k, len(found)).proportion_ci(method="wilson")
    return f"{100 * k / len(found):.0f} % ({100 * low:.0f} to {100 * high:.0f})"
