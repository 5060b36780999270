"""Mean and deviation of each gene over the training patients: fitted once, stored with weights, then only applied."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cmssd_core.types import InputError, Profile

LogUnit = Literal["log1p", "log"]


@dataclass(frozen=True, kw_only=True)
class ProfileStatistics:
    """Of each gene in `genes`: mean and standard deviation (0 where all were equal) of its logarithm over n patients.

    unit: "log1p" = ln(1 + count), taken by us of counts; "log" = a logarithm of unknown base, as the files had it.
    """

    genes: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    n: int
    unit: LogUnit

    def __post_init__(self) -> None:
        """Raises InputError where the parts do not fit each other."""
        if not len(self.genes) == len(self.mean) == len(self.deviation):
            sizes = f"{len(self.genes)} genes, {len(self.mean)} means and {len(self.deviation)} deviations"
            raise _broken(f"{sizes} came, expected as many of each")
        if not self.genes or len(set(self.genes)) < len(self.genes):
            raise _broken("no gene, or one twice, came, expected each once")
        if not all(map(math.isfinite, (*self.mean, *self.deviation))) or min(self.deviation) < 0:
            raise _broken("a mean or deviation is not finite or below 0, expected numbers")
        if self.unit not in ("log1p", "log") or self.n < 1:
            raise _broken(f"unit {self.unit!r} of {self.n} patients came, expected log1p or log of at least one")


def fit_statistics(profiles: Sequence[Profile], *, genes: Sequence[str] | None = None) -> ProfileStatistics:
    """Statistics of training patients, and of these alone: a test patient among them would leak.

    genes: which and in what order; each is taken over the patients who have it. None = those that all patients have,
    in the first patient's order. Deviations are of the population (divided by n).
    Raises InputError where fewer than two patients come, their units differ, or too few of them have a gene.
    """
    if len(profiles) < 2:
        raise InputError(f"{len(profiles)} RNA profiles came to fit statistics on; expected at least 2; add patients")
    units = sorted({profile.unit for profile in profiles})
    if len(units) > 1 or "zscore" in units:
        raise InputError(
            f"RNA profiles in {' and '.join(units)} came; expected all counts or all logarithms; say the unit of those "
            "that were read wrongly"
        )
    tables = [dict(zip(profile.names, to_log(profile).tolist(), strict=True)) for profile in profiles]
    shared = set.intersection(*(set(table) for table in tables))
    chosen = tuple(genes) if genes is not None else tuple(gene for gene in profiles[0].names if gene in shared)
    if not chosen:
        raise InputError("the RNA profiles share no gene; expected one kind of names; convert symbols or Ensembl ids")
    rare = [gene for gene in chosen if sum(gene in table for table in tables) < 2]
    if rare:
        raise InputError(
            f"gene {rare[0]} (one of {len(rare)}) stands in fewer than 2 of {len(tables)} RNA profiles; expected it in "
            "most; leave it out of the model's genes"
        )
    values = np.array([[table.get(gene, np.nan) for gene in chosen] for table in tables])  # (patient, gene)
    # A constant gene's deviation would be rounding error, and dividing by it noise.
    constant = np.nanmax(values, axis=0) == np.nanmin(values, axis=0)
    deviation = np.where(constant, 0.0, np.nanstd(values, axis=0))
    return ProfileStatistics(
        genes=chosen,
        mean=tuple(np.nanmean(values, axis=0).tolist()),
        deviation=tuple(deviation.tolist()),
        n=len(profiles),
        unit="log" if units == ["log"] else "log1p",
    )


def to_log(profile: Profile) -> npt.NDArray[np.float64]:
    """Expression as logarithms, float64 (gene,): ln(1 + count) of counts, logarithms as they are."""
    values = profile.values.astype(np.float64)
    return np.log1p(values) if profile.unit == "counts" else values


def to_json(statistics: ProfileStatistics) -> str:
    """One line of JSON, for the metadata of a safetensors file; `from_json` gives the same numbers to the last bit."""
    return json.dumps(asdict(statistics), allow_nan=False)


def from_json(text: str) -> ProfileStatistics:
    """What `to_json` wrote. Raises InputError where it is anything else."""
    try:
        parts = json.loads(text)
        return ProfileStatistics(
            genes=tuple(str(gene) for gene in parts["genes"]),
            mean=tuple(float(value) for value in parts["mean"]),
            deviation=tuple(float(value) for value in parts["deviation"]),
            n=int(parts["n"]),
            unit=parts["unit"],
        )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _broken("something else came, expected genes, mean, deviation, n and unit") from None


def _broken(what: str) -> InputError:
    return InputError(f"the RNA statistics of these weights cannot be used: {what}; train the model again")
