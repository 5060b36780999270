"""Commands about a cohort: synth, split, train, calibrate, evaluate, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cmssd_core.commands import completion
from cmssd_core.commands.terminal import Bar, Json, print_json, remark, tell
from cmssd_core.types import InputError


def synth(
    out: Path,
    preset: Annotated[str, typer.Option(help="paper or realistic")] = "paper",
    cases: Annotated[int, typer.Option(help="number of cases")] = 600,
    seed: int = 1,
    centres: Annotated[int, typer.Option(help="hospitals the cases come from")] = 8,
    shift: Annotated[str, typer.Option(help="how these differ: none, scanner, stain or both")] = "none",
    contrasts: Annotated[str, typer.Option(help="MRI contrasts, comma-separated")] = "t1,t2,stir,adc",
    shape: Annotated[str, typer.Option(help="MRI matrix: slices,rows,columns")] = "16,128,128",
    slide_px: Annotated[int, typer.Option(help="edge of the slide")] = 768,
    slide_mpp: Annotated[float, typer.Option(help="microns per pixel of the slide")] = 1.0,
    slide_artefacts: Annotated[float | None, typer.Option(help="share of slides spoilt: fold, tear, blur, pen")] = None,
    shortcut: Annotated[str, typer.Option(help="planted: none, marker, pen, coil, oedema or jpeg")] = "none",
    shortcut_correlation: Annotated[float, typer.Option(help="P(trap | malignant) = 1 - P(trap | benign)")] = 0.8,
    split: Annotated[str | None, typer.Option(help="put every case into this split; default 70/15/15")] = None,
    workers: Annotated[int, typer.Option(help="processes")] = 2,
) -> None:
    """Make a synthetic cohort with a known truth; a killed run goes on where it stopped."""
    from cmssd_core.synthetic import cohort
    from cmssd_core.synthetic.oracles import lines
    from cmssd_core.synthetic.settings import SynthSettings, scan_settings

    chosen = SynthSettings(
        preset=preset,
        cases=cases,
        seed=seed,
        centres=centres,
        shift=shift,
        scan=scan_settings(shape=shape, contrasts=contrasts),
        slide_px=slide_px,
        slide_mpp=slide_mpp,
        slide_artefacts=slide_artefacts,
        shortcut=shortcut,
        shortcut_correlation=shortcut_correlation,
        split=split,
    )
    with Bar("synth") as advance:
        path = cohort.write(out, settings=chosen, workers=workers, progress=lambda done, of: advance(done, of, "cases"))
    for line in lines(json.loads((out / "synth.json").read_text(encoding="utf-8"))["oracle"]):
        tell(line)
    print(path)


def split(
    cohort: Path,
    seed: Annotated[int, typer.Option(help="the same seed divides it the same way", min=0)] = 1,
    folds: Annotated[int | None, typer.Option(help="number of folds to make beside the split", min=2)] = None,
    replace: Annotated[bool, typer.Option("--replace", help="divide anew what is divided already")] = False,
) -> None:
    """Divide a cohort by patient, 70 / 15 / 15 and into folds, and store it in its cohort.csv."""
    from cmssd_core.cohort.split import divide
    from cmssd_core.cohort.table import read

    remark(cohort)
    path = divide(cohort, seed=seed, folds=folds, replace=replace)
    table = read(path)
    counts = table["split"].value_counts()
    print(", ".join(f"{name} {counts.get(name, 0)}" for name in ("train", "val", "test")))
    if folds is not None:
        print(", ".join(f"fold {fold:g} {count}" for fold, count in table["fold"].value_counts().sort_index().items()))
    print(path)


def train(
    cohort: Path,
    model: Annotated[str, typer.Option(autocompletion=completion.propose_model)] = "cmssd",
    size: Annotated[
        str | None, typer.Option(help="as cmssd models lists it", autocompletion=completion.propose_size)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="JSON of training settings")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    out: Annotated[Path, typer.Option(help="run folder")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    init: Annotated[Path | None, typer.Option(help="weights to start from instead of random ones")] = None,
    fold: Annotated[int | None, typer.Option(help="of the cohort's folds, the one to leave out for testing")] = None,
) -> None:
    """Train on a cohort into a run folder."""
    from cmssd_core.studies import card as model_card
    from cmssd_core.training import loop as training
    from cmssd_core.training import recipe
    from cmssd_core.training.team import is_first

    text = "{}"
    if config is not None:
        if not config.is_file():
            raise InputError(f"no training config at {config.name}; expected a JSON file; check the path", "config")
        text = config.read_text(encoding="utf-8")
    chosen = recipe.settings_from(text, model=model, size=size, seed=seed)
    if is_first():
        remark(cohort)
    cohort = _folded(cohort, fold)
    with Bar("train") as advance:
        path = training.train(cohort, out, settings=chosen, resume=resume, init=init, progress=advance)
    if not is_first():
        return  # one process of torchrun writes the card
    with Bar("evaluate") as advance:
        model_card.write(cohort, out, progress=advance)
    print(path)


def evaluate(
    cohort: Path,
    weights: Annotated[
        Path | None, typer.Option(help="weights file; default the shipped ones, but MRI with masks need it")
    ] = None,
    against: Annotated[list[Path] | None, typer.Option(help="other weights to compare with; repeatable")] = None,
    split: Annotated[
        str, typer.Option(help="test or all", autocompletion=completion.propose(*completion.SPLITS))
    ] = "test",
    drop: Annotated[
        str | None,
        typer.Option(help="hide mri or he from every model", autocompletion=completion.propose(*completion.DROPS)),
    ] = None,
    corruptions: Annotated[str, typer.Option(help="cases put through the corruptions, or off")] = "16",
    fold: Annotated[int | None, typer.Option(help="of the cohort's folds, the one to test on")] = None,
    mpp: Annotated[float | None, typer.Option(help="microns per pixel of tiles that do not say theirs")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default one a core", min=1)] = None,
    out: Annotated[Path, typer.Option(help="folder for the results; a killed run goes on there")] = Path("evaluation"),
    as_json: Json = False,
) -> None:
    """Figures with intervals of a model on a cohort, its robustness, and a page about it.

    A cohort is a folder with a cohort.csv, a folder of H&E tiles with their class, or one of MRI with tumour masks.
    """
    from cmssd_core.config import settings
    from cmssd_core.studies import evaluate as evaluation
    from cmssd_core.studies import one_modality
    from cmssd_core.studies.run import RunSettings

    if corruptions != "off" and not corruptions.isdecimal():
        raise InputError(f"{corruptions} came, expected a number of cases or off; give one of these", "corruptions")
    remark(cohort)
    cohort = _folded(cohort, fold)
    kind = one_modality.kind_of(cohort)
    if kind != "cases":
        if against or drop:
            raise InputError(
                f"{'other weights' if against else 'a modality to hide'} came for {kind}, expected for cases alone; "
                "leave it out",
                "against" if against else "drop",
            )
        with Bar("evaluate") as advance:
            summary = one_modality.evaluate(
                cohort, out, kind=kind, weights=weights, mpp=mpp, split=split, settings=settings(), progress=advance
            )
        _say(summary, one_modality.in_words(summary), out, as_json=as_json)
        return
    if mpp is not None:
        raise InputError(
            "microns per pixel came for a cohort of cases, expected them for tiles; fill in its column slide_mpp", "mpp"
        )
    count = 0 if corruptions == "off" else int(corruptions)
    chosen = RunSettings(split=split, drop=drop, corruptions=count, workers=workers)
    with Bar("evaluate") as advance:
        summary = evaluation.evaluate(
            cohort, out, weights=weights, against=tuple(against or ()), chosen=chosen, progress=advance
        )
    _say(summary, evaluation.in_words(summary), out, as_json=as_json)


def _say(summary: dict[str, Any], words: list[str], out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    print("\n".join(words))
    print(f"written to   {out}  (evaluation.html)\nResearch use only, not a medical device.")


def _folded(cohort: Path, fold: int | None) -> Path:
    """The cohort, or the table beside it in which this fold is the test part."""
    from cmssd_core.cohort.split import fold_table

    return cohort if fold is None else fold_table(cohort, fold)


def calibrate(
    cohort: Path,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default one a core", min=1)] = None,
    out: Annotated[Path, typer.Option(help="folder of the cases done; a killed run goes on there")] = Path(
        "calibration"
    ),
) -> None:
    """Fit probabilities, intervals and what counts as strange on the val split; kept beside the weights."""
    from cmssd_core.config import settings
    from cmssd_core.studies.calibrate import calibrate as fit

    remark(cohort)
    with Bar("calibrate") as advance:
        path = fit(cohort, out, weights=weights, workers=workers, settings=settings(), progress=advance)
    print(path)


def compare(
    cohort: Path,
    models: Annotated[
        str, typer.Option(help="names, the first is compared with each other", autocompletion=completion.propose_models)
    ] = ("cmssd,resnet50,osnet,early,late"),
    seeds: Annotated[int, typer.Option(help="runs of each model", min=1)] = 3,
    steps: Annotated[int | None, typer.Option(help="of each run; default the recipe's", min=1)] = None,
    size: Annotated[
        str, typer.Option(help="a size that cmssd models lists", autocompletion=completion.propose_size)
    ] = "compact",
    config: Annotated[Path | None, typer.Option(help="JSON of training settings")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs; a killed comparison goes on there")] = Path("compared"),
    as_json: Json = False,
) -> None:
    """Train models by one recipe and budget, several seeds each, and compare them on the test split."""
    from cmssd_core.config import settings
    from cmssd_core.studies import compare as room
    from cmssd_core.training.recipe import settings_from

    if config is not None and not config.is_file():
        raise InputError(f"no training config at {config.name}; expected a JSON file; check the path", "config")
    chosen = room.CompareSettings(
        models=tuple(name.strip() for name in models.split(",")),
        seeds=seeds,
        size=size,
        steps=steps,
        recipe=settings_from(config.read_text(encoding="utf-8") if config else "{}"),
    )
    remark(cohort)
    with Bar("compare") as advance:
        summary = room.compare(cohort, out, chosen=chosen, program=settings(), progress=advance)
    if as_json:
        print_json(summary)
    else:
        print(out / "comparison.html")
