"""Changes keys of the experiment from the command line: `runs.tolerance=0.02; targets.dln.data.n=500`."""

from typing import Any

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.document import parse_yaml
from lambda_hat_cli.experiment.problems import hint_and_allowed, join_path, show

_OPENING = {"[": "]", "{": "}"}


def assign(raw: dict[str, Any], text: str) -> dict[str, Any]:
    """A copy of `raw` with the assignments of `text` made, from left to right; `raw` is left as it is.

    An assignment is a dotted path, `=`, and a YAML value. List items go by position (from 0) or by `name`
    (samplers without one by their kind). Assignments are parted by semicolons; sections on the way are made.

    Raises:
        UserError: when an assignment has no `=`, no key or no value, or its path leads nowhere.
    """
    result = _copy(raw)
    for assignment in _split(text):
        key, equals, value_text = (part.strip() for part in assignment.partition("="))
        if not equals or not key or not value_text:
            raise UserError(f"--set {show(assignment)}: is no assignment; write key=value, such as runs.tolerance=0.02")
        _assign(result, key, parse_yaml(value_text, f"--set {key}"))
    return result


def _assign(top: dict[str, Any], dotted: str, value: Any) -> None:
    where: Any = top
    rest = dotted
    done: list[str | int] = []
    while True:
        key, following = _next_key(where, rest, done, dotted)
        if not following:
            where[key] = value
            return
        if isinstance(where, dict) and where.get(key) is None:
            where[key] = {}
        where, rest = where[key], following
        done.append(key)
        if not isinstance(where, dict | list):
            place = join_path(done)
            raise UserError(
                f'--set {dotted}: {place} holds {show(where)}, not a section with "{rest}"; set {place} itself'
            )


def _next_key(
    where: dict[str, Any] | list[Any], rest: str, done: list[str | int], dotted: str
) -> tuple[str | int, str]:
    """The next key or position on the path `rest`, and what follows it."""
    first, _, following = rest.partition(".")
    if isinstance(where, dict):
        if list(done[:1]) == ["overrides"] and done[-1] == "set":
            return rest, ""
        if not first:
            raise UserError(f"--set {dotted}: a key is missing between two dots; write it as runs.tolerance")
        return first, following
    if first.isdigit() and int(first) < len(where):
        return int(first), following
    names = {
        str(item.get("name", item.get("kind"))): position
        for position, item in enumerate(where)
        if isinstance(item, dict)
    }
    fitting = [name for name in names if rest == name or rest.startswith(f"{name}.")]
    if not fitting:
        allowed = list(names) or [f"0 to {len(where) - 1}"]
        raise UserError(f'--set {dotted}: {join_path(done)} has no item "{first}"{hint_and_allowed(first, allowed)}')
    name = max(fitting, key=len)
    return names[name], rest[len(name) + 1 :]


def _split(text: str) -> list[str]:
    """The assignments between semicolons that stand outside quotes, lists and sections."""
    pieces, current, closing, quote = [], "", [], ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _OPENING:
            closing.append(_OPENING[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == ";" and not closing:
            pieces.append(current)
            current = ""
            continue
        current += character
    return [piece.strip() for piece in [*pieces, current] if piece.strip()]


def _copy(value: Any) -> Any:
    """A deep copy in which YAML aliases no longer share anything."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
