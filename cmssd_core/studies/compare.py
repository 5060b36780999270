"""Models compared: each trained with one recipe and one budget for several seeds, then asked the same test cases.

Every run is a folder of cmssd train and every evaluated case a file, so a comparison that was killed goes on. Runs that
read the same inputs share the prepared cases; all take their last look at the validation split after as many steps.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cmssd_core.cases.modalities import BOTH
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.evaluation.repeats import apart, summarise_runs
from cmssd_core.machine.atomic import write_together
from cmssd_core.models import MODELS
from cmssd_core.models.listing import gflop
from cmssd_core.report import comparison, curves
from cmssd_core.studies import run as cohort_run
from cmssd_core.studies.conditions import subsets
from cmssd_core.training import loop as training
from cmssd_core.training import run_folder
from cmssd_core.training.recipe import TrainSettings, for_needs, scale_steps
from cmssd_core.types import InputError

Record = dict[str, Any]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """models: names in MODELS, the first is compared with each other. seeds: runs of each, seeds 1 to `seeds`.

    steps: of each run; None = the recipe's. recipe: of every run; what a model does not read is left out of it.
    """

    models: tuple[str, ...]
    seeds: int = 3
    size: str = "compact"
    steps: int | None = None
    recipe: TrainSettings = field(default_factory=TrainSettings)


def compare(
    cohort: Path,
    out: Path,
    *,
    chosen: CompareSettings,
    program: Settings | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Record:
    """Train, evaluate on the test split and compare; gives what stands in out/comparison.json.

    workers: processes that evaluate; None = one a core. Raises InputError for a model or size there is not, a cohort
    that cannot be used, or a folder that holds runs of other settings or of other cases.
    """
    _check(chosen)
    tell = progress or (lambda done, of, what: None)
    table = cohorts.read(cohort)
    out.mkdir(parents=True, exist_ok=True)
    runs = {(name, seed): out / f"{name}-seed{seed}" for name in chosen.models for seed in range(1, chosen.seeds + 1)}
    for done, ((name, seed), folder) in enumerate(runs.items()):

        def trained(step: int, of: int, what: str, done: int = done, run: str = folder.name) -> None:
            tell(done * of + step, len(runs) * of, f"{run}: {what}")

        recipe = recipe_of(name, seed, chosen)
        if not run_folder.is_done(folder, recipe, table):
            _train(cohort, folder, recipe, program=program, progress=trained)
    weights = [folder / "weights.safetensors" for folder in runs.values()]
    results = cohort_run.run(
        cohort,
        out / "evaluated",
        weights=weights[0],
        against=tuple(weights[1:]),
        chosen=cohort_run.RunSettings(workers=workers),
        settings=program,
        progress=tell,
    )
    named = dict(zip(runs, results.models, strict=True))
    summary = _described(chosen, results) | compare_rows(results.rows, chosen, named)
    shown, text = comparison.render(summary), json.dumps(summary, indent=1, allow_nan=False)
    write_together(
        {
            out / "comparison.html": lambda path: path.write_text(shown, encoding="utf-8"),
            out / "comparison.json": lambda path: path.write_text(text, encoding="utf-8"),
        }
    )
    return summary


def recipe_of(name: str, seed: int, chosen: CompareSettings) -> TrainSettings:
    """The recipe of one run: as many steps whatever the model, none of them saved by stopping early."""
    recipe = replace(chosen.recipe, model=name, size=chosen.size, seed=seed)
    recipe = recipe if chosen.steps is None else scale_steps(recipe, chosen.steps)
    recipe = for_needs(recipe, MODELS[name].needs, MODELS[name].optional, extra_terms=MODELS[name].extra_terms)
    return replace(recipe, patience=recipe.steps)


def compare_rows(rows: pd.DataFrame, chosen: CompareSettings, named: dict[tuple[str, int], str]) -> Record:
    """Figures of every model under every condition, and the first model against each other.

    rows: of cohort_run.run. named: (model, seed) -> the name its run bears in the rows.
    """
    sound = rows[rows["problem"].isna() & rows["corruption"].isna()]

    def frames(name: str, given: str) -> list[pd.DataFrame]:
        mine = [named[name, seed] for seed in range(1, chosen.seeds + 1)]
        return [sound[(sound["model"] == run) & (sound["given"] == given)] for run in mine]

    models: Record = {}
    for name in chosen.models:
        asked = [BOTH, *("+".join(some) for some in subsets(MODELS[name])[1:])]
        answered = {given: frames(name, given) for given in asked}
        summary = {given: summarise_runs(runs) for given, runs in answered.items() if all(len(run) for run in runs)}
        both = summary.pop(BOTH, None)
        models[name] = {
            "figures": both,
            "by_modality": {f"{given}_only": figures for given, figures in summary.items()},
        }
    first, *others = chosen.models
    return {
        "models": {name: about | _size(name, chosen.size) for name, about in models.items()},
        "first": first,
        "against": {
            name: apart(frames(first, BOTH), frames(name, BOTH)) if models[name]["figures"] else None
            for name in others
            if models[first]["figures"]
        },
    }


def _check(chosen: CompareSettings) -> None:
    for name in chosen.models:
        if name not in MODELS or chosen.size not in MODELS[name].sizes:
            raise InputError(
                f"no model {name} of size {chosen.size}; expected names of cmssd models; name others", "models"
            )
    if len(set(chosen.models)) < max(2, len(chosen.models)):
        raise InputError(
            f"models {','.join(chosen.models)} came, expected at least two, each once; name these", "models"
        )
    stages = len(chosen.recipe.stages)
    if chosen.steps is not None and chosen.steps < stages:
        raise InputError(
            f"{chosen.steps} steps came, expected one for each of {stages} stages or more; give more", "steps"
        )


def _train(
    cohort: Path, folder: Path, settings: TrainSettings, *, program: Settings | None, progress: Progress
) -> None:
    """Train a run, or go on with it."""
    shared = folder.parent / "prepared"
    shared.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    if not os.path.lexists(folder / "prepared"):  # training keeps prepared cases in its run folder
        (folder / "prepared").symlink_to(Path("..") / shared.name, target_is_directory=True)
    training.train(cohort, folder, settings=settings, resume=True, program=program, progress=progress)
    curves.write(folder)


def _size(name: str, size: str) -> Record:
    model = MODELS[name](size)
    return {
        "size": size,
        "needs": list(model.needs),
        "parameters": sum(p.numel() for p in model.parameters()),
        "gflop_per_pair": round(gflop(model), 3),
    }


def _described(chosen: CompareSettings, results: cohort_run.Results) -> Record:
    rows = results.rows
    trained = sorted({predictor.trained for predictor in results.models.values()})
    return {
        "seeds": list(range(1, chosen.seeds + 1)),
        "steps": {name: recipe_of(name, 1, chosen).steps for name in chosen.models},
        "recipe": json.loads(json.dumps(asdict(chosen.recipe))),
        "trained": trained,
        "cases": int(rows["case_id"].nunique()),
        "patients": int(rows["patient_id"].nunique()),
        "refused": sorted(str(case) for case in rows.loc[rows["problem"].notna(), "case_id"].unique()),
    }
