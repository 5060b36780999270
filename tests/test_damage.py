"""The judgement of damage: its texture figures by hand, who may say it, and where the gate starts out from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from batches import random_batch

from cmssd_core.blocks.damage import A_CHANNEL, Damage, damages, texture
from cmssd_core.losses import Targets, damage_term
from cmssd_core.models.cmssd import CMSSD, LEAN, CrossModalGate


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
    mri, he = Damage(len(CMSSD("compact").spec.contrasts)), Damage(3)
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
    gate, both = CrossModalGate(2), torch.tensor([torch.nan] * 3)
    features = torch.randn(3, 2, 5, 5)
    _, alpha = gate(features, features, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), both)
    sound, mri_spoilt, slide_spoilt = (float(torch.logit(a[0, 2, 2])) for a in alpha)
    assert mri_spoilt == pytest.approx(sound - LEAN, abs=1e-4)
    assert slide_spoilt == pytest.approx(sound + LEAN, abs=1e-4)


def test_the_term_is_the_cross_entropy_of_what_is_shown() -> None:
    batch = random_batch(CMSSD("compact").spec)
    batch = replace(batch, present={**batch.present, "he": torch.tensor([True, False])})
    logits = torch.tensor([[0.0, 2.0], [-1.0, 5.0]])
    targets = Targets({}, torch.zeros(2), torch.tensor([[0.5, 1.0], [0.0, 1.0]]))
    by_hand = (0.6931472 + 0.1269280 + 0.3132617) / 2  # the last one is not shown
    assert float(damage_term(logits, targets, batch, cases=2)) == pytest.approx(by_hand, rel=1e-5)
