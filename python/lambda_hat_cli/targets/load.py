"""A target folder as differentiable losses in the caller's precision: read float32, then cast everything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.schema import DeepLinearModel, NoData, PythonModel, TargetSpec
from lambda_hat_cli.targets.losses import Loss, built_in_loss
from lambda_hat_cli.targets.models import blank
from lambda_hat_cli.targets.names import free_parts_of
from lambda_hat_cli.targets.skeleton import Skeleton, take_apart
from lambda_hat_cli.targets.user import user_target

CODE = "code"


class LoadedTarget(eqx.Module):
    """A target ready for use; a pytree of arrays with static sizes, to be passed into compiled functions.

    Attributes:
        w_star: the parameters, flat, in the module's leaf order.
        data: arrays with rows first; empty for models that are their own loss.
        full_data: the data that losses are summed over, `data` or fewer rows with the same sum at every w.
        constants: the module's other arrays.
        n: data points, sets t = nβ. rows: rows of data (1 where the model is its own loss). d: parameters.
    """

    w_star: Float[Array, " d"]
    data: dict[str, Array]
    full_data: dict[str, Array]
    constants: tuple[Array, ...]
    skeleton: Skeleton = eqx.field(static=True)
    loss: Loss = eqx.field(static=True)
    n: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    d: int = eqx.field(static=True)

    def model(self, w: Float[Array, " d"]) -> Any:
        """The module with parameters w."""
        return self.skeleton.assemble(w, self.constants)

    def losses(self, w: Float[Array, " d"], data: Mapping[str, Array]) -> Float[Array, " rows"]:
        """Loss per datum at w in nats, for `data`, any subset of its rows or `full_data`; differentiable in w."""
        return self.loss(self.model(w), dict(data))


def load_target(folder: TargetFolder, dtype: DTypeLike) -> LoadedTarget:
    """Rebuild the target of a checked folder in `dtype` (float32 or float64).

    A user's function is called again for the module's structure; its numbers are replaced by the stored ones.

    Raises:
        UserError: when the arrays do not fit the record's spec or the process cannot hold `dtype`.
    """
    target = load_artifacts(folder.path, folder.record.spec, folder.data(), dtype)
    if (target.n, target.d) != (folder.record.n, folder.record.d):
        raise UserError(
            f"{folder.path}: its arrays have n = {target.n} and d = {target.d}, but target.json says "
            f"n = {folder.record.n} and d = {folder.record.d}; build the target again"
        )
    return target


def load_artifacts(path: Path, spec: TargetSpec, data: dict[str, np.ndarray], dtype: DTypeLike) -> LoadedTarget:
    """As `load_target`, from the stored files alone."""
    dtype = np.dtype(dtype)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise UserError(f"this process holds no {dtype} arrays; set JAX_ENABLE_X64=1 before it starts")
    if isinstance(spec.model, PythonModel):
        user, loss = user_target(path / CODE, spec.model)
        template = user.model
    else:
        template, loss = blank(spec.model), built_in_loss(spec)
    skeleton = take_apart(template, free_parts_of(template, spec.restrict))[0]
    parameters = read_leaves(
        path / "params.eqx", [jax.ShapeDtypeStruct(shape, np.float32) for shape in skeleton.parameters]
    )
    constants = read_leaves(
        path / "static.eqx", [jax.ShapeDtypeStruct(slot.shape, np.dtype(slot.dtype)) for slot in skeleton.constants]
    )
    return assembled(
        skeleton,
        parameters,
        constants,
        data,
        loss,
        dtype,
        full_data=sufficient_rows(data) if isinstance(spec.model, DeepLinearModel) else data,
        n=spec.data.n if isinstance(spec.data, NoData) else None,
    )


def assembled(
    skeleton: Skeleton,
    parameters: Sequence[Array | np.ndarray],
    constants: Sequence[Array | np.ndarray],
    data: Mapping[str, np.ndarray],
    loss: Loss,
    dtype: DTypeLike,
    full_data: Mapping[str, np.ndarray] | None = None,
    n: int | None = None,
) -> LoadedTarget:
    """A target from its arrays as they are stored, with their floats in `dtype`, which the process can hold.

    Args:
        skeleton, parameters, constants: the module at w*, as `take_apart` gives it.
        data: arrays with the rows first; empty for a model that is its own loss.
        full_data: what losses are summed over where that is not `data`. n: where that is not the number of rows.
    """
    dtype = np.dtype(dtype)
    rows = len(next(iter(data.values()))) if data else 1
    return LoadedTarget(
        w_star=jnp.concatenate([cast(leaf, dtype).ravel() for leaf in parameters]),
        data={name: cast(array, dtype) for name, array in data.items()},
        full_data={name: cast(array, dtype) for name, array in (data if full_data is None else full_data).items()},
        constants=tuple(cast(leaf, dtype) for leaf in constants),
        skeleton=skeleton,
        loss=loss,
        n=rows if n is None else n,
        rows=rows,
        d=skeleton.d,
    )


def sufficient_rows(data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """At most inputs + 1 rows whose squared residuals sum to those of all rows, for every linear map.

    With [X Y] = QR, ‖Y − XAᵀ‖² = ‖Q(R_Y − R_X Aᵀ)‖² = ‖R_Y − R_X Aᵀ‖², so that a gradient does not grow with n. R_X has
    as many rows as inputs, then only 0: what R_Y has beside that no map can explain, and one row as long says the same.

    Args:
        data: x (rows, inputs) and y (rows, outputs).

    Returns:
        The same names, float64.
    """
    inputs = data["x"].shape[1]
    triangle = np.linalg.qr(np.hstack([data["x"], data["y"]]).astype(np.float64)).R
    x, y = triangle[:inputs, :inputs], triangle[:inputs, inputs:]
    unexplained = triangle[inputs:, inputs:]
    if len(unexplained):
        length = np.eye(1, y.shape[1]) * np.linalg.norm(unexplained)
        x, y = np.vstack([x, np.zeros((1, inputs))]), np.vstack([y, length])
    return {"x": x, "y": y}


def read_leaves(file: Path, template: list[jax.ShapeDtypeStruct]) -> list[Array]:
    """The arrays of a file of Equinox leaves, which must be those of the template and no more.

    Raises:
        UserError: when they differ in number, shape or dtype.
    """
    try:
        with file.open("rb") as stream:
            leaves = eqx.tree_deserialise_leaves(stream, template)
            complete = not stream.read(1)
    except (OSError, EOFError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{file}: its arrays do not fit the model in target.json; build the target again") from error
    if not complete:
        raise UserError(f"{file}: it holds more arrays than the model in target.json; build the target again")
    return leaves


def cast(array: Array | np.ndarray, dtype: np.dtype) -> Array:
    """Floating arrays in `dtype`, others as they are."""
    return jnp.asarray(array, dtype if np.issubdtype(array.dtype, np.floating) else None)
