"""Which parameters a restricted target leaves free: patterns of names, as `layers/0/*` or `w[0:5]`."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from lambda_hat_cli.errors import UserError, nearest

_PATTERN = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<start>\d*):(?P<stop>\d*)\])?")


def check_pattern(pattern: str) -> None:
    """Refuse what is no pattern.

    Raises:
        ValueError: saying what one looks like.
    """
    if not _PATTERN.fullmatch(pattern):
        raise ValueError(
            f'"{pattern}" is no pattern of parameters: give a name such as layers/0/weight, in which * stands for any '
            "text, or a part of one array in C order, such as w[0:5]"
        )


def free_parts(sizes: Mapping[str, int], patterns: Sequence[str] | None) -> dict[str, range]:
    """The positions in C order that each array leaves free; an array that is not named is fixed.

    Args:
        sizes: numbers in each parameter array, by name, in order.
        patterns: what is free; None frees everything.

    Raises:
        UserError: when a pattern fits no array or goes beyond it, or two patterns free different parts of one.
    """
    if patterns is None:
        return {name: range(size) for name, size in sizes.items()}
    free: dict[str, range] = {}
    for pattern in patterns:
        glob, start, stop = _parsed(pattern)
        fitting = [name for name in sizes if fnmatchcase(name, glob)]
        if not fitting:
            raise UserError(
                f'restrict: "{pattern}" fits no parameter{nearest(glob, list(sizes))}; they are {", ".join(sizes)}'
            )
        for name in fitting:
            part = range(start, sizes[name] if stop is None else stop)
            if len(part) == 0 or part.stop > sizes[name]:
                raise UserError(
                    f'restrict: "{pattern}" is no part of {name}, which has {sizes[name]} numbers; give [a:b] with '
                    f"0 ≤ a < b ≤ {sizes[name]}"
                )
            if free.setdefault(name, part) != part:
                raise UserError(
                    f"restrict: two patterns free different parts of {name}, [{free[name].start}:{free[name].stop}] "
                    f"and [{part.start}:{part.stop}]; give one"
                )
    return {name: free[name] for name in sizes if name in free}


def _parsed(pattern: str) -> tuple[str, int, int | None]:
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError(f"{pattern} was not checked")
    return found["name"], int(found["start"] or 0), int(found["stop"]) if found["stop"] else None
