"""What commands say and how: progress on stderr, one JSON object on stdout, a mistake with the flag it is about."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from cmssd_core.types import InputError

Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]


#: What a field of the core is called on the command line. A command that has no such flag doesn't name it.
FLAGS: dict[str, str] = {
    "inputs": "--mri, --he",
    "mri": "--mri",
    "contrast": "--contrast NAME=PATH",
    "he": "--he",
    "mpp": "--mpp",
    "site": "--site",
    "weights": "--weights",
    "against": "--against",
    "init": "--init",
    "method": "--method",
    "target": "--target",
    "split": "--split",
    "drop": "--drop",
    "corruptions": "--corruptions",
    "fold": "--fold",
    "folds": "--folds",
    "replace": "--replace",
    "model": "--model",
    "models": "--models",
    "steps": "--steps",
    "config": "--config",
    "resume": "--resume",
    "out": "--out",
    "preset": "--preset",
    "cases": "--cases",
    "seed": "--seed",
    "centres": "--centres",
    "shift": "--shift",
    "contrasts": "--contrasts",
    "shape": "--shape",
    "slide_px": "--slide-px",
    "slide_mpp": "--slide-mpp",
    "slide_artefacts": "--slide-artefacts",
    "shortcut": "--shortcut",
    "shortcut_correlation": "--shortcut-correlation",
    "workers": "--workers",
}


def name_flag(mistake: InputError, *, flags: Collection[str]) -> str:
    """A user's mistake as one line, the flag it is about behind it where the command has that flag."""
    named = FLAGS.get(mistake.field or "", "")
    has_it = named and all(word in flags for word in named.replace(",", "").split() if word.startswith("--"))
    return f"{mistake} ({named})" if has_it else str(mistake)


def tell(line: str) -> None:
    """A line beside the answer: on stderr, as it is."""
    print(line, file=sys.stderr)


def remark(cohort: Path) -> None:
    """What need be known of how a cohort's table, or a folder of tiles or pairs, is read: a line each on stderr."""
    from cmssd_core.cohort.remarks import remarks

    for finding in remarks(cohort):
        tell(f"{finding.level}: {finding.what}" + (f" ({finding.where})" if finding.where else ""))


def print_json(summary: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(summary, allow_nan=False))


class Bar:
    """A progress bar on stderr: called with (done, of, what)."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        err = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self.task = self.progress.add_task(what, total=None)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __call__(self, done: int, of: int, what: str) -> None:
        """Show how far it has come, and with what."""
        self.progress.update(self.task, completed=done, total=of, description=what)

    def __exit__(self, *error: object) -> None:
        self.progress.stop()
