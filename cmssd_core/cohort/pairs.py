"""A folder of image and mask pairs becomes a cohort."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from cmssd_core.cohort import table as cohorts
from cmssd_core.cohort.leakage import BESIDE
from cmssd_core.tables.ids import BARCODES, joined, named_patient, visits
from cmssd_core.types import InputError
from cmssd_core.volume.contrasts import CONTRASTS, contrast_of_word

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


MASK_WORDS = {"mask", "masks", "label", "labels", "labelstr", "labelsts", "seg", "segmentation", "gtv", "roi"}


OTHER_MASKS = {"bone", "osteoid", "destruction"}  # of something that is no tumour


IMAGE_WORDS = {"image", "images", "img", "imagestr", "imagests", "scan", "mr", "mri", "0000"}


MASK = "tumour_mask"  # the column of the masks
CONTRAST = "t1"  # of images that do not say theirs


#: Words that tell visits of one patient apart.
VISIT = re.compile(
    r"(ses|session|visit|tp|timepoint)[-_]?\w+|baseline|follow-?up\d*|(pre|post)(op|rt|chemo|treatment)?"
    r"|(19|20)\d\d-?[01]\d-?[0-3]\d",
    re.IGNORECASE,
)


LAYOUT = "NAME_image.nii.gz beside NAME_mask.nii.gz, one folder a patient or all in one, or imagesTr and labelsTr"


def find_pairs(folder: Path, *, contrast: str = CONTRAST) -> pd.DataFrame:
    """A cohort (all columns of `cohort.COLUMNS`) of the MRI and mask pairs under a folder; paths relative to it.

    A file is a mask or an image by the words in its name and in its folder's, and of a contrast by its name; `contrast`
    is for images that do not say theirs. A case is a folder, or what is left of a name without these words. A patient
    is the one a case's name says (sub-01, a TCGA barcode, Case-3), else the case without its visit or side; Case3,
    Case-3 and case_03 are one, and so are P1_v1 and P1_v2. CT and PET are passed over, and so is an image without a
    mask. The mask is the tumour's. Raises InputError where no pair is found, and where a case has two masks or two
    images of one contrast.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name} is no folder; expected one with {LAYOUT}; check the path")
    found = _gather(folder, contrast)
    if not found:
        raise InputError(f"{folder.name} holds no MRI with a mask; expected {LAYOUT}; rename the files")
    rows = []
    for name, files in found.items():
        for role, several in files.items():
            if len(several) > 1:
                what = "masks" if role == MASK else f"images of {cohorts.MRI_COLUMNS[role]}"
                raise InputError(
                    f"{name} has {len(several)} {what}, {several[0]} and {several[1]}; expected one; remove or rename "
                    "the other"
                )
        rows.append({"case_id": name, **{role: str(several[0]) for role, several in files.items()}})
    patients = joined(_patient(row["case_id"]) for row in rows)
    one = {each: patient for patient, several in visits(patients).items() for each in several}
    for row, patient in zip(rows, patients, strict=True):
        row["patient_id"] = one.get(patient, patient)
    return pd.DataFrame(rows, columns=list(cohorts.COLUMNS))


def _gather(folder: Path, contrast: str) -> dict[str, dict[str, list[Path]]]:
    """Files of each case that has an image and a mask: its name -> its columns -> paths."""
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.rglob("*")):
        if not path.name.lower().endswith(SUFFIXES) or path.name.startswith(BESIDE) or not path.is_file():
            continue
        place = path.relative_to(folder)
        words = [word for part in (*place.parts[:-1], _stem(path)) for word in _words(part)]
        plain = [word.lower() for word in words]
        text = {word: name for word in plain if (name := contrast_of_word(word)) is not None}
        column = CONTRASTS[next((text[word] for word in reversed(plain) if word in text), contrast)].column
        if column not in cohorts.MR_COLUMNS:
            continue
        if MASK_WORDS & set(plain) and OTHER_MASKS & set(plain):
            continue
        role = MASK if MASK_WORDS & set(plain) else column
        left = [word for word in words if word.lower() not in MASK_WORDS | IMAGE_WORDS | set(text)]
        found[cohorts.name_of("_".join(left) + "." or folder.name)][role].append(place)
    pairs = {name: dict(files) for name, files in sorted(found.items()) if MASK in files and len(files) > 1}
    for name in set(found) - set(pairs):  # mask_GTV beside mask: two masks of one image, whatever the second is called
        case = max((each for each in pairs if name.startswith(f"{each}_")), key=len, default=None)
        if case is not None and set(found[name]) == {MASK}:
            pairs[case][MASK] += found[name][MASK]
    return pairs


def _words(name: str) -> list[str]:
    """Words of a name; behind a hyphen only what says mask, image or contrast, as ids have hyphens of their own."""
    words = []
    for word in filter(None, re.split(r"[_\s.]+", name)):
        parts = word.split("-")
        first = len(parts)
        while first > 1 and (_is_kind(parts[first - 1]) or (first < len(parts) and parts[first - 1] in OTHER_MASKS)):
            first -= 1
        if first == 1 < len(parts) and _is_kind(parts[0]):
            first = 0
        words += [*filter(None, ["-".join(parts[:first])]), *parts[first:]]
    return words


def _is_kind(word: str) -> bool:
    word = word.lower()
    return not word.isdigit() and (word in MASK_WORDS | IMAGE_WORDS or contrast_of_word(word) is not None)


def _patient(case: str) -> str:
    """The patient in a case's name, with the folders before him; else the name without its visit."""
    named = named_patient(case, weak=False)
    before = re.split(r"[_\s]+", case if named is None else case[: named[1]])
    kept = [word for word in before if word and not VISIT.fullmatch(word)]
    if named is None:
        return "_".join(kept) or case
    return named[0] if named[0].startswith(BARCODES) else "_".join([*kept, named[0]])


def are_pairs(source: Path) -> bool:
    """Whether a source is a folder of image and mask pairs, and no cohort; find_pairs may yet refuse one of them."""
    if not source.is_dir() or (source / "cohort.csv").is_file():
        return False
    return bool(_gather(source, CONTRAST))


def _stem(path: Path) -> str:
    ending = next(s for s in SUFFIXES if path.name.lower().endswith(s))
    return path.name[: -len(ending)]
