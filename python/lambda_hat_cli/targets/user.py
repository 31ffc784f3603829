"""A user's own target: their file is imported, their function called, and every mistake in what it returns told."""

import dataclasses
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from lambda_hat_cli.errors import UserError, nearest
from lambda_hat_cli.experiment.schema import PythonModel
from lambda_hat_cli.targets.losses import Loss, PerDatumCategoricalLoss, PerDatumGaussianLoss
from lambda_hat_cli.targets.skeleton import Skeleton, is_parameter, stored, take_apart

NAMED_LOSSES = ("gaussian", "categorical")
_LONGEST_ERROR = 300


@dataclass(frozen=True)
class UserTarget:
    """What a user's function returns; a dict with these keys does as well.

    Attributes:
        model: an Equinox module (or any pytree) at w*, or where `train` starts. Its floating-point JAX arrays are the
            parameters, its NumPy arrays and integer arrays are constants.
        data: arrays by name, each with the rows first; or a function of nothing that returns them, which is called
            only when the target is built.
        loss: `loss(model, data)` gives the loss of every row of `data` in nats, shape (rows,), for any subset of the
            rows. "gaussian" is ‖y − model(x)‖²/(2σ²) and "categorical" −log softmax(model(x))_y, where `model` takes
            one datum x and is mapped over the rows of data["x"] and data["y"].
        sigma: σ of the "gaussian" loss, and of no other.
        train: `train(model, data)` gives the model at w*, of the same structure, from the stored data; it is called
            only when the target is built.
        held_out: further rows of the same arrays, or a function that returns them. Their mean loss is recorded beside
            that of `data`; no posterior and no training depends on them.
    """

    model: Any
    data: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    loss: Literal["gaussian", "categorical"] | Callable[[Any, Any], Any]
    sigma: float | None = None
    train: Callable[[Any, dict[str, Array]], Any] | None = None
    held_out: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None


KEYS = tuple(field.name for field in dataclasses.fields(UserTarget))
REQUIRED_KEYS = tuple(f.name for f in dataclasses.fields(UserTarget) if f.default is dataclasses.MISSING)


@dataclass(frozen=True)
class UserCode:
    """A user's files as copied: messages name places in them.

    Attributes:
        root: the folder that `file` is relative to.
        file: the file that makes the target.
    """

    root: Path
    file: str

    def line_of(self, function: Any) -> str:
        """Where a function begins, or the file where that is unknown."""
        code = getattr(inspect.unwrap(getattr(function, "func", function)), "__code__", None)
        if code is None or not Path(code.co_filename).resolve().is_relative_to(self.root.resolve()):
            return self.file
        return f"{self._relative(Path(code.co_filename))}, line {code.co_firstlineno}"

    def line_of_field(self, module: type, field: str) -> str:
        """Where a class says a field of its own, or the file where that is not found."""
        for path in sorted(self.root.rglob(f"{module.__module__.rpartition('.')[2]}.py")):
            lines = path.read_text(encoding="utf-8").splitlines()
            begins = [at for at, line in enumerate(lines) if re.match(rf"\s*class {module.__name__}\b", line)]
            for at, line in enumerate(lines[begins[0] :] if begins else []):
                if re.match(rf"\s+{field}\s*:", line):
                    return f"{self._relative(path)}, line {begins[0] + at + 1}"
        return self.file

    def line_of_error(self, error: BaseException) -> str:
        """The innermost line of the files that an error passed through, or the file where it passed through none."""
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError) and error.filename:
            frames.append((Path(error.filename), error.lineno))
        places = [(path, line) for path, line in frames if path.resolve().is_relative_to(self.root.resolve())]
        return f"{self._relative(places[-1][0])}, line {places[-1][1]}" if places else self.file

    @contextmanager
    def told_with_line(self, doing: str) -> Iterator[None]:
        """Whatever a user's code raises becomes a UserError that names the line, and so does leaving the process.

        Want of memory is no mistake and goes its way.
        """
        try:
            yield
        except (UserError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            said = " ".join(str(error).split())
            said = said if len(said) <= _LONGEST_ERROR else f"{said[:_LONGEST_ERROR]}…"
            raise UserError(f"{self.line_of_error(error)}: {doing} failed: {type(error).__name__}: {said}") from error

    def _relative(self, path: Path) -> Path:
        return path.resolve().relative_to(self.root.resolve())


def user_target(root: Path, spec: PythonModel) -> tuple[UserTarget, Loss]:
    """Call the user's function from the copied files: what it returns, checked for its form, and the loss it asks for.

    Args:
        root: the folder that `spec.file` is relative to.
        spec: names the file, the function and its arguments.

    Raises:
        UserError: for every mistake in the user's file, with the place.
    """
    code = UserCode(root, spec.file)
    widest = jax.dtypes.canonicalize_dtype(np.float64)
    module = import_file(code)
    function = getattr(module, spec.function, None)
    if not callable(function):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(
            f'{spec.file}: has no function "{spec.function}"{nearest(spec.function, public)}; '
            "define it, or give another name as model.function in the experiment file"
        )
    with code.told_with_line(f"{spec.function}()"):
        returned = function(**spec.arguments)
    if jax.dtypes.canonicalize_dtype(np.float64) != widest:
        raise UserError(f"{spec.file}: it switched JAX's precision; leave that alone, a run's `precision` sets it")
    user = checked_return(returned, f"{code.line_of(function)}: {spec.function}()")
    check_model(user.model, code)
    return user, loss_of(user)


def import_file(code: UserCode) -> ModuleType:
    """Import a user's file by path; the modules beside it can be imported by name, now and later.

    Raises:
        UserError: when it is missing or its import fails.
    """
    path = code.root / code.file
    source = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or source is None or source.loader is None:
        raise UserError(f"{code.file}: no such Python file; model.file names the file that makes the target")
    _forget_other_targets(path.parent)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(source)
    with code.told_with_line("its import"):
        source.loader.exec_module(module)
    return module


_FOLDERS: set[Path] = set()
"""Where the files of this process' targets lie."""


def _forget_other_targets(folder: Path) -> None:
    """Drop what targets elsewhere imported: a module beside this file may have the name of one beside theirs."""
    for other in _FOLDERS - {folder}:
        if str(other) in sys.path:
            sys.path.remove(str(other))
        theirs = [name for name, module in sys.modules.items() if _lies_in(module, other)]
        for name in theirs:
            del sys.modules[name]
    _FOLDERS.add(folder)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(folder)


def checked_return(returned: Any, where: str) -> UserTarget:
    """The function's result as a UserTarget of the right form.

    Raises:
        UserError: when it is neither a UserTarget nor a dict of that form, or a part has another type.
    """
    if isinstance(returned, dict):
        if not set(REQUIRED_KEYS) <= set(returned) <= set(KEYS):
            raise UserError(
                f"{where} returned a dict with the keys {list(returned)}; it needs {', '.join(REQUIRED_KEYS)} and may "
                f"have {', '.join(key for key in KEYS if key not in REQUIRED_KEYS)}"
            )
        returned = UserTarget(**returned)
    if not isinstance(returned, UserTarget):
        raise UserError(
            f"{where} returned a {type(returned).__name__}; return a UserTarget or a dict with the keys "
            f"{', '.join(REQUIRED_KEYS)}"
        )
    if not callable(returned.loss) and returned.loss not in NAMED_LOSSES:
        raise UserError(f'{where}: loss is {returned.loss!r}; give "gaussian", "categorical" or a function')
    if returned.loss == "gaussian":
        sigma = returned.sigma
        if isinstance(sigma, bool) or not isinstance(sigma, int | float | np.number) or not 0 < sigma < np.inf:
            raise UserError(f'{where}: loss "gaussian" needs sigma, a number above 0; sigma is {sigma!r}')
    elif returned.sigma is not None:
        raise UserError(f'{where}: sigma is for loss "gaussian" only; leave it out')
    if isinstance(returned.loss, str) and not callable(returned.model):
        raise UserError(
            f'{where}: loss "{returned.loss}" calls the model on one datum, and a {type(returned.model).__name__} '
            "cannot be called; return an Equinox module with __call__(self, x), or give a loss of (model, data)"
        )
    sets = {"data": returned.data} | ({} if returned.held_out is None else {"held_out": returned.held_out})
    for name, rows in sets.items():
        if not callable(rows) and (not isinstance(rows, Mapping) or not rows):
            raise UserError(f"{where}: {name} must be a dict of at least one array, each with the rows first")
    if returned.train is not None and not callable(returned.train):
        raise UserError(f"{where}: train is a {type(returned.train).__name__}; give a function of (model, data)")
    return returned


def loss_of(user: UserTarget) -> Loss:
    """The loss of a checked target as a function of the model and rows of data."""
    match user.loss:
        case "gaussian" if user.sigma is not None:
            return PerDatumGaussianLoss(float(user.sigma))
        case "categorical":
            return PerDatumCategoricalLoss()
        case loss if callable(loss):
            return loss
    raise TypeError("the target's form has not been checked")


def check_model(model: PyTree, code: UserCode) -> None:
    """Refuse what cannot be taken apart into parameters, constants and a hashable rest.

    Raises:
        UserError: with the leaf or the static field at fault.
    """
    check_static_fields(model, code)
    leaves = jax.tree_util.tree_flatten_with_path(model)[0]
    for path, leaf in leaves:
        if isinstance(leaf, np.ndarray | jax.Array):
            kind = "a parameter" if is_parameter(leaf) else "a constant array of the model"
            check_numbers(leaf, f"{code.file}: {kind}", path)
    if sum(leaf.size for _, leaf in leaves if is_parameter(leaf)) == 0:
        found = sorted({type(leaf).__name__ for _, leaf in leaves})
        raise UserError(
            f"{code.file}: the model has no parameters: floating-point JAX arrays in an Equinox module, dict, list or "
            f"tuple are parameters, NumPy arrays are constants; found {', '.join(found) or 'nothing'}"
        )
    try:
        take_apart(model)
    except UserError as error:
        raise UserError(f"{code.file}: {error}") from error
    try:
        hash(jax.tree.structure(model))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{code.file}: the model's structure cannot be hashed: {error}; keep arrays in leaves"
        ) from error


def check_static_fields(model: PyTree, code: UserCode) -> None:
    """Refuse static fields that hold arrays or other things without a hash, in every Equinox module of a tree.

    Raises:
        UserError: with the field and its line.
    """
    if isinstance(model, eqx.Module):
        for field in dataclasses.fields(model):
            if not field.metadata.get("static", False):
                continue
            value = getattr(model, field.name, None)
            where = (
                f"{code.line_of_field(type(model), field.name)}: the static field {type(model).__name__}.{field.name}"
            )
            if any(isinstance(leaf, np.ndarray | jax.Array) for leaf in jax.tree.leaves(value)):
                raise UserError(
                    f"{where} holds an array; leave out static=True: a JAX array of floats is then a parameter, a "
                    "NumPy array a constant"
                )
            try:
                hash(value)
            except TypeError:
                raise UserError(
                    f"{where} holds a {type(value).__name__}, which has no hash; make it a tuple or another immutable "
                    "value"
                ) from None
    for part in jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, eqx.Module) and node is not model):
        if isinstance(part, eqx.Module) and part is not model:
            check_static_fields(part, code)


def check_numbers(array: Any, what: str, path: tuple[Any, ...] = ()) -> np.ndarray:
    """`array` as it is stored.

    Args:
        what: names it in messages. path: where it is in its tree.

    Raises:
        UserError: when it has a dtype that is not stored, or numbers beyond float32.
    """
    what = f"{what} ({jax.tree_util.keystr(path)})" if path else what
    with np.errstate(over="ignore"):
        kept = stored(array, what)
    if np.issubdtype(kept.dtype, np.floating):
        over = np.flatnonzero(np.isinf(kept) & np.isfinite(np.asarray(array)))
        if over.size:
            raise UserError(f"{what} holds {np.asarray(array).ravel()[over[0]]:g}, which is beyond float32; rescale it")
    return kept


class BuiltUserTarget(NamedTuple):
    """A user's model, and their rows as they are stored; `held_out` is None where there are none."""

    model: PyTree
    data: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray] | None


def built_from(user: UserTarget, loss: Loss, root: Path, file: str, point: str = "w*") -> BuiltUserTarget:
    """A user's model, at w* or where the experiment's training starts, after a trial of their loss.

    Args:
        user, loss: as `user_target` gave them.
        root, file: the folder with the user's files, and the file in it that makes the target.
        point: what messages call the model's parameters.

    Raises:
        UserError: for every mistake, with the place where it is known.
    """
    code = UserCode(root, file)
    data = stored_rows("data", user.data, code)
    held_out = None
    if user.held_out is not None:
        held_out = stored_rows("held_out", user.held_out, code)
        check_alike(data, held_out, code)
    model = user.model if user.train is None else trained(user.model, user.train, data, code)
    if isinstance(loss, PerDatumGaussianLoss | PerDatumCategoricalLoss):
        check_answers(model, data, loss, code)
        if held_out is not None:
            check_answers(model, held_out, loss, code, rows_of="held_out")
    check_losses(model, loss, data, code, point)
    if held_out is not None:
        # Any number will do: nothing depends on it.
        _losses(model, loss, held_out, code, "held_out", point)
    return BuiltUserTarget(model, data, held_out)


def stored_rows(
    what: Literal["data", "held_out"], given: Mapping[str, Any] | Callable[[], Mapping[str, Any]], code: UserCode
) -> dict[str, np.ndarray]:
    """The target's data or held-out rows in their stored dtypes.

    Raises:
        UserError: when they cannot be made, or are no arrays with equal numbers of rows.
    """
    if callable(given):
        with code.told_with_line(f"{what}()"):
            returned = given()
        if not isinstance(returned, Mapping) or not returned:
            raise UserError(f"{code.line_of(given)}: {what}() must return a dict of at least one array, rows first")
        given = returned
    arrays = {}
    for name, array in given.items():
        with code.told_with_line(f'{what}["{name}"]'):
            arrays[str(name)] = check_numbers(array, f'{code.file}: {what}["{name}"]')
    rows = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(rows.values())) > 1 or () in rows.values() or (0,) in rows.values():
        told = ", ".join(f"{name} has {shape[0] if shape else 'no axis of rows'}" for name, shape in rows.items())
        raise UserError(f"{code.file}: the arrays of {what} must have the same number of rows, at least one; {told}")
    return arrays


def check_alike(data: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray], code: UserCode) -> None:
    """Make sure that held-out rows could be rows of the data.

    Raises:
        UserError: with the forms of both where they differ.
    """
    forms = [
        {name: f"{array.dtype} of shape {array.shape[1:]} a row" for name, array in rows.items()}
        for rows in (data, held_out)
    ]
    if forms[0] != forms[1]:
        told = [", ".join(f"{name}: {form}" for name, form in sorted(each.items())) for each in forms]
        raise UserError(f"{code.file}: held_out must have the arrays of data; data has {told[0]}; held_out {told[1]}")


def trained(model: PyTree, train: Callable[..., Any], data: Mapping[str, np.ndarray], code: UserCode) -> PyTree:
    """The model at w* that the user's training ends at.

    Raises:
        UserError: when it fails or returns a model of another structure.
    """
    with code.told_with_line("train()"):
        result = train(model, {name: jnp.asarray(array) for name, array in data.items()})
    check_model(result, code)
    before, after = take_apart(model)[0], take_apart(result)[0]
    if before != after:
        raise UserError(
            f"{code.line_of(train)}: train() returned a model of another structure than the one it was given"
            f"{_difference(before, after)}; change the values of its arrays only"
        )
    return result


def _difference(before: Skeleton, after: Skeleton) -> str:
    """The first leaf in which two skeletons differ, in brackets; nothing where it is not in a leaf."""
    for at, (old, new) in enumerate(zip(before.slots, after.slots, strict=False)):
        if old != new:
            return f" (leaf {at}: {old}, then {new})"
    return ""


def check_answers(
    model: Any,
    data: Mapping[str, np.ndarray],
    loss: PerDatumGaussianLoss | PerDatumCategoricalLoss,
    code: UserCode,
    rows_of: Literal["data", "held_out"] = "data",
) -> None:
    """Make sure that what the model answers to one datum fits one label, as the named loss needs it.

    Raises:
        UserError: with both shapes, or the row of a label that is no class.
    """
    name = "gaussian" if isinstance(loss, PerDatumGaussianLoss) else "categorical"
    if not {"x", "y"} <= set(data):
        raise UserError(f'{code.file}: loss "{name}" needs data with x and y; data has {", ".join(data)}')
    x, y = data["x"], data["y"]
    called = type(model).__call__
    with code.told_with_line(f"the model, given one datum x of shape {x.shape[1:]},"):
        answer = jax.eval_shape(model, jnp.asarray(x[0]))
        shape = answer.shape
    where = f"{code.line_of(called)}: the model answers one datum x of shape {x.shape[1:]} with shape {shape}"
    if name == "gaussian":
        if shape != y.shape[1:]:
            raise UserError(f'{where}, but one datum of y has shape {y.shape[1:]}; loss "gaussian" needs equal shapes')
        return
    if len(shape) != 1:
        raise UserError(f'{where}; loss "categorical" needs one logit a class, shape (classes,)')
    if y.ndim != 1 or y.dtype != np.int32:
        raise UserError(
            f'{code.file}: loss "categorical" needs y of shape (rows,) and integer dtype, the class of each row; '
            f"y has shape {y.shape} and dtype {y.dtype}"
        )
    outside = np.flatnonzero((y < 0) | (y >= shape[0]))
    if outside.size:
        labels = "y" if rows_of == "data" else "y of held_out"
        raise UserError(
            f"{where}, so classes are 0 to {shape[0] - 1}, but {labels} is {y[outside[0]]} in row {outside[0]}"
        )


def check_losses(model: PyTree, loss: Loss, data: Mapping[str, np.ndarray], code: UserCode, point: str) -> None:
    """Try the loss at the model's parameters: on all rows, on half of them, elsewhere, under jax.jit and jax.grad.

    Args:
        point: what messages call these parameters.

    Raises:
        UserError: when it fails, has another shape than (rows,), is not finite, mixes rows, cannot be differentiated or
            is the same everywhere.
    """
    where = code.line_of(loss)
    rows = len(next(iter(data.values())))
    losses = _losses(model, loss, data, code, "data", point)
    if not np.all(np.isfinite(losses)):
        bad = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise UserError(
            f"{where}: the loss at {point} is {losses[bad]} in row {bad}; it must be finite in every row"
            f"{_blame(model, data, bad)}"
        )
    half = (rows + 1) // 2
    fewer = {name: array[:half] for name, array in data.items()}
    if not np.allclose(_losses(model, loss, fewer, code, "data", point), losses[:half], rtol=1e-3, atol=1e-4):
        raise UserError(
            f"{where}: the loss of a row changes when other rows are left out; it must depend on that row alone"
        )
    skeleton, parameters, constants = take_apart(model)
    w = jnp.concatenate([jnp.asarray(leaf).ravel() for leaf in parameters])
    arrays = {name: jnp.asarray(array) for name, array in data.items()}

    def mean(w: Array, constants: list[Array], arrays: dict[str, Array]) -> Array:
        return jnp.mean(loss(skeleton.assemble(w, constants), arrays))

    with code.told_with_line("the loss under jax.jit and jax.grad"):
        value_and_gradient = jax.jit(jax.value_and_grad(mean))
        # Any move will do that is not small against w* and is not the same for all parameters.
        moved = w + 0.1 * jnp.cos(jnp.arange(1, w.size + 1)).astype(w.dtype)
        here, there = (value_and_gradient(at, [jnp.asarray(c) for c in constants], arrays) for at in (w, moved))
    if here[0] == there[0] and not np.any(here[1]) and not np.any(there[1]):
        raise UserError(
            f"{where}: the loss stays the same when every parameter is moved; it must use the model that it is given"
        )


def _blame(model: PyTree, data: Mapping[str, np.ndarray], row: int) -> str:
    """What in a row of the data, or in the model, is not finite itself; nothing where all of it is."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]:
        if is_parameter(leaf) and not np.all(np.isfinite(leaf)):
            return f"; the parameter {jax.tree_util.keystr(path)} is not finite"
    culprits = [name for name, array in data.items() if not np.all(np.isfinite(array[row]))]
    return f'; data["{culprits[0]}"] is not finite in that row' if culprits else ""


def _losses(
    model: PyTree,
    loss: Loss,
    data: Mapping[str, np.ndarray],
    code: UserCode,
    rows_of: Literal["data", "held_out"],
    point: str,
) -> np.ndarray:
    """The loss of every row, checked for its shape and dtype."""
    rows = len(next(iter(data.values())))
    which = "" if rows_of == "data" else " of held_out"
    with code.told_with_line(f"the loss{which} at {point}"):
        losses = np.asarray(loss(model, {name: jnp.asarray(array) for name, array in data.items()}))
    where = code.line_of(loss)
    if losses.shape != (rows,):
        raise UserError(
            f"{where}: the loss of {rows} rows{which} has shape {losses.shape}; it must be ({rows},), one loss in nats "
            "a row"
        )
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        raise UserError(f"{where}: the loss has dtype {losses.dtype}; it must be a floating-point array")
    return losses
