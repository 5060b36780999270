"""The laws of figures: raw values on hover, true proportions, letters, numbers on every scale."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import showcase
from PIL import Image

from cmssd_core.report.display import lay_out
from cmssd_core.types import Answer, Slide
from dashboard.cards import make_cards
from dashboard.views import areas, mri, slide

OPACITY = 0.4


@pytest.fixture
def figures(tmp_path):
    p, volume, he = showcase.prediction(), showcase.volume(), showcase.case(tmp_path).inputs["he"]
    assert isinstance(he, Slide)
    picture = np.asarray(Image.open(he.path))
    return {
        "tumour": mri.tumour_slice(volume, p, index=5, contrast="t2", opacity=OPACITY),
        "gate": mri.gate_slice(volume, p, index=5, contrast="t1", opacity=OPACITY),
        "patches": slide.patch_grid(picture, 1.0, 0.5, p, opacity=OPACITY),
        "areas": areas.slice_areas(p, index=5),
    }


def test_hover_gives_raw_values(figures):
    volume, p = showcase.volume(), showcase.prediction()
    layout = lay_out(volume.affine, showcase.SHAPE)
    ground = figures["tumour"].data[0]
    np.testing.assert_array_equal(ground.z, layout.slice_of(volume.voxels[1], 5))
    np.testing.assert_array_equal(ground.customdata, layout.slice_of(p.maps["tumour"], 5))
    assert "T2" in ground.hovertemplate
    np.testing.assert_array_equal(figures["patches"].data[-1].customdata, p.patch_attention)


def test_millimetres_are_square(figures):
    for name in ("tumour", "gate", "patches"):
        assert figures[name].layout.yaxis.scaleanchor == "x"
        assert figures[name].layout.yaxis.scaleratio == 1
    assert figures["tumour"].data[0].dx == pytest.approx(1.2)
    assert figures["tumour"].data[0].dy == pytest.approx(0.8)


def test_orientation_letters_are_always_there(figures):
    for name in ("tumour", "gate"):
        said = "".join(a.text for a in figures[name].layout.annotations)
        assert all(f"<b>{letter}</b>" in said for letter in "RLAP")


def test_every_map_has_a_legend_with_numbers_and_fixed_limits(figures):
    for name in ("tumour", "gate"):
        axis = figures[name].layout.coloraxis
        assert (axis.cmin, axis.cmax) == (0, 1)
        assert axis.colorbar.title.text
    assert figures["patches"].layout.coloraxis.cmax == pytest.approx(showcase.prediction().patch_attention.max())


def test_maps_are_drawn_from_five_percent_up_at_the_given_opacity(figures):
    over = figures["tumour"].data[1]
    assert over.opacity == OPACITY
    assert np.nanmin(over.z) >= 0.05
    assert not over.zsmooth


def test_patches_lie_where_they_were_cut(figures):
    p = showcase.prediction()
    tiles = [s for s in figures["patches"].layout.shapes if s.type == "rect"]
    assert len(tiles) == len(p.patch_xy)
    assert [(t.x0, t.y0) for t in tiles] == [(x * 0.5, y * 0.5) for x, y in p.patch_xy]
    assert {t.x1 - t.x0 for t in tiles} == {64.0}


def test_no_colour_is_one_that_streamlit_takes_for_its_theme(figures):
    for figure in figures.values():
        drawn = figure.to_plotly_json()
        drawn["layout"].pop("template", None)  # Streamlit's own, once a page ran in this process, names its colours
        said = json.dumps(drawn, default=str)
        assert not any(f"#0000{n:02d}" in said for n in range(1, 20))


def test_no_text_is_smaller_than_twelve_px(figures):
    def sizes(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key.endswith("font") and isinstance(value, dict) and "size" in value:
                    yield value["size"]
                yield from sizes(value)
        elif isinstance(node, list | tuple):
            for value in node:
                yield from sizes(value)

    for figure in figures.values():
        assert all(size >= 12 for size in sizes(figure.to_plotly_json()["layout"]))


def test_alternatives_say_the_figures():
    p, volume = showcase.prediction(), showcase.volume()
    assert "mm² tumour" in mri.tumour_alt(volume, p, index=5, contrast="t1")
    assert "not evidence" in mri.gate_alt(volume, p, index=5)
    assert "13 patches" in slide.slide_alt(p)
    assert "most on slice 6" in areas.areas_alt(p)
    assert "no patch" in slide.slide_alt(showcase.prediction(he=False))


def test_a_model_that_draws_one_map_has_no_line_of_another():
    p, volume = showcase.prediction(), showcase.volume()
    lone = replace(p, maps={"tumour": p.maps["tumour"]}, slices=(), bone_ml=None, extraosseous_ml=None)
    assert mri.first_slice(volume, lone) == mri.first_slice(volume, p)
    assert mri.describe_lines(lone) == "White: tumour at 0.5 and above. Hover for raw values."
    bare = replace(lone, maps={})
    assert mri.describe_lines(bare) == "This model draws no map here."
    figure = mri.tumour_slice(volume, bare, index=5, contrast="t1", opacity=0.4)
    assert len(figure.data) == 1, "the scan alone"
    assert "probability" not in mri.tumour_alt(volume, bare, index=5, contrast="t1")


def test_cards_are_of_what_is_answered_and_the_rest_is_a_sentence():
    p = showcase.prediction()
    assert [card.title for card in make_cards(p)] == [
        "Severity", "Probability of malignancy", "Tumour volume", "Mean gate",
    ]  # fmt: skip
    followed = replace(p, answers={"risk": Answer(0.4217, "log hazard")}, tumour_ml=None, gate_mean=None)
    cards = make_cards(followed)
    assert [(card.title, card.value) for card in cards] == [("Log hazard", "+0.42")]
    assert "no probability" in cards[0].doubt


def test_patches_without_attention_are_outlined_and_bear_no_colour():
    p = replace(showcase.prediction(), patch_attention=None)
    figure = slide.patch_grid(np.zeros((64, 64, 3), np.uint8), 8.0, 0.5, p, opacity=0.4)
    assert len(figure.layout.shapes) == 13 + 2, "one a patch, and the scale's bar with its edge"
    assert slide.slide_alt(p) == "The H&E slide with 13 patches"
