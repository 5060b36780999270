"""A Case becomes what a model wants: each input by its modality's row."""

from __future__ import annotations

from dataclasses import replace

from cmssd_core.cases.modalities import MODALITIES
from cmssd_core.cases.site import is_registered
from cmssd_core.config import Settings
from cmssd_core.models.spec import Spec
from cmssd_core.types import Case, Input, InputError, PatchBag


def prepare(case: Case, *, spec: Spec, settings: Settings) -> Case:
    """The case with the inputs a model of this spec reads, as it wants them; what it does not read is left out.

    What was done is added to steps, what was noticed to findings. Raises InputError where an input cannot be used, or
    none of them is read.
    """
    inputs: dict[str, Input] = {}
    steps, findings = list(case.steps), list(case.findings)
    for name, value in case.inputs.items():
        if name not in spec:
            continue
        prepared, noticed, done = MODALITIES[name].prepare(value, spec[name], settings)
        if isinstance(prepared, PatchBag) and not is_registered(case):
            prepared = replace(prepared, site_mm=None)
        inputs[name] = prepared
        findings += [finding for finding in noticed if finding not in findings]
        steps += done
    if not inputs:
        came = " and ".join(MODALITIES[name].noun for name in case.inputs)
        reads = " and ".join(MODALITIES[name].noun for name in spec)
        raise InputError(f"{came} came, this model reads {reads}; add the missing file, or choose another model")
    return replace(case, inputs=inputs, steps=tuple(steps), findings=tuple(findings))
