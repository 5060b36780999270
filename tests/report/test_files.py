"""The report's laws: promised keys, the source's own space, all or nothing, a page that stands alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
import showcase
from PIL import Image
from places import TESTS
from plotly.colors import sequential

from cmssd_core.machine.store import Store
from cmssd_core.report import display, files, html, pictures
from cmssd_core.types import Finding, InputError, Volume

PROMISED = {
    "case_id", "model_id", "trained", "severity_pct", "severity_reason", "severity_interval", "p_malignant", "tier",
    "uncertainty", "tumour_ml", "bone_ml", "extraosseous_ml", "slices", "quality", "steps", "timings_s",
}  # fmt: skip
TIERS = (("low", 0.0), ("moderate", 25.0), ("high", 50.0))


def page(tmp_path: Path, **kind: bool) -> str:
    prediction, case = showcase.prediction(**kind), showcase.case(tmp_path, **kind)
    return html.render(prediction, case, files.draw(prediction, case), tiers=TIERS)


def test_json_keeps_its_promised_keys():
    answer = files.prediction_json(showcase.prediction(), tiers=TIERS)
    assert set(answer) >= PROMISED
    assert answer["slices"][5].keys() == {"index", "tumour_mm2", "bone_mm2"}
    assert answer["quality"][0].keys() == {"level", "what", "where"}
    assert answer["tiers"]["unvalidated"] is True
    assert "research use only" in answer["note"]
    json.dumps(answer, allow_nan=False)


def test_missing_figures_are_null_with_a_reason():
    answer = files.prediction_json(showcase.prediction(mri=False))
    assert answer["severity_pct"] is None
    assert "no MRI" in answer["severity_reason"]
    assert answer["tumour_ml"] is None
    assert answer["slices"] == []


def test_an_interval_is_a_pair():
    answer = files.prediction_json(showcase.answering(showcase.prediction(), severity_interval=(30.0, 44.5)))
    assert answer["severity_interval"] == [30.0, 44.5]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_maps_come_back_in_the_source_space(tmp_path, axes, signs):
    affine = np.eye(4)
    affine[:3, :3] = (showcase.affine()[:3, :3] * signs)[list(axes)]
    affine[:3, 3] = (12.5, -80.25, 31.0)
    grid = np.random.default_rng(0).random((4, 6, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(grid.transpose(2, 1, 0), affine), tmp_path / "source.nii.gz")
    files.write_nifti(grid, affine, tmp_path / "map.nii.gz")
    source, back = nibabel.load(tmp_path / "source.nii.gz"), nibabel.load(tmp_path / "map.nii.gz")
    assert nibabel.aff2axcodes(source.affine) == nibabel.aff2axcodes(back.affine)
    np.testing.assert_allclose(back.affine, affine, atol=1e-4)
    assert back.get_data_dtype() == np.float32
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32), source.get_fdata(dtype=np.float32))


def test_write_gives_every_file_and_leaves_nothing_beside(tmp_path):
    prediction = showcase.prediction()
    written = files.write(prediction, showcase.case(tmp_path), tmp_path / "deep" / "out")
    assert {path.name for path in written} == set(files.NAMES)
    assert {path.name for path in (tmp_path / "deep" / "out").iterdir()} == set(files.NAMES)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    raw = np.load(tmp_path / "deep" / "out" / "attention.npz")
    np.testing.assert_array_equal(raw["patch_attention"], prediction.patch_attention)
    np.testing.assert_array_equal(raw["patch_xy"], prediction.patch_xy)
    np.testing.assert_array_equal(raw["gate"], prediction.maps["attention"])
    answer = json.loads((tmp_path / "deep" / "out" / "prediction.json").read_text(encoding="utf-8"))
    assert answer["severity_pct"] == 37.25


def test_a_second_run_leaves_nothing_of_the_first(tmp_path):
    files.write(showcase.prediction(), showcase.case(tmp_path), tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("the user's own", encoding="utf-8")
    files.write(showcase.prediction(mri=False), showcase.case(tmp_path, mri=False), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "tumour.nii.gz" not in names
    assert "overlay_tumour.png" not in names
    assert names >= {"notes.txt", "prediction.json", "overlay_slide.png"}


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path):
    for name, holds, age_s in [
        (".cmssd-abcdefg0", "report.html", 7200),
        (".cmssd-abcdefg1", "report.html", 60),  # a run that is still going
        (".cmssd-abcdefg2", "notes.txt", 7200),  # not ours
        (".cmssd-mine", "report.html", 7200),
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / holds).write_text("", encoding="utf-8")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    files.write(showcase.prediction(), showcase.case(tmp_path), tmp_path / "out")
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".cmssd-")}
    assert left == {".cmssd-abcdefg1", ".cmssd-abcdefg2", ".cmssd-mine"}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import showcase
from cmssd_core.report import files
from cmssd_core.types import InputError
folder, case = Path(sys.argv[1]), showcase.case(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (2_000, 60_000, 400_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        files.write(showcase.prediction(), case, folder / "out")
    except InputError as mistake:
        print(limit, mistake)
    print(sorted(path.name for path in folder.iterdir()), sorted(path.name for path in (folder / "out").iterdir()))
"""


def test_nothing_is_half_written_where_the_disk_is_full(tmp_path):
    """A limit on the size of files stands for a full disk: it stops a map, a picture and the page in their middle."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prediction.json").write_text("of before", encoding="utf-8")
    tests = TESTS
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True, text=True, cwd=tests.parent, check=True,
        env=os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"},
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said[::2]] == ["2000", "60000", "400000"], done.stdout
    assert all("cannot be written" in line for line in said[::2])
    assert set(said[1::2]) == {"['out', 'tile.png'] ['prediction.json']"}
    assert (tmp_path / "out" / "prediction.json").read_text(encoding="utf-8") == "of before"


def test_a_file_where_out_should_be_is_the_users_mistake(tmp_path):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="a file stands where"):
        files.write(showcase.prediction(), showcase.case(tmp_path), tmp_path / "out")
    with pytest.raises(InputError, match="cannot be written"):
        files.write(showcase.prediction(), showcase.case(tmp_path), tmp_path / "out" / "below")


def test_a_folder_where_a_file_should_be_leaves_out_untouched(tmp_path):
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(InputError, match=r"report\.html"):
        files.write(showcase.prediction(), showcase.case(tmp_path), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_the_page_stands_alone(tmp_path):
    text = page(tmp_path)
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    assert "@import" not in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 4
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    assert '<html lang="en">' in text
    assert "Research use only" in text


def test_the_page_says_what_it_does_not_know(tmp_path):
    text = page(tmp_path)
    assert "not calibrated" in text
    assert "unvalidated" in text
    assert "not evidence" in text
    assert "0.620" in text
    alone = page(tmp_path, mri=False)
    assert "No MRI was given" in alone
    assert "undefined" in alone
    assert "overlay" not in alone
    assert "No slide was given" in page(tmp_path, he=False)
    assert "unregistered" in page(tmp_path, site=False)


def test_the_page_names_nobody_and_no_file(tmp_path):
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page(tmp_path))
    assert str(tmp_path) not in text
    assert "tile.png" not in text
    assert "3f9a" * 16 not in text
    assert "3f9a3f9a3f9a" in text


def test_the_page_escapes_what_comes_from_files(tmp_path):
    prediction = replace(showcase.prediction(), quality=(Finding("severe", "<script>alert(1)</script>", "mri"),))
    text = html.render(prediction, showcase.case(tmp_path), {}, tiers=TIERS)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_millimetres_are_square_on_pictures():
    """The phantom's bone is round; in voxels of 1.2 x 0.8 mm it would be drawn as an ellipse."""
    drawn = np.asarray(Image.open(BytesIO(pictures.tumour_overlay(showcase.volume(), showcase.prediction()))))
    rim = (drawn == pictures._BONE).all(-1)
    rim[:, 1150:] = False  # the legend has a line of that colour
    rows, columns = np.where(rim)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_patients_right_is_on_the_left(sign):
    matrix = showcase.affine(tilt_deg=0) @ np.diag([sign, 1, 1, 1])
    mark = np.zeros(showcase.SHAPE, np.float32)
    mark[4, 48, 10] = 1  # x = 10: towards the patient's right where x grows to the left
    layout = display.lay_out(matrix, mark.shape)
    _, column = np.argwhere(layout.slice_of(mark, 4))[0]
    assert layout.letters == ("R", "L", "A", "P")
    right = (matrix @ [10, 48, 4, 1])[0] > (matrix @ [40, 48, 4, 1])[0]
    assert (column < 40) == right


def test_slices_keep_their_source_number_on_any_grid():
    rng = np.random.default_rng(2)
    grid = rng.random((9, 5, 7)).astype(np.float32)
    for permuted in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        spacing = np.array([1.0, 1.1, 4.0])[list(permuted)]
        layout = display.lay_out(np.diag([*-spacing, 1.0]), grid.shape)
        axis = layout.orientation.axes[0]
        for index in range(grid.shape[axis]):
            source = np.sort(grid.take(index, axis=axis), axis=None)
            np.testing.assert_array_equal(np.sort(layout.slice_of(grid, index), axis=None), source)


def test_colour_tables_are_the_ones_on_screen():
    for name, anchors in (("magma", sequential.Magma), ("viridis", sequential.Viridis)):
        table = display.lut(name)
        assert table.shape == (256, 3)
        for place, anchor in zip(np.linspace(0, 255, 10), anchors, strict=True):
            expected = [int(anchor[i : i + 2], 16) for i in (1, 3, 5)]
            assert np.abs(table[round(place)].astype(int) - expected).max() <= 3


def test_scale_bars_have_round_lengths():
    assert [display.round_length(v) for v in (0.7, 1, 19, 49, 50, 999)] == [0.5, 1, 10, 20, 50, 500]


def test_a_flat_or_broken_image_still_has_a_window():
    assert display.window(np.full((2, 2, 2), 7, np.float32)) == (7, 8)
    assert display.window(np.full((2, 2, 2), np.nan, np.float32)) == (0, 1)


def test_the_strip_always_shows_the_slice_with_most_tumour():
    prediction = showcase.prediction()
    for count in (1, 2, 3, 5):
        assert display.most_tumour(prediction) in display.choose_slices(prediction, count=count)


def test_a_single_slice_and_a_sagittal_scan_are_drawn(tmp_path):
    shown = showcase.prediction()
    single = replace(
        shown, maps={name: grid[5:6] for name, grid in shown.maps.items()}, slices=(replace(shown.slices[5], index=0),)
    )
    case = showcase.case(tmp_path)
    volume = case.inputs["mri"]
    case.inputs["mri"] = Volume(volume.voxels[:, 5:6], volume.affine, volume.contrasts)
    assert set(files.draw(single, case)) == {"tumour", "attention", "slide"}
    turned = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]) @ showcase.affine()
    drawn = pictures.tumour_overlay(Volume(volume.voxels, turned, volume.contrasts), shown)
    assert Image.open(BytesIO(drawn)).size[1] > 300


def test_pictures_go_without_patches_and_without_mpp(tmp_path):
    slide = showcase.case(tmp_path).inputs["he"]
    bare = replace(showcase.prediction(he=False))
    assert pictures.slide_overlay(replace(slide, mpp=None), bare).startswith(b"\x89PNG")


def test_the_same_prediction_is_written_from_the_store_byte_for_byte(tmp_path, monkeypatch):
    store, case = Store(tmp_path / "store", limit_bytes=None), showcase.case(tmp_path)
    files.write(showcase.prediction(), case, tmp_path / "one", store=store)
    monkeypatch.setattr(files, "draw", lambda *_: pytest.fail("drawn again"))
    files.write(showcase.prediction(), case, tmp_path / "two", store=store)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {path.name for path in (tmp_path / "two").iterdir()}
    for name in names - {"report.html"}:  # which says when it was made
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_another_map_is_not_written_from_the_store(tmp_path):
    store, case, first = Store(tmp_path / "store", limit_bytes=None), showcase.case(tmp_path), showcase.prediction()
    files.write(first, case, tmp_path / "one", store=store)
    other = replace(first, maps={**first.maps, "tumour": first.maps["tumour"] * 0.5})
    files.write(other, case, tmp_path / "two", store=store)
    assert (tmp_path / "one/tumour.nii.gz").read_bytes() != (tmp_path / "two/tumour.nii.gz").read_bytes()
