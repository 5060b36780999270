"""The Explain page without a browser: maps with their doubts, shares as bars, the audit's verdict and gates."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import audited
import nibabel
import numpy as np
import pytest
import showcase
import streamlit as st
from PIL import Image
from places import ROOT
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.explain.methods import explain
from cmssd_core.slide.outlines import to_geojson
from cmssd_core.types import InputError
from dashboard import selection
from dashboard.services import audit as audits
from dashboard.services import cohort as cohorts
from dashboard.services import criteria
from dashboard.services import explain as service
from dashboard.services import explain_place as places
from dashboard.services import model as models
from dashboard.viewers import bundle, mri, slide
from dashboard.viewers.layers import PatchClick, VolumeClick


@pytest.fixture(autouse=True)
def installation(tmp_path, monkeypatch):
    """Random weights and a cohort of two cases: one with both criteria drawn, one with none."""
    shown = showcase.volume()
    for name, layer in zip(("t1", "t2"), shown.voxels[:, 5:8], strict=True):  # three slices are enough, and quick
        nibabel.save(nibabel.Nifti1Image(layer.transpose(2, 1, 0), shown.affine), tmp_path / f"{name}.nii.gz")
    mask = np.zeros((*showcase.SHAPE[:0:-1], 3), np.uint8)
    mask[44:52, 40:50, 1] = 1
    nibabel.save(nibabel.Nifti1Image(mask, showcase.affine()), tmp_path / "breach.nii.gz")
    (tmp_path / "tile.png").write_bytes(showcase.tile())
    drawn = np.zeros((512, 512), np.uint8)
    drawn[60:200, 60:200] = 255
    Image.fromarray(drawn).save(tmp_path / "osteoid.png")
    (tmp_path / "cohort.csv").write_text(
        "case_id,mri_t1,slide,slide_mpp,malignant,cortical_destruction_mask,osteoid_mask\n"
        "drawn,t1.nii.gz,tile.png,0.5,1,breach.nii.gz,osteoid.png\nbare,t2.nii.gz,tile.png,0.5,0,,\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path))
    monkeypatch.setenv("CMSSD_N4", "false")
    monkeypatch.setenv("CMSSD_MAX_PATCHES", "2")
    settings.cache_clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()


def opened(case: str | None = "drawn") -> AppTest:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=180).run()
    if case is not None:
        app.session_state["cmssd_current"] = selection.CaseRef(Path(settings().cache_dir).parent / "cohort.csv", case)
    app.switch_page("../pages/explain.py").run()
    assert not app.exception
    assert not app.error, app.error[0].value
    return app


def everything(app: AppTest) -> str:
    kinds = ("markdown", "error", "warning", "info", "subheader", "title")
    return " ".join(str(e.value) for kind in kinds for e in app.get(kind))


def box(app: AppTest, label: str):
    return next(s for s in app.selectbox if s.label == label)


def press(app: AppTest, label: str) -> AppTest:
    next(b for b in app.button if b.label.startswith(label)).click().run()
    assert not app.exception
    assert not app.error, app.error[0].value
    return app


def test_opening_another_cohort_leaves_no_patient_of_the_former_one_on_screen(tmp_path):
    app = opened()
    assert "**drawn**" in everything(app)
    other = tmp_path / "other"
    other.mkdir()
    (other / "cohort.csv").write_text("case_id,mri_t1\nanother,../t1.nii.gz\n", encoding="utf-8")
    app.switch_page("../pages/overview.py").run()
    app.text_input(key="overview_folder").set_value(str(other))
    press(app, "Open")
    for page in ("case", "what_if", "explain"):
        app.switch_page(f"../pages/{page}.py").run()
        assert not app.exception
        said = everything(app)
        assert "Choose a case" in said, page
        assert "**drawn**" not in said, page


def test_a_map_is_drawn_at_once_and_says_what_it_is_worth():
    app = opened()
    said = everything(app)
    assert "GradCAM" in said
    assert "promises no sum" in said
    assert ":material/timer:" in said
    assert "random weights" in said
    assert "read the **Audit**" in said
    assert "Exact Shapley values" in said
    assert app.get("plotly_chart"), "the modalities' shares"


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_the_same_bytes_with_another_scale_or_site_are_another_question(tmp_path):
    def on_slide(app: AppTest, page: str) -> dict:
        app.switch_page(f"../pages/{page}.py").run()
        assert not app.exception
        return next(sent for sent in (json.loads(e.proto.json) for e in app.get("bidi_component")) if "tiles" in sent)

    app = opened()
    map_before, case_before = (on_slide(app, page) for page in ("explain", "case"))
    table = tmp_path / "cohort.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",0.5,1,", ",0.25,1,"), encoding="utf-8")
    old = app.session_state["cmssd_result"]
    app.session_state["cmssd_result"] = None
    map_after, case_after = (on_slide(app, page) for page in ("explain", "case"))
    new = app.session_state["cmssd_result"]
    assert new.case.id == old.case.id
    assert map_after["patches"]["size"] == 2 * map_before["patches"]["size"]
    assert case_after["tiles"].rpartition("/")[2] == case_before["tiles"].rpartition("/")[2], "the same file"
    assert case_after["stained"] != case_before["stained"], "its stain is fitted on other patches"
    moved = replace(new.case.inputs["he"], site_mm=showcase.SITE_MM)
    placed = replace(new, case=replace(new.case, inputs={**new.case.inputs, "he": moved}))
    assert len({old.key, new.key, placed.key}) == 3


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_annotations_outlive_a_visit_to_another_page_until_they_are_removed():
    def outlines(app: AppTest) -> list[str]:
        assert not app.exception
        assert not app.error, app.error[0].value
        sent = next(s for s in (json.loads(e.proto.json) for e in app.get("bidi_component")) if "tiles" in s)
        return [each["name"] for each in sent["outlines"]]

    drawn = json.dumps(to_geojson(np.pad(np.ones((128, 128), bool), 64), name="Osteoid")).encode()
    app = opened().switch_page("../pages/case.py").run()
    given = next(each for each in app.get("file_uploader") if each.label == "GeoJSON of this slide")
    given.set_value(("Mueller.geojson", drawn, "application/geo+json")).run()
    assert outlines(app) == ["Annotations"]
    app.switch_page("../pages/explain.py").run()
    app.switch_page("../pages/case.py").run()
    assert outlines(app) == ["Annotations"]
    press(app, "Remove")
    assert outlines(app) == []


def test_a_slow_map_waits_for_a_press_and_says_whether_it_adds_up():
    app = opened()
    box(app, "Method").set_value("integrated_gradients").run()
    assert "GradCAM" not in [s.label for s in app.slider]
    assert not [s for s in app.slider if s.label == "Opacity of the maps"]
    press(app, "Draw Integrated Gradients")
    said = everything(app)
    assert "adds up but for" in said or "too small a difference" in said
    assert "Without content" in said
    app.run()  # it is kept: no second press
    assert not [b for b in app.button if b.label.startswith("Draw")]


def test_the_gate_is_labelled_not_evidence():
    app = opened()
    box(app, "Method").set_value("gate").run()
    assert "not evidence" in everything(app)


def test_two_methods_are_shown_beside_each_other_with_how_alike_they_are():
    app = opened()
    box(app, "Compare with").set_value("another method").run()
    box(app, "Second method").set_value("gate").run()
    said = everything(app)
    assert "Rank correlation of the two maps" in said
    assert said.count(":material/timer:") == 2


def test_a_region_of_a_map_can_be_the_target():
    app = opened()
    box(app, "What is explained").set_value("bone").run()
    app.session_state[f"explain_voxel_{app.session_state['cmssd_result'].case.id[:12]}"] = (40, 40, 1)
    app.run()
    options = box(app, "In which region").options
    assert any("ball of 10 mm" in option for option in options)
    assert any("known cortical destruction" in option for option in options)
    box(app, "In which region").set_value(next(o for o in options if "ball" in o)).run()
    assert "in a region of" in everything(app)


def test_a_voxel_marked_for_a_region_is_explained_at_once_and_its_radius_changes_no_other_choice(monkeypatch):
    clicks = {0: VolumeClick((40, 40, 1), (0.0, 0.0, 0.0), 1.0, "t1")}
    monkeypatch.setattr(mri, "viewer", lambda *_, key, **__: clicks.get(int(key[-1])))
    app = opened()
    box(app, "What is explained").set_value("bone").run()
    assert any("ball of 10 mm" in option for option in box(app, "In which region").options)
    box(app, "In which region").set_value(service.BALL).run()
    ten = told(app)
    next(each for each in app.slider if each.label.startswith("Radius")).set_value(20).run()
    assert box(app, "In which region").value == service.BALL
    assert told(app) > ten
    clicks[0] = VolumeClick((40, 2, 1), (0.0, 0.0, 0.0), 1.0, "t1")
    app.run()
    assert not app.exception
    assert told(app) != ten, "the ball moved to the new voxel"
    assert "Voxel 40, 2, 1" in everything(app)
    clicks[1] = VolumeClick((2, 2, 2), (0.0, 0.0, 0.0), 1.0, "t1")
    box(app, "Compare with").set_value("another method").run()
    box(app, "Second method").set_value("gate").run()
    assert "Voxel 2, 2, 2" in everything(app), "the click of the other viewer is the newer one"
    clicks[0] = VolumeClick((3, 3, 1), (0.0, 0.0, 0.0), 1.0, "t1")
    app.run()
    assert "Voxel 3, 3, 1" in everything(app), "now it is not"


def told(app: AppTest) -> int:
    """Of how many voxels the region is whose map is explained."""
    return int(re.search(r"in a region of (\d+) voxels", everything(app))[1])


def test_a_clicked_place_says_what_model_and_map_say_of_it():
    app = opened()
    result = app.session_state["cmssd_result"]
    short = result.case.id[:12]
    app.session_state[f"explain_voxel_{short}"] = (40, 44, 1)
    app.session_state[f"explain_patch_{short}"] = tuple(result.prediction.patch_xy[1])
    app.run()
    said = everything(app)
    assert "Voxel 40, 44, 1" in said
    assert "Patch 2" in said
    values = {row: value for t in app.table for row, value in zip(*t.value.T.to_numpy(), strict=True)}
    assert values["probability of malignant tumour"] == f"{result.prediction.maps['tumour'][1, 44, 40]:.3f}"
    press(app, "What would the model say without this voxel")
    assert "filled by" in everything(app)
    press(app, "What would the model say without this patch")
    assert "Without patch 2" in everything(app)


def test_a_click_on_a_patch_is_that_patch(monkeypatch):
    monkeypatch.setattr(slide, "viewer", lambda *_, **__: PatchClick((9.0, 9.0), 1, None))
    assert "Patch 2" in everything(opened())


def test_of_another_models_place_only_its_own_map_is_told():
    app = opened()
    result = app.session_state["cmssd_result"]
    short = result.case.id[:12]
    app.session_state[f"explain_voxel_{short}"] = (40, 44, 1)
    app.session_state[f"explain_patch_{short}"] = tuple(result.prediction.patch_xy[1])
    other = next(weights for weights in app.run().selectbox(key="explain_model").options if "cheat" in weights)
    app.selectbox(key="explain_model").set_value(by_words(other)).run()
    assert not app.exception
    assert not app.error, app.error[0].value
    said = everything(app)
    assert "Voxel 40, 44, 1" in said
    rows = [row for t in app.table for row in t.value.T.to_numpy()[0]]
    assert any("GradCAM" in row for row in rows)
    assert not [row for row in rows if "probability" in row or "gate" in row or "attention" in row]
    assert not [b for b in app.button if b.label.startswith("What would the model say")]


def by_words(words: str) -> Path | None:
    return next(weights for weights, name in service.models().items() if name == words)


def test_each_criterion_is_measured_and_a_missing_one_is_not_assessable():
    app = opened()
    press(app, "Measure what each criterion is worth")
    said = everything(app)
    assert "Cortical destruction" in said
    assert "Osteoid" in said
    app = opened("bare")
    assert "Not assessable in this case, nobody drew it: **osteoid, cortical destruction**" in everything(app)
    assert not [b for b in app.button if b.label.startswith("Measure")]


def sent(app: AppTest, which: str) -> dict:
    """What goes to the browser for the MRI ("contrasts") or the slide ("tiles")."""
    assert not app.exception
    return next(each for each in (json.loads(e.proto.json) for e in app.get("bidi_component")) if which in each)


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_the_criteria_lie_over_both_images_under_their_own_names(tmp_path):
    inner = {"type": "Polygon", "coordinates": [[[10, 10], [90, 10], [90, 90], [10, 10]]]}
    (tmp_path / "necrosis.geojson").write_text(json.dumps({"type": "Feature", "geometry": inner}), encoding="utf-8")
    own = [
        {"name": "necrosis", "modality": "he", "meaning": "Dead tissue.", "masks": {"drawn": "necrosis.geojson"}},
        {"name": "tumour", "modality": "mri", "meaning": "Our own.", "masks": {"drawn": "breach.nii.gz"}},
    ]
    (tmp_path / "criteria.json").write_text(json.dumps({"criteria": own}), encoding="utf-8")
    app = opened()
    masks = {each["name"]: each for each in sent(app, "contrasts")["overlays"]}
    assert {"Known cortical destruction", "Known tumour (criterion)"} <= set(masks)
    assert masks["Known cortical destruction"]["colours"] != masks["Known tumour (criterion)"]["colours"]
    outlines = {each["name"]: each for each in sent(app, "tiles")["outlines"]}
    assert set(outlines) == {"Known osteoid", "Known necrosis"}
    assert "Dead tissue. From the cohort" in outlines["Known necrosis"]["meaning"]
    assert len({str(each["colours"]) for each in outlines.values()}) == 2
    app.switch_page("../pages/case.py").run()
    assert sent(app, "tiles")["outlines"] == [], "the known answer waits until it is asked for"
    next(t for t in app.toggle if "known answer" in t.label).set_value(True).run()
    assert {each["name"] for each in sent(app, "tiles")["outlines"]} == set(outlines)
    assert {each["name"] for each in sent(app, "contrasts")["overlays"]} >= set(masks) - {"GradCAM"}


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_a_criterion_that_cannot_be_read_hides_no_map(tmp_path):
    app = opened("bare")
    (tmp_path / "criteria.json").write_text("{", encoding="utf-8")
    st.cache_resource.clear()
    app.run()
    assert "criteria.json cannot be read" in app.error[0].value.replace("\\", "")
    assert "GradCAM" in [each["name"] for each in sent(app, "contrasts")["overlays"]]
    assert sent(app, "tiles")["layers"]


def test_a_mask_that_is_a_picture_is_outlined_in_the_slides_own_pixels():
    picture = np.zeros((1000, 500), bool)
    picture[100:300, 200:300] = True
    picture[150:250, 220:280] = False
    picture[900, 499] = True
    block, speck = criteria._traced(picture, (2000, 4000))
    outer, hole = (np.array(ring) for ring in block)
    cell = 8 * 4  # 1000 px in 125 cells, and 4 px of the slide to one of the picture
    for ring, ends in ((outer, (800, 400, 1200, 1200)), (hole, (880, 600, 1120, 1000))):
        assert (ring[0] == ring[-1]).all(), "closed"
        assert np.abs(np.array([*ring.min(axis=0), *ring.max(axis=0)]) - ends).max() <= cell
    assert np.array(speck[0]).max(axis=0).tolist() == [2000, 3616]


def test_the_box_that_is_filled_lies_around_the_voxel():
    from cmssd_core.whatif.erase import mask_of

    volume = showcase.volume()
    for voxel in ((40, 44, 6), (2, 90, 0), (70, 3, 11)):
        x, y, z = voxel
        mask = mask_of(volume, places._box_around(volume, voxel))
        assert mask[z, y, x]
        far = np.argwhere(mask)[:, ::-1] - np.array(voxel)
        assert (np.abs(far * showcase.SPACING) <= places.BOX_MM + max(showcase.SPACING[:2])).all()


def test_the_map_is_taken_away_as_files_without_a_name(tmp_path):
    case, predictor = opened().session_state["cmssd_result"].case, models.model()
    told = explain(case, predictor, "gradcam")
    with zipfile.ZipFile(io.BytesIO(service.files(told, case, tmp_path))) as packed:
        names = packed.namelist()
        assert json.loads(packed.read("attribution.json"))["method"] == "gradcam"
    assert {Path(name).suffix for name in names} >= {".gz", ".geojson", ".npz", ".png", ".json"}


def audit(app: AppTest) -> AppTest:
    next(b for b in app.get("button_group") if b.label == "Show").set_value("Audit").run()
    assert not app.exception
    assert not app.error, app.error[0].value
    return app


def test_without_an_audit_the_page_says_how_to_make_one():
    said = " ".join(c.value for c in audit(opened(None)).code)
    assert "cmssd audit" in said


def test_a_cheats_audit_names_the_trap_opens_its_gates_and_queues_its_cases(tmp_path):
    audited.write(tmp_path / "results", ["drawn", "bare", *(f"case-{n}" for n in range(20))], cheat=True)
    app = audit(opened(None))
    said = everything(app)
    assert "FAIL" in said
    assert "a marker in the corner moves the answer" in said
    assert "NOT ASSESSABLE" in said
    labels = [e.label for e in app.expander]
    assert any("G1" in label and "fails" in label for label in labels)
    assert any("G3" in label for label in labels)
    queue = next(d.value for d in app.dataframe if "excess over the best control" in d.value)
    assert (queue["excess over the best control"].diff().dropna() >= 0).all(), "the worst first"
    assert queue["excess over the best control"].iloc[0] < 0
    assert {b.label for b in app.get("download_button")} == {"Audit (JSON)"}


def test_an_honest_models_audit_passes_and_says_what_that_does_not_mean(tmp_path):
    audited.write(tmp_path / "results", [f"case-{n}" for n in range(24)], cheat=False)
    said = everything(audit(opened(None)))
    assert "PASS" in said
    assert "does not prove that the model is right" in said


def test_the_promised_keys_alone_are_enough(tmp_path):
    """audit.json promises name, value, low, high, threshold, passed and meaning of a gate, and no more."""
    told = audited.told([f"case-{n}" for n in range(24)], cheat=True)
    promised = ("name", "value", "low", "high", "threshold", "passed", "meaning")
    bare = {
        "overall": told["overall"],
        "verdicts": [
            {k: v[k] for k in ("criterion", "modality", "method", "verdict")}
            | {"gates": [{k: g[k] for k in promised} for g in v["gates"]]}
            for v in told["verdicts"]
        ],
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "audit.json").write_text(json.dumps(bare), encoding="utf-8")
    assert "FAIL" in everything(audit(opened(None)))


@pytest.mark.parametrize("broken", ["", "[]", '{"overall": "PASS"}', '{"overall": "PASS", "verdicts": [1]}'])
def test_a_broken_audit_is_a_sentence(tmp_path, broken):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "audit.json").write_text(broken, encoding="utf-8")
    there = audits.find_audit(tmp_path / "cohort.csv")
    assert there == cohorts.State.of(tmp_path / "results" / "audit.json")
    with pytest.raises(InputError, match="run it again"):
        audits.report(there)
