"""Turns the schema's complaints into sentences: where, the value, what is allowed, the nearest right spelling."""

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lambda_hat_cli.errors import UserError, nearest

Key = str | int
_MAX_LINES = 20
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "a name of at most 64 letters, digits, dots, dashes and underscores "
    "that begins with a letter or digit",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "a Python name",
}


@dataclass(frozen=True)
class Problem:
    """One complaint.

    Attributes:
        path: keys and list positions from the top of the validated value.
        text: what is wrong and what is allowed, to stand after the path.
        about_value: whether the whole value at `path` is at fault, not something about its keys.
    """

    path: tuple[Key, ...]
    text: str
    about_value: bool = False


def problems_of(error: ValidationError, model: type[BaseModel], raw: Any) -> list[Problem]:
    """The complaints of a failed validation, each place once, in the order of the file.

    Args:
        error: what `model` raised for `raw`.
        model: the model that was validated.
        raw: the plain value that was validated.
    """
    found: list[Problem] = []
    absent: list[Problem] = []
    for detail in error.errors(include_url=False):
        place = _locate(detail["loc"], model, raw)
        problem = _problem(detail["type"], detail.get("ctx", {}), place)
        # A value that a model filled in from another key is complained about under that key too.
        (found if place.present or detail["type"] == "missing" else absent).append(problem)
    unique = list(dict.fromkeys(found or absent))

    def says_more(other: Problem, path: tuple[Key, ...]) -> bool:
        return other.path[: len(path)] == path and (len(other.path) > len(path) or not other.about_value)

    # Of a value that may be one, a list or a section, the complaint about what is in it says more than that about it.
    return [
        problem
        for problem in unique
        if not (problem.about_value and any(says_more(other, problem.path) for other in unique))
    ]


def refuse(where: str, lines: Sequence[str]) -> UserError:
    """The error for all complaints about one file, one a line."""
    lines = list(dict.fromkeys(lines))
    if len(lines) == 1:
        return UserError(f"{where}: {lines[0]}")
    shown = [f"  {line}" for line in lines[:_MAX_LINES]]
    if len(lines) > _MAX_LINES:
        shown.append(f"  and {len(lines) - _MAX_LINES} more")
    return UserError("\n".join([f"{where}: {len(lines)} problems", *shown]))


def show(value: Any) -> str:
    """A value as a person would write it, cut to a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def join_path(path: Iterable[Key]) -> str:
    """Keys with dots, positions in brackets: `model.widths[0]`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def describe(annotation: Any) -> str:
    """What a type of the schema allows, in words that follow "give"."""
    base, constraints = _unwrap(annotation)
    if _discriminator(annotation):
        return f"a section with a kind: {_choices(_kinds(annotation))}"
    origin = get_origin(base)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(member) for member in get_args(base) if member is not type(None))
    if origin is Literal:
        return _choices(get_args(base))
    if origin is tuple:
        return _describe_list(get_args(base), constraints)
    if base is bool:
        return "true or false"
    if base in (int, float):
        return _describe_number("a whole number" if base is int else "a number", constraints)
    if base is str:
        pattern = constraints.get("pattern")
        return _PATTERNS.get(pattern, f"text like {pattern}") if pattern else "text"
    if isinstance(base, type) and issubclass(base, BaseModel):
        return f"a section with keys among {', '.join(base.model_fields)}"
    return "a section with at least one key" if constraints.get("min_length") else "a section of keys with values"


def _describe_list(items: tuple[Any, ...], constraints: Mapping[str, Any]) -> str:
    if items[-1] is Ellipsis:
        least = constraints.get("min_length", 0)
        return f"a list of at least {least} item{'s' if least != 1 else ''}, each {describe(items[0])}"
    return f"a list of {len(items)} items, each {describe(items[0])}"


def _describe_number(noun: str, constraints: Mapping[str, Any]) -> str:
    if "ge" in constraints and "le" in constraints:
        return f"{noun} from {constraints['ge']} to {constraints['le']}"
    words = {"gt": "greater than", "ge": "of at least", "lt": "less than", "le": "of at most"}
    limits = [f"{words[name]} {value}" for name, value in constraints.items() if name in words]
    return f"{noun} {' and '.join(limits)}" if limits else noun


def _choices(values: Iterable[Any]) -> str:
    texts = [show(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def _unwrap(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """A type without its annotations, and its limits by name."""
    constraints: dict[str, Any] = {}
    while get_origin(annotation) is Annotated:
        annotation, *extras = get_args(annotation)
        for extra in extras:
            for limit in extra.metadata if isinstance(extra, FieldInfo) else [extra]:
                for name in ("gt", "ge", "lt", "le", "min_length", "pattern"):
                    if getattr(limit, name, None) is not None:
                        constraints[name] = getattr(limit, name)
    return annotation, constraints


def _discriminator(annotation: Any) -> bool:
    if get_origin(annotation) is not Annotated:
        return False
    return any(isinstance(extra, FieldInfo) and extra.discriminator for extra in get_args(annotation)[1:])


def _kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """The members of a union of sections, by kind."""
    union, _ = _unwrap(annotation)
    return {get_args(member.model_fields["kind"].annotation)[0]: member for member in get_args(union)}


def _members(annotation: Any) -> list[Any]:
    """The members of a plain union other than None; a single one where there is no choice."""
    base, _ = _unwrap(annotation)
    if get_origin(base) not in (Union, types.UnionType):
        return [annotation]
    return [member for member in get_args(base) if member is not type(None)]


def _name(annotation: Any) -> str | None:
    """How an error's location names a section among the members of a union."""
    return annotation.__name__ if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


@dataclass(frozen=True)
class _Place:
    """A place in the validated value: its path, its type, the section that should know its key, its value."""

    path: tuple[Key, ...]
    annotation: Any
    section: type[BaseModel] | None
    value: Any
    present: bool


def _locate(loc: Sequence[Key], model: type[BaseModel], raw: Any) -> _Place:
    """Follow an error's location through types and values, leaving out the names of union members in it."""
    parts = list(loc)
    path: list[Key] = []
    annotation: Any = model
    section: type[BaseModel] | None = None
    value, present = raw, True
    while True:
        members = _members(annotation) if not _discriminator(annotation) else [annotation]
        if len(members) == 1:
            annotation = members[0]
        elif len(parts) >= 2 and isinstance(parts[1], int):
            annotation = next(member for member in members if get_origin(_unwrap(member)[0]) is tuple)
            parts = parts[1:]
        elif len(parts) >= 2 and (named := [member for member in members if _name(member) == parts[0]]):
            annotation = named[0]
            parts = parts[1:]
        else:
            break
        if not parts:
            break
        key = parts.pop(0)
        if _discriminator(annotation):
            annotation = _kinds(annotation)[str(key)]
            continue
        base, _ = _unwrap(annotation)
        path.append(key)
        if isinstance(base, type) and issubclass(base, BaseModel):
            section = base
            annotation = get_type_hints(base, include_extras=True).get(str(key), Any)
        elif get_origin(base) is tuple:
            items = get_args(base)
            annotation = items[0] if items[-1] is Ellipsis else items[min(int(key), len(items) - 1)]
        else:
            annotation = Any
        present = present and _has(value, key)
        value = value[key] if present else None
    return _Place(tuple(path), annotation, section, value, present)


def _has(value: Any, key: Key) -> bool:
    if isinstance(value, dict):
        return key in value
    return isinstance(value, list | tuple) and isinstance(key, int) and 0 <= key < len(value)


def _problem(kind: str, context: Mapping[str, Any], place: _Place) -> Problem:
    """The sentence for one complaint of pydantic."""
    match kind:
        case "extra_forbidden":
            *path, key = place.path
            allowed = list(place.section.model_fields) if place.section else []
            return Problem(tuple(path), unknown_key(str(key), allowed))
        case "missing":
            return Problem(place.path, f"missing; give {describe(place.annotation)}")
        case "union_tag_not_found":
            return Problem((*place.path, "kind"), f"missing; give {_choices(_kinds(place.annotation))}")
        case "union_tag_invalid":
            kinds = _kinds(place.annotation)
            got = place.value["kind"]
            return Problem((*place.path, "kind"), f"{show(got)} is unknown{hint_and_allowed(str(got), kinds)}")
        case "value_error":
            return Problem(place.path, str(context["error"]))
        case _:
            return Problem(place.path, f"{show(place.value)} is not allowed; give {describe(place.annotation)}", True)


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """The sentence for a key that a section does not know."""
    return f'unknown key "{key}"{hint_and_allowed(key, list(allowed))}'


def hint_and_allowed(word: str, allowed: Iterable[str]) -> str:
    """How a complaint about a misspelt word ends: the nearest right spelling and all that is allowed."""
    allowed = list(allowed)
    hint = nearest(word, allowed)
    return f"{hint} Allowed: {', '.join(allowed)}" if hint else f"; allowed: {', '.join(allowed)}"
