"""The command `cmssd audit`: whether explanations of a model are to be believed on a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmssd_core.commands import completion
from cmssd_core.commands.terminal import Bar, Json, print_json, remark


def audit(
    cohort: Path,
    weights: Annotated[
        list[Path] | None, typer.Option(help="weights file; default the shipped ones; repeat for seeds or folds")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="method of explaining; repeatable; default integrated_gradients, gradcam",
            autocompletion=completion.propose(*completion.METHODS),
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="test or all", autocompletion=completion.propose(*completion.SPLITS))
    ] = "test",
    cases: Annotated[int, typer.Option(help="at most so many cases are read", min=1)] = 40,
    workers: Annotated[int | None, typer.Option(help="processes; default one a core", min=1)] = None,
    out: Annotated[Path, typer.Option(help="folder for audit.json and audit.html")] = Path("audit"),
    as_json: Json = False,
) -> None:
    """Say whether a model's maps rest on the criteria of pathology or on something else: a verdict, and why."""
    from cmssd_core.audit import run
    from cmssd_core.audit.examine import AuditSettings
    from cmssd_core.config import settings

    chosen = AuditSettings(split=split, cases=cases, workers=workers)
    if method:
        chosen = AuditSettings(methods=tuple(dict.fromkeys(method)), split=split, cases=cases, workers=workers)
    remark(cohort)
    with Bar("audit") as advance:
        summary = run.audit(
            cohort, out, weights=tuple(weights or ()), chosen=chosen, settings=settings(), progress=advance
        )
    if as_json:
        print_json(summary)
        return
    print("\n".join(run.in_words(summary)))
    print(f"written to   {out}  (audit.html)\nResearch use only, not a medical device.")
