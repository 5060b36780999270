"""`cmssd ...`: the command line. Progress goes to stderr; 0 done, 1 our fault, 2 the user's, 130 interrupted."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from cmssd_core.commands import audit, cohort, explaining, single
from cmssd_core.commands.terminal import name_flag
from cmssd_core.types import InputError

#: Every command, in the order in which `cmssd --help` lists them.
COMMANDS: dict[str, Callable[..., None]] = {
    "predict": single.predict,
    "explain": explaining.explain,
    "inspect": single.inspect,
    "doctor": single.doctor,
    "synth": cohort.synth,
    "split": cohort.split,
    "train": cohort.train,
    "calibrate": cohort.calibrate,
    "evaluate": cohort.evaluate,
    "audit": audit.audit,
    "compare": cohort.compare,
    "models": single.models,
    "app": single.dashboard,
}
app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around the help would take as long as all the rest of it
    help="CM-SSD: bone-sarcoma severity from an MRI and an H&E slide. Research use only.",
)
for name, command in COMMANDS.items():
    # Said, because Typer cuts what it takes from the docstring itself to half a line.
    app.command(name, short_help=(command.__doc__ or "").splitlines()[0])(command)
FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk's, wherever it was met
#: What Typer raises for an unknown option or a bad value; it exports only this heir of it.
MISUSE: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


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


def _flags(arguments: list[str]) -> set[str]:
    """The flags of the command that these arguments call."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    called = next((commands[word] for word in arguments if word in commands), None)
    return {flag for parameter in called.params for flag in parameter.opts} if called else set()


def main(arguments: list[str] | None = None) -> None:
    """The program `cmssd`: runs a command and exits with the status that docs/command-line.md promises."""
    try:
        with _stopped_by_sigterm():
            status = app(arguments, standalone_mode=False) or 0
        if status == 130:  # what Typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.exit(status)
    except InputError as mistake:
        print(name_flag(mistake, flags=_flags(sys.argv[1:] if arguments is None else arguments)), file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except MISUSE as misuse:
        summary = misuse.format_message() if isinstance(misuse, typer.BadParameter) else misuse
        print(f"{summary} (see cmssd --help)", file=sys.stderr)
        sys.exit(2)
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in FULL:
            print(
                f"the disk is full ({fault.strerror}); free some space and run it again; what was finished is kept",
                file=sys.stderr,
            )
            sys.exit(2)
        # Not from settings(): they may be what failed.
        if os.environ.get("CMSSD_DEBUG", "").lower() in ("1", "true", "yes", "on", "t", "y"):
            raise
        print(f"the program failed ({type(fault).__name__}: {fault}); CMSSD_DEBUG=1 shows where", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
