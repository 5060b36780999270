"""Every file of the real data, given as either modality: it is read, or refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from places import DATA

from cmssd_core.cases import admit as cases
from cmssd_core.cohort.inspect import inspect
from cmssd_core.config import Settings
from cmssd_core.inference import predict as inference
from cmssd_core.report import files
from cmssd_core.types import InputError, Slide, Volume

FILES = sorted(p for p in DATA.rglob("*") if p.is_file()) if DATA.is_dir() else []
# Of a long series one file is as good as another; the whole folder is read elsewhere.
FILES = [p for p in FILES if p.parent.name not in ("image", "adc_image", "t2_image", "CRLM-CT-1004")]
SERIES = [p for p in FILES if p.suffix == ".dcm" and p.parent.name.split(".")[0].isdigit()]
FILES = [p for p in FILES if p not in SERIES[3:]]


@pytest.mark.skipif(not FILES, reason="the folder of real data is not beside this checkout")
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(DATA)))
def test_every_file_is_read_or_refused_with_one_sentence(path: Path) -> None:
    for given in ({"mri": path}, {"he": path, "mpp": 1.0}):
        try:
            case = cases.admit(**given)
        except InputError as refusal:
            said = str(refusal)
            assert 10 < len(said) < 600, said
            assert "\n" not in said
            assert "Traceback" not in said
            assert str(path.parent) not in said
        else:
            (value,) = case.inputs.values()
            assert isinstance(value, Volume if "mri" in given else Slide)
    told = inspect(path)
    assert {"reads_as", "problem"} <= set(told)


@pytest.mark.parametrize(
    "folder",
    ["mri/sts-ibsi/dicom/STS_006/MR_T1/image", "mri/prostatex-picai/ProstateX-0000", "mri/liver-ct-crlm/CRLM-CT-1004"],
)
def test_a_folder_of_series_becomes_one_volume(folder: str, real_data: Path) -> None:
    volume = cases.admit(mri=real_data / folder).inputs["mri"]
    assert isinstance(volume, Volume)
    expected = {"image": ("t1",), "ProstateX-0000": ("t2", "adc"), "CRLM-CT-1004": ("ct",)}[Path(folder).name]
    assert set(volume.contrasts) == set(expected)


def test_nifti_and_dicom_of_one_scan_give_the_same_answer(real_data: Path) -> None:
    predictor, settings = inference.load(), Settings(n4=True)
    scans = ("nifti/STS_006/MR_T1_image.nii.gz", "dicom/STS_006/MR_T1/image")
    one, other = (
        inference.predict(cases.admit(mri=real_data / "mri/sts-ibsi" / scan), predictor, settings=settings)
        for scan in scans
    )
    for name in ("tumour", "bone", "attention"):
        np.testing.assert_allclose(one.maps[name], other.maps[name], atol=0.01)
    assert one.p_malignant == pytest.approx(other.p_malignant, abs=0.01)


def test_a_chimeric_case_runs_to_its_report(real_data: Path, tmp_path: Path) -> None:
    """A sarcoma's MRI with another patient's osteosarcoma tile: the way works; the numbers mean nothing."""
    tile = sorted((real_data / "he_tiles/osteosarcoma-utsw").glob("*Viable*"))[0]
    case = cases.admit(mri=real_data / "mri/sts-ibsi/nifti/STS_008/MR_T1_image.nii.gz", he=tile, mpp=1.0)
    found = inference.predict(case, inference.load(), settings=Settings(n4=False))
    names = {path.name for path in files.write(found, case, tmp_path / "out")}
    assert {"prediction.json", "tumour.nii.gz", "bone.nii.gz", "attention.nii.gz", "report.html"} <= names
    assert nibabel.load(tmp_path / "out/tumour.nii.gz").shape == (77, 79, 28)
