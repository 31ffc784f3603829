"""What a model's arrays are called: the path to each of them, such as `layers/0/weight`."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.restriction import free_parts
from lambda_hat_cli.targets.skeleton import is_parameter

ALONE = "w"
"""The name of an array that is the whole model."""


def named_leaves(module: PyTree) -> dict[str, Any]:
    """The leaves of `module` in leaf order, each under its path: fields, keys and positions, joined by slashes.

    Raises:
        UserError: when two leaves have the same path, because a key of a dict holds a slash.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(module)
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or ALONE
        if name in named:
            raise UserError(f'the model has two leaves called "{name}"; use no slash in the keys of a dict')
        named[name] = leaf
    return named


def parameter_names(module: PyTree) -> list[str]:
    """The names of the parameters of `module`, in the order of the flat vector w."""
    return [name for name, leaf in named_leaves(module).items() if is_parameter(leaf)]


def free_parts_of(module: PyTree, patterns: Sequence[str] | None) -> list[range | None]:
    """For each parameter array of `module` in order the positions in C order that patterns leave free, None for none.

    Args:
        module: whose arrays have names.
        patterns: as the experiment's `restrict`; None frees everything.

    Raises:
        UserError: when a pattern does not fit.
    """
    sizes = {name: int(leaf.size) for name, leaf in named_leaves(module).items() if is_parameter(leaf)}
    free = free_parts(sizes, patterns)
    return [free.get(name) for name in sizes]


def constant_names(module: PyTree) -> list[str]:
    """The names of the arrays of `module` that are no parameters, in leaf order."""
    return [name for name, leaf in named_leaves(module).items() if _is_constant(leaf)]


def _is_constant(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jax.Array) and not is_parameter(leaf)
