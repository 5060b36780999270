"""An uploaded cohort.csv examined behind the fence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cmssd_core.cohort.check import Problem, Report
from cmssd_core.cohort.check import check as examine
from cmssd_core.machine.fence import Fence
from cmssd_core.types import Finding

_RECORDS = {"problems": Problem, "findings": Finding}


def check(table_file: Path, *, fence: Fence | None, **arguments: Any) -> Report:
    """What `cohort.check.check` finds with these arguments; behind a fence where one is given.

    Raises InputError where the fence holds the table in.
    """
    if fence is None:
        return examine(table_file, **arguments)
    answer = fence.run(_check, name=table_file.name, table_file=table_file, arguments=arguments)
    records = {name: tuple(_RECORDS[name](**each) for each in answer[name]) for name in _RECORDS if name in answer}
    return Report(**{**answer, **records})


def _check(table_file: Path, arguments: Mapping[str, Any]) -> Mapping[str, object]:
    return asdict(examine(table_file, **arguments))
