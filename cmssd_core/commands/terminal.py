"""What commands say and how: progress on stderr, one JSON object on stdout."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

err = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]


def print_json(told: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(told, allow_nan=False))


class Bar:
    """A progress bar on stderr: called with (done, of, what)."""

    def __init__(self, what: str) -> None:
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
