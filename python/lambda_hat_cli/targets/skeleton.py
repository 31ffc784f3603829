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
class PartSlot:
    """The place of a parameter array of which the positions start … stop−1 in C order are free, the others constant."""

    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Skeleton:
    """A module without its arrays: hashable, so that compiled functions may take it as a static value.

    Attributes:
        structure: the module's tree structure.
        slots: for each leaf in order a ParameterSlot, a ConstantSlot, a PartSlot, which is both, or the leaf itself (a
            function, a number).
    """

    structure: Any
    slots: tuple[Hashable, ...]

    @property
    def parameters(self) -> list[tuple[int, ...]]:
        """The shapes of the parameters in leaf order; a part of an array is flat."""
        return [
            slot.shape if isinstance(slot, ParameterSlot) else (slot.stop - slot.start,)
            for slot in self.slots
            if isinstance(slot, ParameterSlot | PartSlot)
        ]

    @property
    def constants(self) -> list[ConstantSlot]:
        """The constants in leaf order; an array that is free in part is stored as a whole."""
        return [
            ConstantSlot(slot.shape, "float32") if isinstance(slot, PartSlot) else slot
            for slot in self.slots
            if isinstance(slot, ConstantSlot | PartSlot)
        ]

    @property
    def d(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.parameters)

    def assemble(self, w: Float[Array, " d"], constants: Sequence[Array]) -> PyTree:
        """The module whose parameters are the pieces of `w` in leaf order, each in C order."""
        shapes = self.parameters
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        pieces = iter([piece.reshape(shape) for piece, shape in zip(jnp.split(w, ends[:-1]), shapes, strict=True)])
        rest = iter(constants)

        def leaf(slot: Hashable) -> Any:
            match slot:
                case ParameterSlot():
                    return next(pieces)
                case ConstantSlot():
                    return next(rest)
                case PartSlot(shape, start, stop):
                    whole = next(rest).ravel()
                    return jnp.concatenate([whole[:start], next(pieces), whole[stop:]]).reshape(shape)
            return slot

        return jax.tree.unflatten(self.structure, [leaf(slot) for slot in self.slots])


def is_parameter(leaf: Any) -> bool:
    """Whether a leaf of a module is a parameter: a floating-point JAX array. NumPy arrays are constants."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def take_apart(
    module: PyTree, free: Sequence[range | None] | None = None
) -> tuple[Skeleton, list[np.ndarray], list[np.ndarray]]:
    """The skeleton of `module`, its parameters and its constants as they are stored.

    Floating JAX arrays are parameters (stored float32); other arrays are constants (floats float32, integers int32).

    Args:
        module: any pytree.
        free: for each floating JAX array the positions in C order that are parameters; what is left, and an array with
            None, is constant. Everything is free where it is None.

    Raises:
        UserError: when the module has no parameter, complex arrays, or a leaf that cannot be hashed.
    """
    leaves, structure = jax.tree.flatten(module)
    slots: list[Hashable] = []
    parameters: list[np.ndarray] = []
    constants: list[np.ndarray] = []
    parts = iter(free or ())
    for leaf in leaves:
        if is_parameter(leaf):
            array = stored(leaf, "a parameter")
            part = range(array.size) if free is None else next(parts)
            if part is None:
                constants.append(array)
                slots.append(ConstantSlot(array.shape, str(array.dtype)))
            elif len(part) == array.size:
                parameters.append(array)
                slots.append(ParameterSlot(array.shape))
            else:
                parameters.append(array.ravel()[part.start : part.stop])
                constants.append(array)
                slots.append(PartSlot(array.shape, part.start, part.stop))
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


def rounded(module: PyTree) -> PyTree:
    """`module` with its arrays in the dtypes that they are stored in; each stays a parameter or a constant.

    Raises:
        UserError: for an array that cannot be stored.
    """

    def kept(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return jnp.asarray(stored(leaf, "an array of the model"))
        return stored(leaf, "a constant array of the model") if isinstance(leaf, np.ndarray) else leaf

    return jax.tree.map(kept, module)


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
