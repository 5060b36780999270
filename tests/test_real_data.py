"""Every file of the real data, given as either modality: it is read, or refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SHARED

from cmssd_core import cases
from cmssd_core.inspection import inspect
from cmssd_core.types import InputError, Slide, Volume

FILES = sorted(p for p in SHARED.rglob("*") if p.is_file()) if SHARED.is_dir() else []
# Of a long series one file is as good as another; the whole folder is read elsewhere.
FILES = [p for p in FILES if p.parent.name not in ("image", "adc_image", "t2_image", "CRLM-CT-1004")]
SERIES = [p for p in FILES if p.suffix == ".dcm" and p.parent.name.split(".")[0].isdigit()]
FILES = [p for p in FILES if p not in SERIES[3:]]


@pytest.mark.skipif(not FILES, reason="the folder of real data is not beside this checkout")
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SHARED)))
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
