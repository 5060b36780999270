"""The models one can read about: weights in use, shipped, and of the demo, with card, parts and training curves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from cmssd_core.config import settings
from cmssd_core.evaluation import repeats, summary
from cmssd_core.evaluation.metrics import parts_at
from cmssd_core.types import InputError
from dashboard.services import performance
from dashboard.services.cohort import State
from dashboard.services.model import Progress, at_work, model
from dashboard.services.performance import Answers, Scope

if TYPE_CHECKING:
    import pandas as pd

    from cmssd_core.models.listing import Part

#: Weights that lie with the demo cohort: a checkout has them, a wheel does not.
DEMO = Path(__file__).resolve().parents[2] / "data_samples" / "weights"


@dataclass(frozen=True)
class Entry:
    """Weights one can read about. card: markdown beside them; curves: metrics.csv of the run; None = there is none."""

    weights: Path
    in_use: bool
    card: Path | None
    curves: Path | None


@dataclass(frozen=True)
class About:
    """What weights are: id, what they were trained on, what they read and give, their parts."""

    model_id: str
    name: str
    trained: str
    needs: tuple[str, ...]
    produces: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def gflop(self) -> float:
        """Of all parts, for one slice, one patch or one profile of each input it reads."""
        return sum(part.gflop for part in self.parts)


def entries() -> tuple[Entry, ...]:
    """The weights in use first, then the others that are shipped, then those of the demo cohort where that is there."""
    from cmssd_core.models.weights import DEFAULT, SHIPPED

    used = settings().weights or DEFAULT
    others = [
        path for folder in (SHIPPED, DEMO) for path in sorted(folder.glob("*.safetensors")) if "." not in path.stem
    ]
    every = [used, *(path for path in others if not used.exists() or not path.samefile(used))]
    return tuple(Entry(path, path == used, *beside(path)) for path in every)


def beside(weights: Path) -> tuple[Path | None, Path | None]:
    """Card and curves that lie beside weights: under their own name, or, in a run folder, under the run's names."""
    own = weights.with_suffix(".md"), weights.with_suffix(".metrics.csv")
    runs = weights.parent / "model_card.md", weights.parent / "metrics.csv"
    card, curves = (next((path for path in pair if path.is_file()), None) for pair in zip(own, runs, strict=True))
    return card, curves


def card(entry: Entry) -> str | None:
    """The model card as markdown, without its title and with small headings; None where there is none."""
    if entry.card is None:
        return None
    try:
        text = entry.card.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise InputError(f"{entry.card.name} cannot be read, expected a text in UTF-8; copy it anew") from None
    first, _, rest = text.partition("\n")
    return re.sub(r"^## ", "#### ", rest if first.startswith("# ") else text, flags=re.MULTILINE)


def about(entry: Entry, progress: Progress) -> About:
    """What the weights say of themselves, and their parts. InputError where they cannot be read."""
    present = State.of(entry.weights)
    if present is None:
        raise InputError(f"no weights at {entry.weights.name}; expected a .safetensors file of cmssd train")
    # Operations are counted with hooks on every module of the process: nothing may predict meanwhile.
    with at_work(model().model_id, progress):
        return _about(present)


@st.cache_resource(max_entries=8, show_spinner="Counting the model's operations")
def _about(present: State) -> About:
    from cmssd_core.models.listing import parts
    from cmssd_core.models.weights import load

    loaded, info, model_id = load(Path(present.path))
    return About(model_id, info.name, info.trained, tuple(loaded.needs), tuple(loaded.tasks), parts(loaded))


def history(entry: Entry) -> pd.DataFrame | None:
    """The training's metrics, one row a step; None where none lie beside the weights. Don't change it in place."""
    present = None if entry.curves is None else State.of(entry.curves)
    return None if present is None else _history(present)


@st.cache_resource(max_entries=8, show_spinner=False)
def _history(present: State) -> pd.DataFrame:
    from cmssd_core.training.run_folder import history as read

    return read(Path(present.path))


@dataclass(frozen=True)
class Comparison:
    """Two answers on the cases both gave: each metric that models are compared in, of either and paired.

    Keys are those of metrics.parts_at("comparison").

    difference: the first less the second, bootstrap over patients.
    """

    cases: int
    one: dict[str, Any]
    other: dict[str, Any]
    difference: dict[str, Any]
    mcnemar: dict[str, Any] | None
    auc_difference: dict[str, Any]


def compare_models(scope: Scope, other: Answers) -> Comparison | None:
    """The scope's answers against others; None where no case has both."""
    return _compared(scope.key, scope.of(other).key, scope, other)


@st.cache_resource(max_entries=16, show_spinner="Comparing on the cases both answered")
def _compared(one_key: str, other_key: str, _scope: Scope, _other: Answers) -> Comparison | None:
    frames = [performance.rows(_scope), performance.rows(_scope.of(_other))]
    common = set(frames[0]["case_id"]) & set(frames[1]["case_id"])
    if not common:
        return None
    first, second = (frame[frame["case_id"].isin(common)] for frame in frames)
    record = repeats.apart([first], [second])
    test = record["tests"][0]
    return Comparison(
        len(common),
        _figures(first),
        _figures(second),
        record["difference"],
        test["mcnemar"],
        test["auc_difference"],
    )


def _figures(rows: pd.DataFrame) -> dict[str, Any]:
    record = summary.figures(rows) | {"malignant_only": summary.on_maps(rows[rows["malignant"] == 1])}
    return {part.key: summary.plain(part.read(record)) for part in parts_at("comparison")}
