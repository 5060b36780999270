"""With sign-in a table may name files below the permitted folder alone, links followed; without it any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.check import check
from cmssd_core.types import InputError
from dashboard import permitted
from dashboard.services import cohort as service
from dashboard.services import intake


def _link_folder(folder: Path, secret: Path) -> str:
    (folder / "scan").mkdir()
    (folder / "scan" / "1.dcm").symlink_to(secret)
    return "scan"


def _link(folder: Path, secret: Path) -> str:
    (folder / "link.nii.gz").symlink_to(secret)
    return "link.nii.gz"


def _detached(folder: Path, secret: Path) -> str:
    (folder / "scan.raw").symlink_to(secret)
    (folder / "scan.mhd").write_text("ObjectType = Image\nElementDataFile = scan.raw\n", encoding="utf-8")
    return "scan.mhd"


def _linked_parent(folder: Path, secret: Path) -> str:
    (folder / "up").symlink_to(secret.parent)
    return f"up/{secret.name}"


WAYS: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda folder, secret: str(secret),
    "upward": lambda folder, secret: f"../../{secret.parent.name}/{secret.name}",
    "link": _link,
    "folder with a link": _link_folder,
    "data beside a header": _detached,
    "linked parent": _linked_parent,
    "absent": lambda folder, secret: str(secret.parent / "absent"),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder of a cohort below the permitted one, and a file outside."""
    folder = tmp_path / "permitted" / "study"
    folder.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.nii.gz").write_bytes(b"1")
    monkeypatch.setenv("CMSSD_COHORT", str(tmp_path / "permitted"))
    monkeypatch.setattr(permitted, "dashboard_settings", lambda: SimpleNamespace(sign_in=True))
    return folder, tmp_path / "other" / "secret.nii.gz"


@pytest.mark.parametrize("column", ["mri_t1", "slide", "tumour_mask", "rna"])
@pytest.mark.parametrize("way", WAYS)
def test_no_file_outside_is_opened_with_sign_in(way: str, column: str, places: tuple[Path, Path]) -> None:
    folder, secret = places
    name = WAYS[way](folder, secret)
    (folder / "cohort.csv").write_text(f"case_id,{column}\na,{name}\n", encoding="utf-8")
    said = rf"cohort\.csv, row 2, column {column}: this lies outside the folder"
    with pytest.raises(InputError, match=said) as mistake:
        service.table(folder / "cohort.csv")
    assert str(secret.parent) not in str(mistake.value)
    examined = intake.examine_folder(str(folder))
    assert examined.cohort is None
    assert [problem.what for problem in examined.report.problems if problem.fatal] == [cohorts.OUTSIDE[0]]


def test_what_was_let_in_is_looked_at_again_as_it_is_opened(places: tuple[Path, Path]) -> None:
    folder, secret = places
    (folder / "scan.nii.gz").write_bytes(b"2")
    (folder / "cohort.csv").write_text("case_id,mri_t1\na,scan.nii.gz\n", encoding="utf-8")
    row = service.table(folder / "cohort.csv").iloc[0]
    (folder / "scan.nii.gz").unlink()
    (folder / "scan.nii.gz").symlink_to(secret)
    with pytest.raises(InputError, match="column mri_t1: this lies outside"):
        cohorts.admit_row(row, folder, within=permitted.root())


def test_links_that_stay_inside_are_followed(places: tuple[Path, Path]) -> None:
    folder, _ = places
    (folder.parent / "store.nii.gz").write_bytes(b"2")
    (folder / "scan.nii.gz").symlink_to(folder.parent / "store.nii.gz")
    (folder / "cohort.csv").write_text("case_id,mri_t1\na,scan.nii.gz\n", encoding="utf-8")
    assert len(service.table(folder / "cohort.csv")) == 1


def test_without_sign_in_whole_paths_are_opened(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, secret = places
    monkeypatch.setattr(permitted, "dashboard_settings", lambda: SimpleNamespace(sign_in=False))
    (folder / "cohort.csv").write_text(f"case_id,mri_t1\na,{secret}\n", encoding="utf-8")
    assert permitted.root() is None
    assert len(service.table(folder / "cohort.csv")) == 1
    assert check(folder / "cohort.csv", root=folder, within=None).usable


def test_the_shipped_cohort_is_the_permitted_one_where_none_is_named(places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMSSD_COHORT")
    assert permitted.root() == permitted.SHIPPED
    assert not intake.may_open(places[0] / "cohort.csv")
