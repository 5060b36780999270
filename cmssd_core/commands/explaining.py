"""`cmssd explain`: where one target of the model's answer on one case comes from, as maps in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmssd_core.commands import completion
from cmssd_core.commands.single import _contrasts, _site
from cmssd_core.commands.terminal import Bar, Json, print_json


def explain(
    mri: Annotated[Path | None, typer.Option(help="NIfTI, NRRD, MHA, a DICOM folder or zip")] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(help="a contrast by name, e.g. t1=PATH; repeatable", autocompletion=completion.propose_contrast),
    ] = None,
    he: Annotated[Path | None, typer.Option(help="slide or tile")] = None,
    mpp: Annotated[float | None, typer.Option(help="microns per pixel, where the slide does not say")] = None,
    site: Annotated[str | None, typer.Option(help="where the biopsy was taken: X,Y,Z in RAS+ mm")] = None,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="how to explain; a wrong name lists them",
            autocompletion=completion.propose(*completion.METHODS, *completion.SHARES),
        ),
    ] = "integrated_gradients",
    target: Annotated[
        str,
        typer.Option(
            help="malignant, benign, severity, or hazard", autocompletion=completion.propose(*completion.TARGETS)
        ),
    ] = "malignant",
    out: Annotated[Path, typer.Option(help="folder for the maps")] = Path("cmssd-explanation"),
    as_json: Json = False,
) -> None:
    """One case: where the answer comes from, as NIfTI, GeoJSON, NPZ and PNG."""
    from cmssd_core.cases import admit as cases
    from cmssd_core.config import settings
    from cmssd_core.explain.methods import choose_method
    from cmssd_core.explain.methods import explain as ask
    from cmssd_core.explain.targets import Target
    from cmssd_core.inference import predict as inference
    from cmssd_core.machine.store import open_store
    from cmssd_core.report import attribution_files as export

    config = settings()
    kind, wanted = choose_method(method), Target(target)
    case = cases.admit(
        mri=mri,
        contrasts=_contrasts(contrast or []),
        he=he,
        mpp=mpp,
        site_mm=_site(site),
        unpacked_limit_mb=config.unpacked_limit_mb,
    )
    predictor = inference.load(weights, settings=config)
    with Bar("explain") as advance:
        summary = ask(
            case,
            predictor,
            method,
            wanted,
            program=config,
            store=open_store(config),
            progress=lambda share, what: advance(round(share * 100), 100, what),
        )
    export.write(summary, case, out)
    if as_json:
        print_json(export.attribution_json(summary))
        return
    print(f"{summary.label} of {summary.target}: {summary.value:.3f} {summary.unit}")
    print(kind.meaning)
    if summary.baseline is not None:
        print(f"baseline     {summary.baseline}")
    if summary.gap is not None:
        print(f"residual     {100 * summary.gap:.1f} % of the difference to the baseline ({summary.effort})")
    for share in summary.shares:
        print(f"{share.name:<12} {share.value:+.3f}  {share.meaning}")
    print(f"model        {summary.model_id}, trained on {summary.trained}")
    print(f"written to   {out}\nResearch use only, not a medical device.")
