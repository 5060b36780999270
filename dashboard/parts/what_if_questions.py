"""Two questions of the What-if page: does the gate lean to the sound input, and which input made the answer?"""

from __future__ import annotations

from functools import partial

import streamlit as st

from cmssd_core.corruptions.table import CORRUPTIONS
from cmssd_core.types import Case, Slide, Volume
from cmssd_core.whatif.change import Change
from cmssd_core.whatif.differences import leaning
from dashboard import state, widgets
from dashboard.inputs import name_modality
from dashboard.parts.what_if_controls import of_case, take_back
from dashboard.parts.working import progress
from dashboard.services import model as models
from dashboard.services import what_if as service
from dashboard.views import charts
from dashboard.views import what_if as views


def gate(result: state.Result) -> None:
    """Section 3.7's sentence as a question, answered by this case's numbers at levels 0 to 5 of one artefact."""
    st.subheader("Does the gate lean to the MRI as the slide degrades?")
    st.markdown(
        ":small[The paper says so (section 3.7). Here it is asked of this one case, of the original without other "
        "changes: one artefact from level 0 to 5, on demand.]"
    )
    if not (isinstance(result.case.inputs.get("mri"), Volume) and isinstance(result.case.inputs.get("he"), Slide)):
        st.info("A gate needs both an MRI and a slide; this case has one of them.", icon=":material/info:")
        return
    if result.prediction.gate_mean is None:
        st.info("The model in use has no gate to ask about.", icon=":material/info:")
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Artefact", list(CORRUPTIONS), index=list(CORRUPTIONS).index("defocus"), key=f"wiv_{of_case(result)}_sweep",
        format_func=lambda each: f"{name_modality(CORRUPTIONS[each].modality)}: {CORRUPTIONS[each].meaning}",
    )  # fmt: skip
    asked = right.button("Compute levels 0 to 5", key="wib_sweep", icon=":material/stairs:", width="stretch")
    if not (asked or service.swept(result, name)):
        return
    with widgets.guarded("computing the levels"):
        with progress("Levels", "wib_levels", on_cancel=partial(take_back, result)) as tell:
            steps = service.sweep(result, name, tell)
        lean = leaning(CORRUPTIONS[name].modality, [s.level for s in steps], [s.gate_mean for s in steps])
        st.markdown(f"**{lean.question}** {lean.answer}")
        left, right = st.columns(2)
        mean, site = [(s.level, s.gate_mean) for s in steps], [(s.level, s.gate_at_site) for s in steps]
        site = [] if all(value is None for _, value in site) else site
        left.plotly_chart(
            views.levels(mean, "mean gate", site, "gate at the biopsy site", y="gate: 1 = MRI, 0 = slide"),
            key="wiv_gate", config=charts.CONFIG, alt=views.levels_alt(mean, "Mean gate"),
        )  # fmt: skip
        p = [(s.level, s.p_malignant) for s in steps]
        severity = [(s.level, None if s.severity_pct is None else s.severity_pct / 100) for s in steps]
        severity = [] if all(value is None for _, value in severity) else severity
        right.plotly_chart(
            views.levels(p, "probability of malignancy", severity, "severity / 100 %", y="share"),
            key="wiv_levels", config=charts.CONFIG, alt=views.levels_alt(p, "Probability of malignancy"),
        )  # fmt: skip
        st.markdown(
            ":small[One case, one draw of the artefact: it shows what this answer did, and proves nothing of the "
            "model. Intervals of damaged inputs are not covered.]"
        )


def shares(result: state.Result, change: Change, other: Case | None) -> None:
    """The exact Shapley share of each modality in the answer, before and after."""
    st.subheader("Whose answer is it?")
    if not models.answers("malignant"):
        st.info(
            "Shares of inputs are shares in the logit of malignancy, which the model in use does not answer.",
            icon=":material/info:",
        )
        return
    st.markdown(
        ":small[Exact Shapley shares of the logit of malignancy, before calibration, from every combination of inputs. "
        "They say what moved this model's answer, not what the tissue shows. The gate's mean is not such a share.]"
    )
    asked = st.button("Split the answer", key="wib_shares", icon=":material/balance:")
    if not (asked or service.shared(result, Change())):
        return
    with widgets.guarded("splitting the answer"):
        with progress("Shares", "wib_shares", on_cancel=partial(take_back, result)) as tell:
            before = service.shares(result, Change(), tell)
            after = service.shares(result, change, tell, other=other) if change else None
        st.plotly_chart(
            views.share_bars(before.phi, None if after is None else after.phi), key="wiv_shares", config=charts.CONFIG,
            alt=views.shares_alt(before.phi, None if after is None else after.phi),
        )  # fmt: skip
        for label, each in (("Original", before), ("Changed", after)):
            if each is None:
                continue
            parts = (
                ""
                if each.share is None
                else ", ".join(f"{name_modality(name)} {share:.0%}" for name, share in each.share.items())
            )
            both = "".join(f" Interaction of both: {value:+.2f} logits." for value in each.interaction.values())
            nothing = each.values[frozenset()]
            st.markdown(
                f"**{label}:** {parts} of the absolute shares. With nothing {nothing:+.2f}, with everything "
                f"{nothing + each.gap:+.2f} logits: the shares sum to {sum(each.phi.values()):+.2f}.{both}"
            )
        st.markdown(
            f":small[Baseline: {widgets.plain(before.baseline)}; another baseline gives other shares. "
            "Interaction below 0: both say the same thing twice; above 0: together they say more. Severity has no such "
            "split: without an MRI there is none.]"
        )
