"""One suite for every model in MODELS: the contract that the rest of the program leans on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from batches import PAIR, placed, random_batch

from cmssd_core.batches import select_case
from cmssd_core.models import MODELS
from cmssd_core.models.base import Model
from cmssd_core.models.listing import gflop
from cmssd_core.models.weights import WeightsInfo, load, save
from cmssd_core.tasks.table import TASKS
from cmssd_core.types import Batch, InputError


def compact(name: str) -> Model:
    torch.manual_seed(0)
    return MODELS[name]("compact").eval()


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return compact(request.param)


def padded(batch: Batch, name: str, *, real: int) -> Batch:
    """The batch with only the first `real` slices or patches of every case not padding."""
    valid = batch.valid[name].clone()
    valid[:, real:] = False
    return replace(batch, valid={**batch.valid, name: valid})


def without(batch: Batch, name: str, *, cases: slice = slice(None)) -> Batch:
    """The batch with a modality hidden in some cases; its pixels stay."""
    present, valid = batch.present[name].clone(), batch.valid[name].clone()
    present[cases], valid[cases] = False, False
    hidden = replace(batch, present={**batch.present, name: present}, valid={**batch.valid, name: valid})
    if "mri.site_known" not in batch.geometry:
        return hidden
    known = batch.geometry["mri.site_known"].clone()
    known[cases] = False  # a site relates two modalities
    return placed(hidden, site_known=known)


def test_a_model_reads_what_its_spec_says_and_names_tasks_of_the_table(model: Model) -> None:
    assert tuple(model.spec) == model.needs
    assert set(model.optional) <= set(model.needs)
    assert set(model.tasks) <= set(TASKS)
    assert set(model.encoders) == set(model.needs)


def test_heads_promised_are_heads_filled(model: Model) -> None:
    with torch.no_grad():
        output = model(random_batch(model.spec))
    assert set(output.heads) == set(model.tasks)
    for name, head in output.heads.items():
        assert head.shape == ((2, 3, 64, 64) if TASKS[name].kind.name == "map" else (2,)), name
    taught = {name: values.shape for name, values in output.also.items() if name in TASKS}
    assert set(taught.values()) <= {(2, 3, 64, 64)}


def test_attention_is_in_0_and_1_and_sums_to_1_over_patches(model: Model) -> None:
    batch = random_batch(model.spec)
    batch = padded(batch, "he", real=2) if "he" in model.needs else batch
    with torch.no_grad():
        attention = model(batch).attention
    assert ("patch" in attention) == ("he" in model.needs)
    for values in attention.values():
        assert 0 <= float(values.min()) <= float(values.max()) <= 1
    if "patch" in attention:
        torch.testing.assert_close(attention["patch"].sum(1), torch.ones(2))
        assert float(attention["patch"][:, 2:].sum()) == 0.0


def test_every_batch_gives_finite_numbers_and_gradients(model: Model) -> None:
    """In a batch where one case has no MRI and another no slide, too, where the model allows it."""
    batch = random_batch(model.spec, cases=3)
    for name, row in (("mri", 0), ("he", 1)):
        if name in model.optional:
            batch = without(batch, name, cases=slice(row, row + 1))
    model.zero_grad()
    output = model(batch)
    told = []
    for name, values in output.heads.items():
        of_the_mri = TASKS[name].kind.name == "map" or name == "severity_pct"
        shown = values[batch.present["mri"]] if of_the_mri else values
        assert bool(shown.isfinite().all()), name
        told.append(shown.sum())
    torch.stack(told).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()] == []


def test_the_start_of_training_is_fitted_to_any_batch_and_changes_no_name(model: Model) -> None:
    fresh = type(model)("compact")
    before = fresh.state_dict().keys()
    batch = random_batch(model.spec)
    fresh.fit_start(batch)
    assert fresh.state_dict().keys() == before
    with torch.no_grad():
        assert bool(fresh(batch).heads["malignant"].isfinite().all())


def test_what_reads_a_modality_is_an_encoder_that_can_be_hooked(model: Model) -> None:
    """Confidence and attribution find an encoder by the path that the model says, and hook its one tensor."""
    for modality, path in model.encoders.items():
        seen: list[torch.Tensor] = []
        hook = model.get_submodule(path).register_forward_hook(
            lambda _module, _given, output, seen=seen: seen.append(output)
        )
        with torch.no_grad():
            model(random_batch(model.spec))
        hook.remove()
        assert sum(len(output) for output in seen) == {"mri": 2 * 3, "he": 2 * 4}[modality]


def test_what_fuses_gives_one_vector_a_case(model: Model) -> None:
    if model.fused is None:
        pytest.skip(f"{type(model).__name__} fuses no features")
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(model.fused).register_forward_hook(lambda _m, _given, output: seen.append(output[0]))
    with torch.no_grad():
        model(random_batch(model.spec))
    hook.remove()
    assert [output.shape[0] for output in seen] == [2]


def test_the_parameters_that_a_model_treats_apart_are_there(model: Model) -> None:
    names = [name for name, _ in model.named_parameters()]
    for beginning in (*model.slow, *model.undecayed):
        assert any(name.startswith(beginning) for name in names), beginning


def test_a_model_gives_the_extra_terms_it_promises_and_no_others(model: Model) -> None:
    batch = random_batch(model.spec)
    spoilt = {name: torch.full((2,), 0.5) for name in model.needs}
    terms = model.extra_loss(model(batch), batch, spoilt, cases=2)
    assert set(terms) == set(model.extra_terms)
    assert not set(terms) & {task.term for task in TASKS.values()}
    assert all(bool(value.isfinite()) and value.ndim == 0 for value in terms.values())


def test_a_model_is_made_of_modules_that_attribution_can_hook(model: Model) -> None:
    """No statistics of a batch, no ReLU in place (Captum hooks modules)."""
    kinds = [type(module).__name__ for module in model.modules()]
    assert not [kind for kind in kinds if "BatchNorm" in kind or "InstanceNorm" in kind]
    assert not [m for m in model.modules() if isinstance(m, torch.nn.ReLU) and m.inplace]


def test_every_parameter_gets_a_gradient(model: Model) -> None:
    model.zero_grad()
    output = model(random_batch(model.spec))
    sum(value.sum() for value in (*output.heads.values(), *output.also.values())).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    # A constant added to every score leaves a softmax as it is: the gradient of that bias is rounding, or nothing.
    without = [name for name in without if not name.endswith("score.bias") or not name.startswith("pool_")]
    assert without == []


def test_padding_patches_never_count(model: Model) -> None:
    if "he" not in model.needs:
        pytest.skip(f"{type(model).__name__} reads no slide")
    batch = padded(random_batch(model.spec), "he", real=2)
    noisy = batch.inputs["he"].clone()
    noisy[:, 2:] = 1 - noisy[:, 2:]
    changed = replace(batch, inputs={**batch.inputs, "he": noisy})
    with torch.no_grad():
        one, other = model(batch).heads, model(changed).heads
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_padding_slices_never_count(model: Model) -> None:
    if "mri" not in model.needs:
        pytest.skip(f"{type(model).__name__} reads no MRI")
    batch = padded(random_batch(model.spec), "mri", real=2)
    noisy = batch.inputs["mri"].clone()
    noisy[:, 2:] *= -3
    with torch.no_grad():
        one = model(batch).heads
        other = model(replace(batch, inputs={**batch.inputs, "mri": noisy})).heads
    for name in one:
        real = (slice(None), slice(0, 2)) if TASKS[name].kind.name == "map" else ()
        torch.testing.assert_close(one[name][real], other[name][real])


def test_a_case_gets_the_same_answer_alone_and_in_company(model: Model) -> None:
    batch = random_batch(model.spec, cases=3)
    with torch.no_grad():
        together, single = model(batch).heads, model(select_case(batch, 0)).heads
    for name in single:
        torch.testing.assert_close(together[name][:1], single[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", ["mri", "he"])
def test_a_missing_modality_is_allowed_where_the_model_says_so(model: Model, missing: str) -> None:
    if missing not in model.optional:
        pytest.skip(f"{type(model).__name__} needs {missing}")
    batch = random_batch(model.spec)
    hidden = without(batch, missing)
    gone = replace(hidden, inputs={k: v for k, v in batch.inputs.items() if k != missing})
    with torch.no_grad():
        one, other = model(hidden).heads, model(gone).heads
    of_the_mri = {name for name in model.tasks if TASKS[name].kind.name == "map" or name == "severity_pct"}
    assert set(one) == set(other) == set(model.tasks) - (of_the_mri if missing == "mri" else set())
    torch.testing.assert_close(one["malignant"], other["malignant"])
    noise = replace(hidden, inputs={**batch.inputs, missing: torch.randn_like(batch.inputs[missing])})
    with torch.no_grad():
        torch.testing.assert_close(model(noise).heads["malignant"], one["malignant"])


def test_a_case_without_any_modality_is_refused(model: Model) -> None:
    batch = random_batch(model.spec)
    none = dict.fromkeys(batch.present, torch.zeros(2, dtype=torch.bool))
    with pytest.raises(InputError, match=r"neither MRI nor H&E|came without"):
        model(replace(batch, present=none))


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
    batch = random_batch({**PAIR, **model.spec})
    read = {part: {k: v for k, v in getattr(batch, part).items() if k in model.spec}
            for part in ("inputs", "valid", "present")}  # fmt: skip
    geometry = {key: value for key, value in batch.geometry.items() if key.partition(".")[0] in model.spec}
    with torch.no_grad():
        one, other = model(batch).heads, model(Batch(ids=batch.ids, geometry=geometry, **read)).heads
    torch.testing.assert_close(one, other)


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
        torch.testing.assert_close(again(batch).heads, model(batch).heads)


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
        exact = model(batch).heads
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(batch).heads
    for name in set(model.tasks) - {"severity_pct"}:
        difference = (exact[name].sigmoid() - rough[name].float().sigmoid()).abs().max()
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


#: The spec of a header as version 0.1 wrote it.
FLAT = {
    "contrasts": ["t1", "t2", "stir", "adc"],
    "mri_px": 128,
    "mri_spacing_mm": 1.5,
    "patch_px": 128,
    "patch_mpp": 1.0,
}


def mri(header: dict, **changed: object) -> dict:
    return header["spec"] | {"mri": header["spec"]["mri"] | changed}


def test_weights_of_version_0_1_say_how_their_inputs_are_prepared(model: Model, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    info = info_of(model)
    save(model, tmp_path / "new.safetensors", info=info)
    header = json.dumps({"model": info.model, "size": "compact", "trained": "nothing", "spec": FLAT})
    save_file(load_file(str(tmp_path / "new.safetensors")), str(tmp_path / "old.safetensors"), {"cmssd": header})
    assert load(tmp_path / "old.safetensors")[1] == load(tmp_path / "new.safetensors")[1] == info


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
        lambda header: json.dumps(header | {"spec": header["spec"] | {"colour": {"px": 64}}}),
        lambda header: json.dumps(header | {"spec": {"mri": 4}}),
        lambda header: json.dumps(header | {"spec": mri(header, contrasts=4)}),
        lambda header: json.dumps(header | {"spec": mri(header, contrasts=[["t1"]])}),
        lambda header: json.dumps(header | {"spec": mri(header, px="256")}),
        lambda header: json.dumps(header | {"spec": mri(header, px=64.5)}),
        lambda header: json.dumps(header | {"spec": mri(header, colour="red")}),
        lambda header: json.dumps(header | {"spec": FLAT | {"mri_px": "256"}}),
        lambda header: json.dumps(header | {"spec": FLAT | {"contrasts": [["t1"]]}}),
        lambda header: json.dumps(header | {"spec": {k: v for k, v in FLAT.items() if k != "patch_px"}}),
    ],
)
def test_a_header_that_is_not_ours_is_refused_with_a_sentence(change, tmp_path) -> None:
    from safetensors.torch import save_file

    info = WeightsInfo(model="cmssd", size="compact", trained="nothing", spec=PAIR)
    save_file({"x": torch.zeros(1)}, str(tmp_path / "w.safetensors"), metadata={"cmssd": change(asdict(info))})
    with pytest.raises(InputError, match=r"w\.safetensors has a cmssd header .*; expected .*; copy") as mistake:
        load(tmp_path / "w.safetensors")
    assert len(str(mistake.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda header: {"spec": {}},
        lambda header: {"spec": {"mri": header["spec"]["mri"]}},
        lambda header: {"spec": mri(header, contrasts=["t1"])},
        lambda header: {"spec": mri(header, contrasts=["t1", "t1", "t2", "adc"])},
    ],
)
def test_a_header_for_other_inputs_than_its_network_takes_is_refused(change, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    info = WeightsInfo(model="cmssd", size="compact", trained="nothing", spec=MODELS["cmssd"]("compact").spec)
    save(MODELS["cmssd"]("compact"), tmp_path / "w.safetensors", info=info)
    header = json.dumps(asdict(info) | change(asdict(info)))
    save_file(load_file(str(tmp_path / "w.safetensors")), str(tmp_path / "w.safetensors"), {"cmssd": header})
    with pytest.raises(InputError, match=r"w\.safetensors says it reads .*; copy the file anew"):
        load(tmp_path / "w.safetensors")


def test_the_reference_size_has_the_papers_parameters_and_operations() -> None:
    """Seed 000, section 4: 24.6 million parameters, 18.2 GFLOP for one pair of 256 x 256 pixels."""
    model = MODELS["cmssd"]("reference")
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(24.6e6, rel=0.01)
    assert gflop(model, px=256) == pytest.approx(18.2, rel=0.03)
