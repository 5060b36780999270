"""Laws of reading DICOM series."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from places import DATA, NO_DATA
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    generate_uid,
)

from cmssd_core.types import InputError
from cmssd_core.volume.read import describe, read

needs_data = pytest.mark.skipif(not (DATA / "mri").is_dir(), reason=NO_DATA)
PERSON = "Miller^Josephine"


def pixels(n=6, seed=0):
    return np.random.default_rng(seed).integers(50, 900, size=(n, 9, 11)).astype(np.uint16)


def slice_of(image, *, number=1, position=(0.0, 0.0, 0.0), orientation=(1, 0, 0, 0, 1, 0), series="1.2.3", **fields):
    ds = Dataset()
    ds.SOPClassUID = fields.pop("SOPClassUID", MRImageStorage)
    ds.SOPInstanceUID = generate_uid()
    ds.Modality = "MR"
    ds.PatientName, ds.PatientID, ds.StudyDate = PERSON, "MRN-4711", "20260103"
    ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, "1.2", "1.2.9"
    ds.SeriesDescription, ds.SeriesNumber, ds.InstanceNumber = "t1_tse_cor", 3, number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(orientation)
    ds.PixelSpacing, ds.SliceThickness = [0.8, 0.7], 4.0
    ds.Rows, ds.Columns = image.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = image.astype("<u2").tobytes()
    for key, value in fields.items():
        if value is None:
            delattr(ds, key)
        else:
            setattr(ds, key, value)
    return ds


def save(ds, path, syntax=ExplicitVRLittleEndian):
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)
    return path


def series(folder, image=None, at=None, *, seed=0, **fields):
    """A series in shuffled file order; `at` are the distances of its slices along z in mm."""
    image = pixels(seed=seed) if image is None else image
    at = [4.0 * i for i in range(len(image))] if at is None else at
    order = np.random.default_rng(1).permutation(len(image))
    for name, i in enumerate(order):
        save(slice_of(image[i], number=int(i), position=(-5.0, -7.0, at[i]), **fields), folder / f"{name:03d}.dcm")
    return folder


def itk_affine(image):
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def test_series_equals_what_simpleitk_reads(tmp_path):
    folder = series(tmp_path / "s", orientation=(0, 1, 0, 0, 0, -1))
    for i, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient = [3.5 * int(ds.InstanceNumber), 20.0, 30.0]
        ds.save_as(folder / f"{i}_.dcm")
        path.unlink()
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    oracle = sitk.ReadImage(names)
    volume = read(folder).value
    assert volume.contrasts == ("t1",)
    assert np.allclose(volume.affine, itk_affine(oracle), atol=1e-4)
    assert np.array_equal(volume.voxels[0], sitk.GetArrayFromImage(oracle).astype(np.float32))


@needs_data
@pytest.mark.parametrize(
    ("folder", "contrast"),
    [
        ("prostatex-picai/ProstateX-0000/4.000000-t2tsetra-00702", "t2"),
        ("prostatex-picai/ProstateX-0000/7.000000-ep2ddifftraDYNDISTADC-48780", "adc"),
        ("liver-mr-cmb-crc/SCAN_001/t2_image", "t2"),
        ("sts-ibsi/dicom/STS_006/MR_T1/image", "t1"),
        ("liver-ct-crlm/CRLM-CT-1004", "ct"),
    ],
)
def test_real_series_equal_what_simpleitk_reads(folder, contrast):
    path = DATA / "mri" / folder
    oracle = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    volume = read(path).value
    assert volume.contrasts == (contrast,)
    assert np.allclose(volume.affine, itk_affine(oracle), atol=2e-2)
    expected = sitk.GetArrayFromImage(oracle)
    if contrast == "ct":
        expected = np.where(expected == -3024, -1000, expected)  # its PixelPaddingValue of -2000, rescaled
    assert np.allclose(volume.voxels[0], expected, atol=1e-3)


@needs_data
def test_dicom_and_nifti_of_one_scan_agree():
    dicom = read(DATA / "mri/sts-ibsi/dicom/STS_006").value
    nifti = read(DATA / "mri/sts-ibsi/nifti/STS_006/MR_T1_image.nii.gz").value
    to_nifti = np.linalg.inv(nifti.affine) @ dicom.affine
    axes = np.rint(to_nifti[:3, :3]).astype(int)
    assert np.allclose(to_nifti[:3, :3], axes, atol=1e-3)
    moved = dicom.voxels[0][tuple(slice(None, None, int(axes[i, i])) for i in (2, 1, 0))]
    assert np.corrcoef(moved.ravel(), nifti.voxels[0].ravel())[0, 1] > 0.9999
    corner = np.array([0, 0, 0, 1.0])
    flips = np.array([0 if axes[i, i] > 0 else dicom.voxels.shape[3 - i] - 1 for i in range(3)] + [1.0])
    assert np.allclose(nifti.affine @ corner, dicom.affine @ flips, atol=1e-2)


@needs_data
def test_series_of_one_patient_become_contrasts_of_one_volume():
    reading = read(DATA / "mri/prostatex-picai/ProstateX-0000")
    assert reading.value.contrasts == ("t2", "adc")
    assert reading.value.voxels.shape == (2, 19, 384, 384)
    assert any("diffusion" in finding.what for finding in reading.findings)


@needs_data
def test_missing_slice_is_found_placed_and_named():
    folder = DATA / "mri/prostatex-picai/missing-slice"
    whole = DATA / "mri/prostatex-picai/ProstateX-0000/8.000000-ep2ddifftraDYNDISTCALCBVAL-83202"
    broken, entire = read(contrasts={"adc": folder}), read(contrasts={"adc": whole})
    assert broken.value.spacing_mm == pytest.approx((2, 2, 3), abs=1e-3)
    assert np.allclose(broken.value.affine, entire.value.affine, atol=1e-2)
    same = np.all(broken.value.voxels == entire.value.voxels, axis=(0, 2, 3))
    assert np.count_nonzero(~same) == 1
    missing = int(np.flatnonzero(~same)[0]) + 1
    severe = [finding for finding in broken.findings if finding.level == "severe"]
    assert f"slice {missing} of 19 is missing" in severe[0].what


def test_missing_slices_are_interpolated_between_their_neighbours(tmp_path):
    image = pixels(9)
    kept = [0, 1, 2, 4, 5, 6, 7, 8]
    reading = read(series(tmp_path, image[kept], [4.0 * i for i in kept]))
    assert reading.value.voxels.shape[1] == 9
    assert np.allclose(reading.value.voxels[0, 3], (image[2].astype(float) + image[4]) / 2)
    assert np.array_equal(reading.value.voxels[0, kept], image[kept])
    assert "slice 4 of 9 is missing" in reading.findings[0].what


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ([0, 4, 7, 12, 16, 21.5], "uneven distances"),
        ([0, 4, 16, 20, 24, 40], "lacks 5 of 11"),
    ],
)
def test_uneven_or_gappy_series_are_refused(tmp_path, at, sentence):
    with pytest.raises(InputError, match=sentence):
        read(series(tmp_path, at=[float(a) for a in at]))


def test_tilted_gantry_is_refused(tmp_path):
    image = pixels()
    for i in range(6):
        save(slice_of(image[i], number=i, position=(0, 1.5 * i, 4.0 * i)), tmp_path / f"{i}.dcm")
    with pytest.raises(InputError, match="tilted gantry"):
        read(tmp_path)


@pytest.mark.parametrize("sop", [MRImageStorage, CTImageStorage])
def test_each_slice_gets_its_own_rescale(tmp_path, sop):
    image = pixels()
    modality = "MR" if sop == MRImageStorage else "CT"
    for i in range(6):
        ds = slice_of(image[i], position=(0, 0, 4.0 * i), SOPClassUID=sop, Modality=modality)
        ds.RescaleSlope, ds.RescaleIntercept = 1.0 + i, -100.0
        save(ds, tmp_path / f"{i}.dcm")
    expected = image * np.arange(1, 7).reshape(6, 1, 1) - 100.0
    assert np.allclose(read(tmp_path).value.voxels[0], expected)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_old_and_deflated_encodings_read_alike(tmp_path, syntax):
    image = pixels()
    plain = read(series(tmp_path / "a", image)).value
    (tmp_path / "b").mkdir()
    for i in range(6):
        ds = slice_of(image[i], position=(-5, -7, 4.0 * i))
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = image[i].astype(">u2").tobytes()
        save(ds, tmp_path / "b" / f"{i}.dcm", syntax)
    assert np.array_equal(read(tmp_path / "b").value.voxels, plain.voxels)


def test_files_without_preamble_read_alike(tmp_path):
    folder = series(tmp_path / "a")
    plain = read(folder)
    for path in folder.iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[132 + 12 + whole[140] + 256 * whole[141] :])
    assert np.array_equal(read(folder).value.voxels, plain.value.voxels)


def test_copies_of_a_slice_count_once(tmp_path):
    folder = series(tmp_path)
    shutil.copy(folder / "002.dcm", folder / "copy.dcm")
    reading = read(folder)
    assert reading.value.voxels.shape[1] == 6
    assert any("duplicate" in finding.what for finding in reading.findings)


def test_other_pictures_at_the_same_places_are_refused(tmp_path):
    series(tmp_path / "a"), series(tmp_path / "b", seed=3)
    with pytest.raises(InputError, match="several pictures at one slice position"):
        read(tmp_path)


def test_two_echoes_in_one_series_are_two_images(tmp_path):
    timing = {"SeriesDescription": "axial", "ScanningSequence": "SE", "RepetitionTime": 3000}
    series(tmp_path / "a", EchoTime=15, **timing)
    series(tmp_path / "b", EchoTime=90, seed=3, **timing)
    reading = read(tmp_path)
    assert reading.value.contrasts == ("t2",)
    assert np.array_equal(reading.value.voxels[0], pixels(seed=3))


@pytest.mark.parametrize(
    ("fields", "contrast"),
    [
        ({"SeriesDescription": "AX T1 FS"}, "t1"),
        ({"SeriesDescription": "cor tirm"}, "stir"),
        ({"SeriesDescription": "x", "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "adc"),
        ({"SeriesDescription": "x", "ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 600}, "t1"),
        ({"SeriesDescription": "x", "ScanningSequence": "SE", "EchoTime": 80, "RepetitionTime": 4000}, "t2"),
        (
            {
                "SeriesDescription": "x",
                "ScanningSequence": ["SE", "IR"],
                "EchoTime": 50,
                "RepetitionTime": 4000,
                "InversionTime": 160,
            },
            "stir",
        ),
        ({"Modality": "CT", "SOPClassUID": CTImageStorage}, "ct"),
        ({"Modality": "PT"}, "pet"),
    ],
)
def test_contrast_is_told_from_headers(tmp_path, fields, contrast):
    assert read(series(tmp_path, **fields)).value.contrasts == (contrast,)


def test_ct_is_read_in_hounsfield_units(tmp_path):
    stored = pixels(5)
    fields = {"Modality": "CT", "SOPClassUID": CTImageStorage, "RescaleSlope": 2, "RescaleIntercept": -1024}
    reading = read(series(tmp_path, stored, **fields))
    assert np.array_equal(reading.value.voxels[0], stored.astype(np.float32) * 2 - 1024)


def pet(folder, **fields):
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 350e6, 6586.2
    tracer.RadiopharmaceuticalStartTime = "090000"
    said = {
        "Modality": "PT", "SOPClassUID": PositronEmissionTomographyImageStorage, "SeriesDescription": "x",
        "Units": "BQML", "DecayCorrection": "START", "CorrectedImage": ["ATTN", "DECY"], "PatientWeight": 70,
        "SeriesDate": "20260103", "SeriesTime": "100000", "RescaleSlope": 3, "RescaleIntercept": 0,
        "RadiopharmaceuticalInformationSequence": [tracer],
    }  # fmt: skip
    return series(folder, pixels(), **said | fields)


def test_pet_in_becquerel_becomes_suv(tmp_path):
    reading = read(pet(tmp_path))
    # Bq/mL x 70 000 g / (350 MBq halved 3600 s / 6586.2 s times)
    by_hand = pixels() * 3.0 * 70_000 / (350e6 * 0.5 ** (3600 / 6586.2))
    np.testing.assert_allclose(reading.value.voxels[0], by_hand, rtol=1e-6)
    assert [(f.level, f.where) for f in reading.findings] == [("info", "mri pet")]
    assert "60 min of decay" in reading.findings[0].what


def test_pet_that_cannot_be_suv_is_left_as_it_is_and_said_as_severe(tmp_path):
    reading = read(pet(tmp_path, PatientWeight=0))
    np.testing.assert_array_equal(reading.value.voxels[0], pixels() * 3.0)
    assert [f.level for f in reading.findings] == ["severe"]
    assert "does not say the weight of the patient" in reading.findings[0].what


@pytest.mark.parametrize(
    "fields",
    [
        {"SeriesDescription": "t1 localizer"},
        {"SeriesDescription": "ep2d_diff b800"},
        {"SeriesDescription": "t2* gre"},
        {"SeriesDescription": "T1 map"},
        {"SeriesDescription": "x"},
    ],
)
def test_series_of_no_use_are_asked_about(tmp_path, fields):
    with pytest.raises(InputError, match="say which of t1"):
        read(series(tmp_path, **fields))
    assert read(contrasts={"t1": tmp_path}).value.contrasts == ("t1",)


def test_of_two_series_of_one_contrast_the_longer_is_used_and_said(tmp_path):
    series(tmp_path / "a", pixels(5), series="1.2.4")
    series(tmp_path / "b", pixels(8, 5), series="1.2.5")
    reading = read(tmp_path)
    assert np.array_equal(reading.value.voxels[0], pixels(8, 5))
    assert any("2 series could be this contrast (8, 5 slices)" in finding.what for finding in reading.findings)


def test_two_patients_are_refused(tmp_path):
    series(tmp_path / "a"), series(tmp_path / "b", PatientID="other", series="1.2.7", SeriesDescription="t2")
    with pytest.raises(InputError, match="different patients"):
        read(tmp_path)
    with pytest.raises(InputError, match="different patients"):
        read(contrasts={"t1": tmp_path / "a", "t2": tmp_path / "b"})


def test_two_frames_of_reference_are_remarked(tmp_path):
    series(tmp_path / "a")
    series(tmp_path / "b", series="1.2.7", SeriesDescription="t2", FrameOfReferenceUID="1.2.99")
    reading = read(tmp_path)
    assert reading.value.contrasts == ("t1", "t2")
    assert any("frames of reference" in finding.what for finding in reading.findings)


def test_ct_given_as_t1_is_refused(tmp_path):
    with pytest.raises(InputError, match="given as t1 but its header says CT"):
        read(contrasts={"t1": series(tmp_path, Modality="CT", SOPClassUID=CTImageStorage)})


def test_one_slice_reads_with_a_warning_and_without_thickness_not(tmp_path):
    path = save(slice_of(pixels()[0]), tmp_path / "one.dcm")
    assert [finding.level for finding in read(path).findings] == ["warning"]
    bare = save(slice_of(pixels()[0], SliceThickness=None), tmp_path / "bare.dcm")
    with pytest.raises(InputError, match="no thickness"):
        read(bare)


@pytest.mark.parametrize("field", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_pictures_without_a_place_are_refused(tmp_path, field):
    with pytest.raises(InputError, match="where its pictures lie"):
        read(series(tmp_path, **{field: None}))


def enhanced(path, image, *, echoes=(80.0,)):
    ds = slice_of(image[0], SOPClassUID=EnhancedMRImageStorage, SeriesDescription="t2_tse")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, keyword)
    n = len(image) // len(echoes)
    ds.NumberOfFrames = len(image)
    ds.PixelData = image.astype("<u2").tobytes()
    shared, groups = Dataset(), []
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.7], 4.0
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for i in range(len(image)):
        group, place, echo, rescale = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-5, -7, 4.0 * (n - i % n)]
        echo.EffectiveEchoTime = echoes[i // n]
        rescale.RescaleSlope, rescale.RescaleIntercept = 2.0, 5.0
        group.PlanePositionSequence, group.MREchoSequence = [place], [echo]
        group.PixelValueTransformationSequence = [rescale]
        groups.append(group)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], groups
    return save(ds, path)


def test_enhanced_frames_lie_where_their_groups_say(tmp_path):
    image = pixels()
    volume = read(enhanced(tmp_path / "e.dcm", image)).value
    assert np.allclose(volume.voxels[0], image[::-1] * 2.0 + 5)
    assert volume.spacing_mm == pytest.approx((0.7, 0.8, 4.0))
    assert np.allclose(volume.affine[:3, 3], [5, 7, 4])


def test_enhanced_echoes_are_not_mixed(tmp_path):
    image = pixels(8)
    reading = read(enhanced(tmp_path / "e.dcm", image, echoes=(20.0, 90.0)))
    assert np.allclose(reading.value.voxels[0], image[4:][::-1] * 2.0 + 5)  # 20 ms of a T2 is a proton density
    assert any("2 series could be this contrast" in finding.what for finding in reading.findings)


def test_zip_of_a_series_equals_the_folder(tmp_path):
    folder = series(tmp_path / "s")
    path = tmp_path / "exam.zip"
    with zipfile.ZipFile(path, "w") as z:
        for n, file in enumerate(sorted(folder.iterdir(), reverse=True)):
            z.write(file, f"DICOM/A/{n}")
        z.writestr("DICOM/readme.txt", "made by a viewer")
    assert read(path).digest == read(folder).digest
    assert np.array_equal(read(path).value.voxels, read(folder).value.voxels)


def test_dicomdir_stands_for_its_folder(tmp_path):
    folder = series(tmp_path)
    head = Dataset()
    head.SOPClassUID, head.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid()
    assert read(save(head, folder / "DICOMDIR")).digest == read(folder).digest


def test_no_person_leaves_the_reader(tmp_path, capfd):
    folder = series(tmp_path / "s", SeriesDescription="t1 Miller Josephine MRN-4711 20260103")
    reading = read(folder)
    told = json.dumps(describe(folder))
    words = [told, reading.digest, *reading.steps, *(f.what + f.where for f in reading.findings)]
    for broken in ({"PixelSpacing": None}, {"PhotometricInterpretation": "MONOCHROME1"}, {"Modality": "XX"}):
        other = series(tmp_path / "b", SeriesDescription="Miller", **broken)
        with pytest.raises(InputError) as refused:
            read(contrasts={"t1": other})
        words.append(str(refused.value))
        shutil.rmtree(other)
    captured = capfd.readouterr()
    for word in [*words, captured.out, captured.err]:
        assert not any(secret in word for secret in ("Miller", "Josephine", "4711", "20260103", str(tmp_path), "1.2.3"))


def test_a_file_of_endless_elements_is_a_sentence_at_once(tmp_path):
    """Empty elements are eight bytes each, and deflated a thousandth of that: of such a file nothing ever ends."""
    ds = slice_of(pixels(1)[0])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    whole = (tmp_path / "1.dcm").read_bytes()
    (tmp_path / "1.dcm").write_bytes(whole + b"\x11\x00\x10\x00LO\x00\x00" * 300_000)
    assert read(contrasts={"t1": tmp_path / "1.dcm"}).value.voxels.shape == (1, 1, 9, 11)  # behind the pixels: not read
    head = whole.index(b"\x08\x00\x16\x00")  # the first element after the file's own
    (tmp_path / "1.dcm").write_bytes(whole[:head] + b"\x07\x00\x10\x00LO\x00\x00" * 300_000 + whole[head:])
    with pytest.raises(InputError, match=r"'1\.dcm' holds more than 50000 elements: it is damaged; export it again"):
        read(contrasts={"t1": tmp_path / "1.dcm"})


def test_packed_pixels_that_are_longer_than_any_codec_makes_them_are_refused(tmp_path):
    ds = slice_of(pixels(1)[0])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    assert read(contrasts={"t1": tmp_path / "1.dcm"}).value.voxels.shape == (1, 1, 9, 11)
    ds.PixelData = pydicom.encaps.encapsulate([next(pydicom.encaps.generate_frames(ds.PixelData)) + bytes(1 << 20)])
    ds.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"the packed pixels of '1\.dcm' are \d+ bytes, the image is 198"):
        read(contrasts={"t1": tmp_path / "1.dcm"})


def spaced(folder, *, step_mm, numbers, **fields):
    for i, number in enumerate(numbers):
        save(slice_of(pixels(1)[0], number=number, position=(0, 0, step_mm * i), **fields), folder / f"{i}.dcm")
    return folder


@pytest.mark.parametrize(
    ("step_mm", "numbers", "levels"),
    [
        (4.0, range(1, 13), []),
        (4.8, range(1, 13), []),
        (4.8, range(1, 25, 2), []),  # two echoes that take turns
        (8.0, range(1, 25, 2), ["severe"]),
        (12.0, range(1, 37, 3), ["severe"]),
        (8.0, range(25, 1, -2), ["severe"]),
        (8.0, range(1, 13), ["warning"]),
        (8.0, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 22], ["warning"]),
    ],
)
def test_slices_lost_at_even_distances_are_remarked(tmp_path, step_mm, numbers, levels):
    findings = read(spaced(tmp_path / "s", step_mm=step_mm, numbers=numbers)).findings
    told = [finding for finding in findings if "not seen" in finding.what]
    assert [finding.level for finding in told] == levels
    assert all(f"4 mm thick and {step_mm:g} mm apart" in finding.what for finding in told)


def test_pictures_in_hundreds_of_directions_are_refused_soon(tmp_path):
    angles = np.linspace(0, np.pi, 1000)
    files = tmp_path / "s"
    for i, angle in enumerate(angles):
        turned = (np.cos(angle), np.sin(angle), 0, 0, 0, 1)
        save(slice_of(pixels(1)[0], number=i, orientation=turned), files / f"{i}.dcm")
    with pytest.raises(InputError, match="more than 256 directions"):
        read(files)


def test_two_frames_of_reference_in_one_series_are_severe(tmp_path):
    for i in range(8):
        save(
            slice_of(pixels(1)[0], number=i, position=(0, 0, 4.0 * i), FrameOfReferenceUID=f"1.2.{9 + i // 4}"),
            tmp_path / "s" / f"{i}.dcm",
        )
    told = [finding for finding in read(tmp_path / "s").findings if "frames of reference" in finding.what]
    assert [finding.level for finding in told] == ["severe"]


@pytest.mark.parametrize(
    ("more", "sound"), [(b"\7" * 2, True), (b"\7" * 20, True), (bytes(100), True), (b"\7" * 22, False)]
)
def test_pixels_beyond_the_size_the_header_says_are_refused_but_for_padding(tmp_path, more, sound):
    for i, image in enumerate(pixels(3)):
        ds = slice_of(image, number=i, position=(0, 0, 4.0 * i))
        ds.PixelData = image.astype("<u2").tobytes() + more
        save(ds, tmp_path / "s" / f"{i}.dcm")
    if sound:
        read(tmp_path / "s")
    else:
        with pytest.raises(InputError, match="bytes, but its header says 1 x 9 x 11, which are 198"):
            read(tmp_path / "s")
