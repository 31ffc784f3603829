"""A module taken apart into parameters, constants and the rest, so that a flat vector can stand for it."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from lambda_hat_cli.errors import UserError


@dataclass(frozen=True)
class ParameterSlot:
    """The place of a parameter array; `shape` as in the module."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class ConstantSlot:
    """The place of an array that is no parameter, as it is stored."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Skeleton:
    """A module without its arrays: hashable, so that compiled functions may take it as a static value.

    Attributes:
        structure: the module's tree structure.
        slots: for each leaf in order a ParameterSlot, a ConstantSlot, or the leaf itself (a function, a number).
    """

    structure: Any
    slots: tuple[Hashable, ...]

    @property
    def parameters(self) -> list[ParameterSlot]:
        """The parameters' slots in leaf order."""
        return [slot for slot in self.slots if isinstance(slot, ParameterSlot)]

    @property
    def constants(self) -> list[ConstantSlot]:
        """The constants' slots in leaf order."""
        return [slot for slot in self.slots if isinstance(slot, ConstantSlot)]

    @property
    def d(self) -> int:
        """Number of parameters."""
        return sum(math.prod(slot.shape) for slot in self.parameters)

    def assemble(self, w: Float[Array, " d"], constants: Sequence[Array]) -> PyTree:
        """The module whose parameters are the pieces of `w` in leaf order, each in C order."""
        shapes = [slot.shape for slot in self.parameters]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        pieces = iter([piece.reshape(shape) for piece, shape in zip(jnp.split(w, ends[:-1]), shapes, strict=True)])
        rest = iter(constants)
        leaves = [
            next(pieces) if isinstance(slot, ParameterSlot) else next(rest) if isinstance(slot, ConstantSlot) else slot
            for slot in self.slots
        ]
        return jax.tree.unflatten(self.structure, leaves)


def is_parameter(leaf: Any) -> bool:
    """Whether a leaf of a module is a parameter: a floating-point JAX array. NumPy arrays are constants."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def take_apart(module: PyTree) -> tuple[Skeleton, list[np.ndarray], list[np.ndarray]]:
    """The skeleton of `module`, its parameters and its constants as they are stored.

    Floating JAX arrays are parameters (stored float32); other arrays are constants (floats float32, integers int32).

    Raises:
        UserError: when the module has no parameter, complex arrays, or a leaf that cannot be hashed.
    """
    leaves, structure = jax.tree.flatten(module)
    slots: list[Hashable] = []
    parameters: list[np.ndarray] = []
    constants: list[np.ndarray] = []
    for leaf in leaves:
        if is_parameter(leaf):
            parameters.append(stored(leaf, "a parameter"))
            slots.append(ParameterSlot(leaf.shape))
        elif isinstance(leaf, np.ndarray | jax.Array):
            constant = stored(leaf, "a constant array of the model")
            constants.append(constant)
            slots.append(ConstantSlot(constant.shape, str(constant.dtype)))
        elif isinstance(leaf, Hashable):
            slots.append(leaf)
        else:
            raise UserError(
                f"the model holds a {type(leaf).__name__}, which cannot be hashed; keep it out of the model"
            )
    if not parameters:
        raise UserError(
            "the model has no parameters: floating-point JAX arrays are parameters, NumPy arrays are constants"
        )
    return Skeleton(structure, tuple(slots)), parameters, constants


def stored(array: Any, what: str) -> np.ndarray:
    """`array` in the dtype that artefacts are stored in: float32, int32 or bool.

    Raises:
        UserError: for any other kind of array, and for integers beyond 32 bits.
    """
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        raise UserError(f"{what} is a random key; artefacts hold real numbers, integers and booleans only")
    values = np.asarray(array)
    if values.dtype == bool:
        return values
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(np.float32)
    if np.issubdtype(values.dtype, np.integer):
        if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
            raise UserError(f"{what} holds integers beyond 32 bits; keep them between -2^31 and 2^31")
        return values.astype(np.int32)
    raise UserError(f"{what} has dtype {values.dtype}; artefacts hold real numbers, integers and booleans only")
