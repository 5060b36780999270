"""Explanations of whole cases: maps lie where the truth was planted, criteria are read, files say what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from weighed import Weighed

from cmssd_core.cases import admit as cases
from cmssd_core.cases.prepare import prepare
from cmssd_core.cohort import table as cohort
from cmssd_core.config import Settings
from cmssd_core.explain.criteria import BUILT_IN, Criterion, criteria, mark, outline, outlines
from cmssd_core.explain.methods import explain
from cmssd_core.explain.question import ExplainSettings
from cmssd_core.explain.targets import Target
from cmssd_core.inference import predict as inference
from cmssd_core.machine import store as storage
from cmssd_core.report import attribution_files as export
from cmssd_core.types import Case, InputError, PatchBag, Volume, frozen
from cmssd_core.volume.orient import radiological

PLAIN = Settings(n4=False, max_patches=4)
GRIDS = {
    "axial, RAS": np.array([[1.5, 0, 0, -20], [0, 1.2, 0, 5], [0, 0, 6, 9], [0, 0, 0, 1.0]]),
    "sagittal, flipped": np.array([[0, 0, 5.0, -40], [-1.1, 0, 0, 30], [0, -1.3, 0, 60], [0, 0, 0, 1.0]]),
    "oblique": np.array([[1.4, -0.3, 0, 0], [0.3, 1.4, 0.5, 0], [0, -0.2, 6.5, 0], [0, 0, 0, 1.0]]),
}


def scan(affine: np.ndarray, shape: tuple[int, int, int] = (6, 40, 48)) -> Case:
    rng = np.random.default_rng(1)
    voxels = rng.normal(100, 20, (2, *shape)).astype(np.float32)
    voxels[:, :, :3], voxels[:, :, -3:] = 0, 0
    return Case("a", {"mri": Volume(frozen(voxels), affine, ("t1", "t2"))})


@pytest.mark.parametrize("affine", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "occlusion"])
def test_the_peak_lies_where_the_model_looks(affine: np.ndarray, method: str) -> None:
    case = scan(affine)
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    shape = volume.voxels.shape[1:]
    model = Weighed(px=64, slices=radiological(affine, shape).shape(shape)[0]).eval()
    prepared = prepare(case, spec=model.spec, settings=PLAIN)
    grid = prepared.inputs["mri"]
    assert isinstance(grid, Volume)
    planted = (3, 17, 29)  # z, y, x of the scan as it came
    at_mm = affine @ (*planted[::-1], 1)
    x, y, z = np.rint(np.linalg.solve(grid.affine, at_mm)[:3]).astype(int)
    model.mri.data.zero_()
    model.mri.data[z, :, y, x] = 1.0
    settings = ExplainSettings(window_px=3, stride_px=1, slices=(int(z),), baseline_mri="air", samples=2)
    told = explain(case, model, method, settings=settings, program=PLAIN)
    assert told.maps["mri"].shape == shape
    peak = np.unravel_index(np.abs(told.maps["mri"]).argmax(), shape)
    distance = np.linalg.norm((affine @ (*peak[::-1], 1) - at_mm)[:3])
    assert distance <= 1.5 * grid.spacing_mm[0] + 1e-6
    assert peak[radiological(affine, shape).axes[0]] == planted[radiological(affine, shape).axes[0]]
    if method == "occlusion":  # a window is as wide as it is
        return
    outside = np.abs(told.maps["mri"]).copy()
    near = tuple(slice(max(p - 4, 0), p + 5) for p in peak)
    outside[near] = 0
    assert outside.max() <= 1e-3 * np.abs(told.maps["mri"]).max()


def slide_case(tmp_path: Path) -> Case:
    rng = np.random.default_rng(0)
    pixels = np.full((200, 260, 3), (205, 130, 180), np.uint8) + rng.integers(0, 40, (200, 260, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "tile.png")
    return cases.admit(he=tmp_path / "tile.png", mpp=0.5)


def test_a_patchs_map_lies_in_its_box_of_the_slide(tmp_path: Path) -> None:
    case = slide_case(tmp_path)
    model = Weighed(px=32, patches=4).eval()
    prepared = prepare(case, spec=model.spec, settings=PLAIN)
    bag = prepared.inputs["he"]
    assert isinstance(bag, PatchBag)
    model.he.data.zero_()
    model.he.data[2, :, 8:16, 16:24] = 1.0
    told = explain(case, model, "integrated_gradients", settings=ExplainSettings(baseline_he="white"), program=PLAIN)
    assert told.patch_size_px == 64  # 32 px at 1 micron on a slide of half a micron
    told = replace(told, maps={"he": np.abs(told.maps["he"])})
    areas = [f for f in export.geojson(told)["features"] if "hot" in f["properties"]["classification"]["name"]]
    (area,) = areas
    corners = np.array(area["geometry"]["coordinates"][0])
    expected = bag.xy[2] + np.array([16, 8]) * 2
    np.testing.assert_allclose(corners.min(0), expected)
    np.testing.assert_allclose(corners.max(0), expected + 16)


@pytest.fixture(scope="module")
def demo(cohort: Path) -> tuple[Case, object, Path]:
    table = cohort_table(cohort)
    row = next(row for _, row in table.iterrows() if isinstance(row["osteoid_mask"], str))
    return _cohort_case(row, cohort), row, cohort


def cohort_table(folder: Path):
    return cohort.read(folder)


def _cohort_case(row, folder: Path) -> Case:
    return cohort.admit_row(row, folder, masks=False)


@pytest.fixture(scope="module")
def small() -> inference.Predictor:
    """The shipped weights on small images: fast, and the way of every user."""
    return inference.load(settings=PLAIN)


def test_an_answer_is_kept_and_found_again(demo, small, tmp_path: Path, monkeypatch) -> None:
    case, _, _ = demo
    store = storage.Store(tmp_path / "store", limit_bytes=None)
    first = explain(case, small, "gradcam", program=PLAIN, store=store)
    monkeypatch.setattr(type(small.model), "forward", None)
    again = explain(case, small, "gradcam", program=PLAIN, store=store)
    assert {**vars(again), "maps": 0, "inputs": 0, "affine": 0, "patch_xy": 0, "seconds": 0} == {
        **vars(first), "maps": 0, "inputs": 0, "affine": 0, "patch_xy": 0, "seconds": 0
    }  # fmt: skip
    for name in first.maps:
        np.testing.assert_array_equal(first.maps[name], again.maps[name])
        np.testing.assert_array_equal(first.inputs[name], again.inputs[name])
    np.testing.assert_array_equal(first.patch_xy, again.patch_xy)
    for other in ({"target": Target("severity")}, {"settings": ExplainSettings(seed=1)}):
        with pytest.raises(TypeError):  # another question asks the network, which is not there
            explain(case, small, "gradcam", program=PLAIN, store=store, **other)


def test_files_say_what_was_found(demo, small, tmp_path: Path) -> None:
    case, _, _ = demo
    told = explain(case, small, "gradcam", program=PLAIN)
    names = {path.name for path in export.write(told, case, tmp_path / "out")}
    assert names == {
        "attribution.json", "attribution.npz", "attribution_mri.nii.gz", "attribution_mri.png",
        "attribution_he.geojson", "attribution_he.png",
    }  # fmt: skip
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    image = nibabel.load(tmp_path / "out/attribution_mri.nii.gz")
    np.testing.assert_allclose(image.affine, told.affine, atol=1e-4)
    np.testing.assert_allclose(image.get_fdata().transpose(2, 1, 0), told.maps["mri"], rtol=1e-5)
    with np.load(tmp_path / "out/attribution.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["map_he"], told.maps["he"])
        np.testing.assert_array_equal(arrays["patch_xy"], told.patch_xy)
    areas = json.loads((tmp_path / "out/attribution_he.geojson").read_text(encoding="utf-8"))
    patches = [f for f in areas["features"] if f["properties"]["classification"]["name"] == "patch"]
    assert len(patches) == len(told.maps["he"])
    total = sum(f["properties"]["measurements"]["gradcam sum"] for f in patches)
    assert total == pytest.approx(float(told.maps["he"].sum()), rel=1e-4)
    said = json.loads((tmp_path / "out/attribution.json").read_text(encoding="utf-8"))
    assert said["method"] == "gradcam"
    assert "research use only" in said["note"]
    for name in ("attribution_mri.png", "attribution_he.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert np.asarray(picture).std() > 5


def test_a_drawn_region_lands_on_the_prepared_grid(demo, small) -> None:
    case, _, _ = demo
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    region = np.zeros(volume.voxels.shape[1:], dtype=bool)
    region[3, 30:36, 28:34] = True
    told = explain(case, small, "gradcam", Target("lesion", region), program=PLAIN)
    assert "region" in told.target
    thin = np.zeros_like(region)
    thin[2, 30, 28] = True
    assert np.isfinite(explain(case, small, "gradcam", Target("lesion", thin), program=PLAIN).value)
    with pytest.raises(InputError, match="draw it on this very MRI"):
        explain(case, small, "gradcam", Target("lesion", region[:4]), program=PLAIN)


def test_built_in_criteria_come_from_the_cohorts_columns(demo) -> None:
    case, row, folder = demo
    found = outlines(row, folder, case, criteria(folder))
    assert set(found) == {one.name for one in BUILT_IN}
    assert found["osteoid"] is not None
    blank = row.copy()
    blank["osteoid_mask"] = np.nan
    assert outlines(blank, folder, case, criteria(folder))["osteoid"] is None
    alone = replace(case, inputs={"mri": case.inputs["mri"]})
    assert outlines(row, folder, alone, criteria(folder))["osteoid"] is None


def test_an_outline_with_a_hole_is_filled_where_it_should_be(tmp_path: Path) -> None:
    case = slide_case(tmp_path)
    model = Weighed(px=32, patches=4)
    prepared = prepare(case, spec=model.spec, settings=PLAIN)
    bag = prepared.inputs["he"]
    assert isinstance(bag, PatchBag)
    x, y = (float(v) for v in bag.xy[1])
    square = [[x + 8, y + 8], [x + 56, y + 8], [x + 56, y + 56], [x + 8, y + 56], [x + 8, y + 8]]
    hole = [[x + 24, y + 24], [x + 40, y + 24], [x + 40, y + 40], [x + 24, y + 40], [x + 24, y + 24]]
    path = tmp_path / "necrosis.geojson"
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square, hole]}, "properties": {}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    criterion = Criterion("necrosis", "he", "dead tissue", masks={"a": path.name})
    drawn = mark(outline(criterion, path, case), case, prepared).mask[0].numpy()
    expected = np.zeros((32, 32), dtype=bool)
    expected[4:28, 4:28] = True
    expected[12:20, 12:20] = False
    assert (drawn[1] ^ expected).mean() < 0.03  # the rim of a raster
    assert not drawn[[0, 2, 3]].any()
    other = Criterion("necrosis", "he", "dead tissue", masks={"a": path.name}, kind="viable")
    assert not mark(outline(other, path, case), case, prepared).mask.any()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('{"criteria": [{"name": "x"}]}', "meaning"),
        ('{"criteria": [{"name": "x", "modality": "ct", "meaning": "m", "column": "c"}]}', "expected mri or he"),
        ('{"criteria": [{"name": "x", "modality": "he", "meaning": "m"}]}', "a column or masks"),
        ('{"criteria": [{"name": "osteoid", "modality": "he", "meaning": "m", "column": "c"}]}', "another name"),
        ("[", "cannot be read"),
    ],
)
def test_a_broken_list_of_criteria_is_told_in_a_sentence(tmp_path: Path, told: str, said: str) -> None:
    (tmp_path / "criteria.json").write_text(told, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        criteria(tmp_path)


def test_a_sites_own_criterion_is_read_and_explained(demo, small, tmp_path: Path) -> None:
    case, row, _ = demo
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    voxels = np.zeros(volume.voxels.shape[1:][::-1], np.uint8)
    voxels[28:36, 30:38, 2:4] = 1
    nibabel.save(nibabel.Nifti1Image(voxels, volume.affine), tmp_path / "fracture.nii.gz")
    entry = {"name": "fracture", "modality": "mri", "meaning": "A broken bone.",
             "masks": {str(row["case_id"]): "fracture.nii.gz"}}  # fmt: skip
    (tmp_path / "criteria.json").write_text(json.dumps({"criteria": [entry]}), encoding="utf-8")
    (own,) = [one for one in criteria(tmp_path) if one.name == "fracture"]
    found = outlines(row, tmp_path, case, [own])["fracture"]
    assert found is not None
    told = explain(
        case, small, "criterion_ablation", criteria=[found], settings=ExplainSettings(controls=2), program=PLAIN
    )
    assert [share.name for share in told.shares] == ["fracture"]
    assert set(np.argwhere(told.maps["mri"])[:, 0]) <= {2, 3}
    with pytest.raises(InputError, match=r"expected \.geojson"):
        outline(replace(own, modality="he"), tmp_path / "fracture.nii.gz", case)


@pytest.mark.slow
def test_maps_of_real_images_are_drawn(real_data: Path, tmp_path: Path, small) -> None:
    """A sarcoma's MRI with another patient's osteosarcoma tile: the way works; the numbers mean nothing."""
    tile = sorted((real_data / "he_tiles/osteosarcoma-utsw").glob("*Viable*"))[0]
    case = cases.admit(mri=real_data / "mri/sts-ibsi/nifti/STS_006/MR_T1_image.nii.gz", he=tile, mpp=1.0)
    for method in ("gate", "gradcam", "integrated_gradients", "modality_shapley"):
        told = explain(case, small, method, program=PLAIN)
        assert all(np.isfinite(values).all() for values in told.maps.values())
        export.write(told, case, tmp_path / method)
    with pytest.raises(InputError, match="none can be assessed"):
        explain(case, small, "criterion_ablation", program=PLAIN)
