"""A target entry with a `grid` of values as one entry for each combination, before anything is validated."""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST = 10_000


@dataclass(frozen=True)
class Expanded:
    """The entries that the file's entries stand for.

    Attributes:
        entries: without `grid`; those of one grid have the name of their entry as `group`.
        origin: for each its position in the file.
        problems: (position in the file, sentence) for each grid that cannot be expanded; its entry is left out.
    """

    entries: tuple[Any, ...]
    origin: tuple[int, ...]
    problems: tuple[tuple[int, str], ...]


def expand_grids(entries: list[Any]) -> Expanded:
    """Each entry that has a `grid: {key: [values], …}` once for every combination, the last key fastest.

    A key is a path in the entry such as `data.n`. The names get the values: `net-n-100`.
    """
    found: list[tuple[int, Any]] = []
    problems: list[tuple[int, str]] = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or entry.get("grid") is None:
            found.append((position, entry))
        elif sentence := _problem(entry["grid"]):
            problems.append((position, sentence))
        else:
            found += [(position, each) for each in _combinations(entry)]
    return Expanded(
        entries=tuple(entry for _, entry in found),
        origin=tuple(position for position, _ in found),
        problems=tuple(problems),
    )


def _problem(grid: Any) -> str | None:
    if not isinstance(grid, dict) or not grid:
        return "grid: give a section of lists, such as {data.n: [100, 1000]}"
    total = 1
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            return f"grid.{key}: give a list of at least one value, such as {key}: [1, 2]"
        if not isinstance(key, str) or key.split(".")[0] in ("name", "grid"):
            return f'grid: "{key}" cannot be varied; give paths in the target such as data.n, or seed'
        total *= len(values)
    return f"grid: it has {total:,} combinations, at most {MOST:,} are allowed" if total > MOST else None


def _combinations(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    base = {key: value for key, value in entry.items() if key != "grid"}
    for values in itertools.product(*entry["grid"].values()):
        combination = copy.deepcopy(base)
        chosen = dict(zip(entry["grid"], values, strict=True))
        for path, value in chosen.items():
            _put(combination, path.split("."), value)
        if isinstance(entry.get("name"), str):
            labels = [f"{path.split('.')[-1]}-{_label(value)}" for path, value in chosen.items()]
            combination |= {"name": "-".join([entry["name"], *labels]), "group": entry["name"]}
        yield combination


def _put(section: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a path; a section that is missing is made, and what is no section is left to the validation."""
    *sections, last = path
    for key in sections:
        inner = section.get(key)
        if not isinstance(inner, dict):
            inner = section[key] = {}
        section = inner
    section[last] = value


def _label(value: Any) -> str:
    """A value as part of a name."""
    parts = value if isinstance(value, list) else [value]
    return "-".join(
        re.sub(r"[^A-Za-z0-9._-]+", "-", f"{part:g}" if isinstance(part, float) else str(part)) for part in parts
    )
