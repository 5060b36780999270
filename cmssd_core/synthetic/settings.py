"""Settings of a synthetic cohort, and the refusal of what cannot be made."""

from __future__ import annotations

from dataclasses import dataclass, field

from cmssd_core.cohort.table import SPLITS
from cmssd_core.synthetic import shortcuts
from cmssd_core.synthetic.centres import SHIFTS
from cmssd_core.synthetic.latents import PRESETS
from cmssd_core.synthetic.phantom import SIGNALS, ScanSettings
from cmssd_core.types import InputError


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """What a synthetic cohort is made of; stored in synth.json.

    centres: hospitals the cases come from. shift: one of SHIFTS, how these differ from ordinary ones. slide_px: edge of
    the slide at slide_mpp microns a pixel; slide_quality: of its JPEG tiles. slide_artefacts: share of slides with a
    fold, tear, blur or pen; None = none in `paper`, one in five in `realistic`. shortcut: "none" or one of SHORTCUTS;
    shortcut_correlation: P(trap | malignant) = 1 - P(trap | benign). split: put every case there; None = 70 / 15 / 15.
    """

    preset: str = "paper"
    cases: int = 600
    seed: int = 1
    centres: int = 8
    shift: str = "none"
    scan: ScanSettings = field(default_factory=ScanSettings)
    slide_px: int = 768
    slide_mpp: float = 1.0
    slide_quality: int = 92
    slide_artefacts: float | None = None
    shortcut: str = "none"
    shortcut_correlation: float = 0.8
    split: str | None = None

    @property
    def artefact_share(self) -> float:
        """Share of slides with an artefact."""
        if self.slide_artefacts is not None:
            return self.slide_artefacts
        return 0.2 if self.preset == "realistic" else 0.0


def check(settings: SynthSettings) -> None:
    """Raises InputError with one sentence for the first setting that cannot be."""
    _known("preset", settings.preset, PRESETS)
    _known("shift", settings.shift, SHIFTS)
    if settings.split is not None:
        _known("split", settings.split, SPLITS)
    for contrast in settings.scan.contrasts:
        _known("contrast", contrast, SIGNALS, field="contrasts")
    if not settings.scan.contrasts or len(set(settings.scan.contrasts)) < len(settings.scan.contrasts):
        raise InputError(
            f"contrasts {','.join(settings.scan.contrasts) or 'none'} came, expected at least one and each once; "
            f"choose from {', '.join(SIGNALS)}",
            "contrasts",
        )
    shortcuts.check(settings.shortcut, settings.shortcut_correlation)
    _between("cases", settings.cases, 1, 99_999, field="cases")
    if settings.seed < 0:
        raise InputError(f"seed {settings.seed} came, expected a whole number from 0 on; give another", "seed")
    _between("centres", settings.centres, 1, 1000, field="centres")
    depth, height, width = settings.scan.shape
    _between("slices", depth, 2, 128, field="shape")
    _between("rows of a slice", height, 16, 512, field="shape")
    _between("columns of a slice", width, 16, 512, field="shape")
    for edge in (settings.scan.in_plane_mm, settings.scan.slice_mm):
        _between("mm of a voxel", edge, 0.1, 20)
    _between("intensity steps", settings.scan.step, 1, 64)
    _between("pixels of a slide's edge", settings.slide_px, 64, 8192, field="slide_px")
    _between("microns per pixel", settings.slide_mpp, 0.1, 4, field="slide_mpp")
    _between("JPEG quality", settings.slide_quality, 10, 100)
    _between("of the slides with an artefact", settings.artefact_share, 0, 1, field="slide_artefacts")


def _known(what: str, came: str, expected: tuple[str, ...], *, field: str | None = None) -> None:
    if came not in expected:
        words = f"{what} {came!r} came, expected one of {', '.join(expected)}; choose one of these"
        raise InputError(words, field or what)


def _between(what: str, came: float, low: float, high: float, *, field: str | None = None) -> None:
    if not low <= came <= high:
        raise InputError(f"{came} {what} came, expected {low:g} to {high:g}; give another number", field)


def scan_settings(*, shape: str, contrasts: str) -> ScanSettings:
    """From a command line: shape "slices,rows,columns", the limb filling the field whatever the matrix; contrasts.

    Raises InputError for a shape that is not three whole numbers above 0.
    """
    parts = shape.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"shape {shape!r} came, expected slices,rows,columns such as 16,128,128; mend it", "shape")
    depth, height, width = (int(part) for part in parts)
    usual = ScanSettings()
    return ScanSettings(
        shape=(depth, height, width),
        in_plane_mm=usual.in_plane_mm * usual.shape[1] / min(height, width),
        slice_mm=usual.slice_mm * usual.shape[0] / depth,
        contrasts=tuple(name.strip() for name in contrasts.split(",")),
    )
