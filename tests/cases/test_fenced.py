"""Laws of reading behind the fence: the same case comes back, and no file ends the program that asked."""

from __future__ import annotations

import json
import struct
from dataclasses import fields

import numpy as np
import pytest

from cmssd_core.cases import fenced
from cmssd_core.cases.admit import admit
from cmssd_core.machine.fence import Fence
from cmssd_core.types import InputError, Volume


@pytest.fixture
def files(cohort):
    import pandas as pd

    row = pd.read_csv(cohort / "cohort.csv").iloc[0]
    return {
        "contrasts": {"t1": cohort / row["mri_t1"]},
        "he": cohort / row["slide"],
        "mpp": 1.0,
        "site_mm": (1.0, 2.0, 3.0),
    }


def test_a_case_read_behind_the_fence_is_the_case(files, tmp_path):
    here, there = admit(**files), admit(**files, fence=Fence(within=tmp_path))
    assert (there.id, there.steps, there.findings) == (here.id, here.steps, here.findings)
    assert list(there.inputs) == list(here.inputs)
    for name, noun in here.inputs.items():
        assert type(there.inputs[name]) is type(noun)
        for each in fields(noun):
            ours, theirs = getattr(noun, each.name), getattr(there.inputs[name], each.name)
            if isinstance(ours, np.ndarray):
                assert ours.dtype == theirs.dtype
                assert not theirs.flags.writeable
                assert ours.tobytes() == theirs.tobytes()
            else:
                assert ours == theirs
                assert type(ours) is type(theirs)
    assert list(tmp_path.iterdir()) == []


def test_a_profile_comes_back_whole(tmp_path):
    path = tmp_path / "rna.csv"
    path.write_text("gene,value\nTP53,1.5\nRB1,20000\n", encoding="utf-8")
    here, there = fenced.read("rna", source=path), fenced.read("rna", Fence(), source=path)
    assert there.digest == here.digest
    assert there.value.names == here.value.names == ("TP53", "RB1")
    assert there.value.unit == here.value.unit
    assert np.array_equal(there.value.values, np.array([1.5, 20000], np.float32))


def test_a_refusal_says_the_same_behind_the_fence(tmp_path):
    path = tmp_path / "t1.nii.gz"
    path.write_bytes(b"no image")
    said = []
    for fence in (None, Fence()):
        with pytest.raises(InputError) as refused:
            admit(mri=path, fence=fence)
        said.append((str(refused.value), refused.value.field))
    assert said[0] == said[1]
    assert said[0][1] == "mri"


def test_annotations_come_back_lean_and_a_bad_file_is_a_sentence(tmp_path):
    path = tmp_path / "outlines"
    shape = {"type": "Polygon", "coordinates": [[[1, 1], [60, 1], [60.5, 70], [1, 1]]]}
    path.write_text(json.dumps({"type": "Feature", "geometry": shape, "properties": {"name": "Miller"}}), "utf-8")
    found = fenced.read_outlines(path, Fence(), name="a.geojson", width=96, height=80)
    assert found["features"][0]["geometry"] == shape
    assert "Miller" not in json.dumps(found)
    path.write_text("[" * 100_000, "utf-8")
    with pytest.raises(InputError, match="GeoJSON"):
        fenced.read_outlines(path, Fence(), name="a.geojson", width=96, height=80)


def test_a_file_that_names_itself_from_here_is_found_from_there(files, monkeypatch):
    scan = files["contrasts"]["t1"]
    monkeypatch.chdir(scan.parent)
    from pathlib import Path

    assert isinstance(fenced.read("mri", Fence(), source=None, contrasts={"t1": Path(scan.name)}).value, Volume)


def test_what_unpacks_past_the_memory_is_a_sentence(tmp_path):
    """A scan that claims 5 GB under a fence of half a GB: whoever notices, reader or fence, says one sentence."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 1200, 1200, 900, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    path = tmp_path / "t1.nii"
    with path.open("wb") as sparse:
        sparse.write(header)
        sparse.truncate(352 + 4 * 1200 * 1200 * 900)
    with pytest.raises(InputError) as refused:
        admit(mri=path, unpacked_limit_mb=8192, fence=Fence(memory_mb=512, within=tmp_path))
    assert "t1.nii" in str(refused.value)
    assert "\n" not in str(refused.value)
