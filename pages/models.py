"""Models: what the model in use is, what it is made of, how it was trained, and how it fares against others."""

import streamlit as st

from dashboard import widgets
from dashboard.parts import models as parts
from dashboard.services import catalogue

SECTIONS = ("Model card", "Parts", "Training", "Compare on the cohort")

st.title("Models")
with widgets.guarded("reading the weights"):
    entry = parts.choose()
    card, made_of, training, against = st.tabs(SECTIONS, key="part", bind="query-params")
    with card:
        if card.open:
            parts.card(entry)
    with made_of, widgets.guarded("counting the model's parts"):
        if made_of.open:
            parts.parts(catalogue.about(entry, lambda share, what: None))
            parts.show_offered()
    with training:
        if training.open:
            parts.curves(entry)
    with against, widgets.guarded("comparing"):
        if against.open:
            parts.compare()
