"""From a target row to its folder: data, w*, and a record of what they are."""

import dataclasses
import functools
import math
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from lambda_hat_cli.artifacts.store import file_digest, new_folder, write_record
from lambda_hat_cli.artifacts.target import TargetRecord, TrainingRecord
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.data_files import file_data
from lambda_hat_cli.experiment.packs import steps_of, training_passes
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    FileData,
    MlpModel,
    NormalCrossingModel,
    PythonModel,
    QuadraticModel,
    Stratum,
    SuperpositionModel,
    TargetSpec,
    TeacherData,
    Weights,
    missing_rows,
)
from lambda_hat_cli.targets.data import data_keys, make_data, teacher
from lambda_hat_cli.targets.load import CODE, LoadedTarget, cast, load_artifacts
from lambda_hat_cli.targets.losses import Loss, built_in_loss, finite_or_none, likelihood_of
from lambda_hat_cli.targets.models import BuiltIn, blank, deep_linear, mlp, quadratic
from lambda_hat_cli.targets.names import free_parts_of
from lambda_hat_cli.targets.randomness import frame, stream
from lambda_hat_cli.targets.skeleton import rounded, take_apart
from lambda_hat_cli.targets.starts import mlp_weights, most_singular_weights, polygon, random_weights, stratum_weights
from lambda_hat_cli.targets.training import train
from lambda_hat_cli.targets.user import UserCode, built_from, user_target
from lambda_hat_cli.targets.weights import with_weights
from lambda_hat_cli.truth.assign import truth_for

PACKAGES = ("equinox", "jax", "jaxlib", "numpy", "optax", "pyarrow", "safetensors", "scikit-learn")


class Prepared(NamedTuple):
    """A target before its arrays are written.

    Attributes:
        model: at w*, or where training starts.
        data: its rows, as they are stored. held_out: those that are only looked at, None where there are none.
        loss: the loss of every row. code: the user's files that the loss is from, None where it is a built-in one.
        training: how the model was trained here, None where it was not.
    """

    model: PyTree
    data: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray] | None
    loss: Loss
    code: UserCode | None = None
    training: TrainingRecord | None = None

    def telling(self, doing: str) -> AbstractContextManager[None]:
        """Within, whatever a user's loss raises is told with its line."""
        return nullcontext() if self.code is None else self.code.told_with_line(doing)


class TrainingPass:
    """One training for the targets that differ in what is studied of it, made as far as they are asked for."""

    def __init__(self, rows: Sequence[TargetRow]):
        """Nothing is computed yet; `rows` have ascending steps."""
        self._rows = rows
        self._start: Prepared | None = None
        self._states: Iterator[tuple[int, Prepared]] | None = None
        self._reached: tuple[int, Prepared] | None = None
        self._trouble: Exception | None = None

    def start(self, prepare: Callable[[], Prepared]) -> Prepared:
        """The target where training starts; `prepare` makes it and is called once for all rows.

        Raises:
            UserError: when it cannot start, now or before.
        """
        if self._start is None:
            self._start = self._told_to_all(prepare)
        return self._start

    def after(self, steps: int) -> Prepared:
        """The target after the steps of one of the rows, once started; to be asked in ascending order.

        Raises:
            UserError: when training diverged, now or before.
        """
        return self._told_to_all(functools.partial(self._advanced, steps))

    def _advanced(self, steps: int) -> Prepared:
        if self._start is None:
            raise TypeError("the training has no start")
        if self._states is None:
            self._states = _trained(self._start, self._rows)
        while self._reached is None or self._reached[0] < steps:
            self._reached = next(self._states)
        return self._reached[1]

    def _told_to_all(self, work: Callable[[], Prepared]) -> Prepared:
        """What the work gives; what goes wrong in it is what the other checkpoints are told too."""
        if self._trouble is not None:
            raise self._trouble
        try:
            return work()
        except Exception as trouble:
            self._trouble = trouble
            raise


def build_targets(
    rows: Sequence[TargetRow],
    out: Path,
    files: Path | None,
    attempt: Callable[[TargetRow, Callable[[], None]], None],
) -> None:
    """Build every target as the folder `out/<id>`; those of one training share it.

    Args:
        rows: what to build. out: the folder to put them in.
        files: holds the user's files that targets are made of, each named by its sha256; None where there are none.
        attempt: calls the work of one target; it decides whether one that fails stops the others.
    """
    for together in training_passes(rows):
        training = TrainingPass(together)
        for row in together:
            attempt(row, functools.partial(build_target, row, out / row.id, files, training))


def build_target(row: TargetRow, out: Path, files: Path | None, training: TrainingPass | None = None) -> None:
    """Build the target of `row` as the folder `out`, whole or not at all.

    Built-in networks are made, and all models trained here, from float32 numbers, also in a process that has float64;
    L_n(w*), its gradient and the loss over held-out rows, taken from the stored numbers, use the process's widest
    precision, and so does what a user's own functions compute or hold outside their model.

    Args:
        row: what to build.
        out: the folder to make; it must not exist.
        files: the folder of the user's files that it is made of, each named by its sha256; None where there are none.
        training: the pass that this target is a checkpoint of; None trains for it alone, where it is trained.

    Raises:
        UserError: when `out` exists, a user's file cannot be used, their code fails, training diverges, or the loss at
            w* or its gradient is not finite.
    """
    with new_folder(out) as folder:
        if isinstance(row.spec.model, PythonModel):
            copy_code(row, files, folder / CODE)
            prepare = functools.partial(user_prepared, row, folder / CODE, files)
        else:
            prepare = functools.partial(built_in_prepared, row, files)
        if row.spec.train is None:
            prepared = prepare()
        else:
            training = training or TrainingPass([row])
            start = training.start(prepare)
            # Before training, which a mistake in this row alone must not cost.
            chosen_rows(start.data, row.spec.rows)
            free_parts_of(start.model, row.spec.restrict)
            prepared = training.after(row.spec.train.steps)
        data = chosen_rows(prepared.data, row.spec.rows)
        write_arrays(folder, prepared.model, data, row.spec.restrict)
        target = load_artifacts(folder, row.spec, data, jax.dtypes.canonicalize_dtype(np.float64))
        write_record(folder / "target.json", describe(row, folder, target, prepared))


def built_in_prepared(row: TargetRow, files: Path | None) -> Prepared:
    """A built-in target at w*, or where its training starts."""
    data = data_of(row, files)
    if row.spec.train is not None:
        model = initialised(row.spec, row.seed)
    elif row.spec.weights is not None and not isinstance(row.spec.model, PythonModel):
        model = at_weights(blank(row.spec.model), row.spec.weights, row, files)
    else:
        model = constructed_minimum(row.spec, row.seed, data)
    return Prepared(model, data, None, built_in_loss(row.spec))


def user_prepared(row: TargetRow, code: Path, files: Path | None) -> Prepared:
    """A user's target at w*, or where the experiment's training starts; `code` holds their files.

    Raises:
        UserError: for every mistake in what they return.
    """
    if not isinstance(row.spec.model, PythonModel):
        raise TypeError("this target is no user's")
    user, loss = user_target(code, row.spec.model)
    if row.spec.train is not None and user.train is not None:
        raise UserError(
            f"{row.spec.model.file}: {row.spec.model.function}() returns `train`, and the experiment file has a "
            "section `train` for it: leave one of them out"
        )
    if row.spec.weights is not None:
        user = dataclasses.replace(user, model=at_weights(user.model, row.spec.weights, row, files), train=None)
    point = "w*" if row.spec.train is None else "the start of training"
    model, data, held_out = built_from(user, loss, code, row.spec.model.file, point)
    return Prepared(model, data, held_out, loss, UserCode(code, row.spec.model.file))


def initialised(spec: TargetSpec, seed: int) -> BuiltIn:
    """The built-in model where training starts."""
    key = stream(seed, "initialisation", spec.model.model_dump(mode="json"))
    match spec.model:
        case MlpModel() as model:
            weights, biases = mlp_weights(key, model, bias_scale=0.0)
            return mlp(model, weights, biases)
        case DeepLinearModel() as model:
            return deep_linear(random_weights(key, model.widths))
    raise TypeError(f"a {spec.model.kind} model is not trained")


def _trained(start: Prepared, rows: Sequence[TargetRow]) -> Iterator[tuple[int, Prepared]]:
    """Each number of steps that one of the rows asks for, and the target after it."""
    settings, seed = rows[0].spec.train, rows[0].seed
    if settings is None:
        raise TypeError("these targets are not trained")
    # A user's arrays may be float64 here; the model is trained as it is stored.
    model = rounded(start.model)
    data = {name: jnp.asarray(array) for name, array in start.data.items()}
    held_out = None
    if start.held_out is not None:
        held_out = {name: jnp.asarray(array) for name, array in start.held_out.items()}
    # Without the number of steps: a checkpoint is what a training that ends there gives.
    order = stream(seed, "training", settings.model_dump(mode="json", exclude={"steps", "weight_decay"}))
    checkpoints = sorted({steps_of(row) for row in rows})
    with start.telling("the loss in training"):
        for trained, record in train(model, data, start.loss, settings, order, checkpoints, held_out):
            yield record.steps, start._replace(model=trained, training=record)


def constructed_minimum(spec: TargetSpec, seed: int, data: dict[str, np.ndarray]) -> BuiltIn:
    """The built-in model at a known minimum: the teacher's parameters, or 0 where the model is its own loss."""
    section = spec.model.model_dump(mode="json")
    match spec.model, spec.data:
        case QuadraticModel() as model, _:
            size = len(model.curvatures)
            rotation = (
                frame(stream(seed, "rotation", section), size, size).astype(np.float32) if model.rotation else None
            )
            return quadratic(model, rotation)
        case NormalCrossingModel() as model, _:
            return blank(model)
        case SuperpositionModel() as model, _:
            return polygon(model)
        case DeepLinearModel() as model, TeacherData(rank=int(rank)) as teaching:
            keys = data_keys(seed, teaching, model.widths[0], model.widths[-1])
            gauge = stream(seed, "gauge", section, teaching.model_dump(mode="json"))
            match spec.at, model.widths:
                case Stratum(ranks=ranks), (inputs, hidden, outputs):
                    weights = stratum_weights(keys.teacher, gauge, (inputs, hidden, outputs), rank, ranks)
                case _:
                    weights = most_singular_weights(keys.teacher, gauge, model.widths, rank)
            return deep_linear(weights)
        case MlpModel() as model, TeacherData() as teaching:
            keys = data_keys(seed, teaching, model.widths[0], model.widths[-1])
            return teacher(model, teaching, keys, data["x"])
    raise TypeError(f"a {spec.model.kind} model has no constructed minimum with these data")


def data_of(row: TargetRow, files: Path | None) -> dict[str, np.ndarray]:
    """The arrays of a built-in target."""
    if isinstance(row.spec.data, FileData) and isinstance(row.spec.model, MlpModel | DeepLinearModel):
        widths = row.spec.model.widths
        return file_data(own_file(row, files, row.spec.data.path), row.spec.data, widths[0], widths[-1])
    return make_data(row.spec, row.seed)


def at_weights(model: PyTree, weights: Weights, row: TargetRow, files: Path | None) -> PyTree:
    """`model` at the parameters that a user's file of weights has."""
    return with_weights(model, own_file(row, files, weights.file), weights)


def copy_code(row: TargetRow, files: Path | None, to: Path) -> None:
    """Copy a python model's files to where they are beside each other, as they were."""
    for name in row.files:
        if name.endswith(".py"):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(own_file(row, files, name), to / name)


def own_file(row: TargetRow, files: Path | None, name: str) -> Path:
    """A user's file that a target is made of, which must be the one that was planned.

    Args:
        row: the target. files: the folder of users' files, each named by its sha256. name: as in the experiment.

    Raises:
        UserError: when it is missing or differs from the plan.
    """
    digest = row.files.get(PurePosixPath(name).as_posix())
    if files is None or digest is None:
        raise UserError(f"{row.name}: is made of {name}; give with --files the folder `files` of the plan that has it")
    file = files / digest
    if not file.is_file():
        raise UserError(f"{file}: missing, it is {name} of {row.name}; give with --files the plan's folder `files`")
    if file_digest(file) != digest:
        raise UserError(f"{file}: differs from {name} as it was planned; start the pipeline again")
    return file


def chosen_rows(data: dict[str, np.ndarray], rows: tuple[int, int] | None) -> dict[str, np.ndarray]:
    """The rows start … stop−1 of the data, or all of them.

    Raises:
        UserError: when there are not so many.
    """
    if rows is None:
        return data
    if trouble := missing_rows(rows, len(next(iter(data.values())))):
        raise UserError(trouble)
    return {name: array[rows[0] : rows[1]] for name, array in data.items()}


def write_arrays(folder: Path, model: Any, data: dict[str, np.ndarray], restrict: Sequence[str] | None) -> None:
    """Write data.npz, params.eqx and static.eqx in their stored dtypes.

    Raises:
        UserError: when `restrict` does not fit the model's parameters.
    """
    _, parameters, constants = take_apart(model, free_parts_of(model, restrict))
    np.savez(folder / "data.npz", allow_pickle=False, **data)
    eqx.tree_serialise_leaves(folder / "params.eqx", parameters)
    eqx.tree_serialise_leaves(folder / "static.eqx", constants)


def describe(
    row: TargetRow,
    folder: Path,
    target: LoadedTarget,
    prepared: Prepared,
) -> TargetRecord:
    """target.json for the files in `folder`, which `target` was loaded from.

    Raises:
        UserError: when the loss at w* or its gradient is not finite.
    """
    with prepared.telling("the loss at w*"):
        loss, gradient_norm = loss_and_gradient_norm(target)
        held_out_loss = None if prepared.held_out is None else finite_or_none(mean_loss(target, prepared.held_out))
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        raise UserError(
            f"{row.name}: at w* the loss is {loss} and its gradient's norm {gradient_norm}; both must be finite numbers"
        )
    likelihood, scale = likelihood_of(prepared.loss)
    return TargetRecord(
        id=row.id,
        name=row.name,
        spec=row.spec,
        seed=row.seed,
        likelihood=likelihood,
        scale=scale,
        n=target.n,
        d=target.d,
        loss_at_w_star=loss,
        gradient_norm=gradient_norm,
        held_out_loss=held_out_loss,
        training=prepared.training,
        truth=truth_for(row.spec),
        versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        code=row.code,
        checksums={
            str(file.relative_to(folder)): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()
        },
    )


@eqx.filter_jit
def losses_and_gradient(target: LoadedTarget) -> tuple[jax.Array, jax.Array]:
    """The losses of all rows at w*, and the gradient of their mean."""

    def mean(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses = target.losses(w, target.data)
        return jnp.mean(losses), losses

    gradient, losses = jax.grad(mean, has_aux=True)(target.w_star)
    return losses, gradient


def mean_loss(target: LoadedTarget, rows: Mapping[str, np.ndarray]) -> float:
    """The mean loss at w* of other rows than the target's, nats per datum; the sum is taken in float64."""
    losses = target.losses(target.w_star, {name: cast(array, target.w_star.dtype) for name, array in rows.items()})
    return float(np.mean(np.asarray(losses, np.float64)))


def loss_and_gradient_norm(target: LoadedTarget) -> tuple[float, float]:
    """L_n(w*) in nats per datum and ‖∇L_n(w*)‖₂; sums are taken in float64."""
    losses, gradient = losses_and_gradient(target)
    return float(np.mean(np.asarray(losses, np.float64))), float(np.linalg.norm(np.asarray(gradient, np.float64)))
