"""The judgement of damage: its texture figures by hand, who may say it, and where the gate starts out from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from batches import random_batch
from torch.nn import functional as F

from cmssd_core.models.cmssd import CMSSD, CONFIGS, CrossModalGate
from cmssd_core.models.damage import (
    A_CHANNEL,
    CHANNELS,
    GATE,
    LEAN,
    Damage,
    damage_term,
    damages,
    gate_term,
    lean_away,
    texture,
)  # fmt: skip
from cmssd_core.models.spec import contrasts_of


def test_a_flat_image_has_its_mean_and_no_bands() -> None:
    told = texture(torch.full((1, 2, 32, 32), 0.25))[0]
    assert told.shape == (2 * A_CHANNEL,)
    torch.testing.assert_close(told[:6], torch.full((6,), 0.25))  # mean, least, greatest of either channel
    amounts = told[8:].view(-1, 2, 2)[:, 0]  # of each band: the amount, then its unevenness
    torch.testing.assert_close(amounts, torch.full_like(amounts, 1e-4).log())


def test_blur_empties_the_finest_band_and_noise_fills_it() -> None:
    rng = torch.Generator().manual_seed(0)
    sharp = torch.rand(1, 1, 64, 64, generator=rng)
    blurred = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
    noisy = sharp + 0.5 * torch.randn(1, 1, 64, 64, generator=rng)
    finest = [float(texture(image)[0, 4]) for image in (blurred, sharp, noisy)]
    assert finest[0] < finest[1] - 1 < finest[2]


def test_padding_and_a_missing_modality_do_not_count() -> None:
    batch = random_batch(CMSSD("compact").spec)
    mri, he = Damage(len(contrasts_of(CMSSD("compact").spec))), Damage(3)
    valid = batch.valid["he"].clone()
    valid[:, 2:] = False
    changed = batch.inputs["he"].clone()
    changed[:, 2:] = 0.0
    padded = replace(batch, valid={**batch.valid, "he": valid})
    other = replace(padded, inputs={**batch.inputs, "he": changed})
    torch.testing.assert_close(damages(mri, he, padded), damages(mri, he, other))
    gone = replace(batch, present={**batch.present, "he": torch.zeros_like(batch.present["he"])})
    assert float(damages(mri, he, gone)[:, 1].sigmoid().max()) < 0.001


def test_the_gate_starts_out_leaning_away_from_what_looks_damaged() -> None:
    gate, both = CrossModalGate(2, beside=CHANNELS), torch.tensor([torch.nan] * 3)
    lean_away(gate.w_cross)
    features = torch.randn(3, 2, 5, 5)
    _, alpha = gate(features, features, both, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    sound, mri_spoilt, slide_spoilt = (float(torch.logit(a[0, 2, 2])) for a in alpha)
    assert mri_spoilt == pytest.approx(sound - LEAN, abs=1e-4)
    assert slide_spoilt == pytest.approx(sound + LEAN, abs=1e-4)


def test_the_term_is_the_cross_entropy_of_what_is_shown() -> None:
    batch = random_batch(CMSSD("compact").spec)
    batch = replace(batch, present={**batch.present, "he": torch.tensor([True, False])})
    logits = torch.tensor([[0.0, 2.0], [-1.0, 5.0]])
    spoilt = torch.tensor([[0.5, 1.0], [0.0, 1.0]])
    by_hand = (0.6931472 + 0.1269280 + 0.3132617) / 2  # the last one is not shown
    assert float(damage_term(logits, spoilt, batch, cases=2)) == pytest.approx(by_hand, rel=1e-5)


def test_the_gates_term_draws_its_mean_over_real_slices_to_what_the_damage_asks() -> None:
    batch = random_batch(CMSSD("compact").spec)
    valid = {**batch.valid, "mri": torch.tensor([[True, True, False], [True, True, True]])}
    batch = replace(batch, valid=valid, present={**batch.present, "he": torch.tensor([True, False])})
    cross = torch.full((2, 3, 4, 4), 0.5)
    cross[0, 1] = 0.9
    cross[0, 2] = 0.0  # padding
    wanted = GATE[0] + 0.4 * GATE[1] + 1.0 * GATE[2]
    mean = (0.5 + 0.9) / 2  # of the first case; the second has one modality and nothing to weigh
    by_hand = F.binary_cross_entropy(torch.tensor(mean), torch.tensor(wanted)) / 2
    found = gate_term(cross, torch.tensor([[0.4, 1.0], [0.0, 0.0]]), batch, cases=2)
    torch.testing.assert_close(found, by_hand)


def test_without_the_option_nothing_judges_damage_and_nothing_else_changes_its_name() -> None:
    told, bare = CMSSD("tiny"), CMSSD("tiny", config=replace(CONFIGS["tiny"], damage=False)).eval()
    beside = {name for name in told.state_dict() if name.startswith("damage_")}
    assert beside
    assert set(bare.state_dict()) == set(told.state_dict()) - beside
    assert told.gate.w_cross.in_channels == bare.gate.w_cross.in_channels + CHANNELS
    batch = random_batch(bare.spec)
    with torch.no_grad():
        output = bare(batch)
    assert set(output.heads) == set(CMSSD.tasks)
    assert "damage" not in output.also
    spoilt = {name: torch.zeros(2) for name in ("mri", "he")}
    assert set(bare.extra_loss(output, batch, spoilt, cases=2)) == {"gate"}
    with pytest.raises(ValueError, match="no damage alone"):
        bare.part("damage", batch)


def test_damage_computed_alone_is_the_damage_of_the_whole_forward() -> None:
    torch.manual_seed(0)
    model = CMSSD("tiny").eval()
    batch = random_batch(model.spec)
    with torch.no_grad():
        torch.testing.assert_close(model.part("damage", batch).also["damage"], model(batch).also["damage"])
    with pytest.raises(ValueError, match="no colour alone"):
        model.part("colour", batch)


def test_a_batch_in_which_nobody_has_a_slide_has_terms_all_the_same() -> None:
    """Nothing says how badly a slide was spoilt that nobody has."""
    torch.manual_seed(0)
    model = CMSSD("tiny")
    batch = random_batch(model.spec)
    present = {**batch.present, "he": torch.zeros(2, dtype=torch.bool)}
    valid = {**batch.valid, "he": torch.zeros_like(batch.valid["he"])}
    batch = replace(batch, inputs={"mri": batch.inputs["mri"]}, present=present, valid=valid)
    terms = model.extra_loss(model(batch), batch, {"mri": torch.tensor([0.5, 0.0])}, cases=2)
    assert set(terms) == {"damage"}
    assert bool(terms["damage"].isfinite())
