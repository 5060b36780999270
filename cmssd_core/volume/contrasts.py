"""THE table of contrasts: what each image of an examination is called, measures and wants done before a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MR, CT, PT = "MR", "CT", "PT"  # DICOM's words for the three kinds of scanner
HU, SUV = "HU", "SUV"  # units that hold on every scanner


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One kind of image.

    label: its name on screens. column: its column in cohort.csv. aliases: words that stand for it in the names of files
    and series, beside its own name; a name beats an alias, so a new row may take for its name what is an alias today.
    dicom: Modality (0008,0060) of its series. acquisition: Acquisition Contrast (0008,9209) that says it, None = none.
    unit: of its values, "" where they mean nothing outside their own scan.
    bias_corrected: whether the coil's field is divided out. limits: the window in `unit` that a model gets as -1 to 1,
    None = it gets z-scores inside the body. air: what is measured in air; body_above: what tissue measures at least;
    None = told from the scan. A row with limits has a unit and its air.
    """

    label: str
    column: str
    aliases: tuple[str, ...] = ()
    dicom: str = MR
    acquisition: str | None = None
    unit: str = ""
    bias_corrected: bool = True
    limits: tuple[float, float] | None = None
    air: float | None = None
    body_above: float | None = None

    @property
    def scale(self) -> Literal["zscore", "window"]:
        """How a model gets it. Either way 0 is the middle of what tissue shows, and the value of a channel left out."""
        return "zscore" if self.limits is None else "window"

    @property
    def quantitative(self) -> bool:
        """Whether the values are measurements in a unit, which no coil's gain scales and no noise ratio describes."""
        return self.unit != ""


#: name -> contrast, in the order channels, columns and choices have. A new contrast is one row here.
CONTRASTS: dict[str, Contrast] = {
    "t1": Contrast(
        label="T1",
        column="mri_t1",
        aliases=("t1w", "t1wi", "t1c", "t1ce", "t1gd", "t1fs"),
        acquisition="T1",
    ),
    "t2": Contrast(label="T2", column="mri_t2", aliases=("t2w", "t2wi", "t2fs"), acquisition="T2"),
    "stir": Contrast(label="STIR", column="mri_stir", aliases=("tirm",), acquisition="STIR"),
    "adc": Contrast(label="ADC", column="mri_adc", unit="10-6 mm2/s", bias_corrected=False),
    # Centre 600, width 1600: fat (-100) and mineralised tumour (300 to 1000) both lie inside, only the densest cortex
    # (1400 and more) is cut off, which nothing else looks like. A screen's soft tissue window (40, 400) cuts off bone,
    # a screen's bone window (480, 2500) leaves a tumour and its muscle 2 % of the range apart.
    "ct": Contrast(
        label="CT",
        column="ct",
        dicom=CT,
        unit=HU,
        bias_corrected=False,
        limits=(-200.0, 1400.0),
        air=-1000.0,
        body_above=-300.0,
    ),
    # The most active voxel of 33 soft-tissue sarcomas takes up 29; above lie bladder and the place of injection.
    "pet": Contrast(
        label="PET",
        column="pet",
        aliases=("pt", "suv"),
        dicom=PT,
        unit=SUV,
        bias_corrected=False,
        limits=(0.0, 30.0),
        air=0.0,
        body_above=0.1,
    ),
}


def contrast_of_word(word: str) -> str | None:
    """The contrast a lower-case word of a file's or a series' name stands for; None where it stands for none."""
    if word in CONTRASTS:
        return word
    return next((name for name, row in CONTRASTS.items() if word in row.aliases), None)


def contrast_label(name: str) -> str:
    """What a contrast is called on a screen ("t1" -> "T1")."""
    return CONTRASTS[name].label


def contrast_columns() -> dict[str, str]:
    """Column of cohort.csv -> the contrast it holds, in the table's order."""
    return {row.column: name for name, row in CONTRASTS.items()}


def scanner_columns(dicom: str) -> tuple[str, ...]:
    """The columns of cohort.csv whose images come from one kind of scanner: MR, CT or PT."""
    return tuple(row.column for row in CONTRASTS.values() if row.dicom == dicom)
