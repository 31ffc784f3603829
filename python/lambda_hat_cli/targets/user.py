"""A user's own target: their file is imported, their function called, and what it returns checked."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
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
    """Call the user's function from the copied code and check the form of what it returns.

    Args:
        code: the folder that holds the file and the modules it imports.
        spec: names the file, the function and its arguments.

    Raises:
        UserError: for every mistake in the user's file, with the place.
    """
    file = code / Path(spec.file).name
    module = import_file(file)
    function = getattr(module, spec.function, None)
    if not callable(function):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(
            f"{spec.file}: has no function {spec.function}{nearest(spec.function, public)}; "
            "name it in model.function of the experiment file"
        )
    with user_code(code, f"{spec.function}(**{spec.arguments})"):
        returned = function(**spec.arguments)
    return checked_return(returned, f"{spec.file}: {spec.function}")


def import_file(file: Path) -> ModuleType:
    """Import a file by path, with the modules beside it importable by name.

    Raises:
        UserError: when it is missing or its import fails.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; model.file names the Python file that makes the target")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    source = importlib.util.spec_from_file_location(file.stem, file)
    if source is None or source.loader is None:
        raise UserError(f"{file}: is no Python file; model.file must end in .py")
    module = importlib.util.module_from_spec(source)
    with user_code(file.parent, "import"):
        source.loader.exec_module(module)
    return module


class user_code:  # noqa: N801 - used as a context manager
    """Within it, whatever a user's code raises becomes a UserError that says where in their files."""

    def __init__(self, code: Path, doing: str):
        """`code` is the folder of the user's files, `doing` what was being done with them."""
        self.code = code
        self.doing = doing

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Turn an exception into a UserError."""
        if error is None or not isinstance(error, Exception) or isinstance(error, UserError):
            return
        raise UserError(f"{self.where(error)}: {self.doing} failed: {type(error).__name__}: {error}") from error

    def where(self, error: Exception) -> str:
        """The innermost line of the user's own files that the error passed through."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{Path(error.filename).name}, line {error.lineno}"
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(self.code)
        ]
        return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else str(self.code)


def checked_return(returned: Any, where: str) -> UserTarget:
    """The function's result as a UserTarget.

    Raises:
        UserError: when it is neither a UserTarget nor a dict of that form, or its data are no arrays with equal rows.
    """
    target = returned
    if isinstance(returned, dict):
        if set(returned) != set(KEYS):
            raise UserError(
                f"{where} returned a dict with the keys {sorted(map(str, returned))}; it must have {list(KEYS)}"
            )
        target = UserTarget(**returned)
    # By name, since a user's import and ours may be two copies of one class.
    if not all(hasattr(target, key) for key in KEYS):
        raise UserError(
            f"{where} returned a {type(returned).__name__}; return a UserTarget or a dict with the keys {list(KEYS)}"
        )
    if not callable(target.loss):
        raise UserError(f"{where}: loss is a {type(target.loss).__name__}; it must be a function of (model, data)")
    if not isinstance(target.data, Mapping) or not target.data:
        raise UserError(f"{where}: data must be a dict of at least one array, each with the rows first")
    rows = {str(name): np.shape(array)[:1] for name, array in target.data.items()}
    if len(set(rows.values())) != 1 or () in rows.values():
        told = ", ".join(f"{name}: {shape[0] if shape else 'no rows'}" for name, shape in rows.items())
        raise UserError(f"{where}: the arrays of data must have the same number of rows, got {told}")
    return UserTarget(target.model, dict(target.data), target.loss)


def checked_losses(target: UserTarget, data: dict[str, np.ndarray], spec: PythonModel) -> None:
    """Try the loss at w* on all rows and on half of them.

    Args:
        target: what the user's function returned.
        data: its data as they are stored.
        spec: for the messages.

    Raises:
        UserError: when the loss fails, has another shape than (rows,), is not finite, or mixes rows.
    """
    where = f"{spec.file}: the loss at w*"
    arrays = {name: jnp.asarray(array) for name, array in data.items()}
    rows = len(next(iter(arrays.values())))
    with user_code(Path(inspect.getfile(target.loss)).parent, "the loss at w*"):
        losses = np.asarray(target.loss(target.model, arrays))
    if losses.shape != (rows,):
        raise UserError(
            f"{where} has shape {losses.shape}; it must be ({rows},), one loss in nats for each row of data"
        )
    if not np.all(np.isfinite(losses)):
        first = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise UserError(f"{where} is {losses[first]} in row {first}; it must be finite in every row")
    half = (rows + 1) // 2
    part = np.asarray(target.loss(target.model, {name: array[:half] for name, array in arrays.items()}))
    if part.shape != (half,) or not np.allclose(part, losses[:half], rtol=1e-3, atol=1e-4):
        raise UserError(
            f"{where} changes in a row when other rows are left out; each row's loss must depend on that row only"
        )
