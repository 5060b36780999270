"""What a reader says of a case: a blind reading before the model's answer is seen, a verdict after."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import uuid4

from cmssd_core.types import InputError

Mark = Literal["present", "absent", "not assessable"]
Answer = Literal["agree", "override"]

MARKS: tuple[Mark, ...] = ("present", "absent", "not assessable")
ANSWERS: tuple[Answer, ...] = ("agree", "override")
LONGEST_NAME, LONGEST_TEXT = 64, 2000


@dataclass(frozen=True)
class Reading:
    """One reader's own reading of a case.

    reader: pseudonym or signed-in user, see `reader_name`. case_id: content hash. model_id: the model in use then.
    severity_pct in [0, 100], None = not assessable. marks: criterion -> Mark. blind: the reader had seen neither the
    model's answer nor another reader's. token: unique; sending the same reading twice keeps it once.
    at: UTC, given by the store when it is kept.
    """

    reader: str
    case_id: str
    model_id: str
    severity_pct: float | None
    marks: Mapping[str, Mark]
    blind: bool
    token: str = field(default_factory=lambda: uuid4().hex)
    at: datetime | None = None

    def __post_init__(self) -> None:
        _check_severity(self.severity_pct)
        wrong = {name: mark for name, mark in self.marks.items() if mark not in MARKS}
        if wrong or not self.marks:
            raise InputError(f"marks {wrong or 'for no criterion'} came, expected {', '.join(MARKS)}; mark each one")
        _check_id("case", self.case_id)
        _check_id("model", self.model_id)


@dataclass(frozen=True)
class Verdict:
    """What the same reader says once the model's answer is on show.

    reading: token of the reading. model_severity_pct, model_p_malignant: the answer on show; None = it gave none.
    reason: needed for an override. severity_pct: the reader's severity now, None = as in the reading.
    """

    reading: str
    model_id: str
    model_severity_pct: float | None
    model_p_malignant: float | None
    answer: Answer
    reason: str = ""
    severity_pct: float | None = None
    token: str = field(default_factory=lambda: uuid4().hex)
    at: datetime | None = None

    def __post_init__(self) -> None:
        _check_severity(self.severity_pct)
        if self.answer not in ANSWERS:
            raise InputError(f"the answer {self.answer!r} came, expected agree or override; choose one")
        if self.answer == "override" and not self.reason.strip():
            raise InputError("an override came, expected with it a reason; say in a sentence why the model is wrong")
        if len(self.reason) > LONGEST_TEXT:
            raise InputError(f"a reason of {len(self.reason)} characters came, expected {LONGEST_TEXT} at most; cut it")
        if "\0" in self.reason:
            raise InputError("a reason with a NUL character came; type it anew")
        _check_id("model", self.model_id)


def reader_name(typed: str) -> str:
    """A reader's name as it is kept: one spelling whatever the capitals and spaces. InputError where it is none."""
    name = " ".join(unicodedata.normalize("NFKC", typed).split()).casefold()
    if not 2 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InputError(
            f"the reader {typed[:20]!r} came, expected a pseudonym of 2 to {LONGEST_NAME} letters; type one"
        )
    return name


def _check_severity(percent: float | None) -> None:
    if percent is not None and not 0 <= percent <= 100:
        raise InputError(f"a severity of {percent} came, expected 0 to 100 percent; mend it, or mark it not assessable")


def _check_id(what: str, given: str) -> None:
    if not given or len(given) > 200:
        raise InputError(f"a {what} without an id came; open the {what} anew")
