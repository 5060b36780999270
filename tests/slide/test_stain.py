"""Macenko: agreement with staintools, the closed-form lasso, and what is refused rather than normalised into noise."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from places import DATA, NO_DATA
from scipy.optimize import minimize

from cmssd_core.slide import stain
from cmssd_core.types import InputError

TILES = DATA / "he_tiles"
PATHS = sorted(p for p in TILES.rglob("*") if p.suffix in (".png", ".jpg", ".tif"))
real_tiles = pytest.mark.skipif(not PATHS, reason=NO_DATA)


def rgb(path: Path, stride: int = 1) -> np.ndarray:
    image = np.array(Image.open(path).convert("RGB"))
    return np.ascontiguousarray(image[::stride, ::stride])


def painted(rng: np.random.Generator, size: int = 96, vectors: np.ndarray = stain.REFERENCE.vectors) -> np.ndarray:
    """A tile whose stain is known: exponential amounts of both stains on white."""
    amounts = rng.exponential([0.8, 0.5], size=(size, size, 2)) * (rng.random((size, size, 1)) > 0.1)
    return np.clip(255 * np.exp(-amounts @ vectors), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def staintools_normalizer() -> Any:
    staintools = pytest.importorskip("staintools", reason="staintools, the reference, is not installed")
    normalizer = staintools.StainNormalizer("macenko")
    normalizer.fit(rgb(TILES / "torchstain" / "target.png"))
    return normalizer


@real_tiles
@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.name[-28:])
def test_native_agrees_with_staintools_within_two_grey_levels(path: Path, staintools_normalizer: Any) -> None:
    tile = rgb(path, stride=4)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            theirs = staintools_normalizer.transform(tile.copy())
    except Exception:
        with pytest.raises(InputError):
            stain.fit(tile)
        return
    target = stain.Stain(staintools_normalizer.stain_matrix_target, staintools_normalizer.maxC_target.ravel())
    mine = stain.normalise(tile, source=stain.estimate(tile), target=target)
    assert np.abs(mine.astype(int) - theirs).mean() <= 2


def test_staintools_backend_gives_what_the_native_one_gives() -> None:
    pytest.importorskip("staintools", reason="staintools, the reference, is not installed")
    patches = np.stack([painted(np.random.default_rng(seed), 48) for seed in range(2)])
    mine, theirs = (stain.fit(patches, backend=backend) for backend in ("native", "staintools"))
    np.testing.assert_allclose(mine.vectors, theirs.vectors, atol=2e-3)
    drawn = [stain.normalise(patches, source=mine, backend=backend) for backend in ("native", "staintools")]
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1


def test_a_missing_staintools_is_said_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "staintools.miscellaneous.exceptions", None)
    with pytest.raises(InputError, match=r"cmssd\[staintools\].*GPL-3"):
        stain.fit(painted(np.random.default_rng(0)), backend="staintools")


def test_tissue_is_exactly_opencvs_lab_luminosity_below_four_fifths() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV, the reference, is not installed")
    axis = np.arange(0, 256, dtype=np.uint8)
    colours = np.stack(np.meshgrid(axis, axis, axis[::3], indexing="ij"), -1).reshape(256, -1, 3)
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[..., 0] / 255 < 0.8
    np.testing.assert_array_equal(stain.dark_enough(colours), expected)


unit = st.tuples(*[st.floats(0.05, 1) for _ in range(3)]).map(lambda v: np.array(v) / np.linalg.norm(v))


@given(colour=arrays(np.uint8, 3), h=unit, e=unit)
@settings(max_examples=60, deadline=None)
def test_concentrations_minimise_the_lasso(colour: np.ndarray, h: np.ndarray, e: np.ndarray) -> None:
    vectors = np.stack([h, e])
    if stain.angle_deg(h, e) < 3:
        return
    density = np.maximum(-np.log(np.maximum(colour, 1) / 255), 1e-6)

    def cost(amount: np.ndarray) -> float:
        return float(0.5 * ((density - amount @ vectors) ** 2).sum() + 0.01 * np.abs(amount).sum())

    mine = stain.concentrations(colour[None], vectors)[0].astype(float)
    assert (mine >= 0).all()
    best = minimize(cost, x0=[0.5, 0.5], bounds=[(0, None)] * 2, method="L-BFGS-B")
    assert cost(mine) <= best.fun + 1e-5


def test_a_known_stain_is_found_again() -> None:
    found = stain.fit(painted(np.random.default_rng(1), 256))
    for mine, true in zip(found.vectors, stain.REFERENCE.vectors, strict=True):
        assert stain.angle_deg(mine, true) < 6


def test_normalising_to_its_own_stain_changes_almost_nothing() -> None:
    tile = painted(np.random.default_rng(2))
    own = stain.fit(tile)
    again = stain.normalise(tile, source=own, target=own)
    assert np.abs(again.astype(int) - tile).mean() < 4


def test_white_stays_white_and_the_input_is_untouched() -> None:
    tile = painted(np.random.default_rng(3))
    tile[:8] = 255
    tile[8:10] = 0
    before = tile.copy()
    drawn = stain.normalise(tile, source=stain.fit(tile))
    assert (drawn[:8] == 255).all()
    np.testing.assert_array_equal(tile, before)


def test_patches_are_normalised_alike_alone_and_together() -> None:
    patches = np.stack([painted(np.random.default_rng(seed), 100) for seed in range(3)])
    source = stain.fit(patches)
    together = stain.normalise(patches, source=source)
    for patch, drawn in zip(patches, together, strict=True):
        np.testing.assert_array_equal(stain.normalise(patch, source=source), drawn)


@pytest.mark.parametrize(
    ("what", "pixels"),
    [
        ("white glass", np.full((64, 64, 3), 250, np.uint8)),
        ("one colour", np.full((64, 64, 3), (150, 80, 120), np.uint8)),
        ("greyscale", np.repeat(np.random.default_rng(0).integers(20, 250, (64, 64, 1), dtype=np.uint8), 3, -1)),
        ("black", np.zeros((64, 64, 3), np.uint8)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_holds_no_two_stains_is_refused_in_a_sentence(what: str, pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"; (use|choose)"):
        stain.fit(pixels)
