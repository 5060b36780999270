"""Explanations against Captum itself, hand calculations and planted truths; and that they leave a model as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import placed, random_batch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, NoiseTunnel, Occlusion, Saliency
from torch import Tensor, nn
from weighed import Weighed

from cmssd_core.batches import with_inputs
from cmssd_core.cases.tensors import neighbours
from cmssd_core.explain.baselines import fill, path_start
from cmssd_core.explain.forward import Bridge, Remembered, clone
from cmssd_core.explain.methods import METHODS, explain, explain_batch
from cmssd_core.explain.occlusion import Occluder, windows
from cmssd_core.explain.question import ExplainSettings, Mark, Question
from cmssd_core.explain.targets import TARGETS, Target
from cmssd_core.models import MODELS
from cmssd_core.models.base import Model
from cmssd_core.types import Batch, InputError

QUICK = ExplainSettings(superpixels=12, max_windows=24, samples=3, max_steps=12, controls=3)
MAPPING = [name for name in METHODS if name not in ("modality_shapley", "criterion_ablation")]


def volume_batch(
    model: Model, *, cases: int = 1, slices: int = 2, patches: int = 2, px: int = 64, seed: int = 0
) -> Batch:
    """A random batch whose neighbours are those of a volume."""
    batch = random_batch(model.spec, cases=cases, slices=slices, patches=patches, px=px, seed=seed)
    if "mri" not in batch.inputs:
        return batch
    return with_inputs(batch, {"mri": neighbours(batch.inputs["mri"][:, :, 1], batch.valid["mri"])})


def steep(name: str = "cmssd") -> Model:
    """A random model, as small as there is, whose answer differs enough from case to case to be parted."""
    torch.manual_seed(0)
    kind = MODELS[name]
    model = kind("tiny" if "tiny" in kind.sizes else "compact").eval()
    for path, part in model.named_modules():
        if path.startswith("malignancy") and isinstance(part, nn.Linear):
            part.weight.data *= 5
    return model


@pytest.fixture(scope="module")
def model() -> Model:
    return steep()


@pytest.fixture(scope="module")
def pair(model: Model) -> Batch:
    return volume_batch(model)


@pytest.mark.parametrize("name", MODELS)
def test_the_forward_that_is_explained_is_the_one_that_predicts(name: str) -> None:
    model = steep(name)
    batch = volume_batch(model, cases=2)
    bridge = Bridge(model, batch, Target())
    with torch.no_grad():
        own = model(batch).heads["malignant"]
        torch.testing.assert_close(bridge(*bridge.inputs), own)
        twice = bridge(*(torch.cat([x, x]) for x in bridge.inputs))
    torch.testing.assert_close(twice, torch.cat([own, own]), rtol=1e-4, atol=1e-5)
    assert bridge.names == model.needs


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", MAPPING)
def test_every_method_explains_every_model_or_says_why_not(name: str, method: str) -> None:
    model = steep(name)
    batch = volume_batch(model)
    if name == "resnet50" and method == "gate":
        with pytest.raises(InputError, match="no gate"):
            explain(batch, model, method, settings=QUICK)
        return
    told = explain(batch, model, method, settings=QUICK)
    assert set(told.maps) <= set(model.needs)
    shapes = {"mri": (2, 64, 64), "he": (2, 64, 64)}
    for modality, values in told.maps.items():
        assert values.shape == shapes[modality]
        assert np.isfinite(values).all()
        assert not values.flags.writeable
    if not told.signed:
        assert all((values >= 0).all() for values in told.maps.values())
    with torch.no_grad():
        assert told.value == pytest.approx(float(model(batch).heads["malignant"]), abs=1e-4)


def test_integrated_gradients_are_captums_at_equal_steps(model: Model, pair: Batch) -> None:
    bridge = Bridge(model, pair, Target())
    settings = ExplainSettings(steps=7)
    base, _ = path_start(bridge, settings)
    theirs = IntegratedGradients(
        lambda m, h: model(replace(pair, inputs=bridge.batch_of((m, h)).inputs)).heads["malignant"]
    )
    expected = theirs.attribute(bridge.inputs, base, n_steps=7, method="gausslegendre", internal_batch_size=1)
    ours = explain_batch(pair, model, settings=settings)
    torch.testing.assert_close(ours.maps["mri"], expected[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(ours.maps["he"], expected[1].sum(2), rtol=1e-3, atol=1e-6)


def test_adaptive_integrated_gradients_are_exact_on_a_square_by_hand() -> None:
    model = Weighed(power=2).eval()
    batch = volume_batch(model, px=32)
    bridge = Bridge(model, batch, Target())
    told = explain_batch(batch, model)
    base, _ = path_start(bridge, ExplainSettings())
    by_hand = [w[None] * (x**2 - b**2) for w, x, b in zip((model.mri, model.he), bridge.inputs, base, strict=True)]
    torch.testing.assert_close(told.maps["mri"], by_hand[0].detach(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(told.maps["he"], by_hand[1].sum(2).detach(), rtol=1e-3, atol=1e-5)
    assert told.gap is not None
    assert float(told.gap[0]) < 1e-3


def test_the_residual_shown_is_the_residual_there_is_and_small(model: Model) -> None:
    batch = volume_batch(model, seed=4)
    told = explain_batch(batch, model, settings=ExplainSettings(tolerance=0.05, max_steps=200))
    assert told.gap is not None
    assert told.baseline_value is not None
    span = float(told.value - told.baseline_value)
    assert abs(span) > 0.1
    total = sum(float(m.double().sum()) for m in told.maps.values())
    assert abs(total - span) / abs(span) == pytest.approx(float(told.gap[0]), abs=1e-3)
    assert float(told.gap[0]) <= 0.05


def test_the_residual_is_not_told_where_there_is_nothing_to_divide_by() -> None:
    model = Weighed().eval()
    model.mri.data.zero_(), model.he.data.zero_()
    told = explain(volume_batch(model, px=32), model)
    assert told.gap is None
    assert told.baseline_value == told.value == 0.0


def test_gradients_in_parts_are_the_gradients(model: Model, pair: Batch) -> None:
    whole = explain_batch(pair, model, settings=ExplainSettings(tolerance=1.0, max_steps=5))
    parts = explain_batch(pair, model, settings=ExplainSettings(tolerance=1.0, max_steps=5, memory_mb=1))
    assert "in parts" in parts.effort
    assert "in parts" not in whole.effort
    for name in whole.maps:
        torch.testing.assert_close(parts.maps[name], whole.maps[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("modality", ["mri", "he"])
def test_occlusion_is_captums(model: Model, pair: Batch, modality: str) -> None:
    bridge = Bridge(model, pair, Target())
    at = bridge.names.index(modality)
    settings = ExplainSettings(window_px=24, stride_px=16, window_slices=1, modalities=(modality,))
    covers, _ = fill(bridge, settings)
    channels = bridge.inputs[at].shape[2]

    def alone(x: Tensor) -> Tensor:
        given = [y.expand(len(x), *y.shape[1:]) for y in bridge.inputs]
        given[at] = x
        return bridge(*given)

    with torch.no_grad():
        theirs = Occlusion(alone).attribute(
            bridge.inputs[at],
            (1, channels, 24, 24),
            (1, channels, 16, 16),
            baselines=covers[at],
            perturbations_per_eval=4,
        )
    ours = explain_batch(pair, model, "occlusion", settings=settings).maps
    assert set(ours) == {modality}
    torch.testing.assert_close(ours[modality].reshape(theirs[:, :, 0].shape), theirs[:, :, 0], rtol=1e-3, atol=2e-5)


def test_occlusion_computes_no_branch_again_that_a_window_leaves_untouched(model: Model) -> None:
    batch = volume_batch(model, slices=5, patches=3)
    bridge = Bridge(model, batch, Target())
    occluder = Occluder(Question(bridge, QUICK, lambda share, what: None))
    asked = dict(zip((*("phi_mri", "phi_he"), *("rest",) * 9), occluder.kept, strict=False))
    changed = bridge.inputs[0].clone()
    changed[:, 0, :, :16, :16] = 0
    occluder("mri", [changed])
    assert (asked["phi_mri"].asked, asked["phi_he"].asked) == (2, 0)  # the slice itself and the one that sees it
    changed = bridge.inputs[1].clone()
    changed[:, 1, :, :16, :16] = 1
    occluder("he", [changed])
    assert (asked["phi_mri"].asked, asked["phi_he"].asked) == (2, 1)


def test_windows_reach_the_border_and_stay_within_their_number() -> None:
    laid, words = windows("mri", (4, 1, 100, 90), ExplainSettings(max_windows=40, window_px=16, stride_px=8))
    seen = np.zeros((4, 100, 90), dtype=bool)
    for window in laid:
        index = window.part(4)
        seen[index[1], index[2], index[3]] = True
    assert seen.all()
    assert len(laid) <= 40
    assert str(len(laid)) in words
    with pytest.raises(InputError, match="there are 4"):
        windows("mri", (4, 1, 100, 90), ExplainSettings(slices=(9,)))


def test_gradcam_is_captums_on_the_mri_branch(model: Model, pair: Batch) -> None:
    bridge = Bridge(model, pair, Target())
    inputs = tuple(x.clone().requires_grad_() for x in bridge.inputs)
    cam = LayerGradCam(bridge, model.get_submodule("phi_mri")).attribute(inputs, relu_attributions=True)
    large = LayerAttribution.interpolate(cam, (64, 64), interpolate_mode="bilinear")
    ours = explain_batch(pair, model, "gradcam").maps["mri"][0]
    torch.testing.assert_close(ours, large.detach(), rtol=1e-3, atol=1e-8)


def test_smoothgrad_of_a_sum_is_its_weights_as_is_captums() -> None:
    model = Weighed().eval()
    batch = volume_batch(model, px=32)
    ours = explain_batch(batch, model, "smoothgrad", settings=QUICK).maps
    torch.testing.assert_close(ours["mri"][0], model.mri.detach().abs())
    bridge = Bridge(model, batch, Target())
    inputs = tuple(x.clone().requires_grad_() for x in bridge.inputs)
    theirs = NoiseTunnel(Saliency(bridge)).attribute(inputs, nt_samples=2, stdevs=(0.15, 0.05))
    torch.testing.assert_close(ours["he"], theirs[1].sum(2).detach())


def test_kernel_shap_of_a_sum_gives_each_superpixel_its_own_sum() -> None:
    model = Weighed().eval()
    batch = volume_batch(model, px=32)
    bridge = Bridge(model, batch, Target())
    covers, _ = fill(bridge, QUICK)
    told = explain_batch(batch, model, "kernel_shap", settings=replace(QUICK, passes=200))
    effects = [w.detach()[None] * (x - c) for w, x, c in zip((model.mri, model.he), bridge.inputs, covers, strict=True)]
    assert float(told.maps["mri"].sum()) == pytest.approx(float(effects[0].sum()), abs=2e-2)
    assert float(told.maps["he"].sum()) == pytest.approx(float(effects[1].sum()), abs=2e-2)
    again = explain_batch(batch, model, "kernel_shap", settings=replace(QUICK, passes=200))
    assert torch.equal(told.maps["mri"], again.maps["mri"])


def test_drawing_mixtures_leaves_the_programs_random_numbers_as_they_were() -> None:
    model = Weighed().eval()
    before = torch.random.get_rng_state()
    explain_batch(volume_batch(model, px=32), model, "lime", settings=QUICK)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_criterion_costs_what_its_pixels_weigh() -> None:
    model = Weighed().eval()
    batch = volume_batch(model, px=32)
    bridge = Bridge(model, batch, Target())
    mask = torch.zeros(1, 2, 32, 32, dtype=torch.bool)
    mask[0, 1, 8:12, 20:25] = True
    covers, _ = fill(bridge, QUICK)
    by_hand = float((model.mri.detach() * (bridge.inputs[0] - covers[0])[0] * mask[0][:, None]).sum())
    marks = (Mark("breach", "mri", mask),)
    (alone,) = explain_batch(
        batch, model, "criterion_ablation", settings=replace(QUICK, controls=0), marks=marks
    ).shares[0]
    assert alone.value == pytest.approx(by_hand, abs=1e-4)
    assert alone.low is None
    told = explain_batch(batch, model, "criterion_ablation", settings=replace(QUICK, controls=20), marks=marks)
    (share,) = told.shares[0]
    assert share.low is not None
    assert share.high is not None
    assert share.low <= share.value <= share.high
    assert share.n == 20
    assert float(told.maps["mri"].sum()) == pytest.approx(share.value, abs=1e-4)
    assert not bool(told.maps["mri"][:, :, 0][~mask].any())


def test_a_case_without_a_mask_cannot_be_assessed(model: Model, pair: Batch) -> None:
    with pytest.raises(InputError, match="none can be assessed"):
        explain(pair, model, "criterion_ablation")


def test_shares_of_the_modalities_add_up(model: Model, pair: Batch) -> None:
    told = explain(pair, model, "modality_shapley")
    mri, he, both = told.shares
    assert mri.name == "MRI"
    assert "interaction" in both.name
    assert told.baseline_value is not None
    assert mri.value + he.value == pytest.approx(told.value - told.baseline_value, abs=1e-5)
    assert told.maps == {}


@pytest.mark.parametrize("method", MAPPING)
def test_a_missing_modality_is_left_out(model: Model, method: str) -> None:
    batch = volume_batch(model)
    gone = {"mri": torch.ones(1, 2, dtype=torch.bool), "he": torch.zeros(1, 1, dtype=torch.bool)}
    there = {"mri": torch.tensor([True]), "he": torch.tensor([False])}
    alone = replace(batch, inputs={"mri": batch.inputs["mri"]}, valid=gone, present=there)
    alone = placed(alone, site_known=torch.tensor([False]))
    told = explain(alone, model, method, settings=QUICK)
    assert set(told.maps) == {"mri"}
    with pytest.raises(InputError, match="nothing that this model reads"):
        explain(alone, steep("osnet"), method, settings=QUICK)


def test_padding_is_never_explained(model: Model) -> None:
    batch = volume_batch(model, slices=3, patches=3)
    valid = {name: torch.tensor([[True, True, False]]) for name in ("mri", "he")}
    padded = replace(batch, valid=valid)
    for method in ("integrated_gradients", "gradcam", "gate"):
        told = explain_batch(padded, model, method, settings=QUICK)
        assert all(not bool(values[:, 2].any()) for values in told.maps.values())


def _hooks(model: nn.Module) -> list[object]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [hook for part in model.modules() for kind in kinds for hook in getattr(part, kind).values()]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "criterion_ablation"])
def test_a_model_is_left_as_it_was_also_when_cancelled(model: Model, pair: Batch, method: str) -> None:
    parts = [(path, id(part)) for path, part in model.named_modules()]
    weights = [p.detach().clone() for p in model.parameters()]

    class EnoughError(Exception):
        pass

    def stop(share: float, what: str) -> None:
        assert 0 <= share <= 1
        raise EnoughError

    explain(pair, model, method, settings=QUICK)
    with pytest.raises(EnoughError):
        explain(pair, model, method, settings=QUICK, progress=stop)
    assert _hooks(model) == []
    assert [(path, id(part)) for path, part in model.named_modules()] == parts
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_threads_do_not_disturb_one_another(model: Model) -> None:
    batches = [volume_batch(model, seed=seed) for seed in range(2)]
    jobs = [(batch, method) for batch in batches for method in ("gradcam", "occlusion")]
    alone = [explain_batch(batch, model, method, settings=QUICK).maps for batch, method in jobs]
    together: list[dict[str, Tensor]] = [{} for _ in jobs]

    def work(number: int) -> None:
        batch, method = jobs[number]
        together[number] = dict(explain_batch(batch, model, method, settings=QUICK).maps)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


def test_a_model_in_training_is_refused(pair: Batch) -> None:
    with pytest.raises(ValueError, match="eval"):
        Bridge(MODELS["cmssd"]("compact"), pair, Target())


@pytest.mark.parametrize("name", [name for name, kind in TARGETS.items() if name != "hazard"])
def test_every_target_is_the_models_own_number(model: Model, pair: Batch, name: str) -> None:
    region = np.zeros((2, 64, 64), dtype=bool)
    region[0, 10:20, 30:40] = True
    target = Target(name, region if TARGETS[name].regional else None)
    told = explain(pair, model, "gradcam", target)
    with torch.no_grad():
        output = model(pair)
    maps = {**output.heads, **output.also}
    malignant = output.heads["malignant"]
    own = {"malignant": malignant, "benign": -malignant, "severity": output.heads["severity_pct"]}
    expected = own[name][0] if name in own else maps[name][0, 0, 10:20, 30:40].mean()
    assert told.value == pytest.approx(float(expected), abs=1e-4)
    assert told.unit == TARGETS[name].unit


def test_a_target_that_cannot_be_is_refused_in_words(pair: Batch, model: Model) -> None:
    with pytest.raises(InputError, match="draw one"):
        Target("tumour")
    with pytest.raises(InputError, match="expected one of"):
        Target("class 7")
    with pytest.raises(InputError, match="no severity"):
        explain(volume_batch(steep("osnet")), steep("osnet"), "gradcam", Target("severity"))
    with pytest.raises(InputError, match="draw it on this very MRI"):
        explain(pair, model, "gradcam", Target("tumour", np.ones((3, 64, 64), dtype=bool)))
    with pytest.raises(InputError, match="expected one of gate"):
        explain(pair, model, "tea_leaves")


def test_a_remembered_part_answers_as_the_part_itself() -> None:
    inner = nn.Linear(4, 3)
    kept = Remembered(inner)
    reference = torch.randn(5, 4)
    with torch.no_grad():
        kept(reference[:3]), kept(reference[3:])
        changed = torch.cat([reference, reference])
        changed[7] += 1
        kept.start()
        torch.testing.assert_close(torch.cat([kept(changed[:4]), kept(changed[4:])]), inner(changed))
    assert kept.asked == 1


def test_a_clone_shares_the_weights_and_nothing_else(model: Model) -> None:
    def parts() -> Iterator[str]:
        yield from ("phi_mri", "phi_he.trunk")

    twin = clone(model, dict.fromkeys(parts(), Remembered))
    assert twin.get_submodule("phi_he.trunk") is not model.get_submodule("phi_he.trunk")
    assert next(twin.parameters()) is next(model.parameters())
    assert not any(isinstance(part, Remembered) for part in model.modules())
