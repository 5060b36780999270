"""One gate of an audit: what it asks, what was found, and its level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["pass", "warn", "fail", "not assessable"]


@dataclass(frozen=True)
class Gate:
    """One check. name: "G1 marker"; value with its 95 % interval, if any; threshold: what it is held to.

    passed: True, False, or None where nothing could be said. meaning: what the gate asks. reason: what was found, in
    plain words. p: one-sided, before Holm. details: further numbers, plain JSON.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    threshold: float | None
    level: Level
    meaning: str
    reason: str
    n: int
    p: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the gate lets the model through: a warning does not."""
        return None if self.level == "not assessable" else self.level == "pass"


MEANINGS = {
    "G0": "Does the model work on these cases at all? What follows says nothing of a model that guesses.",
    "G1": "Does the answer move when something that is no disease is put on the image, or differ between hospitals? "
    "A model that moves has learned a shortcut, whatever its maps show.",
    "G2": "Does the answer need the criterion? It should fall when the criterion is filled in, more than when as much "
    "is filled in elsewhere.",
    "G3": "Does the map lie on the criterion better than maps that know nothing of the model (random, centre, edges, "
    "brightness) and than an untrained network's?",
    "G4": "Does the map lie on what is no disease: a marker, a pen line?",
    "G5": "Is the map true to the model: does the answer fall when what it points at is filled in, and do its values "
    "add up to the answer?",
    "G6": "Does the map change when the network's weights are scrambled? One that does not draws the image.",
    "G7": "Does the map stay when noise too weak to see is added, or the baseline changed?",
    "G8": "Do the maps of all cases agree on one place of the image, or rest on places outside the bone? Then look "
    "there for a shortcut nobody named.",
}


def gate(
    name: str, value: float, low: float | None, high: float | None, threshold: float, level: Level, reason: str, n: int,
    *, label: str = "", p: float | None = None, details: Mapping[str, Any] | None = None,
) -> Gate:  # fmt: skip
    """A gate that was measured; name: "G1", label: what distinguishes it from others of that name."""
    full = f"{name} {label}" if label else name
    return Gate(full, value, low, high, threshold, level, MEANINGS[name], reason, n, p, details or {})


def absent(name: str, reason: str, n: int, label: str = "") -> Gate:
    """A gate of which nothing could be said, and why."""
    full = f"{name} {label}" if label else name
    return Gate(full, None, None, None, None, "not assessable", MEANINGS[name], reason, n)
