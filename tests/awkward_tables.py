"""Tables as people send them: other names of columns, spellings of ids, separators and encodings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

HEADER = ("case_id", "patient_id", "mri_t1", "malignant", "split")
SPLITS = ("train", "train", "val", "test", "test", "test")


def write_cohort(
    folder: Path,
    *,
    header: Sequence[str] = HEADER,
    ids: Sequence[str] = ("P0", "P0", "P1", "P1", "P2", "P2"),
    splits: Sequence[str] = SPLITS,
    centre: str | None = None,
    sep: str = ",",
    encoding: str = "utf-8",
) -> Path:
    """A folder with cohort.csv of six scans. By itself P1 is in val and in test."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*header, *([] if centre is None else ["centre"])]
    rows = [
        [f"c{i}", ids[i], f"t1_{i}.nii.gz", str(i % 2), splits[i], *([] if centre is None else [centre])]
        for i in range(len(ids))
    ]
    for i in range(len(ids)):
        (folder / f"t1_{i}.nii.gz").write_bytes(bytes([i]) * 64)
    text = "".join(sep.join(cells) + "\n" for cells in [names, *rows])
    (folder / "cohort.csv").write_bytes(text.encode(encoding))
    return folder


def write_files(folder: Path, *names: str) -> Path:
    """Files of which the name alone counts."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"%d" % number)
    return folder
