"""Tiles alone: classes and patients are read off names and tables, and scored where patient and class can be parted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.tiles import CLASSES, are_tiles, class_of, find_tiles
from cmssd_core.config import Settings
from cmssd_core.inference import predict as inference
from cmssd_core.inference.tile_head import fit_head, head_of, load_head, save_head, tile_features, tile_patches
from cmssd_core.models import MODELS
from cmssd_core.models.weights import WeightsInfo, save
from cmssd_core.studies import tiles
from cmssd_core.types import InputError

QUICK = Settings(device="cpu", max_patches=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = MODELS["cmssd"]("compact")
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save(model, path, info=WeightsInfo(model="cmssd", size="compact", trained="not trained", spec=model.spec))
    return path


NAMES = (
    "Non-Tumor___Case-4-A15-2939-11262_112.jpg",
    "Non-Viable-Tumor___Case-4-A12-16067-9053_104.jpg",
    "Viable___Case-4-C14-54171-23668_115.jpg",
    "Non-Tumor___P9-B12-15791-34183_103.jpg",
)


@pytest.fixture
def folder(cohort: Path, tmp_path: Path) -> Path:
    for name, slide in zip(NAMES, cohorts.read(cohort)["slide"], strict=True):
        shutil.copy(cohort / slide, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Non-Tumor___Case-3-A15.jpg", "non_tumor"),
        ("Non-Viable-Tumor___Case-3.jpg", "non_viable"),
        ("Viable___Case-48-P5.jpg", "viable"),
        ("necrosis_01.png", "non_viable"),
        ("Case-3-A15.jpg", None),
    ],
)
def test_a_name_begins_with_its_class(text: str, said: str | None) -> None:
    assert class_of(text) == said


def test_a_folder_of_tiles_is_a_cohort(folder: Path) -> None:
    table, root = find_tiles(folder, mpp=1.0)
    assert root == folder
    assert table["tissue_class"].tolist() == ["non_tumor", "non_tumor", "non_viable", "viable"]
    assert table["patient_id"].tolist() == ["Case-4", "P9", "Case-4", "Case-4"]
    cohorts.write_table(table, folder / "cohort.csv")
    again = cohorts.read(folder)
    assert again["slide_mpp"].tolist() == [1.0] * 4
    assert set(cohorts.admit_row(again.iloc[0], folder).inputs) == {"he"}


def test_folders_may_name_the_class(folder: Path) -> None:
    for said, name in (("viable", NAMES[2]), ("Non-Tumor", NAMES[3])):
        (folder / said).mkdir()
        (folder / name).rename(folder / said / f"{name.split('___')[1]}")
    table, _ = find_tiles(folder, mpp=1.0)
    assert sorted(table["tissue_class"]) == ["non_tumor", "non_tumor", "non_viable", "viable"]
    assert set(table["patient_id"]) == {"Case-4", "P9"}


def test_a_table_of_tiles_is_read_whatever_its_columns_are_called(folder: Path) -> None:
    rows = {
        "image.name": [Path(name).stem for name in NAMES],
        "Classification": ["Non-Tumor"] * 2 + ["viable", "necrotic"],
    }
    pd.DataFrame(rows | {"patient": ["a", "a", "b", None]}).to_csv(folder / "list.csv", index=False)
    table, _ = find_tiles(folder / "list.csv", mpp=0.5)
    assert table["slide"].tolist() == list(NAMES)
    assert table["tissue_class"].tolist() == ["non_tumor", "non_tumor", "viable", "non_viable"]
    assert table["patient_id"].tolist() == ["a", "a", "b", "P9"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            {"image": [NAMES[0]], "class": ["viable: non-viable"]},
            "row 2: class 'viable: non-viable' came, expected one",
        ),
        ({"image": [NAMES[0]], "class": [None]}, "row 2: class nan came"),
        ({"image": ["nowhere.jpg"], "class": ["viable"]}, "row 2, column slide: no file nowhere.jpg"),
        ({"image": ["x" * 300], "class": ["viable"]}, "row 2, column slide: no file xxx"),
        ({"image": [NAMES[0]]}, "no column tissue_class"),
        ({"class": ["viable"]}, "no column slide"),
    ],
)
def test_a_broken_table_of_tiles_is_refused_in_a_sentence(rows, said: str, folder: Path) -> None:
    pd.DataFrame(rows).to_csv(folder / "list.csv", index=False)
    with pytest.raises(InputError, match=said) as mistake:
        find_tiles(folder / "list.csv", mpp=1.0)
    assert len(str(mistake.value).splitlines()) == 1


def test_a_name_that_two_folders_hold_is_refused_and_with_its_folder_taken(folder: Path) -> None:
    for case in ("a", "b"):
        (folder / case).mkdir()
        shutil.copy(folder / NAMES[0], folder / case / "tile.jpg")
    for named, said in (("tile.jpg", "tile.jpg is a/tile.jpg and b/tile.jpg"), ("b/tile.jpg", None)):
        pd.DataFrame({"image": [named], "class": ["viable"]}).to_csv(folder / "list.csv", index=False)
        if said is None:
            assert find_tiles(folder / "list.csv", mpp=1.0)[0]["slide"].tolist() == [named]
            continue
        with pytest.raises(InputError, match=f"row 2, column slide: {said}, expected one file; name it"):
            find_tiles(folder / "list.csv", mpp=1.0)


def test_tiles_are_told_from_a_cohort_of_cases(folder: Path, cohort: Path) -> None:
    assert are_tiles(folder)
    assert not are_tiles(cohort)
    assert not are_tiles(folder / "nowhere.csv")
    table, _ = find_tiles(folder, mpp=1.0)
    cohorts.write_table(table, folder / "cohort.csv")
    assert are_tiles(folder)
    assert are_tiles(folder / "cohort.csv")
    again, _ = find_tiles(folder / "cohort.csv")
    assert again["patient_id"].tolist() == table["patient_id"].tolist()


def test_a_tile_without_class_or_resolution_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no microns per pixel; say them"):
        find_tiles(folder)
    shutil.copy(folder / NAMES[0], folder / "Case-3.jpg")
    with pytest.raises(InputError, match=r"Case-3.jpg \(1 of 5 tiles\) says no class"):
        find_tiles(folder, mpp=1.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no tiles"):
        find_tiles(tmp_path / "empty", mpp=1.0)


@pytest.mark.parametrize("names", [CLASSES, CLASSES[::2]])
def test_a_head_is_the_regression_it_was_fitted_by(names: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    said = [names[i % len(names)] for i in range(60)]
    seen = rng.standard_normal((60, 5)) * 3 + 7 + np.array([CLASSES.index(s) for s in said])[:, None]
    head = fit_head(seen, said, model_id="m", trained="test", strength=0.1)
    save_head(head, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors", model_id="m")
    scaled = (seen - seen.mean(0)) / (seen.std(0) + 1e-6)
    learner = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000).fit(scaled, said)
    expected = learner.predict_proba(scaled)[:, [list(learner.classes_).index(n) for n in names]]
    np.testing.assert_allclose(head(seen), expected, atol=1e-6)
    np.testing.assert_allclose(again(seen), expected, atol=1e-4)
    empty = np.full((1, 5), np.nan)
    assert head(empty)[0, head.classes.index("non_tumor")] == 1.0
    with pytest.raises(InputError, match="was fitted on features of m, the model is other"):
        load_head(tmp_path / "head.safetensors", model_id="other")


def test_a_head_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tile classes at"):
        load_head(tmp_path / "none.safetensors", model_id="m")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no readable head"):
        load_head(tmp_path / "bad.safetensors", model_id="m")
    with pytest.raises(InputError, match="expected two classes or three"):
        fit_head(np.ones((3, 2)), ["viable"] * 3, model_id="m", trained="t")


def test_three_classes_are_scored_only_where_one_patient_shows_all() -> None:
    p = np.eye(3)[[0, 1, 2, 2]]
    said = ["non_tumor", "non_viable", "viable", "non_viable"]
    parted = tiles.figures(p, CLASSES, said, ["a", "b", "c", "b"])
    assert parted["three_classes"]["value"] is None
    assert "no patient shows all three" in parted["three_classes"]["reason"]
    one = tiles.figures(p, CLASSES, said, ["a"] * 4)
    assert one["three_classes"]["value"] == 0.75
    assert one["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert one["tumour_accuracy"]["value"] == 1.0


def test_tiles_are_scored_from_their_files(folder: Path, weights: Path) -> None:
    Image.new("RGB", (256, 256), (244, 243, 245)).save(folder / "Non-Tumor___Case-4-glass.png")
    predictor = inference.load(weights, settings=QUICK)
    table, root = find_tiles(folder, mpp=1.0)
    bags = tile_patches(table, root, predictor, program=QUICK)
    assert [bag is None for bag in bags] == ["glass" in name for name in table["slide"]]
    width = len(tile_features(next(bag for bag in bags if bag is not None), predictor))
    seen = np.array([np.full(width, np.nan) if b is None else tile_features(b, predictor) for b in bags])
    head = fit_head(seen, table["tissue_class"].tolist(), model_id=predictor.model_id, trained="four tiles")
    save_head(head, head_of(weights))
    found = tiles.evaluate(folder, weights, mpp=1.0, program=QUICK)
    json.dumps(found, allow_nan=False)
    assert any(line.startswith("tumour accuracy: ") for line in tiles.in_words(found))
    assert found["kind"] == "tiles"
    assert found["n_patients"] == 2
    assert found["tumour_accuracy"]["n"] == 5
    assert len(found["tiles"]) == 5
    assert sum(map(sum, found["confusion"])) == 4  # those of the one patient who shows all three
