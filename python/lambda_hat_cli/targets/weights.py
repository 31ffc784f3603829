"""w* from a user's file of weights: read without pickle, matched by name or by position, checked by shape."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from jaxtyping import PyTree

from lambda_hat_cli.errors import UserError, nearest
from lambda_hat_cli.experiment.problems import refuse
from lambda_hat_cli.experiment.schema import Weights
from lambda_hat_cli.targets.names import named_leaves
from lambda_hat_cli.targets.skeleton import is_parameter

Found = dict[str, tuple[str, np.ndarray]]
"""By our name of an array: what messages call it in the file, and what is there."""

ADVICE = (
    "weights.names says what ours are called there, for a torch.nn.Sequential "
    '{"layers/*/weight": "*.weight", "layers/*/bias": "*.bias"}, and weights.ignore what to leave'
)


def with_weights(module: PyTree, file: Path, weights: Weights) -> PyTree:
    """`module` with its parameters from a file, and its constants where the file has them; all floats are float32.

    Args:
        module: a model of the right structure and shapes; its own parameters are not read.
        file: the file that `weights.file` names.
        weights: how to read it.

    Raises:
        UserError: one message with every array that is missing, unused, of another shape, no real number or not finite.
    """
    leaves = named_leaves(module)
    found, lines = (_by_position if weights.format == "eqx" else _by_name)(leaves, file, weights)
    lines += [line for name, (called, array) in found.items() for line in _faults(name, leaves[name], called, array)]
    if lines:
        raise refuse(weights.file, lines)
    replaced = [_like(leaf, found[name][1]) if name in found else leaf for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(module), replaced)


def _like(leaf: Any, array: np.ndarray) -> Any:
    """The array in the place of `leaf`: a parameter stays a JAX array, which tells it from a constant."""
    kept = array.astype(np.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype)
    return jnp.asarray(kept) if isinstance(leaf, jax.Array) else kept


def _faults(name: str, leaf: Any, called: str, array: np.ndarray) -> list[str]:
    """What is wrong with the array of a file that is to stand for `leaf`."""
    if array.shape != leaf.shape:
        # A reader who turns the arrays that are told must not leave those that no shape tells.
        advice = "; transpose it, and square ones with it: ours are outputs × inputs"
        turned = array.shape == leaf.shape[::-1]
        return [f"{name} has shape {leaf.shape}, but {called} in the file {array.shape}{advice if turned else ''}"]
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    if floating != jnp.issubdtype(array.dtype, jnp.floating):
        return [f"{called} has dtype {array.dtype}, but {name} holds {'real' if floating else 'whole'} numbers"]
    if not floating:
        kept = array.astype(leaf.dtype)
        return (
            []
            if np.array_equal(kept, array)
            else [f"{called} has numbers that {leaf.dtype}, as {name} is, cannot hold"]
        )
    with np.errstate(over="ignore"):
        bad = np.argwhere(~np.isfinite(array.astype(np.float32)))
    if len(bad):
        first = tuple(bad[0].tolist())
        return [f"{called}[{', '.join(map(str, first))}] is {array[first]}; weights must be finite in float32"]
    return []


# By name ----------------------------------------------------------------------------------------


def _by_name(leaves: Mapping[str, Any], file: Path, weights: Weights) -> tuple[Found, list[str]]:
    """What the file has for the arrays of the model, and a line each on all that is missing, unused and misnamed."""
    arrays = READERS[weights.format](file, weights.file)
    ours = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, np.ndarray | jax.Array)}
    left = {name for name in arrays if any(fnmatch.fnmatchcase(name, pattern) for pattern in weights.ignore)}
    called, told, lines = _called(ours, arrays, left, weights.names)
    missing = [
        f"{name} {ours[name].shape}" + (f' (as "{their}")' if name in weights.names else "")
        for name, their in called.items()
        if their not in arrays and (is_parameter(ours[name]) or name in weights.names)
    ]
    unused = [name for name in arrays if name not in {*called.values(), *told, *left}]
    if missing:
        lines.append(f"missing in the file: {', '.join(missing)}")
    if unused:
        lines.append(f"unused in the file: {_with_shapes(unused, arrays)}")
    if lines:
        lines[-1] += f"; {ADVICE}"
    return {name: (their, arrays[their]) for name, their in called.items() if their in arrays}, lines


def _called(
    ours: Mapping[str, Any], theirs: Mapping[str, np.ndarray], left: set[str], names: Mapping[str, str]
) -> tuple[dict[str, str], set[str], list[str]]:
    """What our names are called in the file, by default the same, and what is wrong in `names`.

    Where the two sides of a `*` differ in number nothing says which is left out: all their names are told together,
    none is paired, and those of the file are the second result.

    Args:
        ours, theirs: the arrays by name. left: those of the file that are ignored, which no `*` stands for, nor for
            those that `names` gives by themselves.
    """
    alone = {our: their for our, their in names.items() if "*" not in our}
    beside = left.union(alone.values())
    called = {name: name for name in ours}
    told: set[str] = set()
    lines = []
    for our, their in names.items():
        if "*" in our:
            here, there = _numbered(our, ours.keys() - alone.keys()), _numbered(their, theirs.keys() - beside)
            if len(here) == len(there) > 0:
                called |= dict(zip(here, there, strict=True))
                continue
            lines.append(
                f'names: "{our}" fits {len(here)} arrays of the model ({_with_shapes(here, ours)}) and "{their}" '
                f"{len(there)} of the file ({_with_shapes(there, theirs)}), which are paired in this order: there must "
                "be as many of both"
            )
            called = {name: other for name, other in called.items() if name not in here}
            told |= set(there)
        elif our not in ours:
            lines.append(f'names: the model has no "{our}"{nearest(our, ours)}; it has {", ".join(ours)}')
        else:
            called[our] = their
    for their, number in Counter(called.values()).items():
        if number > 1 and their in theirs:
            ours_of_it = [our for our, other in called.items() if other == their]
            lines.append(f'names: {" and ".join(ours_of_it)} are all called "{their}"; give each its own')
    return called, told, lines


def _with_shapes(names: Iterable[str], arrays: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {arrays[name].shape}" for name in names) or "none"


def _numbered(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that have a whole number in the place of the pattern's `*`, by that number."""
    before, after = map(re.escape, pattern.split("*"))
    found = [(int(match[1]), name) for name in names if (match := re.fullmatch(f"{before}([0-9]+){after}", name))]
    return [name for _, name in sorted(found)]


def _read_safetensors(file: Path, told: str) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(file, framework="numpy") as source:
            return dict(source.get_tensors())
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{told}: is no safetensors file that can be read ({error})") from None


def _read_npz(file: Path, told: str) -> dict[str, np.ndarray]:
    try:
        arrays = np.load(file, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise UserError(f"{told}: holds one array without a name; write it with numpy.savez")
        with arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{told}: is no npz of plain arrays ({error}); write it with numpy.savez, without Python objects"
        ) from None


READERS = {"safetensors": _read_safetensors, "npz": _read_npz}


# By position ------------------------------------------------------------------------------------


def _by_position(leaves: Mapping[str, Any], file: Path, weights: Weights) -> tuple[Found, list[str]]:
    """What the file has in the places of the model's arrays, and a line where their numbers differ."""
    arrays = _read_eqx(file, weights.file)
    saved = [name for name, leaf in leaves.items() if eqx.is_array_like(leaf)]
    if len(saved) != len(arrays):
        theirs = ", ".join(str(array.shape) for array in arrays)
        ours = ", ".join(f"{name} {np.shape(leaves[name])}" for name in saved)
        return {}, [f"holds {len(arrays)} arrays ({theirs}), but the model has {len(saved)} ({ours})"]
    pairs = list(enumerate(zip(saved, arrays, strict=True), start=1))
    lines = [
        f"array {number} is {array}, but {name} of the model is the plain number {leaves[name]}; make them equal"
        for number, (name, array) in pairs
        if not isinstance(leaves[name], np.ndarray | jax.Array) and not np.array_equal(array, leaves[name])
    ]
    return {
        name: (f"array {number}", array)
        for number, (name, array) in pairs
        if isinstance(leaves[name], np.ndarray | jax.Array)
    }, lines


def _read_eqx(file: Path, told: str) -> list[np.ndarray]:
    """The arrays of a file that Equinox's tree_serialise_leaves wrote: one .npy after the other, perhaps after JSON."""
    arrays = []
    try:
        with file.open("rb") as stream:
            if stream.peek(1)[:1] == b"{":
                stream.readline()
            while stream.peek(1):
                arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{told}: array {len(arrays) + 1} is none that Equinox writes ({error})") from None
    return arrays
