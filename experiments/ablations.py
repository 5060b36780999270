"""What each part of CM-SSD is worth: the recipe with one part left out at a time, one budget, the same test cases.

    python -m experiments.ablations COHORT --out DIR [--steps 400] [--test COHORT] [--cases 150] [--only NAME ...]

The encoders are trained once, by all stages of the recipe but the last; each variant trains the last stage, in which
both modalities meet, from there (without pre-training: from random weights). All at compact size into DIR/<name>, two
slices and four patches a case; then each is evaluated on the test cases and a table with 95 % intervals is printed. A
killed run goes on where it stopped. One seed: a difference smaller than what another seed makes is none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cmssd_core.cases.modalities import BOTH, MODALITIES
from cmssd_core.cohort import table as cohorts
from cmssd_core.evaluation.summary import figures
from cmssd_core.machine.atomic import write_atomic
from cmssd_core.models import weights as weights_file
from cmssd_core.report import evaluation as page
from cmssd_core.studies import run as cohort_run
from cmssd_core.training import loop as training
from cmssd_core.training import run_folder
from cmssd_core.training.recipe import TrainSettings

Change = Callable[[TrainSettings], TrainSettings]

NO_GATE = "no gate (the mean of both)"
WITHOUT_SITE = "no mapping (site unknown)"
FROM_RANDOM = "no pre-training"


def _untaught_gate(run: TrainSettings) -> TrainSettings:
    return replace(run, loss=replace(run.loss, weights={**run.loss.weights, "gate": 0.0}))


CHANGES: dict[str, Change] = {
    "whole recipe": lambda run: run,
    NO_GATE: lambda run: replace(_untaught_gate(run), frozen=("gate.",)),
    "gate not taught": _untaught_gate,
    WITHOUT_SITE: lambda run: replace(run, draw=replace(run.draw, site_dropout=1.0)),
    "no focal factor": lambda run: replace(run, loss=replace(run.loss, focal_gamma=0.0)),
    "no modality dropout": lambda run: replace(run, draw=replace(run.draw, modality_dropout=0.0)),
    "no AGGO": lambda run: replace(run, aggo=False),
    FROM_RANDOM: lambda run: run,
}
SLICES, PATCHES = 2, 4  # drawn from a case: half of what the recipe draws, in half the time
SHOWN = ("accuracy", "auc", "dice", "severity_mae")


def train_one(cohort: Path, folder: Path, run: TrainSettings, prepared: Path, init: Path | None) -> Path:
    """Train into `folder`, or go on with it, or leave it where it is done; gives its weights. init: to start from."""
    if run_folder.is_done(folder, run, cohorts.read(cohort)):
        return folder / "weights.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "prepared").exists():
        (folder / "prepared").symlink_to(prepared.resolve(), target_is_directory=True)
    return training.train(cohort, folder, settings=run, resume=True, init=init, progress=_say(folder.name))


def _say(name: str) -> Callable[[int, int, str], None]:
    def tell(done: int, of: int, what: str) -> None:
        if done % 50 == 0 or done == of:
            print(f"{name}: {done} of {of}, {what}", flush=True)

    return tell


def start_of(name: str, encoders: Path, out: Path) -> Path | None:
    """The weights from which a variant starts, None for random ones."""
    if name == FROM_RANDOM:
        return None
    if name != NO_GATE:
        return encoders
    model, info, _ = weights_file.load(encoders)
    for path, parameter in model.named_parameters():
        if path.startswith("gate."):
            torch.nn.init.zeros_(parameter)  # alpha = sigmoid(0) = 0.5, whatever comes
    weights_file.save(model, out / "no_gate.safetensors", info=info)
    return out / "no_gate.safetensors"


def without_sites(table: pd.DataFrame, root: Path, out: Path) -> Path:
    """The same cohort, no biopsy site known, as a table of absolute paths."""
    files = [c for c in ("slide", "rna", *cohorts.MRI_COLUMNS, *cohorts.MASK_COLUMNS) if c in table]
    blind = table.assign(**{c: table[c].map(lambda p: str((root / p).resolve()), na_action="ignore") for c in files})
    blind[list(cohorts.SITE_COLUMNS)] = None
    path = out / "without_sites.csv"
    write_atomic(path, lambda part: blind.to_csv(part, index=False))
    return path


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("cohort", type=Path)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--steps", type=int, default=400, help="of the last stage")
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--test", type=Path, help="cohort whose test split is read; by default the same")
    words.add_argument("--cases", type=int, default=150, help="test cases")
    words.add_argument("--prepared", type=Path, help="prepared cases of an earlier run on this cohort")
    words.add_argument("--only", nargs="*", default=list(CHANGES), choices=list(CHANGES))
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    prepared = given.prepared or given.out / "prepared"
    prepared.mkdir(exist_ok=True)
    base = TrainSettings(threads=given.threads)
    stages = [replace(stage, slices=SLICES, patches=PATCHES) for stage in base.stages]
    first = replace(base, stages=tuple(stages[:-1]))
    encoders = train_one(given.cohort, given.out / "encoders", first, prepared, None)
    last = replace(base, stages=(replace(stages[-1], steps=given.steps),))
    weights = {}
    for name in given.only:
        folder, start = given.out / name.split(" (")[0].replace(" ", "-"), start_of(name, encoders, given.out)
        weights[name] = train_one(given.cohort, folder, CHANGES[name](last), prepared, start)
    tested = given.test or given.cohort
    table = cohorts.read(tested)
    table = table[table["split"] == "test"].head(given.cases)
    some = given.out / "cohort.csv"
    root = tested if tested.is_dir() else tested.parent
    blind = without_sites(table, root, given.out)
    seen = pd.read_csv(blind).assign(**{c: table[c].to_numpy() for c in cohorts.SITE_COLUMNS})
    write_atomic(some, lambda part: seen.to_csv(part, index=False))
    found: dict[str, dict[str, Any]] = {}
    for cohort, names in ((some, [n for n in weights if n != WITHOUT_SITE]), (blind, [WITHOUT_SITE])):
        names = [n for n in names if n in weights]
        if not names:
            continue
        paths = [weights[n] for n in names]
        results = cohort_run.run(cohort, given.out / f"evaluated-{cohort.stem}", weights=paths[0],
                                 against=tuple(paths[1:]))  # fmt: skip
        for name, model in zip(names, results.models, strict=True):
            rows = results.rows[results.rows["problem"].isna() & (results.rows["model"] == model)]
            found[name] = {given_: figures(rows[rows["given"] == given_]) for given_ in (BOTH, *MODALITIES)}
            found[name]["gate"] = rows.loc[rows["given"] == "both", "gate_mean"].mean()
    text = json.dumps({"steps": given.steps, "figures": found}, indent=1)
    write_atomic(given.out / "ablations.json", lambda part: part.write_text(text, encoding="utf-8"))
    print("| recipe | " + " | ".join(SHOWN) + " | accuracy MRI alone | accuracy H&E alone | mean alpha |")
    print("|---" * (len(SHOWN) + 4) + "|")
    for name in given.only:
        both = found[name]["both"]
        alone = [found[name][g]["accuracy"] for g in ("mri", "he")]
        cells = [page.words(f) for f in (*(both[s] for s in SHOWN), *alone)]
        print(f"| {name} | " + " | ".join(cells) + f" | {found[name]['gate']:.2f} |")


if __name__ == "__main__":
    main()
