"""Laws of the one door for image files and masks: nothing damaged, nothing elsewhere, nothing without bound."""

from __future__ import annotations

import gzip
import os
import struct
import time
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from cmssd_core.types import InputError, Volume
from cmssd_core.volume.files.door import MASK_FLOOR, SCAN_FLOOR, read_header, read_voxels
from cmssd_core.volume.image import read_image
from cmssd_core.volume.mask import read_mask

AFFINE = np.array([[0.0, -0.9, 0, 12.0], [0.8, 0.0, 0.0, -30.0], [0.0, 0.0, 4.0, 55.0], [0, 0, 0, 1]])
LIKE = Volume(voxels=np.zeros((1, 6, 10, 12), np.float32), affine=AFFINE, contrasts=("t1",))
SECRET = b"secret of the machine " * 400


def as_scan(path):
    return read_image(path, contrast="t1", limit_mb=256)


def as_mask(path):
    return read_mask(path, like=LIKE, limit_mb=256)


READERS = pytest.mark.parametrize("reader", [as_scan, as_mask])


def voxels(seed=0):
    """int16 (z, y, x)."""
    return np.random.default_rng(seed).integers(0, 900, (6, 10, 12)).astype(np.int16)


def nii(path, *, patch=None, tail=b"", data=None):
    """A NIfTI-1 file whose header `patch` changes last: (offset, format, value)."""
    image = nib.Nifti1Image((voxels() if data is None else data).T, AFFINE)
    raw = bytearray(image.to_bytes())
    for at, fmt, value in patch or ():
        struct.pack_into(fmt, raw, at, value)
    raw += tail
    path.write_bytes(gzip.compress(bytes(raw), mtime=0) if path.name.endswith(".gz") else bytes(raw))
    return path


def itk(path, packed=True):
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(path), packed)
    return path


# Files that a header names.


@READERS
@pytest.mark.parametrize(
    "line", ["data file: secret.raw", "datafile: secret.raw", "Data File: LIST\nsecret.raw", "DATAFILE:/etc/hostname"]
)
@pytest.mark.parametrize("before", [0, 70_000, 300_000])
def test_an_nrrd_that_names_a_file_is_refused_wherever_it_says_so(tmp_path, reader, line, before):
    (tmp_path / "secret.raw").write_bytes(SECRET)
    head = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 12 10 6\nspacings: 1 1 1\nencoding: raw\n"
    comment = "# " + "x" * before + "\n" if before else ""
    (tmp_path / "t1.nrrd").write_text(f"{head}{comment}{line}\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="another file"):
        reader(tmp_path / "t1.nrrd")


def meta(path, data="LOCAL", *, more="", size="12 10 6", body=b"", spacing="ElementSpacing = 1 1 1\n"):
    path.write_bytes(
        f"ObjectType = Image\nNDims = 3\n{more}{spacing}DimSize = {size}\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {data}\n".encode()
        + body
    )
    return path


@READERS
@pytest.mark.parametrize(
    "data", ["secret.raw", "/etc/hostname", "LIST\nsecret.raw", "secret%d.raw 1 6 1", "../secret.raw"]
)
@pytest.mark.parametrize("comment", [0, 70_000])
def test_an_mha_that_names_a_file_is_refused_wherever_it_says_so(tmp_path, reader, data, comment):
    (tmp_path / "secret.raw").write_bytes(SECRET)
    path = meta(tmp_path / "t1.mha", data, more=f"Comment = {'x' * comment}\n" if comment else "")
    with pytest.raises(InputError, match="another file"):
        reader(path)


@pytest.mark.parametrize(
    "data", ["/etc/hostname", "LIST", "LIST 2D", "link.raw", "../in/s.raw", "s%d.raw", "t1.mhd", "", ".."]
)
def test_an_mhd_takes_one_file_beside_it_and_no_link(tmp_path, data):
    (tmp_path / "s.raw").write_bytes(voxels().astype(np.uint8).tobytes())
    (tmp_path / "link.raw").symlink_to(tmp_path / "s.raw")
    assert np.array_equal(as_scan(meta(tmp_path / "t1.mhd", "s.raw")).voxels, voxels().astype(np.uint8))
    with pytest.raises(InputError, match=r"beside it|in a list of files"):
        as_scan(meta(tmp_path / "t1.mhd", data))


@pytest.mark.parametrize("name", ["Liste1", "list", "LISTA"])
def test_an_mhd_may_have_any_name(tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(tmp_path / f"{name}.mhd"))
    assert np.array_equal(as_scan(tmp_path / f"{name}.mhd").voxels, voxels())


def test_a_header_of_minus_one_says_that_the_voxels_are_last(tmp_path):
    """As SimpleITK reads it."""
    (tmp_path / "s.raw").write_bytes(bytes(512) + voxels().astype(np.uint8).tobytes())
    path = meta(tmp_path / "t1.mhd", "s.raw", more="HeaderSize = -1\n")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), voxels().astype(np.uint8))
    assert np.array_equal(as_scan(path).voxels, voxels().astype(np.uint8))


def test_a_nifti_header_of_a_pair_is_refused(tmp_path):
    with pytest.raises(InputError, match="another file"):
        as_scan(nii(tmp_path / "t1.nii", patch=[(344, "4s", b"ni1\0")]))


# Claims without bound.


@READERS
@pytest.mark.parametrize(
    "size", ["4294967296 4294967296 4", "9223372036854775807 2 2", "65536 65536 65536", "2147483648 2147483648 4"]
)
def test_giant_sizes_are_refused_before_a_byte_is_taken(tmp_path, reader, size):
    with pytest.raises(InputError, match=r"unpacks to more than|larger than a patient"):
        reader(meta(tmp_path / "t1.mha", size=size, spacing="ElementSpacing = 1e-9 1e-9 1\n"))
    head = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {size}\nspacings: 1e-9 1e-9 1\nencoding: gzip\n\n"
    (tmp_path / "t1.nrrd").write_text(head, encoding="utf-8")
    with pytest.raises(InputError, match=r"unpacks to more than|larger than a patient"):
        reader(tmp_path / "t1.nrrd")
    second = bytearray(nib.Nifti2Image(voxels().T, np.diag([1e-9, 1e-9, 1, 1])).to_bytes())
    struct.pack_into("<3q", second, 24, *[int(n) for n in size.split()])
    (tmp_path / "t1.nii").write_bytes(second)
    with pytest.raises(InputError, match=r"unpacks to more than|larger than a patient"):
        reader(tmp_path / "t1.nii")


@READERS
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, 3e38, 1.5e9, -352, 0, 351, 352.5])
def test_voxels_begin_where_a_nifti_has_them_or_the_file_is_refused(tmp_path, reader, suffix, offset):
    begun = time.monotonic()
    with pytest.raises(InputError, match="begin at byte"):
        reader(nii(tmp_path / f"t1{suffix}", patch=[(108, "<f", offset)]))
    assert time.monotonic() - begun < 2


@READERS
def test_a_small_file_that_unpacks_to_a_giant_is_refused_at_once(tmp_path, reader):
    head = bytearray(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), AFFINE).to_bytes())
    struct.pack_into("<8h", head, 40, 3, 1000, 1000, 1000, 1, 1, 1, 1)
    zeros = zlib.compressobj(9, wbits=31)
    packed = zeros.compress(bytes(head)) + b"".join(zeros.compress(bytes(1 << 20)) for _ in range(20)) + zeros.flush()
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(packed)
    assert path.stat().st_size < 300_000
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"200 times|far more|unpacks to more"):
        read_voxels(path, limit_mb=4096, floor=SCAN_FLOOR if reader is as_scan else MASK_FLOOR)
    assert time.monotonic() - begun < 1


def test_a_stream_that_holds_far_more_than_its_header_says_is_left_early(tmp_path):
    path = nii(tmp_path / "t1.nii.gz", tail=bytes(20 << 20))
    begun = time.process_time()
    with pytest.raises(InputError, match="far more bytes"):
        as_scan(path)
    assert time.process_time() - begun < 0.5


def test_a_flood_of_empty_members_is_refused(tmp_path):
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(gzip.compress(b"", mtime=0) * 50_000)
    with pytest.raises(InputError, match="far too many pieces"):
        as_scan(path)


def test_masks_of_zeros_pack_far_and_are_read(tmp_path):
    """72 MB at 1:228: a bomb as a scan, a sound mask."""
    mask = np.zeros((600, 600, 200), np.uint8)
    mask[400:420, 400:420, 100:105] = 1
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="200 times"):
        read_voxels(tmp_path / "mask.nii.gz", limit_mb=4096, floor=SCAN_FLOOR)
    header, raw = read_voxels(tmp_path / "mask.nii.gz", limit_mb=4096, floor=MASK_FLOOR)
    assert header.size == mask.shape
    assert raw.sum() == mask.sum()


@READERS
def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path, reader):
    os.mkfifo(tmp_path / "t1.nii")
    with pytest.raises(InputError, match="is no file"):
        reader(tmp_path / "t1.nii")


# Damage.

MAKERS = {
    "t1.nii.gz": lambda path: nii(path),
    "t1.nrrd": itk,
    "t1.mha": itk,
}


def payload(path):
    """Where the part begins that a checksum covers: all of a packed NIfTI, else what follows the header."""
    raw = path.read_bytes()
    return {".gz": 0, ".nrrd": raw.find(b"\n\n") + 2, ".mha": raw.find(b"LOCAL\n") + 6}[path.suffix]


@pytest.mark.parametrize("name", MAKERS)
def test_of_files_with_a_checksum_no_flipped_bit_changes_a_voxel_in_silence(tmp_path, name):
    path = MAKERS[name](tmp_path / name)
    whole, begin = path.read_bytes(), payload(path)
    sound = as_scan(path).voxels
    assert np.array_equal(sound, voxels())
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(begin, len(whole), 150):
        hurt = bytearray(whole)
        hurt[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(hurt)
        try:
            assert np.array_equal(as_scan(path).voxels, sound)
        except InputError:
            refused += 1
    assert refused > 140


@pytest.mark.parametrize("name", MAKERS)
def test_of_files_with_a_checksum_none_is_read_that_is_cut_zeroed_or_padded(tmp_path, name):
    path = MAKERS[name](tmp_path / name)
    whole, begin = path.read_bytes(), payload(path)
    middle = (begin + len(whole)) // 2
    cuts = [whole[:n] for n in np.linspace(begin, len(whole) - 1, 12).astype(int)]
    zeroed = whole[:middle] + bytes(40) + whole[middle + 40 :]
    for hurt in (*cuts, zeroed, whole + b"garbage"):
        path.write_bytes(hurt)
        with pytest.raises(InputError):
            as_scan(path)
    # Two packed pieces are one stream: the voxels are the first ones, and what follows is remarked.
    path.write_bytes(whole + whole[begin:])
    if name == "t1.mha":
        with pytest.raises(InputError, match="other bytes after"):
            as_scan(path)
    else:
        stack = as_scan(path)
        assert np.array_equal(stack.voxels, voxels())
        assert "bytes after its voxels" in stack.findings[-1].what


@pytest.mark.parametrize("name", ["t1.nii", "t1.nrrd", "t1.mha"])
def test_any_byte_of_a_header_set_to_anything_gives_a_scan_or_one_sentence(tmp_path, name):
    path = nii(tmp_path / name) if name == "t1.nii" else itk(tmp_path / name, packed=False)
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    sentences = []
    for _ in range(400):
        hurt = bytearray(whole)
        hurt[int(rng.integers(min(400, len(whole))))] = int(rng.integers(256))
        path.write_bytes(hurt)
        try:
            as_scan(path)
        except InputError as refused:
            sentences.append(str(refused))
    assert sentences
    assert not [sentence for sentence in sentences if "\n" in sentence]


def test_pieces_packed_one_after_another_are_one_file_and_zeros_may_pad_it(tmp_path):
    raw = nii(tmp_path / "whole.nii").read_bytes()
    for tail in (b"", bytes(700)):
        (tmp_path / "t1.nii.gz").write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]) + tail)
        assert np.array_equal(as_scan(tmp_path / "t1.nii.gz").voxels, voxels())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bytes_after_the_voxels_are_remarked(tmp_path, suffix):
    stack = as_scan(nii(tmp_path / f"t1{suffix}", tail=b"7" * 99))
    assert [f.what for f in stack.findings if f.level == "warning"] == [
        "the file holds 99 bytes after its voxels: its header may be of another image"
    ]


def test_a_fault_no_one_thought_of_is_one_sentence_and_the_log_knows_its_place(tmp_path, monkeypatch, caplog):
    path = nii(tmp_path / "Doe_John_t1.nii")
    monkeypatch.setattr("cmssd_core.volume.files.nifti._affine", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match="is damaged; export it again"):
        read_header(path)
    assert "ZeroDivisionError" in caplog.text
    assert "nifti.py" in caplog.text
    assert "Doe" not in caplog.text


# Soundness, against other readers.

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    big=st.booleans(),
    second=st.booleans(),
    packed=st.booleans(),
    volumes=st.booleans(),
    slope=st.sampled_from([None, (1.0, 0.0), (0.5, -3.0), (-2.0, 7.0), (0.0, 5.0), (np.nan, 0.0), (1e-3, 1.0)]),
    codes=st.sampled_from([(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (3, 3)]),
    turn=st.tuples(*[st.floats(-3, 3)] * 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_sound_nifti_is_read_as_nibabel_reads_it(
    tmp_path_factory, dtype, big, second, packed, volumes, slope, codes, turn, seed
):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 9, 3))
    data = rng.integers(0, 120, shape) + (0 if dtype[0] != "f" else rng.random(shape))
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*turn) * rng.uniform(0.5, 5, 3)
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    kind, header = (nib.Nifti2Image, nib.Nifti2Header) if second else (nib.Nifti1Image, nib.Nifti1Header)
    form = header(endianness=">" if big else "<")
    form.set_data_dtype(np.dtype(dtype).newbyteorder(">" if big else "<"))
    image = kind(data[..., None] if volumes else data, affine, form)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    raw = bytearray(image.to_bytes())
    if slope is not None:
        struct.pack_into((">" if big else "<") + ("2d" if second else "2f"), raw, 176 if second else 112, *slope)
    path = tmp_path_factory.mktemp("nifti") / ("t1.nii.gz" if packed else "t1.nii")
    path.write_bytes(gzip.compress(bytes(raw)) if packed else bytes(raw))
    oracle = nib.load(path)
    stack = as_scan(path)
    assert np.allclose(stack.affine, oracle.affine, atol=1e-4)
    expected = oracle.get_fdata().reshape(shape).transpose(2, 1, 0)
    assert np.array_equal(stack.voxels, expected.astype(np.float32))
    assert [f.what for f in stack.findings if "two " in f.what or "bytes after" in f.what] == []


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    suffix=st.sampled_from([".nrrd", ".mha", ".mhd", ".nii", ".nii.gz"]),
    packed=st.booleans(),
    turn=st.tuples(*[st.floats(-3, 3)] * 3),
    seed=st.integers(0, 99),
)
def test_sound_files_are_read_as_simpleitk_reads_them(tmp_path_factory, dtype, suffix, packed, turn, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 120, rng.integers(2, 9, 3)).astype(dtype)
    image = sitk.GetImageFromArray(data)
    image.SetSpacing(rng.uniform(0.5, 5, 3).tolist())
    image.SetOrigin(rng.uniform(-90, 90, 3).tolist())
    image.SetDirection(nib.eulerangles.euler2mat(*turn).ravel().tolist())
    path = tmp_path_factory.mktemp("itk") / f"t1{suffix}"
    sitk.WriteImage(image, str(path), packed)
    again = sitk.ReadImage(str(path))
    stack = as_scan(path)
    assert np.array_equal(stack.voxels, sitk.GetArrayFromImage(again).astype(np.float32))
    corner = [int(n) - 1 for n in again.GetSize()]
    for voxel in ([0, 0, 0], corner, [corner[0], 0, 0], [0, corner[1], 0]):
        lps = np.array(again.TransformContinuousIndexToPhysicalPoint([float(v) for v in voxel]))
        assert np.allclose((stack.affine @ [*voxel, 1])[:3], lps * [-1, -1, 1], atol=2e-3)
    assert stack.findings == ()
