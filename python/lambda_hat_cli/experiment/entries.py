"""Target entries that stand for several, by a `grid` of values or a pattern of `weights.files`, written out.

This comes before anything is validated: what is written out is what a person could have written.
"""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.problems import show

MOST = 10_000


@dataclass(frozen=True)
class Expanded:
    """The entries that the file's entries stand for.

    Attributes:
        entries: without `grid` and `weights.files`; those that came of one have its name as `group`, those of a grid
            their values in it as `varied`, and the checkpoints of a training their `step`.
        origin: for each its position in the file.
        problems: (position in the file, sentence) for each entry that cannot be written out; it is left out.
    """

    entries: tuple[Any, ...]
    origin: tuple[int, ...]
    problems: tuple[tuple[int, str], ...]


def expand_entries(entries: list[Any], folder: Path) -> Expanded:
    """Each entry for every combination of its `grid`, the last key fastest, and for every file of its `weights.files`.

    A grid is `{key: [values], …}` with paths in the entry such as `data.n`; the names get the values: `net-n-100`. The
    last number in the name of a file of weights is the checkpoint's step: `net-step-1000`.

    Args:
        entries: of the experiment file. folder: where it lies.
    """
    found: list[tuple[int, Any]] = []
    problems: list[tuple[int, str]] = []
    for position, entry in enumerate(entries):
        try:
            if isinstance(entry, dict) and (made := [key for key in ("group", "step", "varied") if key in entry]):
                raise UserError(f'unknown key "{made[0]}"; leave it out')
            combinations = [entry] if not isinstance(entry, dict) else _combinations(entry)
            found += [(position, each) for one in combinations for each in _checkpoints(one, folder)]
        except UserError as problem:
            problems.append((position, str(problem)))
    return Expanded(
        entries=tuple(entry for _, entry in found),
        origin=tuple(position for position, _ in found),
        problems=tuple(problems),
    )


def _checkpoints(entry: Any, folder: Path) -> list[Any]:
    """The entry for every file that the pattern `weights.files` fits, by steps; itself where it has none.

    Raises:
        UserError: when the pattern fits no file, or their names do not tell the steps.
    """
    weights = entry.get("weights") if isinstance(entry, dict) else None
    if not isinstance(weights, dict) or weights.get("files") is None:
        return [entry]
    pattern = weights["files"]
    if (
        not isinstance(pattern, str)
        or not pattern
        or PurePosixPath(pattern).is_absolute()
        or ".." in PurePosixPath(pattern).parts
    ):
        raise UserError(
            f'weights.files: {pattern!r} must be a pattern such as "checkpoints/*.safetensors", within the folder'
        )
    if "file" in weights:
        raise UserError("weights: `file` and `files` exclude each other: leave one of them out")
    by_step: dict[int, str] = {}
    for path in sorted(path for path in folder.glob(pattern) if path.is_file()):
        name = path.relative_to(folder).as_posix()
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise UserError(f"weights.files: {name} has no number in its name, which must tell the steps of training")
        step = int(numbers[-1])
        if step in by_step:
            raise UserError(f"weights.files: {by_step[step]} and {name} both tell step {step}; rename one of them")
        by_step[step] = name
    if not by_step:
        raise UserError(f'weights.files: "{pattern}" fits no file in {folder}')
    rest = {key: value for key, value in weights.items() if key != "files"}
    return [
        entry
        | {"weights": {**rest, "file": by_step[step]}, "step": step}
        | (
            {"name": f"{entry['name']}-step-{step}", "group": entry.get("group", entry["name"])}
            if isinstance(entry.get("name"), str)
            else {}
        )
        for step in sorted(by_step)
    ]


def _combinations(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry for every combination of its grid; itself where it has none.

    Raises:
        UserError: when the grid is none.
    """
    base = {key: value for key, value in entry.items() if key != "grid"}
    return (
        [base]
        if entry.get("grid") is None
        else list(_written_out(base, _checked(entry["grid"], str(base.get("name", "…")))))
    )


def _checked(grid: Any, name: str) -> dict[str, list[Any]]:
    """The grid of the target called `name`.

    Raises:
        UserError: when it is none.
    """
    if not isinstance(grid, dict) or not grid:
        raise UserError("grid: give a section of lists, such as {data.n: [100, 1000]}")
    total = 1
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"grid.{key}: give a list of at least one value, such as {key}: [1, 2]")
        if not isinstance(key, str) or key.split(".")[0] in ("name", "grid"):
            raise UserError(f'grid: "{key}" cannot be varied; give paths in the target such as data.n, or seed')
        if key.split(".")[0] == "posterior":
            lists = ", ".join(f"{path}: {show(items)}" for path, items in _posterior_lists(key, values).items())
            raise UserError(
                f'grid: "{key}" is no key of a target; give lists in the section `posterior` of the file, or for this '
                f"target alone overrides: [{{match: {{target: {name}}}, set: {{{lists}}}}}]"
            )
        total *= len(values)
    if total > MOST:
        raise UserError(f"grid: it has {total:,} combinations, at most {MOST:,} are allowed")
    return grid


def _posterior_lists(key: str, values: list[Any]) -> dict[str, list[Any]]:
    """What an override sets in place of `key: values` in a grid; sections become a list for each of their keys."""
    if "." in key:
        return {key: values}
    sections = [value for value in values if isinstance(value, dict)]
    inner = dict.fromkeys(name for section in sections for name in section)
    lists = {f"posterior.{name}": [section[name] for section in sections if name in section] for name in inner}
    return lists or {"posterior.localization": [1, 10, 100]}


def _written_out(base: dict[str, Any], grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        combination = copy.deepcopy(base)
        chosen = dict(zip(grid, values, strict=True))
        for path, value in chosen.items():
            _put(combination, path.split("."), value)
        if isinstance(base.get("name"), str):
            labels = [f"{path.split('.')[-1]}-{_label(value)}" for path, value in chosen.items()]
            combination |= {"name": "-".join([base["name"], *labels]), "group": base["name"]}
        combination["varied"] = chosen
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
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(map(str, parts))).strip("-")
