"""Image files that contradict themselves or leave something out, after public reports of bugs; each builder writes one.

A scan is a soft body with one bright block, not symmetric, so that left and right, up and down can be told apart.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

SPACING = (1.5, 1.5, 4.0)
SHAPE, MARK = (40, 36, 12), (30, 24, 8)
#: A field of view centred on the origin, for masks, and where the tumour lies in it.
WIDE = (64, 56, 16)
TUMOUR = np.s_[38:50, 20:34, 5:12]
TUMOUR_VOXELS, TUMOUR_CENTRE = 1176, (43.5, 26.5, 8.0)


def scan(shape: tuple[int, ...] = SHAPE, mark: tuple[int, ...] = MARK) -> np.ndarray:
    """int16 (x, y, z)."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[:2]], indexing="ij")
    voxels = rng.uniform(0, 12, shape) + 400.0 * ((x / 0.85) ** 2 + (y / 0.8) ** 2 < 1)[..., None]
    voxels[tuple(slice(m - r, m + r + 1) for m, r in zip(mark, (2, 2, 1), strict=True))] = 1500
    return voxels.astype(np.int16)


def grid(spacing: tuple[float, ...] = SPACING, origin: tuple[float, ...] = (-30.0, -26.0, -22.0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


WIDE_GRID = grid((3.0, 3.0, 4.0), (-94.5, -82.5, -30.0))


def mirrored(affine: np.ndarray) -> np.ndarray:
    """Left and right exchanged about the world's middle."""
    return np.diag([-1.0, 1, 1, 1]) @ affine


def world(affine: np.ndarray, voxel: tuple[int, ...] = MARK) -> np.ndarray:
    return (affine @ [*voxel, 1])[:3]


def nifti(path: Path, voxels, sform=None, qform=None, *, codes=(1, 1), pixdim=None, unit=2, patch=None) -> Path:
    """codes: of sform and qform. patch: what to do to the header last."""
    image = nib.Nifti1Image(voxels, sform)
    image.set_sform(sform, codes[0])
    image.set_qform(sform if qform is None else qform, codes[1])
    image.header["xyzt_units"] = unit
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    if patch is not None:
        patch(image.header)
    # Saved by hand: nibabel would mend what this writes.
    header = image.header.copy()
    header["vox_offset"] = 352 if header["vox_offset"] == 0 else header["vox_offset"]
    data = header.binaryblock + bytes(4) + np.asarray(voxels, header.get_data_dtype()).tobytes(order="F")
    opened = nib.openers.ImageOpener(str(path), "wb")
    with opened:
        opened.write(data)
    return path


def qform_sform_side(folder: Path) -> Path:
    return nifti(folder / "t1.nii.gz", scan(), mirrored(grid()), grid(), codes=(2, 1))


def pixdim_not_sform(folder: Path) -> Path:
    return nifti(folder / "t1.nii", scan(), grid(), codes=(1, 0), pixdim=(1, 1, 1))


def pixdim_z(folder: Path) -> Path:
    return nifti(folder / "t1.nii", scan(), grid(), codes=(1, 0), pixdim=(1.5, 1.5, 3.3))


def sheared_sform(folder: Path) -> Path:
    sheared = grid()
    sheared[0, 2] = 0.8
    return nifti(folder / "t1.nii.gz", scan(), sheared, grid(), codes=(1, 0))


def nifti_micron(folder: Path) -> Path:
    return nifti(folder / "t1.nii.gz", scan(), grid(), unit=3)


def nrrd(folder: Path, fields: str, voxels=None) -> Path:
    voxels = scan() if voxels is None else voxels
    kind = {"int16": "short", "uint8": "uchar"}[voxels.dtype.name]
    sizes = " ".join(map(str, voxels.shape))
    head = f"NRRD0005\ntype: {kind}\ndimension: 3\nsizes: {sizes}\nencoding: raw\nendian: little\n{fields}\n"
    path = folder / "t1.nrrd"
    path.write_bytes(head.encode() + voxels.tobytes(order="F"))
    return path


def nrrd_no_orientation(folder: Path) -> Path:
    return nrrd(folder, "spacings: 1.5 1.5 4\n")


def nrrd_no_spacing(folder: Path) -> Path:
    return nrrd(folder, "")


def nrrd_cm(folder: Path) -> Path:
    return nrrd(
        folder,
        "space: left-posterior-superior\nspace directions: (0.15,0,0) (0,0.15,0) (0,0,0.4)\n"
        'space origin: (-3,-2.6,-2.2)\nspace units: "cm" "cm" "cm"\n',
    )


def mha_cut(folder: Path) -> Path:
    image = sitk.GetImageFromArray(scan().T)
    image.SetSpacing(SPACING)
    path = folder / "t1.mha"
    sitk.WriteImage(image, str(path), True)
    whole = path.read_bytes()
    begin = whole.index(b"LOCAL") + 6
    head, body = whole[:begin], whole[begin:]
    kept = body[: len(body) * 6 // 10]
    path.write_bytes(head.replace(b"DataSize = %d" % len(body), b"DataSize = %d" % len(kept)) + kept)
    return path


def tumour() -> np.ndarray:
    """uint8 (x, y, z) on the wide field."""
    mask = np.zeros(WIDE, np.uint8)
    mask[TUMOUR] = 1
    return mask


def with_mask(folder: Path, mask, affine=WIDE_GRID, *, image=None) -> Path:
    """A cohort of one case: t1.nii.gz, mask.nii.gz and cohort.csv."""
    if image is None:
        nifti(folder / "t1.nii.gz", scan(WIDE, (44, 27, 8)), WIDE_GRID)
    nifti(folder / "mask.nii.gz", mask, affine)
    (folder / "cohort.csv").write_text("case_id,mri_t1,tumour_mask\nc1,t1.nii.gz,mask.nii.gz\n", encoding="utf-8")
    return folder


def mask_of_nibabel_on_qform_sform(folder: Path) -> Path:
    image = nifti(folder / "t1.nii.gz", scan(WIDE, (44, 27, 8)), mirrored(WIDE_GRID), WIDE_GRID, codes=(2, 1))
    with_mask(folder, tumour(), image=image)
    nib.save(nib.Nifti1Image(tumour(), nib.load(image).affine), folder / "mask.nii.gz")
    return folder


def mask_halo(folder: Path) -> Path:
    from scipy import ndimage

    soft = ndimage.gaussian_filter(tumour().astype(np.float32), 1.2)
    soft[soft < 0.01] = 0
    return with_mask(folder, soft)


def mask_minus_one(folder: Path) -> Path:
    mask = tumour().astype(np.int16)
    mask[:2] = -1
    return with_mask(folder, mask)


def mask_255(folder: Path) -> Path:
    mask = tumour()
    mask[:4] = 255
    return with_mask(folder, mask)


def mask_mirrored_header(folder: Path) -> Path:
    return with_mask(folder, tumour(), mirrored(WIDE_GRID))
