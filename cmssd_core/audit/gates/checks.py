"""The gates of an audit, G0 to G8: arrays over cases in, a judgement with its number, interval and reason out.

Thresholds were set on models of cohorts that took no part in the power table of docs/explainability.md, then frozen.
A gate is "pass", "warn", "fail" or "not assessable"; verdict.py says what the levels make of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cmssd_core.audit.gates.gate import Gate, Level, absent, gate
from cmssd_core.audit.gates.resamples import ALPHA, between, chance, means, people, weights
from cmssd_core.audit.gates.screens import HotSpot, auc, pairwise, reversal, told_apart
from cmssd_core.evaluation.roc import at_the_edge

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST = 6  # patients; with fewer a gate is not assessable
ENOUGH = 20  # G0: patients of the rarer label from which an AUC that may be chance is a failure
SPREAD = 0.3  # G0: answers that vary less than this, in logits, are too timid to act on even where they part the cases
TRAP_PASS, TRAP_FAIL = 0.25, 0.5  # G1: shift by a trap, in standard deviations of the answer
REVERSAL_FAIL = 0.1  # G1: change of AUC when the trap changes sides
CENTRE_WARN, CENTRE_FAIL = 0.65, 0.75  # G1: probability that the answer tells the hospital apart, same label
FORBIDDEN_PASS, FORBIDDEN_FAIL = 4.0, 10.0  # G4: mass in a trap, times its share of the image
GAP = 0.05  # G5: completeness
SANITY = 0.4  # G6: rank correlation with a scrambled network's map
STABLE = 0.7  # G7: rank correlation with the map of a noisy input
HOT, SPOT_FAIL = 20.0, 0.5  # G8: peak over mean of the cohort's mean map; shift when the spot is filled


def works(answers: Floats, malignant: Mask, patients: Sequence[str] | None = None, *, seed: int = 0) -> Gate:
    """G0: AUC with its interval above one half, and answers that differ. answers: logits.

    Warns where the AUC is right but the answers hardly differ: the scale of a logit is a matter of training.
    """
    value = auc(answers, malignant)
    n = len(answers)
    few = min(people(n, patients, malignant), people(n, patients, ~malignant))
    spread = float(answers.std()) if n else 0.0
    if value is None or few < FEWEST // 2:
        return absent("G0", f"{_many(few)} of the rarer label; at least {FEWEST // 2} are needed", n)
    low, high = between(pairwise(answers, malignant, None, weights(n, patients, seed)), people(n, patients))
    if value in (0.0, 1.0):  # every draw gives it again
        low, high = at_the_edge(value, few)
    words = f"AUC {value:.2f} ({low:.2f} to {high:.2f}); answers vary by {spread:.2f} logits between cases"
    if spread > SPREAD and low <= 0.5 < value and few < ENOUGH:
        return absent("G0", f"{words}: too few patients to tell it from guessing", n)
    level: Level = "fail" if low <= 0.5 else "pass" if spread > SPREAD else "warn"
    return gate("G0", value, low, high, 0.5, level, words, n, details={"spread": spread})


def trap(
    name: str,
    clean: Floats,
    trapped: Floats,
    malignant: Mask | None,
    *,
    spread: float,
    what: str = "",
    region: str = "",
    named: bool = True,
    patients: Sequence[str] | None = None,
    carry: int = 0,
    seed: int = 0,
) -> Gate:
    """G1: answers to the same cases without and with a trap. spread: standard deviation of the clean answers.

    value: |mean shift| in these. Fails also where the AUC would change by REVERSAL_FAIL if the trap changed sides.
    Warns instead of failing where nothing says that the cohort's cases carry the trap (`named`). carry: how many cases
    came with the trap and are left out, since what is laid on them again moves nothing.
    """
    n, count = len(clean), people(len(clean), patients)
    if count < FEWEST:
        seen = f"{_many(count)} could be shown with the trap and without it"
        return absent("G1", f"{seen}{_besides(carry)}; at least {FEWEST} are needed", n, name)
    spread = max(spread, 1e-6)
    shift = (trapped - clean) / spread
    value = abs(float(shift.mean()))
    drawn = weights(n, patients, seed)
    low, high = between(means(drawn, shift), count)
    side = np.sign(shift.mean()) or 1.0
    low, high = sorted((float(low * side), float(high * side)))
    turned = turned_low = None
    if malignant is not None and min(people(n, patients, some) for some in (malignant, ~malignant)) >= FEWEST // 2:
        turned = reversal(clean, trapped, malignant)
        present, against = np.where(malignant, trapped, clean), np.where(malignant, clean, trapped)
        moved = pairwise(present, malignant, None, drawn) - pairwise(against, malignant, None, drawn)
        turned_low, _ = between(moved * np.sign(turned or 1.0), count)
    turns = turned is not None and abs(turned) >= REVERSAL_FAIL and (turned_low or 0.0) > REVERSAL_FAIL / 2
    moves = value > TRAP_FAIL and low > TRAP_PASS
    level: Level = "pass" if value <= TRAP_PASS and not turns else "warn"
    if (moves or turns) and named:
        level = "fail"
    toward = "malignant" if side > 0 else "benign"
    words = f"{what or name} moves the answer by {value:.2f} of its standard deviations towards {toward}"
    if turned is not None:
        words += f"; moved from the benign cases to the malignant ones it would change the AUC by {turned:+.2f}"
    words += _besides(carry)
    if (moves or turns) and not named:
        words += "; nothing says that these cases carry it, so this warns and does not fail"
    details = {"trap": name, "reversal": turned, "logits": float((trapped - clean).mean()), "region": region}
    return gate("G1", value, low, high, TRAP_PASS, level, words + ".", n, label=name, details=details)


def _besides(carry: int) -> str:
    if not carry:
        return ""
    return f"; {carry} {'case that came with it is' if carry == 1 else 'cases that came with it are'} left out"


def hospitals(
    answers: Floats,
    malignant: Mask,
    groups: Mapping[str, Sequence[str | None]],
    patients: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> list[Gate]:
    """G1 for what has no place on the image: does the answer tell hospital, scanner, coil or field apart?

    groups: column -> what each case has there. The level told apart best stands for its column; its interval is widened
    for the levels that were looked at (Bonferroni).
    """
    found, n = [], len(answers)
    for column, values in groups.items():
        had = np.array(["" if value is None else str(value) for value in values])
        sizes = {v: min(people(n, patients, some) for some in (had == v, had != v)) for v in np.unique(had) if v}
        levels = [v for v, size in sizes.items() if size >= FEWEST]
        if len(levels) == 2 and not (had == "").any():
            levels = levels[:1]  # the other is its mirror image
        summary = {v: told_apart(answers, had == v, malignant) for v in levels}
        known = {v: p for v, p in summary.items() if p is not None}
        if not known:
            found.append(absent("G1", f"too few patients of two kinds of {column}", n, f"by {column}"))
            continue
        worst = max(known, key=lambda v: abs(known[v] - 0.5))
        group = had == worst
        value = abs(known[worst] - 0.5) + 0.5
        draws = pairwise(answers, group, malignant, weights(n, patients, seed))
        low, high = between(np.abs(draws - 0.5) + 0.5, people(n, patients), alpha=ALPHA / len(known))
        level: Level = "pass" if value <= CENTRE_WARN or low <= 0.55 else "warn"
        if value > CENTRE_FAIL and low > CENTRE_WARN - 0.05:
            level = "fail"
        words = (
            f"of two cases with the same label, the answer tells {column} {worst} from the rest in {value:.0%} of pairs"
        )
        if level == "pass" and value > CENTRE_WARN:
            words += ", as chance may do with so few patients"
        details = {"column": column, "level": worst, "n_level": int(group.sum())}
        found.append(
            gate(
                "G1",
                value,
                low,
                high,
                CENTRE_WARN,
                level,
                words + ".",
                n,
                label=f"by {column}",
                details=details,
            )
        )
    return found


def necessity(fall: Floats, elsewhere: Floats, patients: Sequence[str] | None = None, *, seed: int = 0) -> Gate:
    """G2: fall of the answer in logits when the criterion is filled, and when as much is filled elsewhere, by case."""
    found = _above_zero("G2", fall - elsewhere, patients, seed)
    if found.value is None:
        return found
    words = f"filling the criterion lowers the answer by {found.value:+.2f} logits more than filling elsewhere"
    return replace(found, reason=_with_interval(words, found))


def localisation(
    enrichment: Floats, controls: Mapping[str, Floats], patients: Sequence[str] | None = None, *, seed: int = 0
) -> Gate:
    """G3: enrichment of the map on the criterion minus that of the best control, which each resample chooses anew."""
    n, count = len(enrichment), people(len(enrichment), patients)
    if count < FEWEST:
        return absent("G3", f"{_many(count)} have the criterion and a map; at least {FEWEST} are needed", n)
    names = list(controls)
    table = np.stack([controls[name] for name in names])

    drawn = weights(n, patients, seed)
    draws = means(drawn, enrichment) - np.stack([means(drawn, row) for row in table]).max(0)
    value = float(enrichment.mean() - table.mean(1).max())
    (low, high), p = between(draws, count), chance(value, draws, count)
    best = names[int(table.mean(1).argmax())]
    words = f"the map is {enrichment.mean():.1f} times as dense on the criterion as chance, the best control ({best}) "
    words += f"{table.mean(1).max():.1f} times"
    level: Level = "pass" if low > 0 else "warn"
    details = {"enrichment": float(enrichment.mean()), **{f"control {k}": float(v.mean()) for k, v in controls.items()}}
    found = gate("G3", value, low, high, 0.0, level, words, n, p=p, details=details)
    return replace(found, reason=_with_interval(words + "; excess", found))


def forbidden(name: str, enrichment: Floats, patients: Sequence[str] | None = None, *, seed: int = 0) -> Gate:
    """G4: how dense the map is on a trap that lies on the image, times chance."""
    n, count = len(enrichment), people(len(enrichment), patients)
    if count < FEWEST:
        return absent("G4", f"maps of {_many(count)} with the trap; at least {FEWEST} are needed", n, name)
    value = float(enrichment.mean())
    low, high = between(means(weights(n, patients, seed), enrichment), count)
    level: Level = "pass" if value <= FORBIDDEN_PASS else "warn"
    if value > FORBIDDEN_FAIL and low > FORBIDDEN_PASS:
        level = "fail"
    words = f"the map is {value:.1f} times as dense on the {name} as chance."
    return gate("G4", value, low, high, FORBIDDEN_PASS, level, words, n, label=name)


def faithful(
    fall: Floats,
    random: Floats,
    gaps: Floats,
    patients: Sequence[str] | None = None,
    *,
    insertion: Floats | None = None,
    infidelity: Floats | None = None,
    seed: int = 0,
) -> Gate:
    """G5: fall of the answer when the map's highest places are filled, minus random places; and completeness gaps.

    Record beside it, deciding nothing: insertion, how much more the answer rises when they alone are shown than random
    ones; infidelity, 0 for a map that foretells every fall and 1 for one that foretells none.
    """
    found = _above_zero("G5", fall - random, patients, seed)
    if found.value is None:
        return found
    gap = float(np.median(gaps)) if len(gaps) else None
    words = f"filling what the map points at lowers the answer by {found.value:+.2f} logits more than filling at random"
    words = _with_interval(words, found)
    if gap is not None:
        words += f" Its values miss the answer by {gap:.1%} (median)."
        if gap > GAP:
            found = replace(found, level="warn")
    details = {"completeness_gap": gap}
    if insertion is not None and len(insertion):
        details["insertion"] = float(insertion.mean())
        words += (
            f" Showing it alone raises the answer by {insertion.mean():+.2f} logits more than showing random places"
        )
        words += f" (n = {len(insertion)}; decides nothing)."
    if infidelity is not None and len(infidelity):
        details["infidelity"] = float(infidelity.mean())
        words += f" Infidelity {infidelity.mean():.2f} (0 foretells every fall, 1 none; decides nothing)."
    return replace(found, reason=words, details=details)


def sane(
    correlation: Floats,
    elsewhere: Floats | None = None,
    *,
    cascade: Mapping[str, Floats] | None = None,
    patients: Sequence[str] | None = None,
    seed: int = 0,
) -> Gate:
    """G6: rank correlation of each case's map with that of the scrambled network. elsewhere: with other cases' maps.

    cascade: with those of networks scrambled from the answer down to a part; told, decides nothing.
    """
    n, count = len(correlation), people(len(correlation), patients)
    if count < FEWEST // 2:
        return absent("G6", f"maps of {_many(count)} by a scrambled network; at least {FEWEST // 2} are needed", n)
    value = float(correlation.mean())
    low, high = between(means(weights(n, patients, seed), correlation), count)
    text = f"maps of the trained and of the scrambled network correlate by {value:.2f} (rank)"
    if elsewhere is not None and len(elsewhere):
        text += f", maps of two different cases by {float(elsewhere.mean()):.2f}"
    steps = {part: float(values.mean()) for part, values in (cascade or {}).items() if len(values)}
    if steps:
        words = ", ".join(f"down to {part} {value:.2f}" for part, value in steps.items())
        text += f"; scrambled from the answer {words} (decides nothing)"
    level: Level = "pass" if value <= SANITY else "warn"
    details = {f"cascade {part}": value for part, value in steps.items()}
    return gate("G6", value, low, high, SANITY, level, text + ".", n, details=details)


def stable(
    noise: Floats,
    baselines: Floats,
    sensitivity: Floats | None = None,
    *,
    patients: Sequence[str] | None = None,
    seed: int = 0,
) -> Gate:
    """G7: rank correlation of each case's map with those under noise, and with the one of another baseline."""
    n, count = len(noise), people(len(noise), patients)
    if count < FEWEST // 2:
        return absent("G7", f"maps of {_many(count)} under noise; at least {FEWEST // 2} are needed", n)
    value = float(noise.mean())
    low, high = between(means(weights(n, patients, seed), noise), count)
    words = f"the map keeps its order to {value:.2f} (rank correlation) under noise"
    details: dict[str, Any] = {}
    if len(baselines):
        details["baselines"] = float(baselines.mean())
        words += f", to {details['baselines']:.2f} with another baseline"
    if sensitivity is not None and len(sensitivity):
        details["sensitivity_max"] = float(sensitivity.mean())
    level: Level = "pass" if value >= STABLE else "warn"
    return gate("G7", value, low, high, STABLE, level, words + ".", n, details=details)


def hot(
    spot: HotSpot | None,
    shift: Floats,
    *,
    spread: float,
    n: int,
    pathology: float | None,
    patients: Sequence[str] | None = None,
    seed: int = 0,
) -> Gate:
    """G8: a place where all maps agree. shift: of each answer when the spot is filled, minus a place mirrored; logits.

    pathology: share of the spot that is bone or lesion in any case, None where nobody drew them. Such a place is no
    shortcut, so it never fails, nor does one of which nobody can say. Only a spot whose filling moves the answers more
    than its mirror image fails; one that only draws the maps is a warning. patients: of the maps.
    """
    count = people(n, patients)
    if spot is None or count < FEWEST:
        return absent("G8", f"maps of {_many(count)}; at least {FEWEST} are needed", n, "hot spot")
    where = f"around row {spot.y}, column {spot.x} of the prepared image"
    words = f"the cohort's mean map is {spot.ratio:.0f} times its mean {where}"
    level: Level = "pass"
    moved = low = None
    if len(shift):
        excess = shift / max(spread, 1e-6)
        moved, low = float(excess.mean()), between(means(weights(n, patients, seed), excess), count)[0]
    if spot.ratio > HOT:
        level = "warn"
        words += ": look there"
        if pathology is not None and pathology > 0.5:
            words += ", though the bone or the lesion lies there too"
        elif moved is not None and low is not None and moved > SPOT_FAIL and low > TRAP_PASS:
            words += f"; filling it moves the answer by {moved:.2f} of its standard deviations more than its mirror"
            if pathology is None:
                words += ", and nobody drew whether bone or lesion lies there"
            else:
                level = "fail"
    details = {"row": spot.y, "column": spot.x, "shift": moved, "shift_low": low, "pathology": pathology}
    return gate("G8", spot.ratio, None, None, HOT, level, words + ".", n, label="hot spot", details=details)


def outside(
    falls: Floats, elsewhere: Floats, patients: Sequence[str] | None = None, *, spread: float, seed: int = 0
) -> Gate:
    """G8: shift of the answer when the map's highest places outside bone and lesion are filled, against random ones.

    Absolute shifts in logits, case by case; spread: standard deviation of the answers.
    """
    n, count = len(falls), people(len(falls), patients)
    if count < FEWEST:
        return absent("G8", f"{_many(count)} with a map and drawn bone; at least {FEWEST} are needed", n, "outside")
    excess = (np.abs(falls) - np.abs(elsewhere)) / max(spread, 1e-6)
    value = float(excess.mean())
    low, high = between(means(weights(n, patients, seed), excess), count)
    level: Level = "pass" if value <= TRAP_PASS else "warn"
    if value > TRAP_FAIL and low > TRAP_PASS:
        level = "fail"
    words = (
        f"filling what the map shows outside the bone and the lesion moves the answer by {value:.2f} of its standard "
    )
    return gate("G8", value, low, high, TRAP_PASS, level, words + "deviations.", n, label="outside")


def _above_zero(name: str, values: Floats, patients: Sequence[str] | None, seed: int) -> Gate:
    n, count = len(values), people(len(values), patients)
    if count < FEWEST:
        return absent(name, f"{_many(count)} have what it needs; at least {FEWEST} are needed", n)
    value, draws = float(values.mean()), means(weights(n, patients, seed), values)
    (low, high), p = between(draws, count), chance(value, draws, count)
    level: Level = "pass" if low > 0 else "warn"
    return gate(name, value, low, high, 0.0, level, "", n, p=p)


def _many(count: int) -> str:
    return f"{count} patient{'' if count == 1 else 's'}"


def _with_interval(words: str, found: Gate) -> str:
    return (
        words if found.low is None else f"{words} (95 % interval {found.low:+.2f} to {found.high:+.2f}, n = {found.n})."
    )
