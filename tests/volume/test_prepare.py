"""Laws of preparing an MRI and of going back to its own grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from cmssd_core.types import InputError, Volume
from cmssd_core.volume.body import body_mask, body_of
from cmssd_core.volume.n4 import N4Settings, correct_bias
from cmssd_core.volume.prepare import VolumeSettings, onto, prepare

MR = ("t1", "t2", "stir", "adc")  # what CM-SSD reads
PLAIN = VolumeSettings(contrasts=MR, size_px=64, n4=False)


def rotated(spacing, axes=(0, 1, 2), signs=(1, 1, 1), tilt_deg=5.0):
    cosines = np.zeros((3, 3))
    for voxel, world in enumerate(axes):
        cosines[world, voxel] = signs[voxel]
    a = np.radians(tilt_deg)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ cosines * np.array(spacing)
    affine[:3, 3] = -40, 25, 7
    return affine


def phantom(shape=(16, 64, 72), seed=0, noise=8.0):
    """A limb in air: fat ring, muscle, a marrow cavity and a lesion; (z, y, x) and which voxels are body."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.hypot(y, x) / 0.85
    image = np.where(radius < 1, 900.0, 0)
    image[radius < 0.8] = 350
    image[np.hypot(y - 0.1, x + 0.2) < 0.25] = 60
    image[np.hypot(y - 0.1, x + 0.2) < 0.18] = 800
    image[np.hypot(np.hypot(y + 0.3, x - 0.3), 0.5 * z) < 0.2] = 520
    image = np.abs(image + np.random.default_rng(seed).normal(0, noise, shape))
    return image.astype(np.float32), radius < 1


def volume_of(voxels, affine=None, contrasts=("t1",)):
    voxels = voxels if voxels.ndim == 4 else voxels[None]
    return Volume(voxels.astype(np.float32), rotated((0.9, 0.9, 4)) if affine is None else affine, contrasts)


def coordinates(shape_zyx, affine):
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape_zyx], indexing="ij")
    return np.einsum("ij,jzyx->izyx", affine, np.stack([x, y, z, np.ones_like(x)]))[:3].astype(np.float32)


GRIDS = st.tuples(
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.sampled_from([(0.5, 0.6, 4.0), (1.7, 1.7, 5.0), (1.0, 1.0, 1.0), (3.0, 0.8, 0.8)]),
    st.tuples(*[st.integers(9, 24)] * 3),
)


@settings(max_examples=30, deadline=None)
@given(GRIDS)
def test_onto_a_linear_map_gives_back_its_coordinates(grid):
    axes, signs, spacing, shape = grid
    affine = rotated(spacing, axes, signs)
    raw = Volume(np.random.default_rng(0).normal(100, 10, (1, *shape)).astype(np.float32), affine, ("t1",))
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=32, n4=False))
    world = coordinates(prepared.voxels.shape[1:], prepared.affine)
    expected = coordinates(shape, affine)
    pixel_mm = max(prepared.spacing_mm[:2])
    for axis in range(3):
        back = onto(world[axis], prepared.affine, like=raw)
        assert back.shape == shape
        inner = tuple(slice(3, -3) for _ in range(3))
        assert np.abs(back - expected[axis])[inner].max() < 1e-2
        # At the rim the outermost pixel's value is held, half a pixel at most.
        assert np.abs(back - expected[axis]).max() <= pixel_mm


@settings(max_examples=20, deadline=None)
@given(GRIDS)
def test_onto_a_constant_map_stays_constant(grid):
    axes, signs, spacing, shape = grid
    raw = Volume(
        np.random.default_rng(0).normal(100, 10, (1, *shape)).astype(np.float32), rotated(spacing, axes, signs), ("t1",)
    )
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=32, n4=False))
    back = onto(np.full(prepared.voxels.shape[1:], 0.7, np.float32), prepared.affine, like=raw)
    assert np.allclose(back, 0.7, atol=1e-5)


def test_there_and_back_keeps_the_picture():
    voxels, _ = phantom(noise=0)
    raw = volume_of(voxels)
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=128, spacing_mm=0.5, n4=False))
    back = onto(prepared.voxels[0], prepared.affine, like=raw)
    assert np.corrcoef(back.ravel(), voxels.ravel())[0, 1] > 0.99


def test_prepared_voxels_are_where_simpleitk_puts_them():
    voxels, _ = phantom(noise=0)
    affine = rotated((0.9, 0.9, 4.0), tilt_deg=0)
    raw = volume_of(voxels, affine)
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=80, spacing_mm=0.9, n4=False))
    image, target = (sitk.GetImageFromArray(v) for v in (voxels, prepared.voxels[0]))
    for picture, matrix in ((image, affine), (target, prepared.affine)):
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        picture.SetSpacing(spacing.tolist())
        picture.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        picture.SetOrigin(matrix[:3, 3].tolist())
    oracle = sitk.GetArrayFromImage(sitk.Resample(image, target, sitk.Transform(), sitk.sitkLinear, 0.0))
    ours = prepared.voxels[0]
    assert np.corrcoef(ours[:, 12:-12, 12:-12].ravel(), oracle[:, 12:-12, 12:-12].ravel())[0, 1] > 0.9999


def test_map_that_is_not_of_this_scan_is_refused():
    raw = volume_of(phantom()[0])
    prepared, _, _ = prepare(raw, settings=PLAIN)
    with pytest.raises(ValueError, match="goes back onto the scan"):
        onto(prepared.voxels[0][:-1], prepared.affine, like=raw)
    with pytest.raises(ValueError, match="goes back onto the scan"):
        onto(prepared.voxels[0], rotated((1, 1, 1), tilt_deg=33), like=raw)


def test_z_scores_have_mean_0_and_deviation_1_inside_the_body():
    voxels, _ = phantom((12, 60, 60))
    raw = volume_of(voxels, rotated((1.0, 1.0, 4.0)))
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=60, n4=False))
    inside = body_mask(voxels, raw.spacing_mm)
    scores = onto(prepared.voxels[0], prepared.affine, like=raw)[inside]
    assert scores.mean() == pytest.approx(0, abs=1e-3)
    assert scores.std() == pytest.approx(1, abs=1e-3)


def test_prepared_volume_is_float32_and_read_only_and_of_the_asked_size():
    prepared, _, steps = prepare(volume_of(phantom()[0]), settings=VolumeSettings(contrasts=MR, size_px=96, n4=False))
    assert prepared.voxels.shape == (1, 16, 96, 96)
    assert prepared.voxels.dtype == np.float32
    assert not prepared.voxels.flags.writeable
    assert any("z-score" in step for step in steps)


@pytest.mark.parametrize(("shape", "spacing", "expected"), [((5, 100, 200), 2.0, 400 / 64), ((5, 40, 40), 0.5, 1.0)])
def test_pixel_is_the_finest_that_holds_the_field_of_view(shape, spacing, expected):
    raw = volume_of(np.random.default_rng(0).normal(100, 9, shape), np.diag([spacing, spacing, 9, 1.0]))
    prepared, _, _ = prepare(raw, settings=PLAIN)
    assert prepared.spacing_mm == pytest.approx((expected, expected, 9))


def test_beyond_the_scan_stands_its_air():
    raw = volume_of(phantom((8, 30, 30))[0], rotated((1.0, 1.0, 4.0)))
    prepared, _, _ = prepare(raw, settings=PLAIN)
    corner = prepared.voxels[0, :, 0, 0]
    assert np.all(corner == corner[0])
    assert corner[0] == pytest.approx(np.percentile(prepared.voxels[0, :, 20:44, 20:44], 1), abs=0.4)


def several(*contrasts, shape=(16, 64, 72)):
    """A volume of these contrasts, each with the phantom of its own seed; CT in Hounsfield units, PET in SUV."""
    layers = []
    for seed, name in enumerate(contrasts):
        voxels, body = phantom(shape, seed)
        units = {"ct": np.where(body, voxels * 1.5 - 100, -1000), "pet": np.where(body, voxels / 30, 0)}
        layers.append(units.get(name, voxels + 20 * seed))
    return volume_of(np.stack(layers), contrasts=contrasts)


def test_the_specs_contrasts_are_kept_in_the_specs_order():
    raw = several("t1", "t2", "adc", "ct")
    for asked in [("t1", "adc"), ("ct", "t1"), ("adc", "ct", "t2"), ("ct",)]:
        prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=asked, size_px=64, n4=False))
        assert prepared.contrasts == asked
    asked = ("pet", "t2", "stir")
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=asked, size_px=64, n4=False))
    assert prepared.contrasts == ("t2",), "what the scan lacks is not made up"


def test_a_volume_of_nothing_the_model_reads_is_refused_and_both_are_named():
    with pytest.raises(
        InputError, match="holds CT, PET and the model reads T1, T2, STIR, ADC; give at least"
    ) as mistake:
        prepare(several("ct", "pet"), settings=PLAIN)
    assert mistake.value.field == "mri"
    with pytest.raises(InputError, match="holds T1 and the model reads CT; give"):
        prepare(several("t1"), settings=VolumeSettings(contrasts=("ct",)))


@pytest.mark.parametrize("n4", [False, True])
def test_a_contrast_is_prepared_the_same_whatever_else_the_model_reads(n4):
    raw = several("t1", "t2", "adc", "ct", "pet")
    every, _, _ = prepare(raw, settings=VolumeSettings(contrasts=raw.contrasts, size_px=64, n4=n4))
    for i, name in enumerate(raw.contrasts):
        alone, _, _ = prepare(raw, settings=VolumeSettings(contrasts=(name,), size_px=64, n4=n4))
        assert np.array_equal(alone.voxels[0], every.voxels[i])


def test_mr_is_prepared_the_same_with_and_without_ct_and_pet_beside_it():
    raw = several("t1", "t2", "adc", "ct", "pet")
    without = Volume(raw.voxels[:3], raw.affine, raw.contrasts[:3])
    with_ct, bare = (prepare(volume, settings=PLAIN)[0] for volume in (raw, without))
    assert np.array_equal(with_ct.voxels, bare.voxels)


@pytest.mark.parametrize(("name", "low", "high"), [("ct", -200, 1400), ("pet", 0, 30)])
def test_a_window_is_scaled_to_minus_1_to_1_and_beyond_the_scan_stands_air(name, low, high):
    shape = (8, 30, 30)
    values = np.linspace(low - 900 * (name == "ct"), 1.5 * high, int(np.prod(shape))).reshape(shape)
    raw = volume_of(values, np.diag([-1.0, -1.0, 4.0, 1.0]), contrasts=(name,))
    prepared, _, steps = prepare(raw, settings=VolumeSettings(contrasts=(name,), size_px=50, n4=True))
    expected = 2 * (np.clip(values, low, high) - low) / (high - low) - 1
    np.testing.assert_allclose(prepared.voxels[0, :, 10:40, 10:40], expected, atol=1e-5)
    beyond = np.ones((50, 50), dtype=bool)
    beyond[10:40, 10:40] = False
    assert np.all(prepared.voxels[0][:, beyond] == -1)
    assert np.abs(prepared.voxels).max() == 1
    assert not any("bias" in step or "z-score" in step for step in steps)


def test_partial_volume_is_measured_before_the_window_cuts_it_off():
    fine = np.full((4, 40, 40), -1000.0)
    fine[:, :, ::2] = 3000.0
    raw = volume_of(fine, np.diag([1.0, 1.0, 4.0, 1.0]), contrasts=("ct",))
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=("ct",), size_px=20, spacing_mm=2.0))
    np.testing.assert_allclose(prepared.voxels[0, :, 4:-4, 4:-4], 2 * (1000 + 200) / 1600 - 1, atol=1e-4)


def test_the_body_of_a_ct_is_the_largest_piece_over_minus_300_hu():
    voxels = np.full((12, 60, 60), -1000.0, dtype=np.float32)
    voxels[:, 10:50, 10:40] = -350.0  # lung-like: below the threshold, so no body
    voxels[:, 12:48, 12:38] = 40.0
    voxels[:, 20:30, 20:25] = -900.0  # a cavity inside belongs to the body
    voxels[:, 56:58] = 200.0  # the table
    body, words = body_of(volume_of(voxels, np.diag([1.0, 1.0, 4.0, 1.0]), contrasts=("ct",)))
    expected = np.zeros(voxels.shape, dtype=bool)
    expected[:, 12:48, 12:38] = True
    # The mask is found on blocks of 2 mm and neighbours: its edge is one block wide.
    assert np.mean(body[expected]) > 0.9
    assert not body[:, 52:].any()
    assert np.mean(body[~expected]) < 0.05
    assert words == " over -300 HU of CT"


def test_the_body_is_told_from_every_mr_image_first_then_ct_then_pet():
    raw = several("t1", "t2", "adc", "ct", "pet")
    layers = dict(zip(raw.contrasts, raw.voxels, strict=True))
    either = body_mask(layers["t1"], raw.spacing_mm) | body_mask(layers["t2"], raw.spacing_mm)
    assert np.array_equal(body_of(raw)[0], either)
    assert body_of(several("adc", "ct"))[1] == ""
    assert body_of(several("ct", "pet"))[1] == " over -300 HU of CT"
    assert body_of(several("pet"))[1] == " over 0.1 SUV of PET"


def test_fill_beyond_a_smaller_field_of_view_does_not_count():
    t2, adc = phantom()[0], phantom(seed=4)[0] + 20
    adc[:, :, :30] = adc.min()
    raw = volume_of(np.stack([t2, adc]), rotated((0.9, 0.9, 4)), contrasts=("t2", "adc"))
    prepared, _, _ = prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=72, spacing_mm=0.9, n4=False))
    back = onto(prepared.voxels[1], prepared.affine, like=raw)
    inside = body_mask(t2, raw.spacing_mm) & (adc > adc.min())
    assert abs(back[inside].mean()) < 0.05


def test_body_is_found_in_air_and_its_dark_inside_is_filled():
    voxels, body = phantom()
    mask = body_mask(voxels, (0.9, 0.9, 4.0))
    assert np.mean(mask[body]) > 0.99
    assert np.mean(mask[~body]) < 0.15


def test_a_scan_without_air_is_all_body():
    voxels = np.random.default_rng(0).normal(500, 30, (10, 40, 40)).astype(np.float32)
    assert body_mask(voxels, (1.0, 1.0, 4.0)).all()


def biased(strength, shape=(16, 64, 72)):
    voxels, body = phantom(shape, noise=12)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    bias = np.exp(strength * (0.6 * x - 0.5 * y**2 + 0.3 * z + 0.4 * x * y))
    return voxels, (voxels * bias).astype(np.float32), body


def residual(found, truth, body):
    ratio = found[body & (truth > 100)] / truth[body & (truth > 100)]
    return float(ratio.std() / ratio.mean())


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_known_bias_is_removed_as_well_as_by_itk(strength):
    truth, image, body = biased(strength, (10, 40, 44))
    ours, words = correct_bias(image, body, (1.8, 1.8, 5.0), settings=N4Settings())
    theirs = sitk.N4BiasFieldCorrectionImageFilter()
    theirs.SetMaximumNumberOfIterations([12, 12, 12])
    itk = theirs.Execute(sitk.GetImageFromArray(image), sitk.GetImageFromArray(body.astype(np.uint8)))
    left = residual(ours, truth, body)
    assert left < 0.6 * residual(image, truth, body)
    assert left < residual(sitk.GetArrayFromImage(itk), truth, body) + 0.01
    assert "iterations" in words


def test_on_the_full_grid_the_field_is_itks():
    _, image, body = biased(0.5, (10, 32, 36))
    ours, _ = correct_bias(image, body, (1.8, 1.8, 5.0), settings=N4Settings(iterations=(5, 5), threshold=0.0))
    itk = sitk.N4BiasFieldCorrectionImageFilter()
    itk.SetMaximumNumberOfIterations([5, 5])
    itk.SetConvergenceThreshold(0.0)
    theirs = sitk.GetArrayFromImage(
        itk.Execute(sitk.GetImageFromArray(image), sitk.GetImageFromArray(body.astype(np.uint8)))
    )
    assert np.corrcoef(ours[body], theirs[body])[0, 1] > 0.9995


def test_shrinking_changes_the_correction_little():
    _, image, body = biased(0.5)
    fine, _ = correct_bias(image, body, (1.8, 1.8, 5.0), settings=N4Settings())
    coarse, _ = correct_bias(image, body, (1.8, 1.8, 5.0), settings=N4Settings(fit_voxels=12_000))
    assert np.corrcoef(fine[body], coarse[body])[0, 1] > 0.99


def test_too_little_body_is_left_alone_and_said():
    image = np.ones((4, 20, 20), dtype=np.float32)
    same, words = correct_bias(image, np.zeros(image.shape, dtype=bool), (1.0, 1.0, 4.0), settings=N4Settings())
    assert same is image
    assert words.startswith("bias field not corrected")


def test_adc_is_never_bias_corrected():
    voxels = np.stack([phantom(seed=i)[0] for i in range(2)])
    _, _, steps = prepare(volume_of(voxels, contrasts=("t2", "adc")), settings=VolumeSettings(contrasts=MR, size_px=64))
    assert any(step.startswith("t2: bias") for step in steps)
    assert not any(step.startswith("adc: bias") for step in steps)


def test_preparing_twice_gives_the_same():
    raw = volume_of(phantom()[0])
    first, second = (prepare(raw, settings=VolumeSettings(contrasts=MR, size_px=64))[0] for _ in range(2))
    assert np.array_equal(first.voxels, second.voxels)
