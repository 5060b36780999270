"""What a prediction answers, in words for every screen: each number with its doubt, and what is not answered."""

from __future__ import annotations

from dataclasses import dataclass

from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Prediction

#: Answers a reader of a bone-sarcoma case looks for: where a model does not give one, that is said.
EXPECTED = ("severity_pct", "malignant")
TITLES = {"severity_pct": "Severity", "malignant": "Probability of malignancy", "risk": "Log hazard"}
#: What must be known beside a number, where the number does not say it.
MEANINGS = {"risk": "who is at higher risk than whom among patients like those in training; no probability"}


@dataclass(frozen=True)
class Line:
    """One answer: its title, its value as text, and its doubt."""

    task: str
    title: str
    value: str
    doubt: str


def describe_answers(prediction: Prediction) -> tuple[Line, ...]:
    """The answers that are numbers, severity first, then malignancy, then whatever else the model gives."""
    lines = []
    for name in (*EXPECTED, *(name for name in prediction.answers if name not in EXPECTED)):
        answer = prediction.answers.get(name)
        if answer is None:
            continue
        title = TITLES.get(name, TASKS[name].label)
        if answer.value is None:
            lines.append(Line(name, title, "undefined", answer.reason or "no reason was recorded"))
            continue
        form = FORMATS.get(name, "{:.3f}").format
        doubt = "interval not calibrated"
        if answer.low is not None and answer.high is not None:
            doubt = f"{form(answer.low)} to {form(answer.high)}"
        meaning = MEANINGS.get(name)
        lines.append(Line(name, title, form(answer.value), doubt if meaning is None else f"{doubt}; {meaning}"))
    return tuple(lines)


FORMATS = {"severity_pct": "{:.1f} %", "malignant": "{:.3f}", "risk": "{:+.2f}"}


def name_unanswered(prediction: Prediction) -> str | None:
    """What a reader may look for and this model does not answer, in a sentence; None where it answers all."""
    missing = [TASKS[name].label for name in EXPECTED if name not in prediction.answers]
    return f"This model does not answer {' or '.join(missing)}." if missing else None
