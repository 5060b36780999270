"""Read an RNA expression profile: one patient's genes and values from a table become a Profile, or a sentence."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmssd_core.profile.layout import DELIMITERS, SUFFIXES, Cells, read_cells
from cmssd_core.types import Finding, FloatArray, InputError, Profile, ProfileUnit, Reading, frozen

__all__ = ["SUFFIXES", "describe_profile", "read_profile"]

WHERE = "rna"
#: A logarithm of expression does not reach 25 (2^25 reads of one gene); counts of a whole transcriptome pass 50.
LOG_LIMIT = 25.0
COUNTS_FROM = 50.0
#: In a panel of fewer genes than this, counts may all stay below LOG_LIMIT.
FEW_GENES = 100
NAMED = 5  # genes named in an error; the others are counted
_SAID_UNITS = ("counts", "log1p", "log")
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "-"))
_VERSION = re.compile(r"(ENS[A-Z]*\d{11})\.\d+")
#: Rows that counting programs add below the genes.
_TALLY = re.compile(r"__\w+|N_(unmapped|multimapping|noFeature|ambiguous)")
_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DATE = re.compile(rf"\d{{1,4}}-{_MONTH}|{_MONTH}-\d{{1,4}}", re.IGNORECASE)


def read_profile(
    path: Path, *, patient_id: str | None = None, unit: ProfileUnit | None = None, size_limit_mb: int = 256
) -> Reading[Profile]:
    """One patient's expression as float32 (gene,), on the scale it has in the file: no logarithm is taken here.

    path: CSV or TSV (comma, tab or semicolon, also as .gz) of one patient (genes and values) or of many, in rows or in
    columns; then patient_id says which. unit: "counts", "log1p" or "log" where the user knows it; else it is told from
    the values. Version suffixes of Ensembl ids are dropped. A gene that stands there several times gets the mean of its
    values, with a finding: whole transcriptomes repeat symbols no model reads, so to refuse them would refuse nearly
    every file. digest: sha256 of unit, genes and values, whatever form, order or packing they came in.

    Raises InputError, one sentence, where the file is no such table, does not hold the patient, or a value is missing,
    no number, not finite or below 0.
    """
    path = Path(path)
    if unit is not None and unit not in _SAID_UNITS:
        raise InputError(
            f"unit {unit!r} came for {path.name}; expected one of {', '.join(_SAID_UNITS)}; correct it", "unit"
        )
    cells = read_cells(path, patient_id=patient_id, size_limit_mb=size_limit_mb)
    return _to_reading(cells, path.name, unit)


def describe_profile(path: Path, *, patient_id: str | None = None, size_limit_mb: int = 256) -> dict[str, Any]:
    """What `read_profile` would make of a file, as JSON-able facts without names; a problem is told, not raised.

    Keys: kind, form, delimiter, patients, genes, unit, range (lowest and highest value), first_genes, readable,
    problem, field (what of the question the problem is about), findings, steps, digest. Of a table of many patients
    without a patient_id the first patient is looked at, and digest is None.
    """
    path = Path(path)
    facts: dict[str, Any] = {
        "kind": "profile", "form": None, "delimiter": None, "patients": None, "genes": None, "unit": None,
        "range": None, "first_genes": [], "readable": False, "problem": None, "field": None, "findings": [],
        "steps": [], "digest": None,
    }  # fmt: skip
    try:
        cells = read_cells(path, patient_id=patient_id, size_limit_mb=size_limit_mb, any_patient=True)
        facts |= {
            "form": cells.form,
            "delimiter": DELIMITERS[cells.delimiter],
            "patients": cells.patients,
            "genes": len(cells.genes),
        }
        reading = _to_reading(cells, path.name, None)
    except InputError as problem:
        return facts | {"problem": str(problem), "field": problem.field}
    profile = reading.value
    chosen = patient_id is not None or cells.patients == 1
    return facts | {
        "genes": len(profile.names),
        "unit": profile.unit,
        "range": [float(profile.values.min()), float(profile.values.max())],
        "first_genes": list(profile.names[:NAMED]),
        "readable": True,
        "findings": [{"level": f.level, "what": f.what, "where": f.where} for f in reading.findings],
        "steps": list(reading.steps),
        "digest": reading.digest if chosen else None,
    }


def name_some(genes: Sequence[str], *, most: int = NAMED) -> str:
    """The first genes by name, the others by number."""
    rest = len(genes) - most
    return ", ".join(genes[:most]) + (f" and {rest} more" if rest > 0 else "")


def _to_reading(cells: Cells, name: str, words: ProfileUnit | None) -> Reading[Profile]:
    genes, texts, steps = _drop_tallies(cells, name)
    genes, notes = _clean_names(genes, name)
    steps += notes
    texts, notes = _use_points(texts, cells.delimiter)
    steps += notes
    numbers = [_to_number(text, gene, name) for text, gene in zip(texts, genes, strict=True)]
    names, means, findings = _average_repeats(genes, numbers)
    values = np.asarray(means, np.float32)
    if not values.any():
        raise InputError(f"{name} has only zeros; expected the expression of a tumour; check the export")
    dated = [gene for gene in names if _DATE.fullmatch(gene)]
    if dated:
        what = f"a spreadsheet has turned gene names into dates: {name_some(dated)}; these genes are not recognised"
        findings.append(Finding("warning", what, WHERE))
    unit, note, doubts = _tell_unit(values, words)
    steps = [f"expression of {len(names)} genes read, {cells.form}", *steps, note]
    profile = Profile(frozen(values), names, unit)
    return Reading(profile, _digest(profile), (*cells.findings, *findings, *doubts), tuple(steps))


def _drop_tallies(cells: Cells, name: str) -> tuple[list[str], list[str], list[str]]:
    """Genes and their texts without the rows in which counting programs say what they could not place."""
    kept = [(g, v) for g, v in zip(cells.genes, cells.values, strict=True) if not _TALLY.fullmatch(g)]
    dropped = len(cells.genes) - len(kept)
    if not kept:
        raise InputError(f"{name} holds no gene; expected at least one with its value; export it again")
    steps = [f"{dropped} tallies that are no genes left out"] if dropped else []
    return [g for g, _ in kept], [v for _, v in kept], steps


def _clean_names(genes: list[str], name: str) -> tuple[list[str], list[str]]:
    cleaned = []
    for place, gene in enumerate(genes, start=1):
        if not gene:
            raise InputError(f"{name}, gene {place} of {len(genes)}, has no name; expected a symbol; name or remove it")
        versioned = _VERSION.fullmatch(gene)
        cleaned.append(versioned[1] if versioned else gene)
    dropped = sum(one != other for one, other in zip(genes, cleaned, strict=True))
    return cleaned, [f"version suffix of {dropped} Ensembl ids dropped"] if dropped else []


def _use_points(texts: list[str], delimiter: str) -> tuple[list[str], list[str]]:
    """Decimal commas as points, where they can be nothing else: "1,234" everywhere may be a thousand."""
    commas = [text for text in texts if "," in text]
    decimal = all(re.fullmatch(r"\d+,\d+([eE][+-]?\d+)?", text) for text in commas)
    thousands = all(re.fullmatch(r"[1-9]\d{0,2},\d{3}", text) for text in commas)
    if delimiter == "," or not commas or not decimal or thousands or any("." in text for text in texts):
        return texts, []
    return [text.replace(",", ".") for text in texts], ["decimal commas read as points"]


def _to_number(text: str, gene: str, name: str) -> float:
    if text.lower() in _MISSING:
        came = repr(text) if text else "nothing"
        raise InputError(
            f"{name} has {came} for gene {gene}; expected a number for each gene; fill it in or leave the gene out"
        )
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InputError(
            f"{name} has {text!r} for gene {gene}; expected a plain number such as 12.5, and nothing but genes; "
            "mend the value or leave it out"
        )
    if value > float(np.finfo(np.float32).max):
        raise InputError(f"{name} has {text!r} for gene {gene}; expected a finite number; mend the value")
    if value < 0:
        raise InputError(
            f"{name} has {text} for gene {gene}; expected counts, TPM, FPKM or their logarithm, 0 or above, and no "
            "z-scores or log ratios; export the values before they were centred"
        )
    return value


def _average_repeats(genes: list[str], numbers: list[float]) -> tuple[tuple[str, ...], list[float], list[Finding]]:
    """Each gene once, in the order of first places; the mean where it stood there with several values."""
    values: dict[str, list[float]] = defaultdict(list)
    for gene, number in zip(genes, numbers, strict=True):
        values[gene].append(number)
    repeated = [gene for gene, several in values.items() if len(several) > 1]
    findings = []
    if repeated:
        what = f"{len(repeated)} genes stand there more than once and get the mean of their values: "
        findings.append(Finding("warning", what + name_some(repeated), WHERE))
    return tuple(values), [math.fsum(several) / len(several) for several in values.values()], findings


def _tell_unit(values: FloatArray, words: ProfileUnit | None) -> tuple[ProfileUnit, str, tuple[Finding, ...]]:
    """Unit, a step that says why, and findings where the values could be either."""
    highest = float(values.max())
    if words is not None:
        return words, f"unit {words} as the user says (highest value {highest:.4g})", ()
    whole = bool((values == np.round(values)).all())
    if highest > COUNTS_FROM:
        return "counts", f"read as counts: the highest value is {highest:.4g}, more than a logarithm reaches", ()
    if whole or highest > LOG_LIMIT:
        why = "all are whole numbers" if whole else f"the highest is {highest:.4g}"
        what = f"the values may be counts or logarithms and are taken as counts, as {why}; say the unit if it is known"
        return "counts", f"read as counts: {why}", (Finding("warning", what, WHERE),)
    step = f"read as a logarithm: the highest value is {highest:.4g}"
    if len(values) >= FEW_GENES:
        return "log", step, ()
    what = (
        f"{len(values)} genes are too few to tell counts from logarithms; they are taken as logarithms, as the highest "
        f"is {highest:.4g}; say the unit if it is known"
    )
    return "log", step, (Finding("warning", what, WHERE),)


def _digest(profile: Profile) -> str:
    lines = sorted(f"{name}\t{value!r}\n" for name, value in zip(profile.names, profile.values.tolist(), strict=True))
    return hashlib.sha256("".join([profile.unit, "\n", *lines]).encode()).hexdigest()
