"""What each modality and each criterion contributes to an answer, as bars with what doubt there is; maps as files."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from cmssd_core.types import Attribution
from dashboard import rights, state, widgets
from dashboard.parts.working import progress
from dashboard.services import explain as service
from dashboard.services.criteria import drawn as drawn_criteria
from dashboard.services.explain import Question
from dashboard.views import attribution, charts


def modalities(result: state.Result, asked: Question) -> None:
    """The share of each modality in the malignancy logit: exact Shapley values."""
    st.markdown("#### Contribution of each modality")
    question = Question(result.key, service.MODALITIES, weights=asked.weights, settings=asked.settings)
    with widgets.guarded("sharing out the answer"):
        with progress("Shares", "explain_modalities") as tell:
            told = service.ask(question, result, None, tell)
        _bars(told, "modalities")
        st.markdown(
            ":small[Exact Shapley values of the malignancy logit on this one case, so there is no interval. Baseline: "
            f"{widgets.plain(told.baseline or 'none')}; another baseline gives other shares. The mean gate is no "
            "contribution.]"
        )


def criteria(result: state.Result, asked: Question) -> None:
    """What each pathological criterion is worth to the answer; asked for by a press, since it takes a while."""
    st.markdown("#### Contribution of each criterion")
    question = Question(result.key, service.CRITERIA, weights=asked.weights, settings=asked.settings)
    with widgets.guarded("reading the criteria"):
        drawn = drawn_criteria(result)
        missing = [name.replace("_", " ") for name, outline in drawn.items() if outline is None]
        if missing:
            st.markdown(f"Not assessable in this case, nobody drew it: **{', '.join(missing)}**.")
        if not any(drawn.values()):
            st.info("No criterion is drawn in this case, so none can be measured.", icon=":material/info:")
            return
        if service.known(question) is None and not st.button(
            "Measure what each criterion is worth", key="explain_worth", icon=":material/straighten:",
            help="Covers the criterion, and as much elsewhere, and asks the model each time.",
        ):  # fmt: skip
            return
        with progress("Criteria", "explain_criteria") as tell:
            told = service.ask(question, result, None, tell)
        if not told.shares:
            st.info("The criteria of this case are drawn, but none lies on what the model reads.")
            return
        _bars(told, "criteria")
        st.markdown(":small[Intervals: over other places of the same shape in this case, not over patients.]")


def _bars(told: Attribution, key: str) -> None:
    every = [replace(share, name=_words(share.name)) for share in told.shares]
    # An interaction is part of neither share, so it is told and not drawn beside them.
    shares = [share for share in every if not share.name.startswith("Interaction")]
    st.plotly_chart(
        attribution.contributions(shares, told.unit), key=f"explain_{key}", config=charts.CONFIG,
        alt=attribution.contributions_alt(shares, told.unit),
    )  # fmt: skip
    lines = [
        f":small[**{widgets.plain(share.name)}** {attribution.words(share, told.unit)}: {widgets.plain(share.meaning)}]"
        for share in every
    ]
    st.markdown("  \n".join(lines))


def _words(name: str) -> str:
    return (name[:1].upper() + name[1:]).replace("_", " ")


def downloads(result: state.Result, told: list[Attribution]) -> None:
    """Each map as files: NIfTI on the scan's grid, GeoJSON for QuPath, NPZ of the raw values, PNG, JSON."""
    if not rights.session_may("export"):
        return
    folder = state.folder()  # now: the files are made when the button is pressed, outside of any run
    columns = st.columns([1] * len(told) + [3 - len(told)])
    for number, (column, each) in enumerate(zip(columns, told, strict=False)):

        def made(each: Attribution = each) -> bytes:
            return service.files(each, result.case, folder)

        column.download_button(
            f"{each.label} as files (zip)", made, f"cmssd_{result.case.id[:12]}_{each.method}.zip", "application/zip",
            key=f"explain_files_{number}", icon=":material/folder_zip:", on_click="ignore", width="stretch",
            help="NIfTI, GeoJSON, NPZ of the raw values, PNG and JSON.",
        )  # fmt: skip
