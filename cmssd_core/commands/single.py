"""Commands about one case and about the program: predict, inspect, doctor, models, app."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cmssd_core import doctor as doctor_room
from cmssd_core.commands.terminal import Bar, Json, print_json
from cmssd_core.config import settings
from cmssd_core.types import CONTRASTS, InputError


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
    with Bar("predict") as advance:
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
        print_json(told)
        return
    severity = f"{result.severity_pct:.1f} %" if result.severity_pct is not None else f"none: {result.severity_reason}"
    if result.severity_interval is not None:
        low, high = result.severity_interval
        share = 100 * (result.uncertainty or {})["coverage"]
        severity += f"  ({share:.0f} % interval {low:.1f} to {high:.1f}, where images are like the calibration's)"
    print(f"severity     {severity}" + (f"  (tier {result.tier}, bounds unvalidated)" if result.tier else ""))
    print(f"p(malignant) {result.p_malignant:.3f}")
    for finding in result.quality:
        print(f"{finding.level:<12} {finding.where}: {finding.what}")
    print(f"model        {result.model_id}, trained on {result.trained}")
    print(f"written to   {out}  (report.html)\nResearch use only, not a medical device.")


def inspect(path: Path, as_json: Json = False) -> None:
    """Say what a file or folder is, how it would be read, and what is wrong with it."""
    from cmssd_core.inspection import inspect as look

    told = look(path)
    if as_json:
        print_json(told)
    else:
        for key, value in told.items():
            print(f"{key:<12} {value if isinstance(value, str) else json.dumps(value)}")
    if told["problem"]:
        raise InputError(told["problem"])


def doctor(as_json: Json = False) -> None:
    """Check the installation and say how to mend it."""
    checks = doctor_room.examine(settings())
    fit = all(check.ok or not check.required for check in checks)
    if as_json:
        print_json({"ok": fit, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            mark = "ok  " if check.ok else ("FAIL" if check.required else "note")
            print(f"{mark} {check.name:<15} {check.found}" + (f"\n     -> {check.advice}" if check.advice else ""))
    raise typer.Exit(0 if fit else 1)


def models(as_json: Json = False) -> None:
    """List what is on offer."""
    from cmssd_core.listing import listing

    rows = listing()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(
            f"{row['name']:<8} {row['size']:<10} {row['parameters'] / 1e6:6.1f} M  {row['gflop']:6.1f} GFLOP  "
            f"needs {', '.join(row['needs'])}  weights {row['weights'] or 'none shipped'}"
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
