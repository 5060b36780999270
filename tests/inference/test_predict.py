"""Inference: figures follow the maps, maps lie on the source's grid, the store answers twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cmssd_core.cases import admit as cases
from cmssd_core.cohort import table as cohorts
from cmssd_core.config import Settings
from cmssd_core.inference import predict as inference
from cmssd_core.machine.store import Store
from cmssd_core.models import MODELS
from cmssd_core.models.cmssd import CMSSD
from cmssd_core.models.weights import WeightsInfo, save
from cmssd_core.types import Case, Finding, InputError, Prediction, Volume

QUICK = Settings(n4=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: they prove shapes and figures, nothing else."""
    torch.manual_seed(0)
    model = CMSSD("compact")
    with torch.no_grad():
        model.decoder.maps.weight.mul_(20)  # so that maps cross one half somewhere
        model.malignancy[-1].bias.fill_(8.0)  # and malignant, for the tumour map is empty otherwise
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save(model, path, info=WeightsInfo(model="cmssd", size="compact", trained="nothing", spec=model.spec))
    return path


@pytest.fixture(scope="module")
def predictor(weights: Path) -> inference.Predictor:
    return inference.load(weights, settings=QUICK)


@pytest.fixture(scope="module")
def case(cohort: Path) -> Case:
    return cohorts.admit_row(cohorts.read(cohort).iloc[0], cohort)


@pytest.fixture(scope="module")
def prediction(case: Case, predictor: inference.Predictor) -> Prediction:
    return inference.predict(case, predictor, settings=QUICK)


def test_every_figure_follows_from_the_maps_by_hand(prediction: Prediction, case: Case) -> None:
    volume = case.inputs["mri"]
    assert isinstance(volume, Volume)
    tumour, bone = prediction.maps["tumour"] >= 0.5, prediction.maps["bone"] >= 0.5
    assert tumour.shape == volume.voxels.shape[1:]
    assert tumour.any()
    assert bone.any()
    x, y, z = volume.spacing_mm
    ml = x * y * z / 1000
    assert prediction.severity_pct == pytest.approx(100 * (tumour & bone).sum() / bone.sum())
    assert prediction.tumour_ml == pytest.approx(tumour.sum() * ml)
    assert prediction.bone_ml == pytest.approx(bone.sum() * ml)
    assert prediction.extraosseous_ml == pytest.approx((tumour & ~bone).sum() * ml)
    assert [area.index for area in prediction.slices] == list(range(len(tumour)))
    for area in prediction.slices:
        assert area.tumour_mm2 == pytest.approx(tumour[area.index].sum() * x * y)
        assert area.bone_mm2 == pytest.approx(bone[area.index].sum() * x * y)
    for name in ("tumour", "bone", "attention"):
        assert 0 <= prediction.maps[name].min() <= prediction.maps[name].max() <= 1
    assert prediction.patch_attention is not None
    assert prediction.patch_attention.sum() == pytest.approx(1, abs=1e-4)
    assert 0 <= prediction.p_malignant <= 1
    assert prediction.severity_interval is None
    assert prediction.gate_at_site is not None


def test_the_maps_of_the_store_are_the_maps_of_the_network(
    case: Case, predictor: inference.Predictor, prediction: Prediction, tmp_path: Path
) -> None:
    store = Store(tmp_path, limit_bytes=None)
    first = inference.predict(case, predictor, settings=QUICK, store=store)
    second = inference.predict(case, predictor, settings=QUICK, store=store)
    assert set(second.timings_s) == {"cache"}
    assert set(first.timings_s) == {"prepare", "network", "maps", "total"}
    for one in (first, prediction):
        assert replace_times(one) == replace_times(second)
        for name in one.maps:
            np.testing.assert_array_equal(one.maps[name], second.maps[name])
        np.testing.assert_array_equal(one.patch_attention, second.patch_attention)
        np.testing.assert_array_equal(one.patch_xy, second.patch_xy)


def replace_times(prediction: Prediction) -> dict:
    arrays = ("maps", "affine", "patch_attention", "patch_xy", "timings_s")
    return {name: value for name, value in vars(prediction).items() if name not in arrays}


def test_a_changed_byte_weight_or_setting_is_a_miss(
    cohort: Path, case: Case, predictor: inference.Predictor, tmp_path: Path
) -> None:
    store = Store(tmp_path, limit_bytes=None)
    inference.predict(case, predictor, settings=QUICK, store=store)
    rows = cohorts.read(cohort)
    cold = [
        (cohorts.admit_row(rows.iloc[1], cohort), predictor, QUICK),
        (case, replace(predictor, model_id="other"), QUICK),
        (case, predictor, Settings(n4=False, max_patches=1)),
    ]
    for other, model, settings in cold:
        assert "cache" not in inference.predict(other, model, settings=settings, store=store).timings_s


def test_a_damaged_entry_is_computed_anew(case: Case, predictor: inference.Predictor, tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=None)
    first = inference.predict(case, predictor, settings=QUICK, store=store)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-7])
    again = inference.predict(case, predictor, settings=QUICK, store=store)
    assert "cache" not in again.timings_s
    assert again.severity_pct == first.severity_pct


def test_a_store_that_refuses_costs_no_result(case: Case, predictor: inference.Predictor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    found = inference.predict(case, predictor, settings=QUICK, store=Store(tmp_path / "file", limit_bytes=None))
    assert found.severity_pct is not None
    assert any("could not be kept" in finding.what for finding in found.quality)


def test_without_an_mri_maps_and_severity_are_none_and_the_probability_stands_alone(
    case: Case, predictor: inference.Predictor
) -> None:
    found = inference.predict(replace(case, inputs={"he": case.inputs["he"]}), predictor, settings=QUICK)
    assert found.maps == {}
    assert found.severity_pct is None
    assert found.tier is None
    assert "no MRI" in (found.severity_reason or "")
    assert 0 <= found.p_malignant <= 1


def test_a_model_without_maps_does_not_blame_the_mri(case: Case, predictor: inference.Predictor) -> None:
    found = inference.predict(case, replace(predictor, model=MODELS["osnet"]("compact").eval()), settings=QUICK)
    assert set(found.answers) == {"malignant"}
    assert found.severity_pct is None
    assert found.severity_reason == "this model does not answer severity"


def test_without_a_slide_there_are_maps_and_no_patches(case: Case, predictor: inference.Predictor) -> None:
    found = inference.predict(replace(case, inputs={"mri": case.inputs["mri"]}), predictor, settings=QUICK)
    assert found.severity_pct is not None
    assert found.patch_attention is None
    assert found.gate_at_site is None


def test_t1_alone_runs(cohort: Path, predictor: inference.Predictor) -> None:
    case = cases.admit(contrasts={"t1": cohort / "cases/synth-00000/t1.nii.gz"})
    assert inference.predict(case, predictor, settings=QUICK).severity_pct is not None


def test_no_bone_leaves_the_severity_undefined_with_a_reason(case: Case, predictor: inference.Predictor) -> None:
    blank = CMSSD("compact").eval()
    with torch.no_grad():
        blank.decoder.maps.weight.zero_()
        blank.decoder.maps.bias.fill_(-10)
    found = inference.predict(case, replace(predictor, model=blank), settings=QUICK)
    assert found.severity_pct is None
    assert "no bone" in (found.severity_reason or "")
    assert found.tumour_ml == 0


def test_the_same_scan_has_the_same_id_whatever_it_is_called(cohort: Path, tmp_path: Path) -> None:
    source = cohort / "cases/synth-00000"
    for name in ("t1.nii.gz", "slide.tif"):
        (tmp_path / f"other_{name}").write_bytes((source / name).read_bytes())
    one = cases.admit(contrasts={"t1": source / "t1.nii.gz"}, he=source / "slide.tif", mpp=1.0)
    two = cases.admit(contrasts={"t1": tmp_path / "other_t1.nii.gz"}, he=tmp_path / "other_slide.tif", mpp=1.0)
    assert one.id == two.id
    assert one.id != cases.admit(contrasts={"t1": source / "t1.nii.gz"}).id


def test_a_site_outside_the_mri_leaves_the_slide_unregistered(cohort: Path, predictor: inference.Predictor) -> None:
    source = cohort / "cases/synth-00000"
    case = cases.admit(
        contrasts={"t1": source / "t1.nii.gz"}, he=source / "slide.tif", mpp=1.0, site_mm=(900.0, 0.0, 0.0)
    )
    assert any("outside the MRI" in finding.what for finding in case.findings)
    assert inference.predict(case, predictor, settings=QUICK).gate_at_site is None


def test_progress_only_rises_and_ends_at_one(case: Case, predictor: inference.Predictor) -> None:
    told: list[float] = []
    inference.predict(case, predictor, settings=QUICK, progress=lambda share, what: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_site_beside_a_narrow_scan_is_outside_although_the_prepared_slice_is_square(
    tmp_path: Path, cohort: Path, predictor: inference.Predictor
) -> None:
    source = cohort / "cases/synth-00000"
    image = sitk.ReadImage(str(source / "t1.nii.gz"))
    sitk.WriteImage(image[16:48, :, :], str(tmp_path / "narrow_t1.nii.gz"))  # 32 columns of 64
    x, y, z = image.TransformIndexToPhysicalPoint((4, 30, 3))  # in the part that was cut off
    case = cases.admit(mri=tmp_path / "narrow_t1.nii.gz", he=source / "slide.tif", mpp=1.0, site_mm=(-x, -y, z))
    assert any("outside the MRI" in finding.what for finding in case.findings)
    assert inference.predict(case, predictor, settings=QUICK).gate_at_site is None


def test_an_answer_from_the_store_tells_how_these_files_were_read(
    cohort: Path, predictor: inference.Predictor, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store", limit_bytes=None)
    one = cases.admit(contrasts={"t1": cohort / "cases/synth-00000/t1.nii.gz"})
    other = replace(one, findings=(Finding("info", "came by another way", "mri"),), steps=("read otherwise",))
    first = inference.predict(one, predictor, settings=QUICK, store=store)
    again = inference.predict(other, predictor, settings=QUICK, store=store)
    assert set(again.timings_s) == {"cache"}
    assert again.quality == (*other.findings, *first.quality[len(one.findings) :])
    assert again.steps == (*other.steps, *first.steps[len(one.steps) :])


def test_map_and_probability_that_disagree_are_remarked(case: Case, predictor: inference.Predictor) -> None:
    """A tumour map without malignancy cannot be: the map is lesion times p(malignant). The other way it can."""

    def answer(lesion: float, malignant: float) -> Prediction:
        model = CMSSD("compact").eval()
        with torch.no_grad():
            model.decoder.maps.weight.zero_()
            model.decoder.maps.bias.copy_(torch.tensor([lesion, 5.0, -5.0]))  # lesion, bone, destruction
            model.malignancy[-1].weight.zero_()
            model.malignancy[-1].bias.fill_(malignant)
        return inference.predict(case, replace(predictor, model=model), settings=QUICK)

    def remarked(found: Prediction) -> bool:
        return any("disagree" in finding.what for finding in found.quality)

    silent = answer(lesion=-9.0, malignant=9.0)  # surely malignant, and no lesion anywhere
    assert silent.severity_pct == 0
    assert remarked(silent)
    benign = answer(lesion=9.0, malignant=-9.0)
    assert benign.severity_pct == 0
    assert not remarked(benign)
    assert not remarked(answer(lesion=9.0, malignant=9.0))


def test_a_single_slice_is_remarked(cohort: Path, tmp_path: Path, predictor: inference.Predictor) -> None:
    image = sitk.ReadImage(str(cohort / "cases/synth-00000/t1.nii.gz"))
    sitk.WriteImage(image[:, :, 2:3], str(tmp_path / "one_t1.nii.gz"))
    found = inference.predict(cases.admit(mri=tmp_path / "one_t1.nii.gz"), predictor, settings=QUICK)
    assert any("slice" in finding.what for finding in found.quality)


def test_a_site_without_a_slide_is_refused(cohort: Path) -> None:
    with pytest.raises(InputError, match="without a slide"):
        cases.admit(contrasts={"t1": cohort / "cases/synth-00000/t1.nii.gz"}, site_mm=(0.0, 0.0, 0.0))


def test_a_gpu_that_is_not_there_is_said(weights: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InputError, match="no CUDA device"):
        inference.load(weights, settings=Settings(device="cuda"))
