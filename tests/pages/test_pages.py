"""The pages without a browser: what one session sees, with the real pipeline and random weights."""

from __future__ import annotations

import gc
import logging
import os
import stat
import threading
import time
import zipfile
from io import BytesIO

import pytest
import showcase
import streamlit as st
from apps import everything, opened
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from dashboard import state, widgets
from dashboard.services import case as cases
from dashboard.services import model as models


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    """Random weights and a cache of its own; nothing cached before counts."""
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path / "no_cohort"))
    settings.cache_clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()


@pytest.fixture
def mri(tmp_path) -> tuple[str, bytes, str]:
    return "Mueller_Anna_t1.nii.gz", showcase.nifti(tmp_path / "t1.nii.gz").read_bytes(), "application/gzip"


TILE = ("tile.png", showcase.tile(), "image/png")


def field(app: AppTest, kind: str, name: str):
    """The widget whose key begins so: behind it stands the upload it speaks of."""
    return next(each for each in app.get(kind) if str(each.key).startswith(name))


def given(app: AppTest, *, mri=None, he=None, mpp: float | None = 0.5) -> AppTest:
    if mri is not None:
        app.file_uploader(key="upload_mri").set_value(mri)
    if he is not None:
        app.file_uploader(key="upload_he").set_value(he)
    app.run()
    if he is not None:
        field(app, "number_input", "mpp").set_value(mpp).run()
    return app


def placed(app: AppTest) -> AppTest:
    field(app, "checkbox", "site_known").set_value(True).run()
    for axis, mm in zip("xyz", showcase.SITE_MM, strict=True):
        field(app, "number_input", f"site_{axis}").set_value(mm)
    return app.run()


def analysed(app: AppTest, *, mri=None, he=None) -> AppTest:
    given(app, mri=mri, he=he)
    app.button(key="run").click().run()
    assert not app.exception
    return app


def test_every_screen_says_research_use_only():
    for page in ("overview", "analyse"):
        assert "Research use only" in opened(page).warning[0].value


def test_the_overview_shows_model_and_installation():
    app = opened("overview")
    said = everything(app)
    assert "random weights for tests" in " ".join(m.value for m in app.sidebar.markdown)
    assert "**python**" in said
    assert "Not a medical device" in said


def test_nothing_can_be_run_before_something_is_chosen():
    assert opened().button(key="run").disabled


def test_a_case_is_analysed_and_shown_with_its_doubts(mri):
    app = analysed(opened(), mri=[mri], he=TILE)
    assert [m.label for m in app.metric] == ["Severity", "Probability of malignancy", "Tumour volume", "Mean gate"]
    said = everything(app)
    assert "unvalidated" in said or "divides by" in said
    assert "random weights" in said
    assert "unregistered" in said
    assert "not evidence" in said
    assert {b.key for b in app.get("download_button")} == {"report", "archive"}
    assert len(app.get("plotly_chart")) == 4
    assert "Mueller" not in said


def test_moving_the_slice_keeps_the_result(mri):
    app = analysed(opened(), mri=[mri])
    before = app.metric[0].value
    slider = next(s for s in app.slider if s.label == "Slice")
    slider.set_value(2).run()
    assert not app.exception
    assert app.metric[0].value == before


def test_a_slide_alone_says_that_there_is_no_map():
    app = analysed(opened(), he=TILE)
    assert app.metric[0].value == "undefined"
    assert any("No MRI was given" in i.value for i in app.info)
    assert len(app.get("plotly_chart")) == 1


def test_a_broken_upload_is_a_sentence_and_the_page_lives_on(mri):
    app = analysed(opened(), mri=[("Mueller_t1.nii.gz", b"no image", "application/gzip")])
    assert len(app.error) == 1
    assert "Mueller" in app.error[0].value  # its own user may read the name; our file name would tell nothing
    assert "mri00000" not in app.error[0].value
    assert not app.metric
    app.file_uploader(key="upload_mri").set_value([mri])
    app.run()
    app.button(key="run").click().run()
    assert not app.error
    assert app.metric


def test_a_missing_resolution_names_the_field_on_screen():
    app = given(opened(), he=TILE, mpp=None)
    app.button(key="run").click().run()
    assert "Microns per pixel of the slide" in app.error[0].value
    assert "--mpp" not in app.error[0].value


def test_our_own_fault_is_an_id_and_nothing_is_lost(mri, monkeypatch, caplog):
    app = opened()
    with monkeypatch.context() as patched:
        patched.setattr(cases, "_admit", lambda request: 1 / 0 if request.mri else None)
        with caplog.at_level(logging.ERROR, logger="cmssd.dashboard"):
            app = analysed(app, mri=[mri])
    assert "ZeroDivisionError" in app.error[0].value
    line = next(r.getMessage() for r in caplog.records if r.name == "cmssd.dashboard")
    assert line.split()[1] in app.error[0].value
    assert "Mueller" not in line
    app.button(key="run").click().run()
    assert app.metric


def test_uploads_and_result_outlive_a_visit_to_another_page(mri):
    app = analysed(opened(), mri=[mri])
    app.switch_page("../pages/overview.py").run()
    app.switch_page("../pages/analyse.py").run()
    assert app.metric
    assert "Kept from before: 1 file(s)" in everything(app)
    assert not app.button(key="run").disabled


def test_uploads_lie_in_a_private_folder_without_names(mri):
    app = opened()
    app.file_uploader(key="upload_mri").set_value([mri])
    app.run()
    kept = app.session_state["cmssd_kept_mri"]
    assert isinstance(kept, state.Kept)
    assert kept.paths[0].name == "mri00000_t1.nii.gz"
    assert stat.S_IMODE(os.stat(kept.folder.parent).st_mode) == 0o700
    assert not any("Mueller" in part for part in kept.paths[0].parts)
    st.cache_resource.clear()  # what Streamlit does when the connection drops for a moment
    assert kept.paths[0].exists()
    del app.session_state["cmssd_folder"]  # what it does when the session ends
    gc.collect()
    assert not kept.folder.parent.exists()


def test_the_folder_of_a_session_that_is_gone_is_swept(mri):
    app = opened()
    app.file_uploader(key="upload_mri").set_value([mri])
    app.run()
    kept = app.session_state["cmssd_kept_mri"]
    state.sweep(connected=lambda _: False, now_s=1000.0)
    state.sweep(connected=lambda _: True, now_s=1200.0)  # it came back
    state.sweep(connected=lambda _: False, now_s=1400.0)
    state.sweep(connected=lambda _: False, now_s=1600.0)
    assert kept.paths[0].exists()
    state.sweep(connected=lambda _: False, now_s=1701.0)
    assert not kept.folder.parent.exists()
    app.run()  # the browser still holds the upload: it is kept anew
    assert app.session_state["cmssd_kept_mri"].paths[0].exists()


def test_a_result_of_earlier_choices_says_so(mri):
    app = analysed(opened(), mri=[mri])
    assert not any("have changed" in w.value for w in app.warning)
    field(app, "selectbox", "contrast_0_of_1").set_value("t2").run()
    assert any("have changed" in w.value for w in app.warning)


def test_half_a_biopsy_site_cannot_be_run(mri):
    app = given(opened(), mri=[mri], he=TILE)
    field(app, "checkbox", "site_known").set_value(True).run()
    field(app, "number_input", "site_x").set_value(showcase.SITE_MM[0]).run()
    assert app.button(key="run").disabled
    field(app, "number_input", "site_y").set_value(showcase.SITE_MM[1])
    field(app, "number_input", "site_z").set_value(showcase.SITE_MM[2]).run()
    app.button(key="run").click().run()
    assert "at the biopsy site" in everything(app)


def test_what_was_said_of_one_patients_files_is_not_said_of_the_next_ones(tmp_path, mri):
    app = placed(given(opened(), mri=[mri], he=TILE))
    field(app, "selectbox", "contrast_0_of_1").set_value("t2").run()
    app.file_uploader(key="upload_he").set_value(("next.png", showcase.tile(seed=4), "image/png")).run()
    assert field(app, "number_input", "mpp").value is None
    assert not field(app, "checkbox", "site_known").value
    assert field(app, "selectbox", "contrast_0_of_1").value == "t2", "the MRI is still the same"
    placed(app)
    second = showcase.nifti(tmp_path / "next.nii.gz", contrast="t2").read_bytes()
    app.file_uploader(key="upload_mri").set_value([("next.nii.gz", second, "application/gzip")]).run()
    assert field(app, "selectbox", "contrast_0_of_1").value == widgets.AS_NAMED
    assert not field(app, "checkbox", "site_known").value, "the site was in the former MRI's frame"


def test_what_was_said_of_the_files_outlives_a_visit_to_another_page_as_they_do(tmp_path, mri, monkeypatch):
    showcase.nifti(tmp_path / "a.nii.gz")
    (tmp_path / "cohort.csv").write_text("case_id,mri_t1\none,a.nii.gz\n", encoding="utf-8")
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path))
    app = opened()
    app.segmented_control(key="source").set_value("Your files").run()
    placed(given(app, mri=[mri], he=TILE))
    app.button(key="run").click().run()
    asked = app.session_state["cmssd_result"].request
    app.switch_page("../pages/overview.py").run()
    app.switch_page("../pages/analyse.py").run()
    assert app.segmented_control(key="source").value == "Your files"
    app.button(key="run").click().run()
    assert not app.error
    assert app.session_state["cmssd_result"].request == asked
    assert asked.site_mm == showcase.SITE_MM


def test_a_second_session_waits_for_the_model(mri):
    lock = models.lock(models.model().model_id)
    lock.acquire()
    timer = threading.Timer(2.0, lock.release)
    timer.start()
    started = time.monotonic()
    assert analysed(opened(), mri=[mri]).metric
    assert time.monotonic() - started > 2
    assert not lock.locked()


def test_several_dicom_files_and_a_zip_of_them_are_one_examination(tmp_path):
    series = [(path.name, path.read_bytes(), "application/dicom") for path in showcase.dicom(tmp_path)]
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content, _ in series:
            archive.writestr(f"study/{name}", content)
    ids = []
    for upload in (series, [("study.zip", packed.getvalue(), "application/zip")]):
        app = analysed(opened(), mri=upload)
        assert not app.error, app.error[0].value
        result = app.session_state["cmssd_result"]
        assert result.case.inputs["mri"].voxels.shape == (1, *showcase.SHAPE)
        assert "Mueller" not in everything(app)
        assert b"Mueller" not in result.html
        ids.append(result.case.id)
    assert ids[0] == ids[1]


def test_several_volumes_are_told_apart_by_their_names_or_asked_for(tmp_path, mri):
    second = showcase.nifti(tmp_path / "t2.nii.gz", contrast="t2").read_bytes()
    app = opened()
    app.file_uploader(key="upload_mri").set_value([mri, ("scan.nii.gz", second, "application/gzip")])
    app.run()
    assert field(app, "selectbox", "contrast_0_of_2").value == "t1"
    assert field(app, "selectbox", "contrast_1_of_2").value is None
    assert app.button(key="run").disabled
    field(app, "selectbox", "contrast_1_of_2").set_value("t2").run()
    app.button(key="run").click().run()
    assert not app.error
    shown = next(s for s in app.selectbox if s.label == "Contrast shown")
    assert list(shown.options) == ["T1", "T2"]


def test_the_demo_case_is_the_cohorts_first_row(tmp_path, monkeypatch):
    showcase.nifti(tmp_path / "a.nii.gz")
    (tmp_path / "tile.png").write_bytes(showcase.tile())
    (tmp_path / "cohort.csv").write_text(
        "case_id,mri_t1,slide,slide_mpp\none,a.nii.gz,tile.png,0.5\n", encoding="utf-8"
    )
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path))
    app = opened()
    assert app.segmented_control(key="source").value == "Demo case"
    app.button(key="run").click().run()
    assert not app.error
    assert len(app.metric) == 4
    assert app.session_state["cmssd_result"].prediction.patch_attention is not None


def test_a_broken_cohort_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "cohort.csv").write_text("case_id,mri_t1\none,gone.nii.gz\n", encoding="utf-8")
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path))
    app = opened()
    app.button(key="run").click().run()
    assert "gone.nii.gz" in app.error[0].value


def test_unreadable_weights_are_a_sentence_on_every_page(tmp_path, monkeypatch):
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    monkeypatch.setenv("CMSSD_WEIGHTS", str(tmp_path / "bad.safetensors"))
    settings.cache_clear()
    for page in ("overview", "analyse"):
        assert "bad.safetensors" in opened(page).sidebar.error[0].value
