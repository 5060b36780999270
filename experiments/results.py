"""The table and the figures of docs/results.md, from the metrics.json that cmssd evaluate wrote.

    python -m experiments.results [--same DIR] [--shifted NAME=DIR ...] [--damaged DIR] [--baselines DIR]
        --figures docs/images

--same: evaluated on a cohort like the training's, of another seed; --shifted: on other centres; --damaged: with
--corruptions; --baselines: with --against. Each part is made of what is given.
Prints markdown; writes roc.svg, confusion.svg, robustness_slide.svg, robustness_mri.svg and alpha.svg.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmssd_core.corruptions.table import CORRUPTIONS
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.report.charts import Axis, Series, chart
from cmssd_core.report.evaluation import words

Record = Mapping[str, Any]
DROPPED = "; 0.959 after dropout"
UNIT = (0, 0.25, 0.5, 0.75, 1)
COLOURS = (
    "#1f5fa8", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#566573", "#17a2b8", "#e377c2", "#7a5230", "#9acd32",
)  # fmt: skip
STYLE = (
    "svg{background:#fff;font:12px sans-serif;fill:#222}.grid{stroke:#ddd}.frame{fill:none;stroke:#666}"
    ".guide{stroke:#999;stroke-dasharray:4 3}"
    + "".join(
        f".s{n}{{stroke:{c};fill:{c}}}polyline.s{n},path.s{n}{{fill:none;stroke-width:1.8}}"
        for n, c in enumerate(COLOURS)
    )
)


def row(title: str, paper: str, aim: str, told: Sequence[Record], read: Any) -> str:
    return f"| {title} | {paper} | {aim} | " + " | ".join(words(read(t)) for t in told) + " |"


def table(told: Mapping[str, Record]) -> list[str]:
    """The target table: the paper, the aim, then a column for each cohort."""
    each = list(told.values())
    lines = ["| figure | paper | aim | " + " | ".join(told) + " |", "|---" * (3 + len(told)) + "|"]
    plain = {
        "accuracy, both": ("0.991", ">= 0.991", lambda t: t["accuracy"]),
        "accuracy, MRI alone": ("0.743" + DROPPED, ">= 0.959", lambda t: t["by_modality"]["mri_only"]["accuracy"]),
        "accuracy, H&E alone": ("0.689" + DROPPED, ">= 0.959", lambda t: t["by_modality"]["he_only"]["accuracy"]),
        "AUC, both": ("0.994", ">= 0.994", lambda t: t["auc"]),
        "AUC, MRI alone": ("0.941", "below both", lambda t: t["by_modality"]["mri_only"]["auc"]),
        "AUC, H&E alone": ("0.963", "below both", lambda t: t["by_modality"]["he_only"]["auc"]),
        "Dice, all cases": ("0.982", ">= 0.982", lambda t: t["dice"]),
        "Dice, malignant cases": ("-", "beside it", lambda t: t["malignant_only"]["dice"]),
        "HD95 in mm": ("-", "-", lambda t: t["hd95_mm"]),
        "severity MAE in points, all": ("1.8", "<= 1.8", lambda t: t["severity_mae"]),
        "severity MAE, malignant": ("-", "beside it", lambda t: t["malignant_only"]["severity_mae"]),
        "severity MAE, MRI alone": ("about 5.5", "-", lambda t: t["by_modality"]["mri_only"]["severity_mae"]),
        "coverage of the 90 % severity interval": ("-", "0.90", lambda t: t["uncertainty"]["severity_coverage"]),
    }  # fmt: skip
    lines += [row(title, *cells[:2], each, cells[2]) for title, cells in plain.items()]
    for name, key in (("MRI alone", "mri"), ("H&E alone", "he")):
        cells = [_oracle(t.get("oracle") or {}, key) for t in each]
        lines.append(f"| a reader who knows the generator, {name} | - | - | " + " | ".join(cells) + " |")
    for name, key in (("MRI alone", "mri_only"), ("H&E alone", "he_only")):
        tests = [t["by_modality"][key] for t in each]
        cells = [_p(t["mcnemar"]) if t["mcnemar"] else "-" for t in tests]
        lines.append(f"| McNemar, both against {name} | - | p < 0.05 | " + " | ".join(cells) + " |")
        gaps = [t["auc_difference"] for t in tests]
        cells = ["-" if gap["value"] is None else f"{gap['value']:.3f}, {_p(gap)}" for gap in gaps]
        lines.append(f"| AUC gained over {name} (DeLong) | - | p < 0.05 | " + " | ".join(cells) + " |")
    return lines


def baselines(told: Record) -> list[str]:
    """The model and those it was evaluated against, with what it gains over each on the same cases."""
    lines = ["| model | accuracy | AUC | Dice | severity MAE | McNemar | AUC gained (DeLong) |", "|---" * 7 + "|"]
    for name, each in {told["model"]: told, **told["against"]}.items():
        cells = [words(each[key]) for key in ("accuracy", "auc", "dice", "severity_mae")]
        test, gap = each.get("mcnemar"), each.get("auc_difference")
        cells.append(_p(test) if test else "-")
        cells.append("-" if not gap or gap["value"] is None else f"{words(gap)}, {_p(gap)}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _oracle(known: Record, key: str) -> str:
    """What the generator's reader gets, "-" for a cohort that has none."""
    found = [known.get(f"{what}_{key}") or {} for what in ("accuracy", "auc")]
    accuracy, area = (figure.get("value") for figure in found)
    return "-" if accuracy is None or area is None else f"accuracy {accuracy:.3f}, AUC {area:.3f}"


def _p(test: Record) -> str:
    p = test.get("p")
    return "no test" if p is None else f"p = {p:.2g}"


def robustness(told: Record) -> list[str]:
    """A line a corruption: accuracy untouched and at level 3, what is lost, alpha's trend."""
    lines = ["| corruption | accuracy untouched | at level 3 | lost at level 3 | Spearman of alpha with level |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, levels in told["corruptions"].items():
        trend = told["corruption_trends"][name]
        cells = [words(levels[0]["accuracy"]), words(levels[3]["accuracy"]), words(trend["accuracy_loss_level3"]),
                 words(trend["spearman_gate_level"])]  # fmt: skip
        lines.append(f"| {CORRUPTIONS[name].modality}: {name} | " + " | ".join(cells) + " |")
    return lines


def figures(told: Record, folder: Path) -> None:
    """The ROC curves and the confusion matrix of one evaluation as SVG."""
    by = told["by_modality"]
    curves = {"both": told, "MRI alone": by["mri_only"], "H&E alone": by["he_only"], **told["against"]}
    drawn = [Series(name=f"{n} {words(t['auc'])}", points=t["roc"]) for n, t in curves.items() if t["roc"]]
    _write(folder / "roc.svg", chart(drawn, x=Axis(low=0, high=1, label="1 - specificity", ticks=UNIT),
                                     y=Axis(low=0, high=1, label="sensitivity", ticks=UNIT),
                                     guides=[((0, 0), (1, 1))], says="ROC curves", legend=False),
           [s.name for s in drawn])  # fmt: skip
    _confusion(folder / "confusion.svg", told["confusion"])


def damage_figures(told: Record, folder: Path) -> None:
    """Accuracy and alpha by level of each corruption as SVG."""
    for modality, name in (("he", "robustness_slide"), ("mri", "robustness_mri")):
        kinds = {n: levels for n, levels in told["corruptions"].items() if CORRUPTIONS[n].modality == modality}
        _curves(folder / f"{name}.svg", kinds, "accuracy", "accuracy")
        if modality == "he":
            _curves(folder / "alpha.svg", kinds, "gate_mean", "mean alpha (1 = all MRI)")


def _curves(path: Path, kinds: Mapping[str, Sequence[Record]], key: str, label: str) -> None:
    drawn = [
        Series(name=name, points=[(float(r["level"]), float(v)) for r in levels if (v := r[key]["value"]) is not None])
        for name, levels in kinds.items()
    ]
    values = [y for s in drawn for _, y in s.points]
    if not values:
        return
    low, high = min(values), max(values)
    margin = max(0.02, 0.08 * (high - low))
    axis = Axis(low=max(0.0, low - margin), high=min(1.0, high + margin), label=label)
    svg = chart(drawn, x=Axis(low=0, high=5, label="level", ticks=range(6)), y=axis, says=label, legend=False)
    _write(path, svg, [s.name for s in drawn])


def _confusion(path: Path, cells: Mapping[str, Record]) -> None:
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 460 240"><style>'
             "svg{background:#fff;font:13px sans-serif}</style>"]  # fmt: skip
    for column, said in enumerate(("called malignant", "called benign")):
        parts.append(f'<text x="{200 + 150 * column}" y="24" text-anchor="middle">{said}</text>')
    for y, names in enumerate((("tp", "fn"), ("fp", "tn"))):
        parts.append(f'<text x="112" y="{85 + 100 * y}" text-anchor="end">{"malignant" if y == 0 else "benign"}</text>')
        for x, name in enumerate(names):
            cell = cells[name]
            right = name in ("tp", "tn")
            share = cell["value"]  # None: no case is of this class
            fill = f"rgba({'31,95,168' if right else '192,57,43'},{0.08 + 0.6 * (share or 0.0):.2f})"
            left, top = 126 + 150 * x, 34 + 100 * y
            parts.append(f'<rect x="{left}" y="{top}" width="146" height="96" fill="{fill}" stroke="#999"/>')
            parts.append(
                f'<text x="{left + 73}" y="{top + 45}" text-anchor="middle" font-size="22">{cell["count"]}</text>'
            )
            told = "-" if share is None else f"{share:.3f}"
            told += "" if cell["low"] is None else f" ({cell['low']:.3f}-{cell['high']:.3f})"
            parts.append(f'<text x="{left + 73}" y="{top + 70}" text-anchor="middle">{told}</text>')
    text = "".join([*parts, "</svg>"])
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def _write(path: Path, svg: str, names: Sequence[str]) -> None:
    """A chart as a file of its own: its style inside, and a legend below; a colour for each curve, not six in turn."""
    number = itertools.count()
    svg = re.sub(r'<polyline class="s\d"', lambda _: f'<polyline class="s{next(number)}"', svg)
    head, rest = svg.split(">", 1)
    width, height = (int(n) for n in head.split('viewBox="0 0 ')[1].split('"')[0].split())
    head = head.replace(f"0 0 {width} {height}", f"0 0 {width} {height + 18 * len(names) + 6}")
    keys = "".join(
        f'<rect class="s{n}" x="56" y="{height + 4 + 18 * n}" width="12" height="10"/>'
        f'<text x="76" y="{height + 13 + 18 * n}">{name.replace("&", "&amp;")}</text>'
        for n, name in enumerate(names)
    )
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    text = f"{head}><style>{STYLE}</style>{rest.rsplit('</svg>', 1)[0]}{keys}</svg>"
    write_atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--same", type=Path)
    given.add_argument("--shifted", nargs="*", default=[])
    given.add_argument("--damaged", type=Path)
    given.add_argument("--baselines", type=Path)
    given.add_argument("--figures", type=Path, required=True)
    asked = given.parse_args()
    if not (asked.same or asked.damaged or asked.baselines):
        given.error("nothing to tell; give --same, --damaged or --baselines")
    if asked.shifted and not asked.same:
        given.error("--shifted stands beside --same; give both")
    asked.figures.mkdir(parents=True, exist_ok=True)
    if asked.same:
        folders = {"same distribution": asked.same} | {
            n: Path(d) for n, d in (pair.split("=", 1) for pair in asked.shifted)
        }
        told = {name: _told(folder) for name, folder in folders.items()}
        figures(told["same distribution"], asked.figures)
        print("\n".join([*table(told), ""]))
    if asked.damaged:
        damaged = _told(asked.damaged)
        if not damaged["corruptions"]:
            given.error(f"{asked.damaged} was evaluated without corruptions; expected cmssd evaluate --corruptions N")
        damage_figures(damaged, asked.figures)
        print("\n".join([*robustness(damaged), ""]))
    if asked.baselines:
        print("\n".join(baselines(_told(asked.baselines))))


def _told(folder: Path) -> Record:
    told: Record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return told


if __name__ == "__main__":
    main()
