"""Figures in words for the screen: value, interval and n, "too few", or the reason why there is none."""

from __future__ import annotations

from cmssd_core.evaluation.figure import FEWEST, Figure, format_number
from cmssd_core.evaluation.roc import Difference, McNemar


def number(value: float, digits: int = 3, *, percent: bool = False, signed: bool = False) -> str:
    """A number; what is short of 1 (or of 100 %) is never shown as it."""
    if percent:
        text = format_number(value, digits + 2)
        mark, text = (">", text[1:]) if text.startswith(">") else ("", text)
        return f"{mark}{100 * float(text):.{digits}f}"
    text = f"{value:+.{digits}f}" if signed else format_number(value, digits)
    return text.replace("-", "−")


def doubt(figure: Figure, digits: int = 3, *, percent: bool = False, signed: bool = False) -> str:
    """The interval and n, or why there is none; the second line under a number."""
    if figure.value is None:
        return f"{figure.reason or 'not known'}; n = {figure.n}" if figure.n else figure.reason or "not known"
    if figure.low is None or figure.high is None:
        why = figure.reason or ("too few for an interval" if figure.n < 3 * FEWEST else "no interval")
        return f"{why}, n = {figure.n:,}"
    low, high = (number(edge, digits, percent=percent, signed=signed) for edge in (figure.low, figure.high))
    return f"95 %: {low} to {high}{' %' if percent else ''}, n = {figure.n:,}"


def value(figure: Figure, digits: int = 3, *, percent: bool = False, signed: bool = False) -> str:
    """The number alone, "too few" where fewer than eight cases carry it, "–" where there is none."""
    if figure.value is None:
        return "–"
    if figure.low is None and figure.n < FEWEST:
        return "too few"
    return number(figure.value, digits, percent=percent, signed=signed) + (" %" if percent else "")


def words(figure: Figure, digits: int = 3, *, percent: bool = False, signed: bool = False) -> str:
    """Number and doubt in one phrase, for a table: "0.981 (0.972 to 0.990), n = 90"."""
    text = value(figure, digits, percent=percent, signed=signed)
    if figure.low is None or figure.high is None or text in ("–", "too few"):
        return f"{text} ({doubt(figure)})"
    low, high = (number(edge, digits, percent=percent, signed=signed) for edge in (figure.low, figure.high))
    return f"{text} ({low} to {high}), n = {figure.n:,}"


def cell(text: str) -> str:
    """For a cell that is read as Markdown, where a leading ">" would make a quotation of it."""
    return "\\" + text if text.startswith(">") else text


def probability(p: float | None) -> str:
    """A p value: "0.03", "<0.001", "–" where no test was made."""
    return "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def difference(found: Difference) -> str:
    """The difference of two areas with its interval and DeLong's p, or why there is none."""
    if found.value is None:
        return f"– ({found.reason})"
    gap = number(found.value, signed=True)
    if found.low is None or found.high is None:
        return f"{gap} ({found.reason or 'no interval'})"
    summary = f"{gap} ({number(found.low, signed=True)} to {number(found.high, signed=True)})"
    return summary if found.p is None else f"{summary}, p = {probability(found.p)}".replace("= <", "< ")


def only_one_right(test: McNemar | None) -> str:
    """McNemar's test in words."""
    if test is None:
        return "– (patients have several cases)"
    p = test.reason if test.p is None else f"p = {probability(test.p)}".replace("= <", "< ")
    return f"{test.only_first} against {test.only_second}, {p}"
