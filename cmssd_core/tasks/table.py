"""THE table of tasks: name -> kind, label, unit and the truth it is taught by. A new task is one row here."""

from __future__ import annotations

from cmssd_core.tasks.classes import CLASS
from cmssd_core.tasks.kinds import Kind, Task
from cmssd_core.tasks.maps import MAP
from cmssd_core.tasks.numbers import NUMBER
from cmssd_core.tasks.survival import SURVIVAL

KINDS: dict[str, Kind] = {kind.name: kind for kind in (MAP, CLASS, NUMBER, SURVIVAL)}


def _task(name: str, kind: Kind, label: str, *, unit: str = "", term: str = "", scale: float = 1.0,
          covered_by: str | None = None) -> Task:  # fmt: skip
    return Task(name=name, kind=kind, label=label, unit=unit, truth=name, term=term or name, scale=scale,
                covered_by=covered_by)  # fmt: skip


#: In the order in which answers are told. "lesion" and "destruction" are maps a model may be taught and not promise.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _task("malignant", CLASS, "malignancy"),
        # A tumour is that lesion or nothing, so where the lesion is drawn its overlap says it all.
        _task("tumour", MAP, "tumour map", covered_by="lesion"),
        _task("bone", MAP, "bone map"),
        _task("lesion", MAP, "lesion map"),
        _task("destruction", MAP, "map of destroyed cortex"),
        _task("severity_pct", NUMBER, "severity", unit="%", term="severity", scale=100.0),
        _task("risk", SURVIVAL, "risk", unit="log hazard"),
    )
}
