"""Two people at once: neither sees the other's uploads, and each gets the maps that were got alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import showcase
from served import CHROMIUM, FLAGS, NEEDS_CHROMIUM
from uploads import choose_files, upload

from cmssd_core.cases import admit as cases
from cmssd_core.config import Settings
from cmssd_core.inference import predict as inference

pytestmark = NEEDS_CHROMIUM
CONTRASTS = ("t1", "t2")  # of the phantom: two scans that differ


def test_two_sessions_at_once_get_what_each_gets_alone(server, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    scans = {name: showcase.nifti(tmp_path / f"Session_{name}.nii.gz", contrast=name) for name in CONTRASTS}
    chosen = Settings(cache_dir=tmp_path / "alone", weights=server[1] / "random.safetensors")
    predictor = inference.load(chosen.weights, settings=chosen)
    alone = {
        name: inference.predict(cases.admit(contrasts={name: path}), predictor, settings=chosen)
        for name, path in scans.items()
    }
    assert alone["t1"].case_id != alone["t2"].case_id

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        pages = {name: browser.new_context(accept_downloads=True).new_page() for name in CONTRASTS}
        for name, page in pages.items():
            page.set_default_timeout(240_000)
            choose_files(page, server)
            upload(page, 0, scans[name])
        for page in pages.values():  # both at once
            page.get_by_role("button", name="Run").click()
        for name, page in pages.items():
            other = alone[next(each for each in CONTRASTS if each != name)]
            page.get_by_role("heading", name="Result").wait_for()
            assert page.get_by_text(alone[name].case_id[:12]).count()
            assert not page.get_by_text(other.case_id[:12]).count()
            with page.expect_download() as download:
                page.get_by_role("button", name="All files (zip)").click()
            packed = tmp_path / f"{name}.zip"
            download.value.save_as(packed)
            with zipfile.ZipFile(packed) as archive:
                archive.extract("tumour.nii.gz", tmp_path / name)
            got = np.asanyarray(nibabel.load(tmp_path / name / "tumour.nii.gz").dataobj).transpose(2, 1, 0)
            np.testing.assert_allclose(got, alone[name].maps["tumour"], atol=1e-5)
        folders = [path for path in server[1].glob("cmssd-session-*") if any(path.rglob("mri*"))]
        assert len(folders) == 2, "each session keeps its uploads in a folder of its own"
        assert _scans(folders[0]) != _scans(folders[1])
        browser.close()


def _scans(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("mri*")) if path.is_file()]
