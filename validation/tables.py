"""Markdown tables and the numbers in them, as every page of the validation writes them."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}"


def thousands(value: float | None) -> str:
    """A count of gradients, to three digits."""
    return "–" if value is None else f"{float(f'{value:.3g}'):,.0f}"


def percent(value: float | None) -> str:
    """A share or a relative error."""
    return "–" if value is None else f"{100 * value:.3g} %"


def verdict_words(verdicts: dict[str, int]) -> str:
    """The verdicts that occur, with their counts."""
    return ", ".join(f"{count} {name}" for name, count in verdicts.items() if count) or "–"
