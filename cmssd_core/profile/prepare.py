"""Prepare a profile: the model's genes in the model's order, as logarithms, z-scored by stored training statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cmssd_core.profile.read import WHERE, name_some
from cmssd_core.profile.statistics import ProfileStatistics, to_log
from cmssd_core.types import Finding, InputError, Profile, ProfileUnit, frozen

#: The share of a model's genes that may be missing; more, and the answer would be the training patients' mean.
MISSING_SHARE = 0.05
LISTED = 20  # missing genes named in a finding
#: The median |z| of a patient like those of training is about 0.7.
FAR = 3.0


def prepare_profile(
    profile: Profile, *, genes: Sequence[str], statistics: ProfileStatistics | None
) -> tuple[Profile, tuple[Finding, ...], tuple[str, ...]]:
    """The profile as a model reads it: float32 (gene,) in the order of `genes`, with findings and steps.

    statistics: of the training patients; z = (log - mean) / deviation, 0 for a gene that was constant in training or
    that the patient lacks. Missing genes are named and counted in a finding. None = before they are fitted: logarithms
    only, with a finding, and no gene may be missing, as there is no mean to put in its place.
    Raises InputError where more than MISSING_SHARE of the genes are missing, where the statistics lack one, or where
    logarithms of another kind than those of training came.
    """
    if profile.unit == "zscore":
        raise InputError("an RNA profile came that is z-scored already; expected counts or logarithms; give it as read")
    place = {name: number for number, name in enumerate(profile.names)}
    missing = [gene for gene in genes if gene not in place]
    if len(missing) > (0 if statistics is None else MISSING_SHARE * len(genes)):
        raise _too_many(missing, genes, profile, known=statistics is not None)
    values = to_log(profile)
    chosen = np.array([values[place[gene]] if gene in place else np.nan for gene in genes], np.float64)
    steps = [f"{len(genes)} genes of the model selected from {len(place)}"]
    if profile.unit == "counts":
        steps.append("ln(1 + value) taken of counts")
    unit: ProfileUnit = "log" if profile.unit == "log" else "log1p"
    if statistics is None:
        what = "expression is not z-scored, as there are no statistics of training patients"
        prepared = Profile(frozen(chosen.astype(np.float32)), tuple(genes), unit)
        return prepared, (Finding("warning", what, WHERE),), tuple(steps)
    if unit != statistics.unit:
        raise _other_logarithm(unit)
    z, notes = _standardise(chosen, genes, statistics)
    findings = []
    if missing:
        what = f"{len(missing)} of {len(genes)} genes are missing and get the mean of the training patients: "
        findings.append(Finding("warning", what + name_some(missing, most=LISTED), WHERE))
    far = float(np.median(np.abs(z)))
    if far > FAR:
        what = (
            f"the median gene lies {far:.1f} standard deviations from the training patients, where about 0.7 is usual; "
            "the scale or the platform is another"
        )
        findings.append(Finding("severe", what, WHERE))
    return Profile(frozen(z.astype(np.float32)), tuple(genes), "zscore"), tuple(findings), (*steps, *notes)


def _standardise(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], genes: Sequence[str], statistics: ProfileStatistics
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[str]]:
    place = {name: number for number, name in enumerate(statistics.genes)}
    unknown = [gene for gene in genes if gene not in place]
    if unknown:
        raise InputError(
            f"the training statistics lack {len(unknown)} of the model's genes: {name_some(unknown)}; expected those "
            "fitted for this model; use the ones stored with its weights"
        )
    order = [place[gene] for gene in genes]
    mean = np.array(statistics.mean)[order]
    deviation = np.array(statistics.deviation)[order]
    constant = deviation == 0
    # The model never saw a constant gene vary: what it would make of a change is chance.
    z = np.where(constant | np.isnan(values), 0.0, (values - mean) / np.where(constant, 1.0, deviation))
    steps = [f"z-scored by the mean and deviation of {statistics.n} training patients"]
    if constant.any():
        steps.append(f"{int(constant.sum())} genes that did not vary in training set to 0")
    return z, steps


def _too_many(missing: list[str], genes: Sequence[str], profile: Profile, *, known: bool) -> InputError:
    folded = {name.casefold() for name in profile.names}
    if all(gene.casefold() in folded for gene in missing):
        repair = "the file has them in other letters (human genes are written TP53, those of mice Trp53)"
    elif all(name.startswith("ENS") for name in profile.names) and not any(gene.startswith("ENS") for gene in missing):
        repair = "the file names Ensembl ids, the model symbols; convert them"
    else:
        repair = "give a profile that has them"
    expected = f"at most {MISSING_SHARE:.0%} missing" if known else "all of them, as there is no training mean yet"
    return InputError(
        f"the RNA profile lacks {len(missing)} of the {len(genes)} genes that the model reads ({name_some(missing)}); "
        f"expected {expected}; {repair}"
    )


def _other_logarithm(unit: ProfileUnit) -> InputError:
    kinds = {"log1p": "ln(1 + value) of counts", "log": "logarithms of unknown base"}
    other = kinds["log" if unit == "log1p" else "log1p"]
    return InputError(
        f"the RNA profile is in {kinds[unit]}, the training patients were in {other}; expected one scale, as another "
        "base changes each z-score; give it as the training patients were, or say its unit if it was told wrongly"
    )
