"""A user's own target: their file is imported, their function called, and what it returns checked."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from lambda_hat_cli.errors import UserError, nearest
from lambda_hat_cli.experiment.schema import PythonModel

KEYS = ("model", "data", "loss")


@dataclass(frozen=True)
class UserTarget:
    """What a user's function returns; a dict with these keys does as well.

    Attributes:
        model: an Equinox module (or any pytree) at w*. Its floating-point JAX arrays are the parameters, its NumPy
            arrays are constants.
        data: arrays by name, each with the rows first.
        loss: `loss(model, data)` gives the loss of every row of `data` in nats, shape (rows,); it must work on any
            subset of the rows.
    """

    model: Any
    data: Mapping[str, Any]
    loss: Callable[[Any, Any], Any]


def user_target(code: Path, spec: PythonModel) -> UserTarget:
    """Call the user's function from the copied files and check the form of what it returns.

    Args:
        code: the folder that `spec.file` is relative to.
        spec: names the file, the function and its arguments.

    Raises:
        UserError: for every mistake in the user's file, with the place.
    """
    module = import_file(code, spec.file)
    function = getattr(module, spec.function, None)
    if not callable(function):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(
            f'{spec.file}: has no function "{spec.function}"{nearest(spec.function, public)}; '
            "define it, or give another name as model.function in the experiment file"
        )
    with told_with_place(code, spec.file, f"{spec.function}()"):
        returned = function(**spec.arguments)
    return checked_return(returned, f"{spec.file}: {spec.function}()")


def import_file(code: Path, file: str) -> ModuleType:
    """Import a user's file by path; the modules beside it can be imported by name, now and later.

    Raises:
        UserError: when it is missing or its import fails.
    """
    path = code / file
    source = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or source is None or source.loader is None:
        raise UserError(f"{file}: no such Python file; model.file names the file that makes the target")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(source)
    with told_with_place(code, file, "its import"):
        source.loader.exec_module(module)
    return module


@contextmanager
def told_with_place(code: Path, file: str, doing: str) -> Iterator[None]:
    """Whatever a user's code raises becomes a UserError that names the line in their files."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{_place(code, error) or file}: {doing} failed: {type(error).__name__}: {error}") from error


def _place(code: Path, error: Exception) -> str | None:
    """The innermost line of the files under `code` that the error passed through, if it did."""
    frames = [(Path(frame.filename).resolve(), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((Path(error.filename).resolve(), error.lineno))
    places = [(path, line) for path, line in frames if path.is_relative_to(code.resolve())]
    return f"{places[-1][0].relative_to(code.resolve())}, line {places[-1][1]}" if places else None


def checked_return(returned: Any, where: str) -> UserTarget:
    """The function's result as a UserTarget.

    Raises:
        UserError: when it is neither a UserTarget nor a dict of that form, or its data are no arrays with equal rows.
    """
    if isinstance(returned, dict):
        if set(returned) != set(KEYS):
            raise UserError(f"{where} returned a dict with the keys {list(returned)}; its keys must be {list(KEYS)}")
        returned = UserTarget(**returned)
    if not isinstance(returned, UserTarget):
        raise UserError(
            f"{where} returned a {type(returned).__name__}; return a UserTarget or a dict with the keys {list(KEYS)}"
        )
    if not callable(returned.loss):
        raise UserError(f"{where}: loss is a {type(returned.loss).__name__}; give a function of (model, data)")
    if not isinstance(returned.data, Mapping) or not returned.data:
        raise UserError(f"{where}: data must be a dict of at least one array, each with the rows first")
    rows = {str(name): np.shape(array)[:1] for name, array in returned.data.items()}
    if len(set(rows.values())) > 1 or () in rows.values() or (0,) in rows.values():
        told = ", ".join(f"{name} has {shape[0] if shape else 'no axis of rows'}" for name, shape in rows.items())
        raise UserError(f"{where}: the arrays of data must have the same number of rows, at least one; {told}")
    return returned


def check_losses(target: UserTarget, data: Mapping[str, np.ndarray], code: Path, file: str) -> None:
    """Try the loss at w* on all rows and on half of them.

    Args:
        target: what the user's function returned.
        data: its data as they are stored.
        code: the folder with the user's files.
        file: the user's file in it, for messages.

    Raises:
        UserError: when the loss fails, has another shape than (rows,), is not finite, or mixes rows.
    """
    rows = len(next(iter(data.values())))
    losses = _losses(target, data, rows, code, file)
    if not np.all(np.isfinite(losses)):
        bad = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise UserError(f"{file}: the loss at w* is {losses[bad]} in row {bad}; it must be finite in every row")
    half = (rows + 1) // 2
    if not np.allclose(_losses(target, data, half, code, file), losses[:half], rtol=1e-3, atol=1e-4):
        raise UserError(
            f"{file}: the loss of a row changes when other rows are left out; it must depend on that row alone"
        )


def _losses(target: UserTarget, data: Mapping[str, np.ndarray], rows: int, code: Path, file: str) -> np.ndarray:
    """The loss at w* of the first rows, checked for its shape."""
    with told_with_place(code, file, "the loss at w*"):
        losses = np.asarray(
            target.loss(target.model, {name: jnp.asarray(array[:rows]) for name, array in data.items()})
        )
    if losses.shape != (rows,):
        raise UserError(
            f"{file}: the loss of {rows} rows has shape {losses.shape}; it must be ({rows},), one loss in nats a row"
        )
    return losses
