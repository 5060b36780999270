"""`cmssd ...`: the command line. Progress goes to stderr; 0 done, 1 our fault, 2 the user's, 130 interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cmssd_core import doctor as doctor_room
from cmssd_core.config import settings
from cmssd_core.types import CONTRASTS, InputError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="CM-SSD: bone-sarcoma severity from an MRI and an H&E slide. Research use only.",
)
err = Console(stderr=True)
#: What Typer raises for an unknown option or a bad value; it exports only this heir of it.
MISUSE: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]


@app.command()
def predict(
    mri: Annotated[Path | None, typer.Option(help="NIfTI, NRRD, MHA, a DICOM folder or zip")] = None,
    contrast: Annotated[list[str] | None, typer.Option(help="a contrast by name, e.g. t1=PATH; repeatable")] = None,
    he: Annotated[Path | None, typer.Option(help="slide or tile")] = None,
    mpp: Annotated[float | None, typer.Option(help="microns per pixel, where the slide does not say")] = None,
    site: Annotated[str | None, typer.Option(help="where the biopsy was taken: X,Y,Z in RAS+ mm")] = None,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("cmssd-result"),
    as_json: Json = False,
) -> None:
    """One case: severity, maps, report."""
    from cmssd_core import cases, inference
    from cmssd_core.report import files
    from cmssd_core.store import open_store

    config = settings()
    case = cases.admit(
        mri=mri,
        contrasts=_contrasts(contrast or []),
        he=he,
        mpp=mpp,
        site_mm=_site(site),
        unpacked_limit_mb=config.unpacked_limit_mb,
    )
    predictor = inference.load(weights, settings=config)
    store = open_store(config)
    with _bar("predict") as advance:
        result = inference.predict(
            case,
            predictor,
            settings=config,
            store=store,
            progress=lambda share, what: advance(round(share * 100), 100, what),
        )
    files.write(result, case, out, tiers=config.severity_tiers, store=store)
    told = files.prediction_json(result, tiers=config.severity_tiers)
    if as_json:
        _print(told)
        return
    severity = f"{result.severity_pct:.1f} %" if result.severity_pct is not None else f"none: {result.severity_reason}"
    print(f"severity     {severity}" + (f"  (tier {result.tier}, bounds unvalidated)" if result.tier else ""))
    print(f"p(malignant) {result.p_malignant:.3f}")
    for finding in result.quality:
        print(f"{finding.level:<12} {finding.where}: {finding.what}")
    print(f"model        {result.model_id}, trained on {result.trained}")
    print(f"written to   {out}  (report.html)\nResearch use only, not a medical device.")


@app.command()
def inspect(path: Path, as_json: Json = False) -> None:
    """Say what a file or folder is, how it would be read, and what is wrong with it."""
    from cmssd_core.inspection import inspect as look

    told = look(path)
    if as_json:
        _print(told)
    else:
        for key, value in told.items():
            print(f"{key:<12} {value if isinstance(value, str) else json.dumps(value)}")
    if told["problem"]:
        raise InputError(told["problem"])


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation and say how to mend it."""
    checks = doctor_room.examine(settings())
    fit = all(check.ok or not check.required for check in checks)
    if as_json:
        _print({"ok": fit, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            mark = "ok  " if check.ok else ("FAIL" if check.required else "note")
            print(f"{mark} {check.name:<15} {check.found}" + (f"\n     -> {check.advice}" if check.advice else ""))
    raise typer.Exit(0 if fit else 1)


@app.command()
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
    with _bar("synth") as advance:
        path = cohort.write(out, settings=chosen, workers=workers, progress=lambda done, of: advance(done, of, "cases"))
    for line in lines(json.loads((out / "synth.json").read_text())["oracle"]):
        err.print(line, highlight=False)
    print(path)


@app.command()
def train(
    cohort: Path,
    model: str = "cmssd",
    size: Annotated[str | None, typer.Option(help="reference or compact")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON of training settings")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    out: Annotated[Path, typer.Option(help="run folder")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    init: Annotated[Path | None, typer.Option(help="weights to start from instead of random ones")] = None,
) -> None:
    """Train on a cohort into a run folder."""
    from cmssd_core import model_card, recipe, training

    text = "{}"
    if config is not None:
        if not config.is_file():
            raise InputError(f"no training config at {config.name}; expected a JSON file; check --config")
        text = config.read_text()
    chosen = recipe.settings_from(text, model=model, size=size, seed=seed)
    with _bar("train") as advance:
        path = training.train(cohort, out, settings=chosen, resume=resume, init=init, progress=advance)
    with _bar("evaluate") as advance:
        model_card.write(cohort, out, progress=advance)
    print(path)


@app.command()
def evaluate(
    cohort: Path,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    against: Annotated[list[Path] | None, typer.Option(help="other weights to compare with; repeatable")] = None,
    split: Annotated[str, typer.Option(help="test or all")] = "test",
    drop: Annotated[str | None, typer.Option(help="hide mri or he from every model")] = None,
    corruptions: Annotated[str, typer.Option(help="cases put through the corruptions, or off")] = "16",
    workers: Annotated[int | None, typer.Option(help="processes; default one a core", min=1)] = None,
    out: Annotated[Path, typer.Option(help="folder for the results; a killed run goes on there")] = Path("evaluation"),
    as_json: Json = False,
) -> None:
    """Figures with intervals of a model on a cohort, its robustness, and a page about it."""
    from cmssd_core import evaluate as evaluation
    from cmssd_core.cohort_run import RunSettings

    if corruptions != "off" and not corruptions.isdecimal():
        raise InputError(f"--corruptions {corruptions} came, expected a number of cases or off")
    count = 0 if corruptions == "off" else int(corruptions)
    chosen = RunSettings(split=split, drop=drop, corruptions=count, workers=workers)
    with _bar("evaluate") as advance:
        told = evaluation.evaluate(
            cohort, out, weights=weights, against=tuple(against or ()), chosen=chosen, progress=advance
        )
    if as_json:
        _print(told)
        return
    for words in evaluation.in_words(told):
        print(words)
    print(f"written to   {out}  (evaluation.html)\nResearch use only, not a medical device.")


@app.command()
def calibrate(
    cohort: Path,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default one a core", min=1)] = None,
    out: Annotated[Path, typer.Option(help="folder of the cases done; a killed run goes on there")] = Path(
        "calibration"
    ),
) -> None:
    """Fit probabilities, intervals and what counts as strange on the val split; kept beside the weights."""
    from cmssd_core.calibrate import calibrate as fit

    with _bar("calibrate") as advance:
        path = fit(cohort, out, weights=weights, workers=workers, settings=settings(), progress=advance)
    print(path)


@app.command()
def compare(
    cohort: Path,
    models: Annotated[str, typer.Option(help="names, the first is compared with each other")] = (
        "cmssd,resnet50,osnet,early,late"
    ),
    seeds: Annotated[int, typer.Option(help="runs of each model", min=1)] = 3,
    steps: Annotated[int | None, typer.Option(help="of each run; default the recipe's", min=1)] = None,
    size: Annotated[str, typer.Option(help="reference or compact")] = "compact",
    config: Annotated[Path | None, typer.Option(help="JSON of training settings")] = None,
    out: Annotated[Path, typer.Option(help="folder of the runs; a killed comparison goes on there")] = Path("compared"),
    as_json: Json = False,
) -> None:
    """Train models by one recipe and budget, several seeds each, and compare them on the test split."""
    from cmssd_core import compare as room
    from cmssd_core.recipe import settings_from

    if config is not None and not config.is_file():
        raise InputError(f"no training config at {config.name}; expected a JSON file; check --config")
    chosen = room.CompareSettings(
        models=tuple(name.strip() for name in models.split(",")),
        seeds=seeds,
        size=size,
        steps=steps,
        recipe=settings_from(config.read_text() if config else "{}"),
    )
    with _bar("compare") as advance:
        told = room.compare(cohort, out, chosen=chosen, program=settings(), progress=advance)
    if as_json:
        _print(told)
    else:
        print(out / "comparison.html")


@app.command()
def models(as_json: Json = False) -> None:
    """List what is on offer."""
    from cmssd_core.listing import listing

    rows = listing()
    if as_json:
        _print(rows)
        return
    for row in rows:
        print(
            f"{row['name']:<8} {row['size']:<10} {row['parameters'] / 1e6:6.1f} M  {row['gflop']:6.1f} GFLOP  "
            f"needs {', '.join(row['needs'])}  weights {row['weights'] or 'none shipped'}"
        )


@app.command("app")
def dashboard(
    cohort: Annotated[Path | None, typer.Option(help="cohort folder to open")] = None,
    port: Annotated[int | None, typer.Option(help="default: the first free one from 8501", min=1, max=65535)] = None,
    headless: Annotated[bool, typer.Option("--headless", help="do not open a browser")] = False,
) -> None:
    """Open the dashboard."""
    command = [sys.executable, "-m", "dashboard.launch"]
    command += ["--cohort", str(cohort)] if cohort else []
    command += ["--port", str(port)] if port else []
    command += ["--headless"] if headless else []
    with subprocess.Popen(command) as server:
        try:
            raise typer.Exit(server.wait())
        except KeyboardInterrupt:
            server.terminate()  # and not killed: it removes patients' files as it stops
            server.wait()
            raise


def _contrasts(pairs: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pair in pairs:
        given, _, path = pair.partition("=")
        name = given.lower()
        if name not in CONTRASTS or not path:
            raise InputError(f"--contrast {pair} came, expected NAME=PATH with NAME one of {', '.join(CONTRASTS)}")
        if name in found:
            raise InputError(
                f"--contrast {name} came twice ({found[name]} and {path}), expected each contrast once; leave one out"
            )
        found[name] = Path(path)
    return found


def _site(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--site {text} came, expected X,Y,Z in millimetres, e.g. --site 12.5,-30,4") from None
    return x, y, z


def _print(told: Any) -> None:
    print(json.dumps(told, allow_nan=False))


class _bar:  # noqa: N801 - used as a function
    """A progress bar on stderr: called with (done, of, what)."""

    def __init__(self, what: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=err, transient=True)
        self.task = self.progress.add_task(what, total=None)

    def __enter__(self) -> _bar:
        self.progress.start()
        return self

    def __call__(self, done: int, of: int, what: str) -> None:
        self.progress.update(self.task, completed=done, total=of, description=what)

    def __exit__(self, *error: object) -> None:
        self.progress.stop()


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM is what Ctrl-C is, so that temporary folders are removed on the way out."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: list[str] | None = None) -> None:
    """The program `cmssd`: runs a command and exits with the status that cli.md promises."""
    try:
        with _stopped_by_sigterm():
            status = app(arguments, standalone_mode=False) or 0
        if status == 130:  # what Typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.exit(status)
    except InputError as mistake:
        print(str(mistake), file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except MISUSE as misuse:
        told = misuse.format_message() if isinstance(misuse, typer.BadParameter) else misuse
        print(f"{told} (see cmssd --help)", file=sys.stderr)
        sys.exit(2)
    except Exception as fault:
        # Not from settings(): they may be what failed.
        if os.environ.get("CMSSD_DEBUG", "").lower() in ("1", "true", "yes", "on", "t", "y"):
            raise
        print(f"the program failed ({type(fault).__name__}: {fault}); CMSSD_DEBUG=1 shows where", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
