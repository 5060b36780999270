"""The law of awkward DICOM: what tripped other programs is read right, said in a finding, or refused in a sentence."""

from __future__ import annotations

import shutil
import zlib
from contextlib import suppress

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from awkward_dicom import MARK, ORIGIN, SPACING, at, mosaic, phantom, picture, save, series, stacks
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from cmssd_core.types import InputError
from cmssd_core.volume.body import body_mask
from cmssd_core.volume.read import read

V = phantom()
ZYX = np.rint(V.T).astype(np.float32)


def findings(reading, level):
    return " | ".join(finding.what for finding in reading.findings if finding.level == level)


def marker(volume):
    return np.round((volume.affine @ [*MARK, 1])[:3], 2).tolist()


def whole(volume, voxels=ZYX):
    assert volume.spacing_mm == pytest.approx(SPACING)
    np.testing.assert_array_equal(volume.voxels[0], voxels)


# copies, identifiers, places


@pytest.mark.parametrize("share", [2, 12])
def test_slices_that_share_an_identifier_are_not_copies(tmp_path, share):
    series(tmp_path, V, own=lambda k: {"SOPInstanceUID": f"1.2.3.4.{k // share + 1}"})
    volume = read(tmp_path).value
    whole(volume)
    assert marker(volume) == [-15, -10, 10]


def test_a_copy_has_the_same_place_and_the_same_pixels(tmp_path):
    series(tmp_path, V)
    save(picture(V[:, :, 5].T, at(0, 0, 20.0)), tmp_path / "again.dcm")  # another identifier, the same picture
    reading = read(tmp_path)
    whole(reading.value)
    assert "1 duplicate slice" in findings(reading, "info")
    save(picture(V[:, :, 4].T, at(0, 0, 20.0)), tmp_path / "again.dcm")
    with pytest.raises(InputError, match="several pictures at one slice position"):
        read(tmp_path)


@pytest.mark.parametrize("numbered", [False, True])
def test_one_series_under_many_identifiers_is_one_series(tmp_path, numbered):
    own = {"SeriesNumber": 0} if numbered else {}
    series(tmp_path, V, own=lambda k: {"SeriesInstanceUID": f"1.2.392.{k + 1}", **(own and {"SeriesNumber": k + 1})})
    reading = read(tmp_path)
    whole(reading.value)
    assert "12 series by their identifiers" in findings(reading, "warning")


def test_many_identifiers_without_even_places_are_refused(tmp_path):
    places = [0, 4, 9, 11, 20, 23, 31, 33, 40, 47, 50, 60]
    series(tmp_path, V, own=lambda k: {"SeriesInstanceUID": f"1.2.392.{k + 1}", "position": at(0, 0, places[k])})
    with pytest.raises(InputError, match="uneven distances"):
        read(tmp_path)


def test_every_slice_must_stand_on_the_others(tmp_path):
    series(tmp_path / "a", V, own=lambda k: {"position": at(20.0 * (4 <= k < 8), 0, 4 * k)})
    with pytest.raises(InputError, match=r"do not stand on each other: slice \d+ of 12 lies 20.0 mm aside"):
        read(tmp_path / "a")
    series(tmp_path / "b", V, own=lambda k: {"position": at(0, 1.0 * (k == 6), 4 * k)})
    with pytest.raises(InputError, match=r"slice 7 of 12 lies 1\.0 mm aside"):
        read(tmp_path / "b")


def test_stacks_of_one_file_are_two_images(tmp_path):
    reading = read(stacks(tmp_path / "e.dcm", V))
    whole(reading.value)
    assert "2 series could be this contrast (12, 12 slices)" in findings(reading, "warning")
    assert "stack 2" in findings(reading, "warning")


def test_distances_that_contradict_the_places_are_said(tmp_path):
    reading = read(series(tmp_path, V, SpacingBetweenSlices=2.0))
    assert "2.00 mm apart, their places say 4.00 mm" in findings(reading, "warning")


# persons, examinations


def test_two_examinations_are_refused_unless_asked_for_by_contrast(tmp_path):
    a = series(tmp_path / "a", V, StudyInstanceUID="1.2.5", StudyDate="20230110", SeriesDescription="T2 TSE",
               SeriesInstanceUID="1.2.6", EchoTime=90.0, FrameOfReferenceUID=None)  # fmt: skip
    b = series(tmp_path / "b", phantom(3), StudyInstanceUID="1.2.8", StudyDate="20240711", FrameOfReferenceUID=None)
    with pytest.raises(InputError, match="2 examinations 548 days apart"):
        read(tmp_path)
    with pytest.raises(InputError, match="2 examinations 548 days apart"):
        read(contrasts={"adc": tmp_path})
    reading = read(contrasts={"t2": a, "t1": b})
    assert "2 examinations 548 days apart" in findings(reading, "severe")


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ({"StudyDate": "20240101"}, {"StudyDate": "20240301"}, "60 days"),  # one study identifier, two dates
        ({"StudyInstanceUID": "1.5"}, {"StudyInstanceUID": "1.6"}, "do not say"),  # two studies, no date
        ({"AcquisitionDate": "20240101"}, {"AcquisitionDate": "20240105"}, "4 days"),
    ],
)
def test_examinations_are_told_apart_by_study_and_by_date(tmp_path, one, other, apart):
    series(tmp_path / "a", V, **one)
    series(tmp_path / "b", V, SeriesInstanceUID="1.9", SeriesDescription="T2", EchoTime=90.0, **other)
    with pytest.raises(InputError, match=apart):
        read(tmp_path)


def test_two_studies_of_one_day_are_read_and_said(tmp_path):
    series(tmp_path / "a", V, StudyDate="20240101", StudyInstanceUID="1.5")
    series(tmp_path / "b", V, StudyDate="20240101", StudyInstanceUID="1.6", SeriesInstanceUID="1.9",
           SeriesDescription="T2", EchoTime=90.0)  # fmt: skip
    reading = read(tmp_path)
    assert reading.value.contrasts == ("t1", "t2")
    assert "different studies of one day" in findings(reading, "warning")


@pytest.mark.parametrize(
    "said", [{"PatientID": "anon2"}, {"PatientBirthDate": "19700101"}, {"PatientName": "Other^One", "PatientID": None}]
)
def test_two_people_are_refused_however_they_are_asked_for(tmp_path, said):
    a = series(tmp_path / "a", V, PatientBirthDate="19600101", PatientName="Some^One")
    b = series(tmp_path / "b", V, SeriesInstanceUID="1.9", SeriesDescription="T2", **said)
    for arguments in ({"source": tmp_path}, {"contrasts": {"t1": a, "t2": b}}):
        with pytest.raises(InputError, match="different patients"):
            read(**arguments)


# rivals


@pytest.mark.parametrize("kinds", [("FAT", "WATER", "OUT_PHASE", "IN_PHASE"), ("IN_PHASE", "OUT_PHASE", "WATER", "FAT"),
                                   ("F", "W", "OP", "IP"), ("WATER", "FAT")])  # fmt: skip
def test_of_a_dixon_sequence_in_phase_or_water_is_read(tmp_path, kinds):
    scale = {"FAT": 0.3, "F": 0.3, "WATER": 0.8, "W": 0.8, "OUT_PHASE": 0.7, "OP": 0.7, "IN_PHASE": 1.0, "IP": 1.0}
    for n, kind in enumerate(kinds):
        series(tmp_path, V * scale[kind], prefix=f"IM{n}_", ImageType=["DERIVED", "PRIMARY", "DIXON", kind],
               SeriesDescription="t1_vibe_dixon")  # fmt: skip
    reading = read(tmp_path)
    wanted = 1.0 if len(kinds) == 4 else 0.8
    whole(reading.value, np.rint(V.T * wanted).astype(np.float32))
    assert "the fat image of a Dixon sequence" in findings(reading, "info")
    if len(kinds) == 4:
        assert "used is the in-phase image echo 12 ms, not used: the water image" in findings(reading, "warning")


@pytest.mark.parametrize(
    "said",
    [
        {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]},
        {"SeriesDescription": "t1_vibe_dixon_opp"},
        {"SeriesDescription": "FAT: T1 LAVA"},
    ],
)
def test_fat_and_opposed_phase_alone_are_asked_about(tmp_path, said):
    with pytest.raises(InputError, match="cannot be told"):
        read(series(tmp_path, V, **said))
    assert "was given as t1" in findings(read(contrasts={"t1": tmp_path}), "warning")


@pytest.mark.parametrize("words", ["T1 fat sat", "T1 FS post op", "T1 VIBE arterial phase", "t1_vibe_dixon_W"])
def test_words_beside_a_weighting_do_not_take_it_away(tmp_path, words):
    assert read(series(tmp_path, V, SeriesDescription=words)).value.contrasts == ("t1",)


@pytest.mark.parametrize("order", [(9.0, 30.0), (30.0, 9.0)])
def test_of_echoes_the_shortest_is_the_t1(tmp_path, order):
    for n, echo in enumerate(order):
        series(tmp_path, V if echo == 9 else 0.5 * V, prefix=f"IM{n}_", EchoTime=echo)
    reading = read(tmp_path)
    whole(reading.value)
    assert "used is the one of 12 slices echo 9 ms" in findings(reading, "warning")


# what the user says against what the header says


@pytest.mark.parametrize("said", [{}, {"ImageType": ["ORIGINAL", "PRIMARY"], "Manufacturer": "SIEMENS"}])
def test_a_mosaic_is_refused_whatever_it_is_called(tmp_path, said):
    folder = mosaic(tmp_path, V, **said)
    if said:
        head = pydicom.dcmread(folder / "m.dcm")
        head.add_new((0x0019, 0x0010), "LO", "SIEMENS MR HEADER")
        head.add_new((0x0019, 0x100A), "US", 12)
        head.save_as(folder / "m.dcm")
    with pytest.raises(InputError, match="a mosaic of slices in one picture"):
        read(contrasts={"t1": folder})


@pytest.mark.parametrize("kind", ["P", "PHASE MAP", "REAL"])
def test_a_phase_image_is_refused_whatever_it_is_called(tmp_path, kind):
    folder = series(tmp_path, V, ImageType=["ORIGINAL", "PRIMARY", kind, "ND"])
    with pytest.raises(InputError, match="its values are no brightness"):
        read(contrasts={"t1": folder})
    with pytest.raises(InputError, match="cannot be told"):
        read(folder)


@pytest.mark.parametrize("words", ["T1 map", "ep2d_diff_b1000", "t2* gre", "T2 tse"])
def test_a_declared_contrast_that_the_header_denies_is_said(tmp_path, words):
    reading = read(contrasts={"t1": series(tmp_path, V, SeriesDescription=words)})
    assert "was given as t1, but its header describes" in findings(reading, "warning")


@pytest.mark.parametrize("name", ["T1_map", "t1rho", "T2_star", "t2_dwi_b1000", "T1map", "T2starw", "T1_phase",
                                  "T1_sub", "T1_out_phase", "T2_relaxation", "T1wMap", "sub-01_T2map"])  # fmt: skip
def test_a_name_that_says_a_map_says_no_weighting(tmp_path, name):
    path = tmp_path / "T1" / f"{name}.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(V.astype(np.int16), np.diag([1.5, 1.5, 4, 1])), path)
    with pytest.raises(InputError, match="cannot be told from its name, which says"):
        read(path)


@pytest.mark.parametrize(("name", "contrast"), [("dwi_adc", "adc"), ("sub-01_ses-pre_T1w", "t1"), ("B12_T1", "t1"),
                                                ("pilot-03_t2", "t2"), ("T1_FS", "t1")])  # fmt: skip
def test_a_name_that_says_a_weighting_is_believed(tmp_path, name, contrast):
    path = tmp_path / f"{name}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(V.astype(np.int16), np.diag([1.5, 1.5, 4, 1])), path)
    assert read(path).value.contrasts == (contrast,)


# padding, privacy, links


@pytest.mark.parametrize("value", [-32768, (-32768, -32000)])
def test_padding_is_air(tmp_path, value):
    low = np.rint(V - 300).astype(np.int16)
    plain = read(series(tmp_path / "plain", low)).value
    low[:4] = -32768 if value == -32768 else -32400
    first, limit = (value, None) if isinstance(value, int) else value
    reading = read(series(tmp_path / "padded", low, PixelPaddingValue=first, PixelPaddingRangeLimit=limit))
    masks = [body_mask(each.voxels[0], each.spacing_mm) for each in (plain, reading.value)]
    assert abs(masks[0].mean() - masks[1].mean()) < 0.01
    assert reading.value.voxels.min() == low[4:].min()
    assert "padding by the header and are read as air" in findings(reading, "info")


@pytest.mark.parametrize("field", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
def test_what_shows_a_person_is_severe(tmp_path, field):
    assert "the header says that" in findings(read(series(tmp_path, V, **{field: "YES"})), "severe")
    assert findings(read(series(tmp_path, V, **{field: "NO"})), "severe") == ""


def test_links_to_files_are_read_and_others_named(tmp_path):
    target, linked = series(tmp_path / "target", V), tmp_path / "linked"
    linked.mkdir()
    for path in target.iterdir():
        (linked / path.name).symlink_to(path)
    whole(read(linked).value)
    (target / "IM0003.dcm").unlink()
    with pytest.raises(InputError, match="symbolic links to folders or to files that are not there"):
        read(linked)
    shutil.rmtree(linked)
    linked.symlink_to(tmp_path / "outer")
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "series").symlink_to(target)
    with pytest.raises(InputError, match="symbolic links"):
        read(linked)


# odd values, codestreams

ODD = ["", "x", "nan", "inf", "-1", "0", "1e300", "9" * 400, "1\\2\\3\\4\\5\\6\\7"]
FIELDS = [
          "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
          "SeriesNumber", "PixelRepresentation", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
          "ImagePositionPatient",
          "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "EchoTime", "PixelPaddingValue", "StudyDate",
          "AcquisitionNumber", "Modality", "SOPClassUID", "PatientName", "ImageType", "Manufacturer"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_an_odd_value_of_any_field_is_read_or_refused_in_a_sentence(tmp_path, field):
    folder = series(tmp_path, V[:, :, :3])
    path = folder / "IM0002.dcm"
    tag = pydicom.tag.Tag(field)
    plain = pydicom.dcmread(path)
    if tag in plain:
        del plain[tag]
    plain.save_as(path)
    without = path.read_bytes()
    for n, value in enumerate(ODD):
        for vr in (b"DS", (b"IS", b"US", b"FD", b"SQ", b"LO")[n % 5]):
            raw = value.encode() + b" " * (len(value) % 2)
            long = b"\0\0" + len(raw).to_bytes(4, "little") if vr == b"SQ" else len(raw).to_bytes(2, "little")
            element = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + vr + long + raw
            path.write_bytes(without[:132] + without[132:].replace(_pixels(without), element + _pixels(without)))
            with suppress(InputError):  # anything else is a traceback on a screen
                read(folder)


def _pixels(whole_file):
    at = whole_file.index(b"\xe0\x7f\x10\x00")
    return whole_file[at:]


def test_a_place_beyond_any_scanner_is_no_slice_to_wait_for(tmp_path):
    series(tmp_path, V, own=lambda k: {"position": at(0, 0, 4.0 * k if k < 11 else 1e12)})
    reading = read(tmp_path)
    assert reading.value.voxels.shape[1] == 11
    assert "1 DICOM file is empty, cut short or damaged" in findings(reading, "severe")


def packed(path, syntax, stream, **fields):
    head = picture(V[:, :, 6].T.astype(np.uint16), ORIGIN, **fields)
    head.PixelData = encapsulate([stream])
    head["PixelData"].VR = "OB"
    head.file_meta.TransferSyntaxUID = syntax
    return save(head, path)


def size_marker(rows, columns, samples=1, bits=16, tile=None):
    size = b"".join(n.to_bytes(4, "big") for n in (columns, rows, 0, 0, tile or columns, tile or rows, 0, 0))
    part = b"\0\0" + size + samples.to_bytes(2, "big") + bytes([bits - 1, 1, 1]) * min(samples, 4)
    return b"\xff\x4f\xff\x51" + (len(part) + 2).to_bytes(2, "big") + part + b"\0" * 64


def jpeg(rows, columns, samples=1, bits=16, kind=0xF7):
    frame = (
        bytes([bits]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + bytes([samples]) + b"\1\x11\0" * samples
    )
    return (
        b"\xff\xd8\xff" + bytes([kind]) + (len(frame) + 2).to_bytes(2, "big") + frame + b"\xff\xda\0\x08" + b"\0" * 64
    )


@pytest.mark.parametrize(
    ("syntax", "stream", "sentence"),
    [
        (JPEG2000Lossless, size_marker(30000, 30000), "say 30000 x 30000 of 1 x 16 bits, its header 40 x 36"),
        (JPEG2000Lossless, size_marker(36, 40, samples=16384), "of 16384 x 16 bits"),
        (JPEG2000Lossless, size_marker(36, 40, bits=38), "of 1 x 38 bits"),
        (JPEG2000Lossless, size_marker(36, 4_000_000_000), "say 4000000000 x 36"),
        (JPEG2000Lossless, size_marker(36, 40) + size_marker(30000, 30000), "damaged or cut short"),
        (JPEG2000Lossless, b"\xff\x4f\xff\x51\0", "damaged or cut short"),
        (JPEGLSLossless, jpeg(60000, 60000), "say 60000 x 60000"),
        (JPEGLSLossless, jpeg(36, 40)[:-70] + jpeg(60000, 60000)[2:], "damaged or cut short|say"),
        (JPEGLSLossless, b"\xff\xd8\xff", "damaged or cut short"),
        (RLELossless, (16).to_bytes(4, "little") + b"\xff" * 4096, "do not fit the size"),
        (RLELossless, b"\2\0\0\0\x40\0\0\0\x50\0\0\0" + bytes(52) + b"\x81\0" * 100_000, "bytes, the image is 2880"),
    ],
)  # fmt: skip
def test_a_codestream_of_another_size_is_never_decoded(tmp_path, monkeypatch, syntax, stream, sentence):
    monkeypatch.setattr(sitk, "ReadImage", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(lambda _: pytest.fail("decoded")))
    with pytest.raises(InputError, match=sentence):
        read(packed(tmp_path / "x.dcm", syntax, stream))


def test_a_header_and_stream_that_agree_on_a_size_their_bytes_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match="more than 200 times its size"):
        read(packed(tmp_path / "x.dcm", JPEG2000Lossless, size_marker(9000, 9000), Rows=9000, Columns=9000))


def test_a_deflated_file_made_to_fill_the_memory_is_refused(tmp_path):
    path = save(picture(V[:, :, 6].T, ORIGIN), tmp_path / "x.dcm")
    head = pydicom.dcmread(path)
    head.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head.save_as(path)
    start = path.read_bytes()[: 132 + 12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(start + deflate.compress(b"\0" * (100 << 20)) + deflate.flush())
    with pytest.raises(InputError, match="more than 200 times its size"):
        read(path)


def test_real_codestreams_still_decode(tmp_path):
    image = V[:, :, 6].T.astype(np.uint16)
    head = picture(image, ORIGIN, SOPInstanceUID=generate_uid())
    head.compress(RLELossless)
    assert np.array_equal(read(save(head, tmp_path / "rle.dcm")).value.voxels[0, 0], image)
