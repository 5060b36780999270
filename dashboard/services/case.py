"""One case for the screen: uploads kept, files admitted, predicted and written as a report.

Cached under ids and frozen settings, never arrays: large arrays are hashed by a sample only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import streamlit as st

from cmssd_core.config import settings
from cmssd_core.types import Case, InputError, Prediction, Slide, Uint8Array
from cmssd_core.volume.contrast import name_contrast
from dashboard import permitted, state
from dashboard.services.fence import fence
from dashboard.services.model import Progress, at_work, model, read_of_rows

if TYPE_CHECKING:
    from cmssd_core.machine.store import Store


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field in which files of one modality are uploaded; several: more than one file at a time."""

    label: str
    help: str
    several: bool


#: By modality. One without a row is not offered as an upload: it comes with a cohort.
FIELDS = {
    "mri": Field(label="MRI", help="NIfTI, NRRD or MHA; several DICOM files; or a zip of a DICOM folder", several=True),
    "he": Field(label="H&E slide or tile", help="SVS, NDPI, TIFF, DICOM; or a PNG or JPEG tile", several=False),
}
#: What an image of one file may end in; anything else uploaded with others is taken for a DICOM series.
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


class Upload(Protocol):
    """The part of Streamlit's UploadedFile that is used."""

    name: str
    size: int

    def getbuffer(self) -> memoryview:
        """The bytes."""


@dataclass(frozen=True)
class Request:
    """What is to be admitted: a row of a cohort, or files as cases.admit takes them.

    cohort: its table; case_id: the row, None = the first one.
    names: our name of an uploaded file -> the user's, for sentences on the user's own screen and nowhere else.
    """

    cohort: Path | None = None
    case_id: str | None = None
    mri: Path | None = None
    contrasts: Mapping[str, Path] = field(default_factory=dict)
    he: Path | None = None
    mpp: float | None = None
    site_mm: tuple[float, float, float] | None = None
    names: Mapping[str, str] = field(default_factory=dict)


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def _thumbnail(case_id: str, max_px: int) -> tuple[Uint8Array, float]:
    from cmssd_core.slide.read import thumbnail

    result = state.result()
    slide = result.case.inputs["he"] if result is not None and result.case.id == case_id else None
    assert isinstance(slide, Slide)
    return thumbnail(slide, max_px=max_px)


def thumbnail(case_id: str) -> tuple[Uint8Array, float]:
    """The session's slide, uint8 (y, x, 3), and level-0 px per picture px."""
    return _thumbnail(case_id, 1400)


def keep(slot: str, uploads: Iterable[Upload]) -> state.Kept:
    """Writes uploads into the session's own folder, under numbers instead of their names."""
    try:
        folder = state.folder() / uuid4().hex
        folder.mkdir()
        paths, size, names = [], 0, {folder.name: "these files"}
        for number, upload in enumerate(uploads):
            # The readers tell a contrast from the name, so that word of it is kept.
            summary = name_contrast([upload.name.split(".")[0]])
            path = folder / f"{slot}{number:05d}{f'_{summary}' if summary else ''}{_suffix(upload.name)}"
            path.write_bytes(upload.getbuffer())
            paths.append(path)
            names[path.name] = upload.name
            size += upload.size
    except OSError as fault:
        raise InputError(
            f"the upload could not be kept ({fault.strerror}); free some space in the temporary folder and try again"
        ) from fault
    return state.Kept(tuple(paths), folder, size, names)


def read_outlines(upload: Upload, size_px: tuple[int, int]) -> Mapping[str, Any]:
    """Annotations of a slide of this size (width, height), as a FeatureCollection. Raises InputError."""
    from cmssd_core.cases import fenced

    kept = keep("outlines", [upload])
    width, height = size_px
    inside = fence(within=state.folder())
    try:
        found: Mapping[str, Any] = fenced.read_outlines(
            kept.paths[0], inside, name=upload.name, width=width, height=height
        )
        return found
    finally:
        shutil.rmtree(kept.folder, ignore_errors=True)


def _suffix(name: str) -> str:
    known = (*VOLUME_SUFFIXES, ".zip", ".dcm", ".png", ".jpg", ".jpeg", ".ome.tif", ".tif", ".tiff", ".svs", ".ndpi",
             ".scn", ".bif", ".vms", ".mrxs", ".svslide")  # fmt: skip
    return max((s for s in known if name.lower().endswith(s)), key=len, default="")


def contrasts_told(kept: state.Kept | None) -> tuple[str | None, ...]:
    """The contrast each uploaded volume's name says, None where it says none; () unless every file is a volume."""
    if kept is None or not all(path.name.endswith(VOLUME_SUFFIXES) for path in kept.paths):
        return ()
    return tuple(name_contrast([path.name.split(".")[0]]) for path in kept.paths)


def describe_fields() -> tuple[str, ...]:
    """What to know of the fields with the model in use: inputs it reads that have none, fields it does not read."""
    from cmssd_core.cases.modalities import MODALITIES

    read = model().spec
    missing = [f"{MODALITIES[name].label}: not offered here; open a cohort." for name in read if name not in FIELDS]
    ignored = [f"The model in use does not read the {MODALITIES[name].label}." for name in FIELDS if name not in read]
    return (*missing, *ignored)


def demo() -> Request | None:
    """The first case of CMSSD_COHORT, or of data_samples/cohort.csv; None where there is no cohort."""
    given = os.environ.get("CMSSD_COHORT")
    table = Path(given) if given else Path(__file__).resolve().parents[2] / "data_samples"
    table = table / "cohort.csv" if table.is_dir() else table
    return Request(cohort=table) if table.is_file() else None


def build_request(
    volume: state.Kept | None,
    contrasts: Mapping[str, int] | None,
    slide: state.Kept | None,
    mpp: float | None,
    site_mm: tuple[float, ...] | None,
) -> Request | None:
    """The request that uploads and choices make up; None while something is still to be chosen."""
    if (volume is None and slide is None) or contrasts is None or (site_mm is not None and len(site_mm) != 3):
        return None
    mri = None if volume is None or contrasts else volume.paths[0] if len(volume.paths) == 1 else volume.folder
    named = {name: volume.paths[number] for name, number in contrasts.items()} if volume is not None else {}
    return Request(
        mri=mri,
        contrasts=named,
        he=None if slide is None else slide.paths[0],
        mpp=mpp,
        site_mm=None if site_mm is None else (site_mm[0], site_mm[1], site_mm[2]),
        names={ours: theirs for kept in (volume, slide) if kept is not None for ours, theirs in kept.names.items()},
    )


def analyse(request: Request, progress: Progress) -> state.Result:
    """Admits the files, predicts and writes the report; InputError where the files cannot be used."""
    from cmssd_core.inference import predict as inference
    from cmssd_core.machine.store import open_store

    progress(0.0, "reading the files")
    predictor, chosen = model(), settings()
    store = open_store(chosen)
    try:
        case = _admit(request)
        with at_work(predictor.model_id, progress):
            prediction = inference.predict(
                case,
                predictor,
                settings=chosen,
                store=store,
                progress=lambda share, what: progress(0.9 * min(max(share, 0.0), 1.0), what),
            )
    except InputError as mistake:
        raise InputError(_with_own_names(str(mistake), request), mistake.field) from mistake
    progress(0.9, "writing the report")
    return _with_files(request, case, prediction, store)


def _admit(request: Request) -> Case:
    from cmssd_core.cases import admit as cases
    from cmssd_core.cohort import table as cohort

    if request.cohort is not None:
        root = permitted.root()
        table = cohort.read(request.cohort, within=root)
        rows = table if request.case_id is None else table[table["case_id"] == request.case_id]
        if rows.empty:
            raise InputError(f"the cohort has no case {request.case_id}; choose another one")
        return cohort.admit_row(
            rows.iloc[0], request.cohort.parent, masks=False, reads=read_of_rows(), within=root, fence=fence()
        )
    return cases.admit(
        mri=request.mri,
        contrasts=request.contrasts or None,
        he=request.he,
        mpp=request.mpp,
        site_mm=request.site_mm,
        unpacked_limit_mb=settings().unpacked_limit_mb,
        fence=fence(within=state.folder()),
    )


def _with_own_names(sentence: str, request: Request) -> str:
    for ours, theirs in request.names.items():
        sentence = sentence.replace(ours, theirs)
    return sentence


def _with_files(request: Request, case: Case, prediction: Prediction, store: Store) -> state.Result:
    from cmssd_core.report import files

    folder = Path(tempfile.mkdtemp(dir=state.folder()))
    try:
        written = files.write(prediction, case, folder / "result", store=store)
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in written:
                archive.write(path, path.name)
        page = (folder / "result" / "report.html").read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return state.Result(request, case, prediction, page, packed.getvalue())
