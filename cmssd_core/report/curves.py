"""The curves of a training run as one page: loss terms, validation, gradient norm and learning rate by step."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core.machine.atomic import write_atomic
from cmssd_core.report import page
from cmssd_core.report.charts import Axis, Point, Series, chart

WINDOW = 25  # steps a running mean takes in
OTHERS = {
    "step",
    "stage",
    "learning_rate",
    "total",
    "gradient_norm",
    "validation",
    "seconds",
}  # columns that are no term
SHOWN = 400  # points a curve has at most


def render(run: Path, *, made: datetime | None = None) -> str:
    """curves.html of the run folder `run`, from its metrics.csv, config.json and environment.json."""
    table = pd.read_csv(run / "metrics.csv")
    stages = [
        {"name": str(name), "first": int(rows["step"].min()), "last": int(rows["step"].max())}
        for name, rows in table.groupby("stage", sort=False)
    ]
    return page.render(
        "curves.html.j2",
        settings=json.loads((run / "config.json").read_text(encoding="utf-8")),
        environment=json.loads((run / "environment.json").read_text(encoding="utf-8")),
        steps=len(table),
        hours=float(table["seconds"].sum()) / 3600,
        stages=stages,
        window=WINDOW,
        charts=_charts(table, [stage["first"] for stage in stages]),
        made=made,
    )


def write(run: Path) -> None:
    """Draw the curves of the run folder `run` into its curves.html."""
    write_atomic(run / "curves.html", lambda path: path.write_text(render(run), encoding="utf-8"))


def _charts(table: pd.DataFrame, starts: list[object]) -> list[tuple[str, str]]:
    found = [("Loss, weighted sum", [_curve(table, "total", "training")])]
    looks = table[["step", "validation"]].dropna()
    if len(looks):
        points = [(float(step), float(value)) for step, value in looks.to_numpy()]
        found[0][1].append(Series(name="validation", points=points, dots=3))
    terms = [_curve(table, name, name) for name in table.columns if name not in OTHERS and (table[name] > 0).any()]
    # Three terms a picture, so that each can be followed.
    found += [(", ".join(s.name for s in terms[i : i + 3]), terms[i : i + 3]) for i in range(0, len(terms), 3)]
    found += [
        ("Norm of the gradient, before it is limited", [_curve(table, "gradient_norm", "gradient norm")]),
        ("Learning rate", [_curve(table, "learning_rate", "learning rate", window=1)]),
    ]
    last = max(1.0, float(table["step"].max()))
    pictures = []
    for title, series in found:
        top = max([y for each in series for _, y in each.points], default=1.0) * 1.05 or 1.0
        bottom = min([y for each in series for _, y in each.points], default=0.0)
        low = min(0.0, bottom * 1.05)
        guides = [((float(str(at)), low), (float(str(at)), top)) for at in starts[1:]]
        svg = chart(series, x=Axis(low=0, high=last, label="step"), y=Axis(low=low, high=top), guides=guides,
                    says=f"{title} by step", size=(460, 260))  # fmt: skip
        pictures.append((title, svg))
    return pictures


def _curve(table: pd.DataFrame, column: str, name: str, *, window: int = WINDOW) -> Series:
    """A column's running mean within its stage, thinned."""
    means = table.groupby("stage", sort=False)[column].transform(lambda s: s.rolling(window, min_periods=1).mean())
    kept = table["step"].to_numpy()[:: max(1, len(table) // SHOWN)]
    points: list[Point] = [(float(s), float(v)) for s, v in zip(table["step"], means, strict=True) if np.isfinite(v)]
    wanted = set(kept.tolist())
    return Series(name=name, points=[p for p in points if p[0] in wanted])
