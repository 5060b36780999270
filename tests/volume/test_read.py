"""Laws of reading image files and archives."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from places import DATA, NO_DATA

from cmssd_core.types import InputError
from cmssd_core.volume.contrasts import CONTRASTS
from cmssd_core.volume.mask import read_mask
from cmssd_core.volume.qc import check
from cmssd_core.volume.read import describe, read

needs_data = pytest.mark.skipif(not (DATA / "mri").is_dir(), reason=NO_DATA)

AFFINE = np.array([[0.0, -0.9, 0.1, 12.0], [0.8, 0.0, 0.0, -30.0], [0.0, 0.1, 4.0, 55.0], [0, 0, 0, 1]])
AFFINE[:3, :3] = np.linalg.qr(AFFINE[:3, :3])[0] * np.array([0.8, 0.9, 4.0])


def scan(seed=0, shape=(6, 10, 12)):
    return np.random.default_rng(seed).normal(300, 60, size=shape).astype(np.float32)


def nifti(path, voxels=None, affine=AFFINE):
    voxels = scan() if voxels is None else voxels
    nib.save(nib.Nifti1Image(np.asarray(voxels).transpose(2, 1, 0), affine), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_affine_is_ras_whatever_the_format(tmp_path, suffix):
    first = nifti(tmp_path / "t1.nii.gz")
    path = tmp_path / f"again_t1{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(first)), str(path))
    volume = read(path).value
    assert volume.contrasts == ("t1",)
    assert np.allclose(volume.affine, nib.load(first).affine, atol=1e-4)
    assert np.allclose(volume.voxels[0], scan(), atol=1e-3)
    assert volume.voxels.dtype == np.float32
    assert not volume.voxels.flags.writeable
    assert not volume.affine.flags.writeable


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "sts-ibsi/nifti/STS_006/MR_T1_image.nii.gz",
        "sct-spine/t2/t2.nii.gz",
        "sct-spine/t1/t1w.nii.gz",
        "sct-spine/mt/mt1.nii.gz",
        "msd-hippocampus/imagesTr/hippocampus_003.nii.gz",
    ],
)
def test_voxels_and_affine_agree_with_nibabel(name):
    path = DATA / "mri" / name
    volume = read(contrasts={"t1": path}).value
    oracle = nib.load(path)
    assert np.allclose(volume.affine, oracle.affine, atol=1e-3)
    assert np.allclose(volume.voxels[0], oracle.get_fdata().transpose(2, 1, 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("MR_T1_image.nii.gz", "t1"),
        ("sub-01_T1w.nii.gz", "t1"),
        ("t2.nii.gz", "t2"),
        ("knee-STIR.nii.gz", "stir"),
        ("ADC.nii.gz", "adc"),
        ("t2/image.nii.gz", "t2"),
        ("t1/scan_t2.nii.gz", "t2"),
    ],
)
def test_contrast_is_told_from_names(tmp_path, name, contrast):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    assert read(nifti(path)).value.contrasts == (contrast,)


@pytest.mark.parametrize("name", ["scan.nii.gz", "t2s.nii.gz", "t1_t2.nii.gz", "at1b.nii.gz"])
def test_untold_contrast_is_asked_for(tmp_path, name):
    with pytest.raises(InputError, match="say which of t1"):
        read(nifti(tmp_path / name))


def test_unknown_contrast_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"flair.*t1, t2, stir, adc, ct, pet"):
        read(contrasts={"flair": nifti(tmp_path / "a.nii")})


def test_digest_knows_bytes_and_contrast_but_no_names(tmp_path):
    here, there = tmp_path / "a", tmp_path / "b"
    here.mkdir(), there.mkdir()
    one = nifti(here / "t1_of_mrs_miller.nii")
    two = there / "other_t1.nii"
    two.write_bytes(one.read_bytes())
    assert read(one).digest == read(two).digest == read(contrasts={"t1": two}).digest
    assert read(contrasts={"t2": two}).digest != read(one).digest
    assert read(nifti(there / "t1.nii", scan(1))).digest != read(one).digest
    packed = tmp_path / "pack.zip"
    with zipfile.ZipFile(packed, "w") as z:
        z.write(one, "deep/t1.nii")
    assert read(packed).digest == read(one).digest


def test_order_of_contrasts_changes_nothing(tmp_path):
    one, two = nifti(tmp_path / "a.nii"), nifti(tmp_path / "b.nii", scan(1))
    first, second = read(contrasts={"t1": one, "t2": two}), read(contrasts={"t2": two, "t1": one})
    assert first.digest == second.digest
    assert first.value.contrasts == second.value.contrasts == ("t1", "t2")
    assert np.array_equal(first.value.voxels, second.value.voxels)


def test_contrasts_land_on_the_finest_grid_as_simpleitk_resamples(tmp_path):
    fine = nifti(tmp_path / "fine.nii", scan(0, (6, 20, 24)), np.diag([0.5, 0.5, 4, 1.0]))
    coarse_affine = np.diag([1.1, 1.0, 5, 1.0])
    coarse_affine[:3, 3] = -0.7, -0.5, -1
    coarse = nifti(tmp_path / "coarse.nii", scan(1, (7, 12, 13)), coarse_affine)
    reading = read(contrasts={"t1": coarse, "t2": fine})
    a, b = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (coarse, fine))
    low = float(sitk.GetArrayFromImage(a).min())
    oracle = sitk.GetArrayFromImage(sitk.Resample(a, b, sitk.Transform(), sitk.sitkLinear, low))
    assert np.allclose(reading.value.voxels[0], oracle, atol=1e-2)
    assert np.allclose(reading.value.affine, np.diag([0.5, 0.5, 4, 1.0]), atol=1e-5)
    assert any("t1 resampled linearly" in step for step in reading.steps)


def test_images_that_hardly_overlap_are_remarked_and_apart_refused(tmp_path):
    near, far = np.diag([1.0, 1, 4, 1]), np.diag([1.0, 1, 4, 1])
    near[0, 3], far[0, 3] = 8, 400
    one = nifti(tmp_path / "a.nii", affine=np.diag([1.0, 1, 4, 1]))
    reading = read(contrasts={"t1": one, "t2": nifti(tmp_path / "b.nii", affine=near)})
    assert any("covers only" in finding.what and finding.where == "mri t2" for finding in reading.findings)
    with pytest.raises(InputError, match="do not meet in space"):
        read(contrasts={"t1": one, "t2": nifti(tmp_path / "c.nii", affine=far)})


def spoiled(tmp_path, kind):
    path = tmp_path / "t1.nii.gz"
    voxels = scan()
    if kind == "nan":
        voxels[0, 0, 0] = np.nan
    elif kind == "infinite":
        voxels[0, 0, 0] = np.inf
    elif kind == "constant":
        voxels[:] = 4
    if kind in ("nan", "infinite", "constant"):
        return nifti(path, voxels)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("dear radiologist, " * 100, encoding="utf-8")
    elif kind == "cut gzip":
        nifti(path, scan(0, (20, 40, 40)))
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "cut payload":
        plain = nifti(tmp_path / "whole.nii", scan(0, (20, 40, 40))).read_bytes()
        path.write_bytes(gzip.compress(plain[: len(plain) // 2]))
    elif kind.startswith("mri"):
        path = tmp_path / f"t1.{kind.split()[1]}"
        if "nan" in kind:
            voxels[1, 2, 3] = np.nan
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), "packed" in kind)
        if "cut" in kind:
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    elif kind == "4-D":
        nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(4, 5, 6, 3)), AFFINE), path)
    elif kind == "2-D":
        nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(40, 50)), AFFINE), path)
    elif kind == "colour":
        image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8), True)
        sitk.WriteImage(image, str(path))
    elif kind == "zero voxels":
        header = bytearray(gzip.decompress(nifti(path).read_bytes()))
        header[40:56] = struct.pack("<8h", 3, 0, 10, 6, 1, 1, 1, 1)
        path.write_bytes(gzip.compress(bytes(header)))
    elif kind == "giant":
        header = bytearray(gzip.decompress(nifti(path).read_bytes()))
        header[40:56] = struct.pack("<8h", 3, 30000, 30000, 300, 1, 1, 1, 1)
        path.write_bytes(gzip.compress(bytes(header)))
    elif kind == "metres":
        nifti(path, affine=np.diag([900.0, 900, 4000, 1]))
    return path


KINDS = ["nan", "infinite", "constant", "empty", "text", "cut gzip", "cut payload", "4-D", "2-D", "colour",
         "zero voxels", "giant", "metres", "mri mha cut", "mri mha cut packed", "mri nrrd cut", "mri nrrd cut packed",
         "mri mha nan", "mri nrrd nan"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_sound_scan_is_refused_in_one_sentence(tmp_path, kind, capfd):
    with pytest.raises(InputError) as refused:
        read(spoiled(tmp_path, kind))
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert str(tmp_path) not in sentence
    assert len(sentence) < 300
    written = capfd.readouterr()
    assert str(tmp_path) not in written.err + written.out


@pytest.mark.parametrize("name", ["slide.svs", "tile.png", "tile.jpg", "t1.tif", "t1.ome.tif"])
def test_slides_are_sent_to_the_other_door(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"II*\0" + bytes(500))
    with pytest.raises(InputError, match="pass it as that"):
        read(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"'none\.nii'"):
        read(tmp_path / "none.nii")
    with pytest.raises(InputError, match="holds no files"):
        read(tmp_path)


def test_header_may_not_name_files_elsewhere(tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(4 * 720))
    inner = tmp_path / "in"
    inner.mkdir()
    head = (
        "ObjectType = Image\nNDims = 3\nDimSize = 12 10 6\nElementType = MET_FLOAT\nElementDataFile = ../secret.raw\n"
    )
    (inner / "t1.mhd").write_text(head, encoding="utf-8")
    with pytest.raises(InputError, match="beside it"):
        read(inner / "t1.mhd")
    (inner / "t1.nrrd").write_text(
        "NRRD0004\ntype: float\ndimension: 3\nsizes: 12 10 6\ndata file: ../secret.raw\n\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="another file"):
        read(inner / "t1.nrrd")


def test_unoriented_nifti_is_remarked(tmp_path):
    image = nib.Nifti1Image(scan().transpose(2, 1, 0), None)
    image.header.set_zooms((1, 1, 3))
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, tmp_path / "t1.nii")
    assert any("orientation" in finding.what for finding in read(tmp_path / "t1.nii").findings)


@pytest.mark.parametrize("name", ["../evil.nii", "/abs/evil.nii", "a/../../evil.nii", "..\\evil.nii", "C:\\evil.nii"])
def test_zip_cannot_write_outside_its_folder(tmp_path, name):
    path = tmp_path / "t1.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(name, b"x" * 100)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(InputError, match="leads outside"):
        read(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_zip_bombs_are_refused_by_what_they_say_and_by_what_they_hold(tmp_path):
    path = tmp_path / "t1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("t1.nii", bytes(70 << 20))
    with pytest.raises(InputError, match="unpacks to more than 200 times"):
        read(path)
    with pytest.raises(InputError, match="more than 1 MB"):
        read(path, unpacked_limit_mb=1)
    data = bytearray(path.read_bytes())
    lie = struct.pack("<I", 100)
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(magic) + offset
        data[at : at + 4] = lie
    path.write_bytes(data)
    with pytest.raises(InputError):
        read(path, unpacked_limit_mb=1)


def test_encrypted_nested_damaged_and_empty_zips_are_refused(tmp_path):
    image = nifti(tmp_path / "t1.nii")
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.write(image, "t1.nii")
    whole = path.read_bytes()
    locked = bytearray(whole)
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)
    with pytest.raises(InputError, match="encrypted"):
        read(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        read(path)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("inner.zip", whole)
    with pytest.raises(InputError, match="another archive"):
        read(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(InputError, match="empty zip"):
        read(path)


def test_zip_of_two_contrasts_is_one_volume(tmp_path):
    path = tmp_path / "exam.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.write(nifti(tmp_path / "a.nii"), "exam/t1.nii")
        z.write(nifti(tmp_path / "b.nii", scan(1)), "exam/t2.nii")
        z.writestr("__MACOSX/exam/._t1.nii", b"litter")
    assert read(path).value.contrasts == ("t1", "t2")


def test_description_is_json_and_tells_problems_instead_of_raising(tmp_path):
    told = describe(nifti(tmp_path / "t1.nii"))
    assert json.loads(json.dumps(told)) == told
    assert told["problem"] is None
    assert told["volume"]["size"] == [12, 10, 6]
    refused = describe(nifti(tmp_path / "scan.nii"))
    assert "say which of t1" in refused["problem"]
    assert refused["field"] == "contrast"
    assert describe(tmp_path / "nothing")["problem"]


def test_one_examination_and_a_file_by_contrast_become_one_volume(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((4, 20, 20), dtype=np.float32))
    for name in ("scan_t1.nii.gz", "other.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    volume = read(tmp_path / "scan_t1.nii.gz", contrasts={"t2": tmp_path / "other.nii.gz"}).value
    assert set(volume.contrasts) == {"t1", "t2"}
    with pytest.raises(InputError, match="t1 was given twice"):
        read(tmp_path / "scan_t1.nii.gz", contrasts={"t1": tmp_path / "other.nii.gz"})
    with pytest.raises(InputError, match="no MRI came"):
        read()


def test_a_pet_file_that_says_no_unit_is_taken_as_suv_and_that_is_said(tmp_path):
    path = nifti(tmp_path / "PET.nii.gz")
    reading, plain = read(path), read(contrasts={"t1": path})
    assert np.array_equal(reading.value.voxels, plain.value.voxels)
    assert [(f.level, f.where) for f in reading.findings] == [("info", "mri pet")]
    assert "taken as SUV" in reading.findings[0].what
    assert plain.findings == ()


@needs_data
@pytest.mark.parametrize("patient", ["STS_002", "STS_006", "STS_014"])
def test_real_ct_and_suv_lie_in_their_windows_and_raise_no_doubt_of_their_unit(patient):
    folder = DATA / "mri" / "sts-ibsi-3modality-2mm" / patient
    volume = read(contrasts={"ct": folder / "CT.nii.gz", "pet": folder / "PET.nii.gz"}).value
    assert not [finding for finding in check(volume) if finding.level == "severe"]
    tumour = read_mask(folder / "mask.nii.gz", like=volume)
    for name, voxels in zip(volume.contrasts, volume.voxels, strict=True):
        low, high = CONTRASTS[name].limits
        assert np.mean((voxels[tumour] >= low) & (voxels[tumour] <= high)) > 0.98
