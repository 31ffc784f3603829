"""What a model's arrays are called: the path to each of them, such as `layers/0/weight`."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from lambda_hat_cli.errors import UserError
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


def constant_names(module: PyTree) -> list[str]:
    """The names of the arrays of `module` that are no parameters, in leaf order."""
    return [name for name, leaf in named_leaves(module).items() if _is_constant(leaf)]


def _is_constant(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | jax.Array) and not is_parameter(leaf)
