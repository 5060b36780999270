"""The threshold on p that the Performance page's sections share: its controls, and where it comes from in words."""

from __future__ import annotations

import streamlit as st

from dashboard.services import performance as service
from dashboard.services.performance import Rule, Scope
from dashboard.views import wording

RULES = {
    "A value": "fixed",
    "Youden": "youden",
    "Fixed sensitivity": "sensitivity",
    "Cost ratio": "cost",
}
COSTS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def threshold(scope: Scope) -> tuple[float | None, Rule]:
    """The controls of the threshold, and where it comes from in words; None where it cannot be chosen."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    name = left.segmented_control(
        "Threshold on p, from", list(RULES), default="A value", key="rule", required=True, bind="query-params",
        persist_state="session",
    )  # fmt: skip
    number: float | None = None
    if name == "A value":
        number = right.slider(
            "Called malignant at p of at least", 0.0, 1.0, 0.5, 0.01, key="threshold", bind="query-params",
            persist_state="session",
        )  # fmt: skip
    elif name == "Fixed sensitivity":
        number = right.slider(
            "Sensitivity of at least", 0.5, 1.0, 0.95, 0.01, key="sensitivity", bind="query-params",
            persist_state="session",
        )  # fmt: skip
    elif name == "Cost ratio":
        number = right.select_slider(
            "A missed malignant case costs as much as so many false alarms", COSTS, 5.0, key="cost",
            bind="query-params", persist_state="session", format_func=lambda ratio: f"{ratio:g}",
        )  # fmt: skip
    rule = Rule(RULES[name or "A value"], number)
    at = service.threshold(scope, rule)
    _origin(scope, rule, at)
    return at, rule


def _origin(scope: Scope, rule: Rule, at: float | None) -> None:
    """Where the threshold comes from, and what the rule is worth on patients it was not chosen on."""
    if at is None:
        st.info(
            "These cases have one label only: no threshold can be chosen on them. Set a value.", icon=":material/info:"
        )
        return
    if rule.name == "fixed":
        st.markdown(
            f":small[Threshold {at:.2f}, set by hand and not chosen by a rule on these cases; one that is picked while "
            "watching these figures flatters them just the same.]"
        )
        return
    n = len(service.select_labelled(scope)[1])
    found = service.held_out(scope, rule)
    honest = (
        "There are too few patients of a class to judge the rule on patients it was not chosen on."
        if found is None
        else "Each patient called by a threshold chosen without that patient: sensitivity "
        f"{wording.words(found[0].sensitivity, 1, percent=True)}; specificity "
        f"{wording.words(found[0].specificity, 1, percent=True)}; thresholds from {found[1][0]:.3f} to "
        f"{found[1][1]:.3f}."
    )
    st.warning(
        f"**Threshold {at:.3f}, chosen on these very {n:,} cases: the figures at it are optimistic.** {honest}",
        icon=":material/warning:",
    )
