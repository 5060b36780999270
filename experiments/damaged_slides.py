"""What slide artefacts of level 3 cost on many patients: accuracy and alpha before and after, case by case.

    python -m experiments.damaged_slides COHORT --cases 150 --out FILE.csv    # resumable; prints a table

`cmssd evaluate --corruptions` puts a few patients through every level of everything; a loss of two points shows only on
many. Cases are the first of the cohort's test split, one a patient.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.split import of_split
from cmssd_core.config import settings
from cmssd_core.corruptions.cases import variants
from cmssd_core.corruptions.table import CORRUPTIONS
from cmssd_core.evaluation.figure import loss, mean, share
from cmssd_core.evaluation.summary import plain
from cmssd_core.inference import predict as inference
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.report.evaluation import words
from cmssd_core.types import Case, InputError

SLIDE = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.modality == "he")
SOUND, LEVEL = 0, 3  # level 0 of any artefact changes nothing


def made_by(predictor: inference.Predictor) -> str:
    """The weights and the pipeline that rows come from."""
    return f"{predictor.model_id}, pipeline {inference.PIPELINE}"


def answers(case: Case, malignant: bool, predictor: inference.Predictor) -> list[dict[str, object]]:
    """The case untouched, and under each slide artefact."""
    told: list[dict[str, object]] = []
    for name, level, raw, make in variants(
        case, predictor.spec, settings(), seed=0, names=SLIDE, levels=(SOUND, LEVEL)
    ):
        if level == SOUND and told:
            continue
        line: dict[str, object] = {"made_by": made_by(predictor), "case": case.id, "malignant": int(malignant)}
        try:
            found = inference.answer(raw, make(), predictor)
            line |= {"p": found.p_malignant, "alpha": found.gate_mean}
        except InputError as problem:  # nothing left to read: counted as not answered
            line |= {"p": np.nan, "alpha": np.nan, "problem": str(problem)}
        told.append(line | {"artefact": name if level else "none"})
    return told


def table(rows: pd.DataFrame) -> list[str]:
    """Markdown: accuracy under each artefact, the patients lost and regained by it, and what alpha does."""
    right = rows.assign(right=((rows["p"] >= 0.5) == (rows["malignant"] == 1)) & rows["p"].notna())
    wide = right.pivot(index="case", columns="artefact", values=["right", "alpha"])
    lines = [
        "| artefact, level 3 | accuracy | lost | regained | share lost | alpha moves by |", "|---|---|---|---|---|---|"
    ]  # fmt: skip
    before = wide["right", "none"].to_numpy(dtype=bool)
    for name in ("none", *SLIDE):
        after = wide["right", name].to_numpy(dtype=bool)
        moved = (wide["alpha", name] - wide["alpha", "none"]).to_numpy(dtype=float)
        read = np.isfinite(moved)
        cells = [
            name,
            words(plain(share(after))),
            str(int((before & ~after).sum())),
            str(int((~before & after).sum())),
            words(plain(loss(before, after))),
            words(plain(mean(moved[read]))),
        ]
        lines.append("| " + " | ".join(cells if name != "none" else [*cells[:2], *"----"]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    source = chosen.cohort / "cohort.csv" if chosen.cohort.is_dir() else chosen.cohort
    cases = of_split(cohorts.read(source), "test").head(chosen.cases)
    predictor = inference.load(chosen.weights)
    known = pd.read_csv(chosen.out) if chosen.out.exists() else pd.DataFrame(columns=COLUMNS)
    wanted, done = [], set(known.loc[known["made_by"] == made_by(predictor), "case"])
    for _, row in cases.iterrows():
        case = cohorts.admit_row(row, source.parent, masks=False)
        wanted.append(case.id)
        if case.id not in done:
            new = pd.DataFrame(answers(case, bool(row["malignant"]), predictor), columns=COLUMNS)
            known = pd.concat([known, new]) if len(known) else new
            write_atomic(chosen.out, lambda part, rows=known: rows.to_csv(part, index=False))
            print(row["case_id"], flush=True)
    rows = pd.read_csv(chosen.out)  # as numbers print, whether they were kept or made now
    print("\n".join(table(rows[rows["case"].isin(wanted) & (rows["made_by"] == made_by(predictor))])))


COLUMNS = ["made_by", "case", "malignant", "artefact", "p", "alpha", "problem"]

if __name__ == "__main__":
    main()
