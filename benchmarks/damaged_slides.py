"""What slide artefacts of level 3 cost on many patients: accuracy and alpha before and after, case by case.

    python -m benchmarks.damaged_slides COHORT --cases 150 --out FILE.csv    # resumable; prints a table

`cmssd evaluate --corruptions` puts a few patients through every level of everything; a loss of two points shows only on
many. Cases are the first of the cohort's test split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cmssd_core import cohort as cohorts
from cmssd_core import inference
from cmssd_core.config import settings
from cmssd_core.corrupted import variants
from cmssd_core.corruptions import CORRUPTIONS
from cmssd_core.evaluation.metrics import mean, share
from cmssd_core.evaluation.summary import plain
from cmssd_core.report.evaluation import words
from cmssd_core.types import InputError

SLIDE = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.modality == "he")
SOUND, LEVEL = 0, 3  # level 0 of any artefact changes nothing


def answers(row: pd.Series, root: Path, predictor: inference.Predictor) -> list[dict[str, object]]:
    """The case untouched, and under each slide artefact."""
    told: list[dict[str, object]] = []
    case = cohorts.admit_row(row, root, masks=False)
    for name, level, raw, make in variants(
        case, predictor.spec, settings(), seed=0, names=SLIDE, levels=(SOUND, LEVEL)
    ):
        if level == SOUND and told:
            continue
        line = {"patient_id": row["patient_id"], "case_id": row["case_id"], "malignant": int(row["malignant"])}
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
    wide = right.pivot(index="case_id", columns="artefact", values=["right", "alpha"])
    who = rows.groupby("case_id")["patient_id"].first().loc[wide.index].to_numpy()
    lines = [
        "| artefact, level 3 | accuracy | lost | regained | points lost | alpha moves by |", "|---|---|---|---|---|---|"
    ]  # fmt: skip
    before = wide["right", "none"].to_numpy(dtype=bool)
    for name in ("none", *SLIDE):
        after = wide["right", name].to_numpy(dtype=bool)
        moved = (wide["alpha", name] - wide["alpha", "none"]).to_numpy(dtype=float)
        read = np.isfinite(moved)
        cells = [
            name,
            words(plain(share(after, who))),
            str(int((before & ~after).sum())),
            str(int((~before & after).sum())),
            words(plain(mean(100 * (before.astype(float) - after), who)), 1),
            words(plain(mean(moved[read], who[read]))),
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
    cases = cohorts.of_split(cohorts.read(source), "test").head(chosen.cases)
    predictor = inference.load(chosen.weights)
    done = set(pd.read_csv(chosen.out)["case_id"]) if chosen.out.exists() else set()
    for _, row in cases.iterrows():
        if row["case_id"] not in done:
            new = pd.DataFrame(answers(row, source.parent, predictor), columns=COLUMNS)
            new.to_csv(chosen.out, mode="a", header=not chosen.out.exists(), index=False)
            print(row["case_id"], flush=True)
    rows = pd.read_csv(chosen.out)
    print("\n".join(table(rows[rows["case_id"].isin(cases["case_id"])])))


COLUMNS = ["patient_id", "case_id", "malignant", "artefact", "p", "alpha", "problem"]

if __name__ == "__main__":
    main()
