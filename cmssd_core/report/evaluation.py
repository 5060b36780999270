"""An evaluation as one page: figures with interval and n, curves drawn inside, no scripts, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cmssd_core.cases.modalities import describe_given
from cmssd_core.evaluation.figure import format_number
from cmssd_core.evaluation.metrics import FIGURES, METRICS, Metric, Place, names_at, parts_at
from cmssd_core.report import page
from cmssd_core.report.charts import Axis, Point, Series, chart

Metrics = Mapping[str, Any]
UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)


def render(summary: Metrics, *, name: str, severities: Sequence[Point], made: datetime | None = None) -> str:
    """A self-contained HTML page of what metrics.json holds. severities: (true, found) of each case."""
    columns: dict[str, Metrics] = {"all there is": summary}
    for key, part in summary["by_modality"].items():
        if any(isinstance(figure, Mapping) and figure.get("n") for figure in part.values()):
            columns[describe_given(key.removesuffix("_only"))] = part
    columns |= summary["against"]
    return page.render(
        "evaluation.html.j2",
        m=summary,
        name=name,
        parts=parts_at("list"),
        groups=_rows("groups"),
        main=_rows("main"),
        numbers={name: metric for name, metric in _rows("main").items() if name in FIGURES["number"]},
        columns=columns,
        words=words,
        shown=format_number,
        roc=_roc(columns),
        calibration=_calibration(summary["calibration"]["table"]),
        bland_altman=_bland_altman(summary["severity_agreement"], severities),
        robustness={key: _robustness(key, levels) for key, levels in summary["corruptions"].items()},
        made=made,
    )


def _rows(place: Place) -> dict[str, Metric]:
    return {name: METRICS[name] for name in names_at(place)}


def words(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A figure in one phrase: "0.981 (0.972 to 0.990), n = 90"."""
    if figure is None or figure["value"] is None:
        return "-"
    count = f", n = {figure['n']}"
    value = format_number(figure["value"], digits)
    if figure["low"] is None:
        return f"{value}{count}"
    return f"{value} ({format_number(figure['low'], digits)} to {format_number(figure['high'], digits)}){count}"


def _roc(columns: Mapping[str, Metrics]) -> str:
    drawn = {f"{title}, {words(part['auc'])}": part["roc"] for title, part in columns.items() if part["roc"]}
    series = [Series(name=name, points=points) for name, points in drawn.items()]
    if not series:
        return ""
    return chart(
        series,
        x=Axis(low=0, high=1, label="1 - specificity", ticks=UNIT),
        y=Axis(low=0, high=1, label="sensitivity", ticks=UNIT),
        guides=[((0, 0), (1, 1))],
        says="ROC curves",
    )


def _calibration(table: Sequence[Mapping[str, Any]]) -> str:
    if not table:
        return ""
    points = [(row["mean_p"], row["malignant"]["value"]) for row in table]
    whiskers = [_whisker(row["malignant"]) for row in table]
    return chart(
        [Series(name="share malignant in a tenth of p", points=points, whiskers=whiskers, dots=4)],
        x=Axis(low=0, high=1, label="mean probability given", ticks=UNIT),
        y=Axis(low=0, high=1, label="share malignant", ticks=UNIT),
        guides=[((0, 0), (1, 1))],
        says="Reliability: share of malignant cases against the probability given",
        legend=False,
    )


def _bland_altman(limits: Mapping[str, Any], severities: Sequence[Point]) -> str:
    if len(severities) < 2:
        return ""
    points = [((true + found) / 2, found - true) for true, found in severities]
    edges = [limits[key]["value"] for key in ("lower", "bias", "upper") if limits[key]["value"] is not None]
    reach = max(1.0, *(abs(y) for _, y in points), *(abs(edge) for edge in edges)) * 1.1
    right = max(10.0, max(x for x, _ in points) * 1.05)
    return chart(
        [Series(name="a case", points=points, line=False, dots=2.5)],
        x=Axis(low=0, high=right, label="mean of found and true severity, %"),
        y=Axis(low=-reach, high=reach, label="found - true, points"),
        guides=[((0, edge), (right, edge)) for edge in edges],
        says="Bland-Altman: difference of found and true severity against their mean",
        legend=False,
    )


def _robustness(name: str, levels: Sequence[Mapping[str, Any]]) -> str:
    series = []
    for key, title in (("accuracy", "accuracy"), ("gate_mean", "mean alpha")):
        known = [(row["level"], row[key]) for row in levels if row[key]["value"] is not None]
        points = [(float(level), float(figure["value"])) for level, figure in known]
        whiskers = [_whisker(figure) for _, figure in known]
        series.append(Series(name=title, points=points, whiskers=whiskers, dots=2.5))
    return chart(
        series,
        x=Axis(low=-0.2, high=5.2, label="level", ticks=range(6)),
        y=Axis(low=0, high=1, ticks=(0, 0.5, 1)),
        says=f"{name}: accuracy and mean alpha by level",
        size=(250, 170),
        legend=False,
    )


def _whisker(figure: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if figure["low"] is None else (float(figure["low"]), float(figure["high"]))
