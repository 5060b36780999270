"""One suite for every model in MODELS: the contract that the rest of the program leans on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from batches import random_batch

from cmssd_core.listing import gflop
from cmssd_core.models import MODELS
from cmssd_core.models.base import InputSpec, Model
from cmssd_core.types import InputError, ModelOutput
from cmssd_core.weights_file import WeightsInfo, load, save


def compact(name: str) -> Model:
    torch.manual_seed(0)
    return MODELS[name]("compact").eval()


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return compact(request.param)


def heads(output: ModelOutput) -> dict[str, torch.Tensor]:
    said = {name: value for name, value in vars(output).items() if isinstance(value, torch.Tensor)}
    return {name: value for name, value in said.items() if name != "damage_logits"}  # of the inputs, not the patient


def test_heads_promised_are_heads_filled(model: Model) -> None:
    with torch.no_grad():
        output = model(random_batch(model.spec))
    assert set(heads(output)) == set(model.produces)
    assert output.malignant_logit.shape == (2,)
    maps = [output.tumour_logits, output.bone_logits, *output.auxiliary.values()]
    assert {None if values is None else values.shape for values in maps} in ({None}, {(2, 3, 64, 64)})
    assert (output.severity_pct is None) == (output.tumour_logits is None)


def test_attention_is_in_0_and_1_and_sums_to_1_over_patches(model: Model) -> None:
    batch = random_batch(model.spec)
    valid = batch.valid["he"].clone()
    valid[0, 2:] = False
    with torch.no_grad():
        attention = model(replace(batch, valid={**batch.valid, "he": valid})).attention
    assert ("patch" in attention) == ("he" in model.needs)
    for values in attention.values():
        assert 0 <= float(values.min()) <= float(values.max()) <= 1
    if "patch" in attention:
        torch.testing.assert_close(attention["patch"].sum(1), torch.ones(2))
        assert float(attention["patch"][0, 2:].sum()) == 0.0


def test_every_batch_gives_finite_numbers_and_gradients(model: Model) -> None:
    """In a batch where one case has no MRI and another no slide, too, where the model allows it."""
    batch = random_batch(model.spec, cases=3)
    for name, row in (("mri", 0), ("he", 1)):
        if name in model.optional:
            batch.present[name][row] = False
            batch.present["site"][row] = False
            batch.valid[name][row] = False
    model.zero_grad()
    output = model(batch)
    there = batch.present["mri"]
    total = output.malignant_logit.sum()
    for values in (output.tumour_logits, output.bone_logits, output.severity_pct):
        if values is not None:
            assert bool(values[there].isfinite().all())
            total = total + values[there].sum()
    total.backward()
    assert bool(output.malignant_logit.isfinite().all())
    assert [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()] == []


def test_the_start_of_training_is_fitted_to_any_batch_and_changes_no_name(model: Model) -> None:
    fresh = type(model)("compact")
    before = fresh.state_dict().keys()
    batch = random_batch(model.spec)
    fresh.fit_start(batch)
    assert fresh.state_dict().keys() == before
    with torch.no_grad():
        assert bool(fresh(batch).malignant_logit.isfinite().all())


@pytest.mark.parametrize(("modality", "name"), [("mri", "phi_mri"), ("he", "phi_he")])
def test_what_reads_a_modality_is_an_encoder_of_a_known_name(model: Model, modality: str, name: str) -> None:
    """Confidence, attribution and the recipe's rates find an encoder by its name, and hook its one tensor."""
    assert hasattr(model, name) == (modality in model.needs)
    if modality not in model.needs:
        return
    seen: list[torch.Tensor] = []
    hook = getattr(model, name).register_forward_hook(lambda _module, _given, output: seen.append(output))
    with torch.no_grad():
        model(random_batch(model.spec))
    hook.remove()
    assert sum(len(output) for output in seen) == {"mri": 2 * 3, "he": 2 * 4}[modality]


def test_a_model_is_made_of_modules_that_attribution_can_hook(model: Model) -> None:
    """No statistics of a batch, no ReLU in place (Captum hooks modules)."""
    kinds = [type(module).__name__ for module in model.modules()]
    assert not [kind for kind in kinds if "BatchNorm" in kind or "InstanceNorm" in kind]
    assert not [m for m in model.modules() if isinstance(m, torch.nn.ReLU) and m.inplace]


def test_every_parameter_gets_a_gradient(model: Model) -> None:
    model.zero_grad()
    output = model(random_batch(model.spec))
    told = [*heads(output).values(), *([] if output.damage_logits is None else [output.damage_logits])]
    sum(value.sum() for value in told).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    # A constant added to every score leaves a softmax as it is: the gradient of that bias is rounding, or nothing.
    without = [name for name in without if not name.endswith("score.bias") or not name.startswith("pool_")]
    assert without == []


def test_padding_patches_never_count(model: Model) -> None:
    batch = random_batch(model.spec)
    valid = batch.valid["he"].clone()
    valid[:, 2:] = False
    padded = replace(batch, valid={**batch.valid, "he": valid})
    noisy = batch.inputs["he"].clone()
    noisy[:, 2:] = 1 - noisy[:, 2:]
    changed = replace(padded, inputs={**batch.inputs, "he": noisy})
    with torch.no_grad():
        one, other = heads(model(padded)), heads(model(changed))
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_padding_slices_never_count(model: Model) -> None:
    batch = random_batch(model.spec)
    valid = batch.valid["mri"].clone()
    valid[:, 2:] = False
    noisy = batch.inputs["mri"].clone()
    noisy[:, 2:] *= -3
    with torch.no_grad():
        one = model(replace(batch, valid={**batch.valid, "mri": valid}))
        other = model(replace(batch, valid={**batch.valid, "mri": valid}, inputs={**batch.inputs, "mri": noisy}))
    torch.testing.assert_close(one.malignant_logit, other.malignant_logit)
    if "severity_pct" in model.produces:
        torch.testing.assert_close(one.severity_pct, other.severity_pct)
        torch.testing.assert_close(one.tumour_logits[:, :2], other.tumour_logits[:, :2])


def test_a_case_gets_the_same_answer_alone_and_in_company(model: Model) -> None:
    batch = random_batch(model.spec, cases=3)
    alone = replace(
        batch,
        ids=batch.ids[:1],
        **{name: {k: v[:1] for k, v in getattr(batch, name).items()} for name in ("inputs", "valid", "present")},
        patch_mm=batch.patch_mm[:1],
        site_voxel=batch.site_voxel[:1],
        spacing_mm=batch.spacing_mm[:1],
    )
    with torch.no_grad():
        together, single = heads(model(batch)), heads(model(alone))
    for name in single:
        torch.testing.assert_close(together[name][:1], single[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", ["mri", "he"])
def test_a_missing_modality_is_allowed_where_the_model_says_so(model: Model, missing: str) -> None:
    if missing not in model.optional:
        pytest.skip(f"{type(model).__name__} needs {missing}")
    batch = random_batch(model.spec)
    present = {**batch.present, missing: torch.zeros(2, dtype=torch.bool), "site": torch.zeros(2, dtype=torch.bool)}
    valid = {**batch.valid, missing: torch.zeros_like(batch.valid[missing])}
    hidden = replace(batch, present=present, valid=valid)
    gone = replace(hidden, inputs={k: v for k, v in batch.inputs.items() if k != missing})
    with torch.no_grad():
        one, other = model(hidden), model(gone)
    torch.testing.assert_close(one.malignant_logit, other.malignant_logit)
    assert (one.tumour_logits is None) == (missing == "mri" or "tumour_logits" not in model.produces)
    assert (other.severity_pct is None) == (one.tumour_logits is None)
    noise = replace(hidden, inputs={**batch.inputs, missing: torch.randn_like(batch.inputs[missing])})
    with torch.no_grad():
        torch.testing.assert_close(model(noise).malignant_logit, one.malignant_logit)


def test_a_case_without_any_modality_is_refused(model: Model) -> None:
    batch = random_batch(model.spec)
    none = torch.zeros(2, dtype=torch.bool)
    with pytest.raises(InputError, match=r"neither MRI nor H&E|came without"):
        model(replace(batch, present={"mri": none, "he": none, "site": none}))


def test_a_modality_a_model_cannot_do_without_is_asked_for_by_name(model: Model) -> None:
    batch = random_batch(model.spec)
    for name in set(model.needs) - set(model.optional):
        present = {**batch.present, name: torch.tensor([True, False])}
        with pytest.raises(InputError, match={"mri": "without MRI", "he": "without H&E"}[name]):
            model(replace(batch, present=present))
        with pytest.raises(InputError, match="came without"):
            model(replace(batch, inputs={k: v for k, v in batch.inputs.items() if k != name}))


@pytest.mark.parametrize("unread", ["mri", "he"])
def test_a_modality_a_model_does_not_read_changes_nothing(model: Model, unread: str) -> None:
    if unread in model.needs:
        pytest.skip(f"{type(model).__name__} reads {unread}")
    batch = random_batch(model.spec)
    gone = replace(
        batch,
        inputs={k: v for k, v in batch.inputs.items() if k != unread},
        present={**batch.present, unread: torch.zeros(2, dtype=torch.bool)},
        valid={**batch.valid, unread: torch.zeros_like(batch.valid[unread])},
    )
    with torch.no_grad():
        torch.testing.assert_close(heads(model(gone))["malignant_logit"], model(batch).malignant_logit)


def info_of(model: Model) -> WeightsInfo:
    name = next(name for name, kind in MODELS.items() if kind is type(model))
    return WeightsInfo(model=name, size="compact", trained="nothing", spec=model.spec)


def test_save_and_load_give_the_same_numbers(model: Model, tmp_path) -> None:
    info = info_of(model)
    save(model, tmp_path / "w.safetensors", info=info, dtype=torch.float32)
    again, told, model_id = load(tmp_path / "w.safetensors")
    assert told == info
    assert model_id.startswith(f"{info.model}-compact-")
    batch = random_batch(model.spec)
    with torch.no_grad():
        torch.testing.assert_close(heads(again(batch)), heads(model(batch)))


def test_eight_bits_a_weight_are_off_by_half_a_step_of_their_channel_at_most(model: Model, tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save(model, path, info=info_of(model), dtype=torch.int8)
    back = load(path)[0].state_dict()
    for name, tensor in model.state_dict().items():
        step = tensor.abs().flatten(1).amax(1) / 127 if tensor.ndim >= 2 else tensor.abs() * 2**-10
        allowed = step.view(-1, *[1] * (tensor.ndim - 1)) / 2 + 1e-6
        assert bool(((back[name] - tensor).abs() <= allowed * 1.001).all()), name


def test_bfloat16_agrees_within_the_stated_tolerance(model: Model) -> None:
    batch = random_batch(model.spec)
    with torch.no_grad():
        exact = model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(batch)
    for name in set(model.produces) - {"severity_pct"}:
        difference = (getattr(exact, name).sigmoid() - getattr(rough, name).float().sigmoid()).abs().max()
        assert float(difference) <= 0.02, name


@pytest.mark.parametrize("damage", ["text", "empty", "half", "foreign"])
def test_damaged_weights_are_refused_with_a_sentence(damage: str, tmp_path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    if damage == "foreign":
        save_file({"x": torch.zeros(1)}, str(path))
    else:
        path.write_bytes({"text": b"hello", "empty": b"", "half": b"\x40\x00\x00\x00\x00\x00\x00\x00{"}[damage])
    with pytest.raises(InputError):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: "{not json",
        lambda header: "[]",
        lambda header: json.dumps({k: v for k, v in header.items() if k != "spec"}),
        lambda header: json.dumps({k: v for k, v in header.items() if k != "size"}),
        lambda header: json.dumps(header | {"colour": "red"}),
        lambda header: json.dumps(header | {"model": ["cmssd"]}),
        lambda header: json.dumps(header | {"spec": None}),
        lambda header: json.dumps(header | {"spec": header["spec"] | {"colour": "red"}}),
        lambda header: json.dumps(header | {"spec": header["spec"] | {"contrasts": 4}}),
        lambda header: json.dumps(header | {"spec": header["spec"] | {"contrasts": [["t1"]]}}),
        lambda header: json.dumps(header | {"spec": header["spec"] | {"mri_px": "256"}}),
    ],
)
def test_a_header_that_is_not_ours_is_refused_with_a_sentence(change, tmp_path) -> None:
    from safetensors.torch import save_file

    info = WeightsInfo(model="cmssd", size="compact", trained="nothing", spec=InputSpec())
    save_file({"x": torch.zeros(1)}, str(tmp_path / "w.safetensors"), metadata={"cmssd": change(asdict(info))})
    with pytest.raises(InputError, match=r"w\.safetensors has a cmssd header .*; expected .*; copy") as mistake:
        load(tmp_path / "w.safetensors")
    assert len(str(mistake.value).splitlines()) == 1


def test_the_reference_size_has_the_papers_parameters_and_operations() -> None:
    """Seed 000, section 4: 24.6 million parameters, 18.2 GFLOP for one pair of 256 x 256 pixels."""
    model = MODELS["cmssd"]("reference")
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(24.6e6, rel=0.01)
    assert gflop(model, px=256) == pytest.approx(18.2, rel=0.03)
