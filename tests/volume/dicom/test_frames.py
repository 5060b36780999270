"""Laws of what a frame's header says beside its place: values that are no brightness are never read as one."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from awkward_dicom import item, phantom, series

from cmssd_core.types import InputError
from cmssd_core.volume.read import read

V = phantom()


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_what_ge_says_of_the_signal_is_heard(tmp_path, part):
    series(tmp_path, V, Manufacturer="GE MEDICAL SYSTEMS", ImageType=["ORIGINAL", "PRIMARY", "OTHER"])
    for path in tmp_path.iterdir():
        head = pydicom.dcmread(path)
        head.add_new(0x00430010, "LO", "GEMS_PARM_01")
        head.add_new(0x0043102F, "SS", part)
        head.save_as(path)
    if part == 0:
        assert read(tmp_path).value.contrasts == ("t1",)
        return
    with pytest.raises(InputError, match="its values are no brightness"):
        read(contrasts={"t1": tmp_path})
    with pytest.raises(InputError, match="cannot be told"):
        read(tmp_path)


def test_values_behind_a_table_are_refused(tmp_path):
    table = item(
        LUTDescriptor=[4096, 0, 16], ModalityLUTType="US", LUTData=np.arange(4096, dtype="<u2")[::-1].tobytes()
    )
    with pytest.raises(InputError, match="through a table"):
        read(series(tmp_path, V, ModalityLUTSequence=[table]))
