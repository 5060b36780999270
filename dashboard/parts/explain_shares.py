"""What each modality and each criterion contributes to an answer, as bars with what doubt there is; maps as files."""

from __future__ import annotations

import streamlit as st

from cmssd_core.types import Attribution, Share
from dashboard import state, widgets
from dashboard.parts.working import progress
from dashboard.services import explain as service
from dashboard.services.explain import Question
from dashboard.views import attribution, charts

LABELS = {"mri": "MRI", "he": "H&E slide"}


def modalities(result: state.Result, asked: Question) -> None:
    """The share of each modality in the malignancy logit: exact Shapley values."""
    st.markdown("#### Contribution of each modality")
    with widgets.guarded("sharing out the answer"):
        with progress("Shares", "explain_shares") as tell:
            found = service.shares(asked, result, tell)
        parts = [Share(LABELS.get(name, name), value) for name, value in found.phi.items()]
        st.plotly_chart(
            attribution.contributions(parts, "logit"), key="explain_modalities", config=charts.CONFIG,
            alt=attribution.contributions_alt(parts, "logit"),
        )  # fmt: skip
        both = "".join(f" Interaction {value:+.2f} logit." for value in found.interaction.values())
        st.markdown(
            f":small[{both.strip().replace('-', '−')} Below 0 both say the same thing twice, above 0 they say more "
            f"together. Exact on this one case, so there is no interval. Baseline: {widgets.plain(found.baseline)}; "
            "another baseline gives other shares. The mean gate is no contribution.]"
        )


def of_method(told: Attribution) -> None:
    """The shares that a method gives of its own, such as what each criterion is worth."""
    if not told.shares:
        return
    st.markdown(f"#### {told.label}")
    st.plotly_chart(
        attribution.contributions(told.shares, told.unit), key=f"explain_shares_{told.method}_{told.model_id}",
        config=charts.CONFIG, alt=attribution.contributions_alt(told.shares, told.unit),
    )  # fmt: skip
    for share in told.shares:
        if share.meaning:
            st.markdown(f":small[**{widgets.plain(share.name)}**: {widgets.plain(share.meaning)}]")
