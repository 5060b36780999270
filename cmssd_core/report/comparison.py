"""A comparison of models as one page: figures, differences, how it was made; no scripts, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cmssd_core.cases.modalities import BOTH, describe_given
from cmssd_core.evaluation.metrics import parts_at
from cmssd_core.report import page


def render(summary: Mapping[str, Any], *, made: datetime | None = None) -> str:
    """comparison.html from what comparison.json holds."""
    return page.render(
        "comparison.html.j2",
        told=summary,
        parts=parts_at("comparison"),
        conditions=_conditions(summary),
        made=made,
    )


def _conditions(summary: Mapping[str, Any]) -> dict[str, str]:
    """What models were given, by name, in words: all there is, then every smaller selection that one answered from."""
    smaller = [key.removesuffix("_only") for model in summary["models"].values() for key in model["by_modality"]]
    return {BOTH: "all there is"} | {given: describe_given(given) for given in dict.fromkeys(smaller)}
