"""Pen on patches: marked where it was drawn and nowhere else, painted as glass before the stain is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import DATA, NO_DATA, SAMPLES
from scipy import ndimage

from cmssd_core.cohort import table as cohort
from cmssd_core.config import Settings
from cmssd_core.corruptions.cases import raw_bag
from cmssd_core.corruptions.table import CORRUPTIONS, PENS, corrupt_bag
from cmssd_core.inference import predict as inference
from cmssd_core.slide import stain
from cmssd_core.slide.prepare import normalise_stain
from cmssd_core.slide.tissue import _NUCLEUS_UM, GLASS, ink_mask
from cmssd_core.types import InputError, PatchBag, Slide

DEMO = SAMPLES
TILES = DATA / "he_tiles"
CLEAN = sorted((TILES / "osteosarcoma-utsw").glob("*.jpg"))
real_tiles = pytest.mark.skipif(not CLEAN, reason=NO_DATA)


@pytest.fixture(scope="module")
def sound() -> PatchBag:
    """Patches of a demo slide as the scanner gave them."""
    case = cohort.admit_row(cohort.read(DEMO / "cohort.csv").iloc[0], DEMO, masks=False)
    slide = case.inputs["he"]
    assert isinstance(slide, Slide)
    return raw_bag(slide, inference.load().spec, Settings())


@settings(max_examples=30, deadline=None)
@given(
    ink=st.sampled_from(PENS.tolist()),
    width_um=st.floats(8, 40),
    turn=st.floats(0, np.pi),
    offset=st.floats(-30, 30),
    mpp=st.sampled_from([0.5, 1.0]),
)
def test_a_stroke_is_marked_whole_and_little_beside_it(
    sound: PatchBag, ink: list[float], width_um: float, turn: float, offset: float, mpp: float
) -> None:
    patch = sound.patches[0]
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]] - np.float64(patch.shape[0] / 2)
    stroke = np.abs(y * np.cos(turn) + x * np.sin(turn) - offset) * mpp < width_um / 2
    drawn = np.where(stroke[..., None], np.rint(patch * np.array(ink)), patch).astype(np.uint8)
    found = ink_mask(drawn[None], mpp=mpp)[0]
    assert found[stroke].mean() > 0.99
    assert ndimage.distance_transform_edt(~stroke)[found].max() * mpp <= _NUCLEUS_UM


def test_tissue_without_pen_is_not_touched(sound: PatchBag) -> None:
    assert not ink_mask(sound.patches, mpp=sound.mpp).any()
    assert normalise_stain(sound)[2] == ("stain normalised to the Macenko reference (native)",)


@pytest.mark.parametrize("name", [name for name, c in CORRUPTIONS.items() if c.modality == "he" and name != "pen"])
def test_other_artefacts_are_no_pen(sound: PatchBag, name: str) -> None:
    for seed in range(8):  # the lamp brighter and darker, hue and saturation up and down
        bad = corrupt_bag(sound, name, 3, np.random.default_rng(seed))
        assert ink_mask(bad.patches[::4], mpp=bad.mpp).mean() < 0.005, seed


@real_tiles
def test_no_real_tile_is_marked() -> None:
    shares = {path.name: ink_mask(np.array(Image.open(path))[None], mpp=1.0).mean() for path in CLEAN[::3]}
    assert max(shares.values()) < 0.001, shares


@real_tiles
def test_real_tiles_with_a_colour_cast_are_not_marked() -> None:
    for path in CLEAN[::6]:
        tiles = PatchBag(np.array(Image.open(path))[None], np.zeros((1, 2), np.int64), 1.0, 1.0)
        for seed in range(4):
            bad = corrupt_bag(tiles, "colour", 3, np.random.default_rng(seed))
            assert ink_mask(bad.patches, mpp=1.0).mean() < 0.005, (path.name, seed)


@real_tiles
def test_real_pen_is_marked() -> None:
    pixels = np.array(Image.open(TILES / "histolab" / "medium-nuclei-score-green-pen-level1.png").convert("RGB"))
    found = ink_mask(pixels[None], mpp=0.5)[0]
    assert found[:128, :64].mean() > 0.95  # over fat
    assert found[60:230, 250:].mean() > 0.95  # over muscle and nuclei
    assert not found[310:, 50:].any()  # no pen there


def test_pen_does_not_turn_the_stain(sound: PatchBag) -> None:
    inked = corrupt_bag(sound, "pen", 4, np.random.default_rng(3))
    clean, findings, steps = normalise_stain(inked)
    ink = ink_mask(inked.patches, mpp=inked.mpp)
    without = stain.fit(sound.patches[~ink])
    with_it = stain.fit(np.where(ink[..., None], np.uint8(GLASS), inked.patches))
    for mine, true in zip(with_it.vectors, without.vectors, strict=True):
        assert stain.angle_deg(mine, true) < 1
    expected = stain.normalise(sound.patches, source=without)
    away = np.abs(clean.patches.astype(int) - expected)[~ink]
    assert np.percentile(away, 99) <= 4
    assert (clean.patches[ink] > 230).all()
    assert f"pen painted over as bare glass in {len(ink)} of {len(ink)} patches" in steps[0]
    assert [f.what for f in findings] == [
        f"pen covers {ink.mean():.0%} of the patches' area; results rest on the tissue beside it"
    ]
    assert np.array_equal(inked.patches, corrupt_bag(sound, "pen", 4, np.random.default_rng(3)).patches)


def test_pen_over_every_patch_leaves_the_answer() -> None:
    row = cohort.read(DEMO / "cohort.csv").iloc[1]  # benign
    case, predictor = cohort.admit_row(row, DEMO, masks=False), inference.load()
    slide = case.inputs["he"]
    assert isinstance(slide, Slide)
    alone = replace(case, inputs={"he": slide})
    raw = replace(raw_bag(slide, predictor.spec, Settings()), site_mm=None)

    def p(patches: PatchBag) -> float:
        told = inference.answer(alone, replace(alone, inputs={"he": patches}), predictor).p_malignant
        assert told is not None
        return told

    untouched = p(normalise_stain(raw)[0])
    inked = corrupt_bag(raw, "pen", 4, np.random.default_rng(2))
    as_it_was = stain.normalise(inked.patches, source=stain.fit(inked.patches))
    assert p(replace(raw, patches=as_it_was)) - untouched > 0.1  # what it is shielded from: ink read as dense tissue
    assert p(normalise_stain(inked)[0]) == pytest.approx(untouched, abs=0.05)


@pytest.mark.parametrize(("share", "level"), [(0.01, None), (0.1, "warning"), (0.6, "severe")])
def test_much_pen_is_said_and_more_doubted(sound: PatchBag, share: float, level: str | None) -> None:
    edge = sound.patches.shape[1]
    patches = sound.patches.copy()
    patches[:, : max(6, round(share * edge))] = (20, 150, 90)
    if share < 0.02:
        patches[1:] = sound.patches[1:]
    findings = normalise_stain(replace(sound, patches=patches))[1]
    assert [f.level for f in findings if "pen covers" in f.what] == ([level] if level else [])


def test_nothing_but_pen_is_refused(sound: PatchBag) -> None:
    patches = np.rint(sound.patches * PENS[1]).astype(np.uint8)
    with pytest.raises(InputError, match=r"pen covers .* patches of tissue; pass a slide or region"):
        normalise_stain(replace(sound, patches=patches))
