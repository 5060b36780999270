"""What each modality and each criterion contributes to an answer, as bars with what doubt there is; maps as files."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from cmssd_core.types import Attribution
from dashboard import rights, state, widgets
from dashboard.parts.working import progress
from dashboard.services import explain as service
from dashboard.services.criteria import find_criteria as drawn_criteria
from dashboard.services.explain import Question
from dashboard.views import attribution, charts


def modalities(result: state.Result, asked: Question) -> None:
    """The share of each modality in the malignancy logit: exact Shapley values."""
    st.markdown("#### Contribution of each modality")
    if "malignant" not in service.targets(asked.weights):
        st.info(
            "Shares of inputs are shares in the logit of malignancy, which this model does not answer.",
            icon=":material/info:",
        )
        return
    question = Question(result.key, service.MODALITIES, weights=asked.weights, settings=asked.settings)
    with widgets.guarded("sharing out the answer"):
        with progress("Shares", "explain_modalities") as tell:
            summary = service.ask(question, result, None, tell)
        _bars(summary, "modalities")
        st.markdown(
            ":small[Exact Shapley values of the malignancy logit on this one case, so there is no interval. Baseline: "
            f"{widgets.plain(summary.baseline or 'none')}; another baseline gives other shares. The mean gate is no "
            "contribution.]"
        )


def criteria(result: state.Result, asked: Question) -> None:
    """What each pathological criterion is worth to the answer; asked for by a press, since it takes a while."""
    st.markdown("#### Contribution of each criterion")
    if "malignant" not in service.targets(asked.weights):
        st.info(
            "What a criterion is worth is measured on the logit of malignancy, which this model does not answer.",
            icon=":material/info:",
        )
        return
    question = Question(result.key, service.CRITERIA, weights=asked.weights, settings=asked.settings)
    with widgets.guarded("reading the criteria"):
        drawn = drawn_criteria(result)
        missing = [name.replace("_", " ") for name, outline in drawn.items() if outline is None]
        if missing:
            st.markdown(f"Not assessable in this case, nobody drew it: **{', '.join(missing)}**.")
        if not any(drawn.values()):
            st.info("No criterion is drawn in this case, so none can be measured.", icon=":material/info:")
            return
        if service.find_known(question) is None and not st.button(
            "Measure what each criterion is worth", key="explain_worth", icon=":material/straighten:",
            help="Covers the criterion, and as much elsewhere, and asks the model each time.",
        ):  # fmt: skip
            return
        with progress("Criteria", "explain_criteria") as tell:
            summary = service.ask(question, result, None, tell)
        if not summary.shares:
            st.info("The criteria of this case are drawn, but none lies on what the model reads.")
            return
        _bars(summary, "criteria")
        st.markdown(":small[Intervals: over other places of the same shape in this case, not over patients.]")


def _bars(summary: Attribution, key: str) -> None:
    every = [replace(share, name=_words(share.name)) for share in summary.shares]
    # An interaction is part of neither share, so it is told and not drawn beside them.
    shares = [share for share in every if not share.name.startswith("Interaction")]
    st.plotly_chart(
        attribution.contributions(shares, summary.unit), key=f"explain_{key}", config=charts.CONFIG,
        alt=attribution.contributions_alt(shares, summary.unit),
    )  # fmt: skip
    lines = [
        f":small[**{widgets.plain(share.name)}** {attribution.words(share, summary.unit)}: "
        f"{widgets.plain(share.meaning)}]"
        for share in every
    ]
    st.markdown("  \n".join(lines))


def _words(name: str) -> str:
    return (name[:1].upper() + name[1:]).replace("_", " ")


def downloads(result: state.Result, summary: list[Attribution]) -> None:
    """Each map as files: NIfTI on the scan's grid, GeoJSON for QuPath, NPZ of the raw values, PNG, JSON."""
    if not rights.session_may("export"):
        return
    folder = state.folder()  # now: the files are made when the button is pressed, outside of any run
    columns = st.columns([1] * len(summary) + [3 - len(summary)])
    for number, (column, each) in enumerate(zip(columns, summary, strict=False)):

        def made(each: Attribution = each) -> bytes:
            return service.files(each, result.case, folder)

        column.download_button(
            f"{each.label} as files (zip)", made, f"cmssd_{result.case.id[:12]}_{each.method}.zip", "application/zip",
            key=f"explain_files_{number}", icon=":material/folder_zip:", on_click="ignore", width="stretch",
            help="NIfTI, GeoJSON, NPZ of the raw values, PNG and JSON.",
        )  # fmt: skip
