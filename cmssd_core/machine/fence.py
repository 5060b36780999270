"""A fence: a stranger's file is read in a child process whose memory and time end long before the server's do.

It holds faults and excess in, not an attacker who runs code in the child: that is the same user's process. Memory, time
of the processor and the life with the parent are held by Linux alone; the time on the wall everywhere.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmssd_core.types import InputError, frozen

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = list[npt.NDArray[Any]]

_LOG = logging.getLogger("cmssd.fence")
#: All the child gets of the environment: no secret, and no setting, since all it needs to know stands in the question.
_ENVIRONMENT = frozenset(
    ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "VIRTUAL_ENV",
     "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
)  # fmt: skip
_ANSWER, _COMPLAINTS = "answer.json", "complaints.txt"
#: As many children at once as there are processors: the others wait, and their time does not run.
_PLACES = threading.BoundedSemaphore(os.cpu_count() or 1)
#: Lines of a dying process that tell kind and place. All else may hold words of the file, and so a person's name.
_TELLING = re.compile(
    r"^(?:Fatal Python error: ([\w ]+)|  File \"(?:[^\"]*/)?([^\"/]+)\", line (\d+) in)", re.MULTILINE
)


@dataclass(frozen=True, kw_only=True)
class Fence:
    """How much one reading may take. within: where its private folder is made, None = the system's temporary folder."""

    memory_mb: int = 4096
    seconds: float = 120.0
    within: Path | None = None

    def run(self, function: Callable[..., Any], *, name: str, **arguments: Any) -> Any:
        """What `function(**arguments)` gives, computed in a child process. function: of a module.

        Arguments and answer are made of mappings by name, tuples, paths, arrays, text, numbers and None; arrays come
        back read-only. Raises the child's own InputError; for all else that goes wrong one that names the file, `name`.
        """
        asked = {
            "module": function.__module__, "function": function.__qualname__, "arguments": _packed(arguments, None),
            "memory_mb": self.memory_mb, "seconds": self.seconds, "parent": os.getpid(),
        }  # fmt: skip
        with _PLACES, tempfile.TemporaryDirectory(prefix="cmssd-read-", dir=self.within) as folder:
            status = self._wait(json.dumps(asked), Path(folder))
            if status is None:
                self._log("ran out of time", Path(folder))
                raise InputError(
                    f"'{name}' cannot be read within {_in_words(self.seconds)}: it is damaged or too large; export it "
                    "again, or crop it"
                )
            try:
                said = json.loads((Path(folder) / _ANSWER).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                said = {}
            if "mistake" in said:
                raise InputError(said["mistake"], said["field"])
            if "fault" in said:
                _LOG.warning("a file was not read: %s at %s", said["fault"], said["place"])
                raise InputError(self._describe_fault(said["fault"], name))
            if status != 0 or "answer" not in said:
                self._log(_name_status(status), Path(folder))
                raise InputError(f"'{name}' is damaged in a way that ended the program that read it; export it again")
            return _unpacked(said["answer"], Path(folder))

    def _wait(self, asked: str, folder: Path) -> int | None:
        """The child's exit status, None where it ran out of time."""
        root = str(Path(__file__).resolve().parents[2])
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        # What a killed child leaves in the temporary folder is gone with ours. One thread a library: less to set up.
        environment |= {"TMPDIR": str(folder), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with (folder / _COMPLAINTS).open("wb") as complaints:
            try:
                return subprocess.run(
                    [sys.executable, "-P", "-m", __spec__.name], input=asked.encode(), env=environment, cwd=folder,
                    stdout=complaints, stderr=complaints, timeout=self.seconds, check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                return None

    def _describe_fault(self, kind: str, name: str) -> str:
        if kind == "MemoryError":
            return (
                f"'{name}' needs more than {self.memory_mb / 1024:.3g} GB of memory to be read: it is damaged or too "
                "large; export it again, or crop it"
            )
        return f"'{name}' is damaged or of a kind that CM-SSD does not know; export it again in another format"

    def _log(self, what: str, folder: Path) -> None:
        with (folder / _COMPLAINTS).open("rb") as complaints:
            complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - (1 << 14)))
            words = complaints.read().decode("utf-8", "replace")
        found = [kind or f"{file}:{line}" for kind, file, line in _TELLING.findall(words)]
        _LOG.warning("a file was not read: its process %s; %s", what, " < ".join(found[:6]) or "it said nothing")


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def _name_status(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}"
    return f"ended by signal {-status}"


# Through the fence: JSON, and arrays as files beside it. No pickle, which could run code here.


def _packed(value: Any, arrays: Arrays | None) -> Any:
    if isinstance(value, Mapping):
        return {"fields": {name: _packed(each, arrays) for name, each in value.items()}}
    if isinstance(value, tuple | list):
        return [_packed(each, arrays) for each in value]
    if isinstance(value, Path):
        return {"path": str(value.absolute())}  # the child stands in a folder of its own
    if arrays is not None and hasattr(value, "__array_interface__") and value.ndim:
        arrays.append(value)
        return {"array": len(arrays) - 1}
    return value


def _unpacked(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(each, folder) for each in value)
    if not isinstance(value, dict):
        return value
    if "fields" in value:
        return {name: _unpacked(each, folder) for name, each in value["fields"].items()}
    if "path" in value:
        return Path(value["path"])
    import numpy as np

    return frozen(np.load(folder / f"{int(value['array'])}.npy", allow_pickle=False))


# In the child


def main() -> None:
    """Answer the one question that stands on the standard input, in files of the working folder."""
    faulthandler.enable(all_threads=False)
    asked = json.load(sys.stdin)
    _fence_in(asked)
    arrays: Arrays = []
    said: dict[str, Any]
    try:
        function = getattr(import_module(asked["module"]), asked["function"])
        said = {"answer": _packed(function(**_unpacked(asked["arguments"], Path())), arrays)}
        _save(arrays)
    except InputError as mistake:
        said = {"mistake": str(mistake), "field": mistake.field}
    except Exception as fault:
        said = {"fault": type(fault).__name__, "place": _place(fault)}
    Path(_ANSWER).write_text(json.dumps(said), encoding="utf-8")


def _save(arrays: Arrays) -> None:
    if arrays:
        import numpy as np

        for number, array in enumerate(arrays):
            np.save(f"{number}.npy", array, allow_pickle=False)


def _place(fault: BaseException) -> str:
    places, step = [], fault.__traceback__
    while step is not None:
        places.append(f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}")
        step = step.tb_next
    return " < ".join(reversed(places[-4:]))


def _fence_in(asked: Mapping[str, Any]) -> None:
    """Set the limits of this process, which it cannot raise again."""
    if sys.platform != "linux":
        return
    import ctypes
    import resource

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no life without the parent
    if os.getppid() != asked["parent"]:
        raise SystemExit(1)
    processors = os.cpu_count() or 1
    limits = {
        # Not the address space: libraries map much of it and use little.
        resource.RLIMIT_DATA: asked["memory_mb"] << 20,
        resource.RLIMIT_FSIZE: asked["memory_mb"] << 20,
        resource.RLIMIT_CPU: math.ceil(asked["seconds"] * processors),
        resource.RLIMIT_CORE: 0,
    }
    for limit, most in limits.items():
        allowed = resource.getrlimit(limit)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    main()
