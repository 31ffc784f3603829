"""Columns of plain text on a terminal."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence

WIDTH = 120


def clipped(text: str, width: int | None) -> str:
    """The text, ended by … where it takes more than `width` columns; None is no limit."""
    if width is None or columns_of(text) <= width:
        return text
    columns, kept = 0, []
    for character in text:
        columns += columns_of(character)
        if columns >= width:
            break
        kept.append(character)
    return "".join(kept) + "…"


def columns_of(text: str) -> int:
    """Columns on a terminal: combining marks, as in λ̂, take none."""
    return sum(not unicodedata.combining(character) for character in text)


def aligned(cells: Iterable[str], widths: Sequence[int], right: Collection[int]) -> str:
    """One line: the cells, each as wide as its column, those of the columns `right` flush right."""
    padded = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        space = " " * (width - columns_of(cell))
        padded.append(space + cell if column in right else cell + space)
    return "  ".join(padded)
