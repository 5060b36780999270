"""Every page with a model that answers something else: it shows what is answered and says what is not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import apps
import nibabel
import numpy as np
import pandas as pd
import pytest
import streamlit as st
import toys
from streamlit.testing.v1 import AppTest
from tiny import tiny_cohort

from cmssd_core.config import Settings, settings
from cmssd_core.studies import evaluate as evaluation
from cmssd_core.studies.run import RunSettings
from dashboard.config import dashboard_settings

QUICK = Settings(n4=False, max_patches=4, threads=1)
SECTIONS = ("Discrimination", "Calibration and benefit", "Maps and severity", "Subgroups", "Failures")
#: What each model answers of a case, as its cards are titled; all else is said to be unanswered or not said at all.
CARDS = {
    "segment_only": ["Tumour volume"], "slide_survival": ["Log hazard"], "rna_third": ["Probability of malignancy"],
}  # fmt: skip
UNANSWERED = {
    "segment_only": "does not answer severity or malignancy",
    "slide_survival": "does not answer severity or malignancy",
    "rna_third": "does not answer severity.",
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small patients with a CT beside T1 and T2, a slide, a profile, masks and follow-up."""
    folder = tiny_cohort(tmp_path_factory.mktemp("pages"), cases=3, seed=11)
    table = pd.read_csv(folder / "cohort.csv", dtype=str)
    for row, name in table["mri_t1"].items():
        image = nibabel.load(folder / name)
        values = np.asarray(image.dataobj, dtype=np.float64)
        path = Path(name).with_name("ct.nii.gz")
        hounsfield = (values / values.max() * 1400 - 1000).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(hounsfield, image.affine), folder / path)
        table.loc[row, "ct"] = str(path)
    table["event"], table["time_months"] = ["1", "0", "1"], ["10", "20", "30"]
    table.to_csv(folder / "cohort.csv", index=False)
    return folder


@pytest.fixture(scope="module", params=toys.TOYS)
def toy(request, cohort, tmp_path_factory) -> Iterator[str]:
    """A model in use with its results on the cohort, as an installation of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patched:
        toys.register(patched)
        weights = toys.save_toy(request.param, folder)
        shutil.copytree(cohort, folder / "cohort")
        chosen = RunSettings(split="all", workers=1)
        evaluation.evaluate(
            folder / "cohort", folder / "cohort" / "results", weights=weights, chosen=chosen, settings=QUICK
        )
        for name, value in {
            "WEIGHTS": weights, "CACHE_DIR": folder / "cache", "COHORT": folder / "cohort", "N4": "false",
            "MAX_PATCHES": 4, "REVIEWS": folder / "reviews.sqlite",
        }.items():  # fmt: skip
            patched.setenv(f"CMSSD_{name}", str(value))
        for cached in (settings, dashboard_settings):
            cached.cache_clear()
        st.cache_resource.clear()
        yield request.param
    st.cache_resource.clear()
    for cached in (settings, dashboard_settings):
        cached.cache_clear()


def opened(page: str, **state: object) -> AppTest:
    return sound(apps.opened(page, **state))


def with_case(page: str) -> AppTest:
    """The page with the cohort's first case chosen."""
    app = opened(page)
    choice = next(box for box in app.selectbox if str(box.key).startswith("case_choice"))
    return sound(choice.set_value(choice.options[0]).run())


def sound(app: AppTest) -> AppTest:
    """The page, which drew without a fault and with no word for a number that is not there."""
    assert not app.exception
    assert not app.error, [error.value for error in app.error]
    wrong = re.search(r".{40}(\b(nan|NaN)\b|\bNone\b(?! (yet|of))).{40}", everything(app), re.DOTALL)
    assert wrong is None, wrong.group()
    return app


def everything(app: AppTest) -> str:
    kinds = ("markdown", "error", "warning", "info", "success", "caption")
    told = [str(element.value) for kind in kinds for element in app.get(kind)]
    told += [f"{metric.label} {metric.value}" for metric in app.metric]
    told += [f"{box.label} {' '.join(map(str, box.options))}" for box in (*app.selectbox, *app.multiselect)]
    return " ".join([*told, *(table.value.to_string() for table in app.get("table"))])


def says(app: AppTest, *, not_of: str) -> None:
    """Numbers that only other models answer are nowhere on the page."""
    words = everything(app)
    for name, titles in CARDS.items():
        for title in titles:
            shared = title == "Tumour volume"  # a heading that stands in prose too
            assert name == not_of or shared or title not in words, title


def test_the_overview_says_what_the_model_in_use_reads_and_answers(toy):
    words = everything(opened("overview"))
    assert {
        "segment_only": "It reads MRI (T1, CT) and answers tumour map.",
        "slide_survival": "It reads H&E slide and answers risk.",
        "rna_third": "It reads MRI (T1, T2), H&E slide and RNA profile and answers malignancy.",
    }[toy] in words


def test_an_analysed_case_has_cards_of_what_is_answered_and_a_sentence_of_what_is_not(toy):
    app = opened("analyse")
    app.button(key="run").click().run()
    sound(app)
    assert [metric.label for metric in app.metric] == CARDS[toy]
    assert UNANSWERED[toy] in everything(app)
    assert "was given" not in everything(app), "nothing is missing of this case"
    says(app, not_of=toy)


def test_uploads_name_the_inputs_that_have_no_field_and_those_that_are_not_read(toy):
    app = opened("analyse")
    app.segmented_control(key="source").set_value("Your files").run()
    words = everything(sound(app))
    assert ("RNA profile: not offered here; open a cohort." in words) == (toy == "rna_third")
    assert ("does not read the MRI" in words) == (toy == "slide_survival")
    assert ("does not read the H&E slide" in words) == (toy == "segment_only")


def test_a_case_shows_its_images_and_names_its_profile(toy):
    app = with_case("case")
    words = everything(app)
    assert all(f"### {title}" not in words for title in ("nan", "None"))
    assert all(title in words for title in CARDS[toy])
    assert UNANSWERED[toy] in words
    assert ("This case has an RNA profile of" in words) == (toy == "rna_third")
    assert ("does not read" in words) == (toy != "rna_third")
    assert "was given" not in words
    says(app, not_of=toy)


def test_a_cohort_has_columns_of_what_is_answered(toy):
    app = opened("cohort")
    columns = set(app.dataframe[0].value.columns)
    answered = {"segment_only": {"dice"}, "slide_survival": {"risk"}, "rna_third": {"p_malignant"}}[toy]
    assert columns & {"dice", "risk", "p_malignant", "severity_pct"} == answered
    assert "3 answered by" in everything(app)
    assert ("RNA profile alone" in str(given(app))) == (toy == "rna_third")


def given(app: AppTest) -> list[str]:
    """The conditions one can choose among."""
    return [str(option) for group in app.get("button_group") if "given" in str(group.key) for option in group.options]


@pytest.mark.parametrize("section", SECTIONS)
def test_performance_shows_figures_of_what_is_answered(toy, section):
    app = opened("performance", section=section)
    labels = [metric.label for metric in app.metric]
    assert (
        labels
        == {
            "segment_only": ["Dice, malignant cases"],
            "slide_survival": ["c-index (0.5 is chance)"],
            "rna_third": ["AUC", "Brier score (0 best)"],
        }[toy]
    )
    assert "These answers hold no" in everything(app)


def test_an_explanation_is_asked_of_what_is_answered_and_shares_of_malignancy_alone(toy):
    app = with_case("explain")
    if toy == "rna_third":  # nothing stands for an image without a profile, so only the inputs' shares are told
        assert "Maps are not offered for a case with an RNA profile" in everything(app)
        assert "**RNA profile**" in everything(app)
        return
    target = app.selectbox(key="explain_target")
    assert target.options == {"segment_only": ["Tumour map"], "slide_survival": ["Log hazard"]}[toy]
    sound(next(button for button in app.button if str(button.key).startswith("draw_")).click().run())
    assert "shares in the logit of malignancy" in everything(app)
    assert "**Integrated Gradients** of **" in everything(app)


def test_an_audit_of_malignancy_is_not_offered_where_there_is_none(toy):
    app = opened("explain", explain_show="Audit")
    assert ("there is nothing to audit" in everything(app)) == (toy != "rna_third")


def test_what_if_changes_what_the_model_reads_and_compares_what_it_answers(toy):
    app = with_case("what_if")
    switches = [toggle.label for toggle in app.toggle if toggle.label in ("MRI", "H&E slide", "RNA profile")]
    assert switches == {
        "segment_only": ["MRI"], "slide_survival": ["H&E slide"], "rna_third": ["MRI", "H&E slide", "RNA profile"],
    }[toy]  # fmt: skip
    figures = app.table[0].value[""].tolist()
    assert figures == CARDS[toy]
    assert "has no gate" in everything(app)
    if toy == "rna_third":
        app.toggle[0].set_value(False).run()
        assert "MRI taken away" in everything(sound(app))


def test_a_review_is_kept_and_a_verdict_asked_only_of_an_answer(toy):
    app = opened("review")
    app.text_input(key="review_reader_typed").set_value(f"reader of {toy}").run()
    app.number_input[0].set_value(40.0)
    for group in app.get("button_group"):
        if group.key and group.key.startswith("review_") and group.key != "review_show":
            group.set_value("present")
    next(button for button in app.button if button.label == "Save my reading").click().run()
    words = everything(sound(app))
    assert "You said: severity **40.0 %**" in words
    assert UNANSWERED[toy] in words
    assert ("there is no answer to agree with" in words) == (toy != "rna_third")


@pytest.mark.parametrize("part", ["Model card", "Parts", "Training", "Compare on the cohort"])
def test_models_says_what_the_weights_are(toy, part):
    app = opened("models", part=part)
    if part == "Parts":
        words = everything(app)
        assert ("one RNA profile" in words) == (toy == "rna_third")
        assert ("H&E patch" in words) == (toy != "segment_only")
