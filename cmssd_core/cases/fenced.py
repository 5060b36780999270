"""A modality's reader behind the fence: its file is read in a child process, its noun comes back whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.machine.fence import Fence
from cmssd_core.types import Finding, Reading


def read(modality: str, fence: Fence | None = None, **arguments: Any) -> Reading[Any]:
    """What the modality's reader makes of these arguments; behind a fence where one is given. Raises InputError."""
    if fence is None:
        return MODALITIES[modality].read(**arguments)
    values = [value.values() if isinstance(value, Mapping) else [value] for value in arguments.values()]
    name = "', '".join(each.name for some in values for each in some if isinstance(each, Path))
    answer = fence.run(_read, name=name or MODALITIES[modality].label, modality=modality, arguments=arguments)
    return Reading(
        value=MODALITIES[modality].kind(**answer["value"]),
        digest=answer["digest"],
        findings=tuple(Finding(**each) for each in answer["findings"]),
        steps=answer["steps"],
    )


def read_outlines(path: Path, fence: Fence, *, name: str, width: int, height: int) -> Any:
    """What `slide.geojson.read_geojson` makes of a file, read behind the fence. Raises InputError."""
    return json.loads(fence.run(_read_outlines, name=name, path=path, width=width, height=height))


def _read_outlines(path: Path, width: int, height: int) -> str:
    from cmssd_core.slide.geojson import read_geojson

    return json.dumps(read_geojson(path.read_bytes(), width=width, height=height))


def _read(modality: str, arguments: Mapping[str, Any]) -> Mapping[str, object]:
    reading = MODALITIES[modality].read(**arguments)
    return {
        "value": {each.name: getattr(reading.value, each.name) for each in fields(reading.value)},
        "digest": reading.digest,
        "findings": [asdict(each) for each in reading.findings],
        "steps": reading.steps,
    }
