"""Commands about one case and about the program: predict, inspect, doctor, models, app."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cmssd_core.commands import completion
from cmssd_core.commands.terminal import FLAGS, Bar, Json, print_json
from cmssd_core.types import InputError


def predict(
    mri: Annotated[Path | None, typer.Option(help="NIfTI, NRRD, MHA, a DICOM folder or zip")] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="a contrast by name, e.g. t1=PATH; repeatable", autocompletion=completion.propose_contrast),
    ] = None,
    he: Annotated[Path | None, typer.Option(help="slide or tile")] = None,
    mpp: Annotated[float | None, typer.Option(help="microns per pixel, where the slide does not say")] = None,
    site: Annotated[str | None, typer.Option(help="where the biopsy was taken: X,Y,Z in RAS+ mm")] = None,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("cmssd-result"),
    as_json: Json = False,
) -> None:
    """One case: severity, maps, report."""
    from cmssd_core.cases import admit as cases
    from cmssd_core.config import settings

    config = settings()
    case = cases.admit(
        mri=mri,
        contrasts=_contrasts(contrast or []),
        he=he,
        mpp=mpp,
        site_mm=_site(site),
        unpacked_limit_mb=config.unpacked_limit_mb,
    )
    # Only now torch and what draws: a file that is refused is refused at once.
    from cmssd_core.inference import predict as inference
    from cmssd_core.machine.store import open_store
    from cmssd_core.report import files
    from cmssd_core.report.answers import EXPECTED, describe_answers

    predictor = inference.load(weights, settings=config)
    store = open_store(config)
    with Bar("predict") as advance:
        result = inference.predict(
            case,
            predictor,
            settings=config,
            store=store,
            progress=lambda share, what: advance(round(share * 100), 100, what),
        )
    files.write(result, case, out, tiers=config.severity_tiers, store=store)
    summary = files.prediction_json(result, tiers=config.severity_tiers)
    if as_json:
        print_json(summary)
        return
    severity = f"{result.severity_pct:.1f} %" if result.severity_pct is not None else f"none: {result.severity_reason}"
    if result.severity_interval is not None:
        low, high = result.severity_interval
        share = 100 * (result.uncertainty or {})["coverage"]
        severity += f"  ({share:.0f} % interval {low:.1f} to {high:.1f}, where images are like the calibration's)"
    print(f"severity     {severity}" + (f"  (tier {result.tier}, bounds unvalidated)" if result.tier else ""))
    malignant = result.p_malignant
    print(f"p(malignant) {'none: this model does not answer malignancy' if malignant is None else f'{malignant:.3f}'}")
    for line in describe_answers(result):
        if line.task not in EXPECTED:
            print(f"{line.task:<12} {line.value}  ({line.doubt})")
    if result.tumour_ml is not None and "severity_pct" not in result.answers:
        print(f"tumour       {result.tumour_ml:.1f} ml")
    for finding in result.quality:
        print(f"{finding.level:<12} {finding.where}: {finding.what}")
    print(f"model        {result.model_id}, trained on {result.trained}")
    print(f"written to   {out}  (report.html)\nResearch use only, not a medical device.")


def inspect(path: Path, as_json: Json = False) -> None:
    """Say what a file or folder is, how it would be read, and what is wrong with it."""
    from cmssd_core.cohort.inspect import inspect as look

    summary = look(path)
    if as_json:
        print_json(summary)
    else:
        for key, value in summary.items():
            print(f"{key:<12} {value if isinstance(value, str) else json.dumps(value)}")
    if summary["problem"]:
        flag = FLAGS.get(summary.get("field") or "")
        raise InputError(summary["problem"] + (f" (cmssd predict {flag})" if flag else ""))


def doctor(as_json: Json = False) -> None:
    """Check the installation and say how to mend it."""
    from cmssd_core.config import settings
    from cmssd_core.machine import doctor as room

    checks = []
    for check in room.run_checks(settings()):
        checks.append(check)
        if not as_json:  # at once: some checks load a library for seconds
            mark = "ok  " if check.ok else ("FAIL" if check.required else "note")
            advice = f"\n     -> {check.advice}" if check.advice else ""
            print(f"{mark} {check.name:<15} {check.found}{advice}", flush=True)
    fit = room.fit(tuple(checks))
    if as_json:
        print_json({"ok": fit, "checks": [asdict(check) for check in checks]})
    raise typer.Exit(0 if fit else 1)


def models(as_json: Json = False) -> None:
    """List what is on offer."""
    from cmssd_core.weights.offer import list_models

    rows = list_models()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        print(
            f"{row.name:<8} {row.size:<10} {row.parameters / 1e6:6.1f} M  {row.gflop:6.1f} GFLOP  "
            f"needs {', '.join(row.needs)}  weights {row.weights or 'none shipped'}"
        )


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
    os.execv(command[0], command)  # becomes the server: no process waits beside it, and a signal reaches it alone


def _contrasts(pairs: list[str]) -> dict[str, Path]:
    from cmssd_core.volume.contrasts import CONTRASTS

    found: dict[str, Path] = {}
    for pair in pairs:
        given, _, path = pair.partition("=")
        name = given.lower()
        if name not in CONTRASTS or not path:
            raise InputError(f"{pair} came, expected NAME=PATH with NAME one of {', '.join(CONTRASTS)}", "contrast")
        if name in found:
            raise InputError(
                f"{name} came twice ({found[name]} and {path}), expected each contrast once; leave one out", "contrast"
            )
        found[name] = Path(path)
    return found


def _site(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{text} came, expected X,Y,Z in millimetres, e.g. 12.5,-30,4", "site") from None
    return x, y, z
