"""Pieces of the Models page: card, parts, training curves, two answers compared on a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cmssd_core.evaluation.figure import Figure
from cmssd_core.evaluation.metrics import THRESHOLD, Part, parts_at
from cmssd_core.evaluation.roc import Difference, McNemar
from cmssd_core.tasks.table import TASKS
from cmssd_core.weights.offer import list_models
from dashboard import widgets
from dashboard.inputs import name_modality
from dashboard.parts.performance import titles
from dashboard.services import catalogue
from dashboard.services import cohort as cohorts
from dashboard.services import performance as service
from dashboard.services.catalogue import About, Entry
from dashboard.services.performance import Scope
from dashboard.views import charts, shares, training, wording

#: Names of parts in the models' files, in words.
PARTS = {
    "phi_mri": "MRI encoder",
    "phi_he": "H&E encoder",
    "pool_patches": "pooling of patches",
    "pool_cells": "pooling of map cells",
    "pool_fused": "pooling of fused features",
    "mapping": "patch-to-region mapping",
    "damage_mri": "damage seen on the MRI",
    "damage_he": "damage seen on the slide",
    "gate": "cross-modal gate",
    "join": "joining of features",
    "decoder": "map decoder",
    "malignancy": "malignancy head",
    "malignancy_mri": "malignancy head, MRI",
    "malignancy_he": "malignancy head, H&E",
    "": "between the parts",
}
#: What one pair of inputs is for the count of operations, by modality.
UNITS = {"mri": "one MRI slice with its neighbours", "he": "one H&E patch", "rna": "one RNA profile"}
TERMS = {"total", "validation"}


def choose() -> Entry:
    """The weights the page is about."""
    found = catalogue.entries()
    if len(found) == 1:
        return found[0]
    names = [f"{one.weights.stem}{' (in use)' if one.in_use else ''}" for one in found]
    name = st.selectbox("Weights", names, key="weights")
    return found[names.index(name)]


def card(entry: Entry) -> None:
    """The model card that lies beside the weights."""
    text = catalogue.card(entry)
    if text is None:
        st.info(
            "No model card lies beside these weights (model_card.md of a run folder, or the weights' name with .md). "
            "`cmssd train` writes one.",
            icon=":material/info:",
        )
        return
    st.markdown(text)


def parts(about: About) -> None:
    """Totals, and how they are shared."""
    left, right, _ = st.columns([1, 1, 2])
    left.metric("Parameters", f"{about.parameters / 1e6:.2f} million")
    several = len(about.needs) > 1
    right.metric(f"Operations for one {'pair' if several else 'input'}", f"{about.gflop:.2f} GFLOP")
    units = " and ".join(UNITS.get(name, f"one {name_modality(name)}") for name in about.needs)
    st.markdown(
        f"`{about.model_id}`, trained on: {about.trained}. It reads {_inputs(about.needs)} and answers "
        f"{_tasks(about.produces)}. One {'pair' if several else 'input'} is {units}; a multiplication and an addition "
        "count as two operations."
    )
    names = [PARTS.get(part.name, part.name) for part in about.parts]
    left, right = st.columns(2)
    with left:
        st.table(
            {
                "part": names,
                "parameters": [f"{part.parameters:,}" for part in about.parts],
                "GFLOP": [f"{part.gflop:.4f}" for part in about.parts],
            },
            hide_index=True,
            border="horizontal",
        )
    with right:
        chart = shares.shares(names, [p.parameters for p in about.parts], [p.gflop for p in about.parts])
        alt = "Share of parameters by part: " + ", ".join(
            f"{name} {100 * part.parameters / about.parameters:.0f} %"
            for name, part in zip(names, about.parts, strict=True)
        )
        st.plotly_chart(chart, key="shares", alt=alt, config=charts.CONFIG)


def show_offered() -> None:
    """All models and sizes of this version, when asked for."""
    if not st.toggle("All models and sizes of this version", key="offered"):
        return
    rows = list_models()
    st.table(
        {
            "model": [row.name for row in rows],
            "size": [row.size for row in rows],
            "reads": [_inputs(row.needs) for row in rows],
            "answers": [_tasks(row.produces) for row in rows],
            "parameters": [f"{row.parameters:,}" for row in rows],
            "GFLOP a pair": [f"{row.gflop:.2f}" for row in rows],
            "weights shipped": [row.weights or "none" for row in rows],
        },
        hide_index=True,
        border="horizontal",
    )


@st.fragment
@widgets.guarded("reading the training's metrics")
def curves(entry: Entry) -> None:
    """The losses of the training run that made the weights."""
    history = catalogue.history(entry)
    if history is None:
        st.info(
            "No training curves lie beside these weights (metrics.csv of a run folder, or the weights' name with "
            ".metrics.csv). Point CMSSD_WEIGHTS to the weights of a run folder to see that run's.",
            icon=":material/info:",
        )
        return
    present = [
        c for c in history if c not in ("step", "stage", "learning_rate", "seconds") and history[c].notna().any()
    ]
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    picked = left.multiselect(
        "Losses", present, default=[name for name in present if name in TERMS], max_selections=6, key="terms"
    )
    logarithmic = right.toggle("Logarithmic", value=True, key="logarithmic")
    if not picked:
        st.info("Choose at least one loss.", icon=":material/info:")
        return
    chart = training.curves(history, picked, logarithmic=logarithmic)
    st.plotly_chart(chart, key="curves", alt=training.curves_alt(history), config=charts.CONFIG)
    if named := [f"**{number}** {stage}" for number, (_, stage) in enumerate(training.stages(history), 1)]:
        st.markdown(f":small[Stages: {' · '.join(named)}]")
    first, last = (int(history["step"].iloc[place]) for place in (0, -1))
    st.markdown(
        f":small[{len(history):,} steps, from {first:,} to {last:,}; lines are means over short spans of steps. Stages "
        "differ in what they hide and weigh: compare within a stage only. A fall of the training loss says nothing of "
        "cases it has not seen.]"
    )


def compare() -> None:
    """Two answers on the open cohort, on the cases both gave."""
    cohort = cohorts.get_cohort()
    found = service.answers(cohort) if cohort is not None else ()
    if cohort is None or not found:
        st.info("No cohort with results is open; open and evaluate one on the page Cohort.", icon=":material/info:")
        return
    if len(found) < 2:
        st.info("The results hold one model on one kind of input: there is nothing to compare.", icon=":material/info:")
        return
    named = titles(found)
    names = list(named.values())
    models = {one.model for one in found}
    left, right = st.columns(2)
    first = left.selectbox("First", names, key="compare_first")
    other = right.selectbox("Second", [name for name in names if name != first], key="compare_second")
    by_name = {name: one for one, name in named.items()}
    told_pair = catalogue.compare_models(Scope(cohort, by_name[first]), by_name[other])
    if told_pair is None:
        st.info("No case has both answers.", icon=":material/info:")
        return
    st.markdown(f"**{told_pair.cases:,} cases have both answers.** Differences are first less second, paired by case.")
    figures = [(part.key, _title(part)) for part in parts_at("comparison")]
    figures.append(("c_index", "c-index (0.5 is chance)"))  # of models that answer survival
    present = [pair for pair in figures if _known(told_pair.one, pair[0]) or _known(told_pair.other, pair[0])]
    st.table(
        {
            "figure": [title for _, title in present],
            first: [_words(told_pair.one.get(key)) for key, _ in present],
            other: [_words(told_pair.other.get(key)) for key, _ in present],
            "difference (95 % interval)": [_words(told_pair.difference.get(key), signed=True) for key, _ in present],
        },
        hide_index=True,
        border="horizontal",
    )
    if _known(told_pair.one, "auc") and _known(told_pair.other, "auc"):
        gap = wording.difference(Difference(**told_pair.auc_difference))
        st.markdown(f"Areas under the ROC curve, DeLong's paired test: {gap}")
    if told_pair.mcnemar is not None:
        test = told_pair.mcnemar
        alone = wording.only_one_right(McNemar(**test))
        st.markdown(f"Right at 0.5 where the other is wrong, first against second, McNemar's exact test: {alone}")
    st.markdown(
        ":small[Intervals are a bootstrap over patients; several figures are compared and p are not corrected for it.]"
    )
    if len(models) < 2:
        st.markdown(
            ":small[These results hold one model; `cmssd evaluate COHORT --weights ONE --against OTHER` adds another.]"
        )


def _inputs(names: Sequence[str]) -> str:
    return " and ".join(name_modality(name) for name in names)


def _tasks(names: Sequence[str]) -> str:
    return ", ".join(TASKS[name].label for name in names)


def _known(figures: Mapping[str, Any], name: str) -> bool:
    return name in figures and figures[name].get("value") is not None


def _title(part: Part) -> str:
    at = f" at {THRESHOLD}" if part.metric.at_threshold else ""
    return part.title + at + (" (less is better)" if part.metric.better == "lower" else "")


def _words(figure: dict[str, Any] | None, *, signed: bool = False) -> str:
    if figure is None:
        return "–"
    known = Figure(**{k: figure.get(k) for k in ("value", "low", "high", "n", "reason")})
    return wording.cell(wording.words(known, signed=signed))
