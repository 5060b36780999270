"""`cmssd explain`: where one target of the model's answer on one case comes from, as maps in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmssd_core.commands.single import _contrasts, _site
from cmssd_core.commands.terminal import Bar, Json, print_json
from cmssd_core.config import settings


def explain(
    mri: Annotated[Path | None, typer.Option(help="NIfTI, NRRD, MHA, a DICOM folder or zip")] = None,
    contrast: Annotated[list[str] | None, typer.Option(help="a contrast by name, e.g. t1=PATH; repeatable")] = None,
    he: Annotated[Path | None, typer.Option(help="slide or tile")] = None,
    mpp: Annotated[float | None, typer.Option(help="microns per pixel, where the slide does not say")] = None,
    site: Annotated[str | None, typer.Option(help="where the biopsy was taken: X,Y,Z in RAS+ mm")] = None,
    weights: Annotated[Path | None, typer.Option(help="weights file; default the shipped ones")] = None,
    method: Annotated[str, typer.Option(help="how to explain; a wrong name lists them")] = "integrated_gradients",
    target: Annotated[str, typer.Option(help="malignant, benign, severity, or hazard")] = "malignant",
    out: Annotated[Path, typer.Option(help="folder for the maps")] = Path("cmssd-explanation"),
    as_json: Json = False,
) -> None:
    """One case: where the answer comes from, as NIfTI, GeoJSON, NPZ and PNG."""
    from cmssd_core import cases, inference
    from cmssd_core.explain import export
    from cmssd_core.explain.methods import chosen
    from cmssd_core.explain.methods import explain as ask
    from cmssd_core.explain.targets import Target
    from cmssd_core.store import open_store

    config = settings()
    kind, wanted = chosen(method), Target(target)
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
        told = ask(
            case,
            predictor,
            method,
            wanted,
            program=config,
            store=open_store(config),
            progress=lambda share, what: advance(round(share * 100), 100, what),
        )
    export.write(told, case, out)
    if as_json:
        print_json(export.attribution_json(told))
        return
    print(f"{told.label} of {told.target}: {told.value:.3f} {told.unit}")
    print(kind.meaning)
    if told.baseline is not None:
        print(f"baseline     {told.baseline}")
    if told.gap is not None:
        print(f"residual     {100 * told.gap:.1f} % of the difference to the baseline ({told.effort})")
    for share in told.shares:
        print(f"{share.name:<12} {share.value:+.3f}  {share.meaning}")
    print(f"model        {told.model_id}, trained on {told.trained}")
    print(f"written to   {out}\nResearch use only, not a medical device.")
