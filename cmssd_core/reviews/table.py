"""The reviews as a CSV table: one row a reading and verdict, one column a criterion, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import datetime
from io import StringIO

from cmssd_core.reviews.record import Reading, Verdict
from cmssd_core.tables.spreadsheet import plain

COLUMNS = (
    *("reader", "read_at_utc", "case_id", "blind", "severity_pct", "model_at_reading"),
    *(
        "verdict_at_utc",
        "model_id",
        "model_severity_pct",
        "model_p_malignant",
        "answer",
        "reason",
        "severity_after_pct",
    ),
)
MARK = "criterion: "
_SAID = ("model_id", "model_severity_pct", "model_p_malignant", "answer", "reason", "severity_pct")


def as_csv(readings: Sequence[Reading], verdicts: Sequence[Verdict]) -> str:
    """Each reading with each of its verdicts, in the order they were kept; a reading without one has empty fields.

    What a spreadsheet would take for a formula gets an apostrophe in front.
    """
    criteria = sorted({name for reading in readings for name in reading.marks})
    given: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        given.setdefault(verdict.reading, []).append(verdict)
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*COLUMNS, *(_plain(MARK + name) for name in criteria)])
    for r in readings:
        summary: list[Verdict | None] = [*given.get(r.token, [])]
        for v in summary or [None]:
            words = [""] * 7 if v is None else [_time(v.at), *(getattr(v, name) for name in _SAID)]
            row = [r.reader, _time(r.at), r.case_id, "yes" if r.blind else "no", r.severity_pct, r.model_id, *words]
            writer.writerow([_plain(cell) for cell in (*row, *(r.marks.get(name) for name in criteria))])
    return out.getvalue()


def _time(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain(cell: object) -> str:
    return plain(cell) if isinstance(cell, str) else "" if cell is None else str(cell)
