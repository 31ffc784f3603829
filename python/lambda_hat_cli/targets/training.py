"""w* by training: Adam, SGD or AdamW on mini-batches, with the loss over all rows recorded along the way."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from lambda_hat_cli.artifacts.target import TrainingRecord
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.schema import Training
from lambda_hat_cli.targets.losses import Data, Loss, finite_or_none
from lambda_hat_cli.targets.skeleton import is_parameter

RECORDS_A_DECADE = 24


class Progress(NamedTuple):
    """What training carries from step to step; `order` is the present epoch's permutation of the rows."""

    parameters: PyTree
    optimizer: optax.OptState
    order: Int[Array, " rows"]


def train(
    model: PyTree,
    data: Data,
    loss: Loss,
    settings: Training,
    key: PRNGKeyArray,
    checkpoints: Sequence[int],
    held_out: Data | None = None,
) -> Iterator[tuple[PyTree, TrainingRecord]]:
    """Minimise the mean loss over the rows from `model` onwards, pausing at each of `checkpoints`.

    Each epoch visits the rows in a fresh random order and drops what does not fill a batch; a batch of more rows than
    there are is the full data. What a checkpoint holds does not depend on the others.

    Args:
        settings: how; its `steps` is not read.
        checkpoints: numbers of steps, ascending.
        held_out: rows that training does not see, whose loss is recorded too, finite or not.

    Yields:
        At each checkpoint the model, and the losses over all rows at evenly spaced logarithms of the steps so far, the
        first and last included.

    Raises:
        UserError: when the loss is no finite number, at the start or later.
    """
    rows = len(next(iter(data.values())))
    batch = rows if settings.batch_size == "full" else min(settings.batch_size, rows)
    parameters, rest = eqx.partition(model, is_parameter)
    optimizer = optimizer_of(settings)

    def mean_loss(parameters: PyTree, data: Data) -> Float[Array, ""]:
        return jnp.mean(loss(eqx.combine(parameters, rest), data))

    def one_step(step: Int[Array, ""], progress: Progress, data: Data, key: PRNGKeyArray) -> Progress:
        epoch, place = jnp.divmod(step, rows // batch)
        order, taken = progress.order, data
        if batch < rows:
            order = jax.lax.cond(
                place == 0, lambda: jax.random.permutation(jax.random.fold_in(key, epoch), order), lambda: order
            )
            taken = jax.tree.map(lambda array: array[jax.lax.dynamic_slice(order, (place * batch,), (batch,))], data)
        gradient = jax.grad(mean_loss)(progress.parameters, taken)
        updates, state = optimizer.update(gradient, progress.optimizer, progress.parameters)
        return Progress(optax.apply_updates(progress.parameters, updates), state, order)

    @jax.jit
    def advance(progress: Progress, data: Data, key: PRNGKeyArray, start: Array, stop: Array) -> Progress:
        return jax.lax.fori_loop(start, stop, lambda step, now: one_step(step, now, data, key), progress)

    full_loss = jax.jit(mean_loss)
    progress = Progress(parameters, jax.jit(optimizer.init)(parameters), jnp.arange(rows, dtype=np.int32))
    done, losses = 0, {0: float(full_loss(parameters, data))}
    if not np.isfinite(losses[0]):
        raise UserError(f"the mean loss is {losses[0]} where training starts; it must be finite in float32, rescale it")
    held_out_losses = {} if held_out is None else {0: finite_or_none(float(full_loss(parameters, held_out)))}
    for checkpoint in checkpoints:
        told = sorted({0, *_grid(checkpoint), checkpoint})
        for stop in (step for step in told if step > done):
            progress = advance(progress, data, key, np.int32(done), np.int32(stop))
            done, losses[stop] = stop, float(full_loss(progress.parameters, data))
            if not np.isfinite(losses[stop]):
                raise UserError(
                    f"training diverged: the loss is {losses[stop]} after step {stop}; "
                    f"give a smaller train.learning_rate than {settings.learning_rate:g}"
                )
            if held_out is not None:
                held_out_losses[stop] = finite_or_none(float(full_loss(progress.parameters, held_out)))
        record = TrainingRecord(
            steps=checkpoint,
            recorded_steps=tuple(told),
            losses=tuple(losses[step] for step in told),
            held_out_losses=None if held_out is None else tuple(held_out_losses[step] for step in told),
        )
        yield eqx.combine(progress.parameters, rest), record


def optimizer_of(settings: Training) -> optax.GradientTransformation:
    """The optimizer that the settings name."""
    match settings.optimizer:
        case "adam":
            return optax.adam(settings.learning_rate)
        case "sgd":
            return optax.sgd(settings.learning_rate)
        case "adamw":
            return optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)


def _grid(steps: int) -> list[int]:
    """The positive steps below `steps` at which the loss is recorded, whatever the checkpoints are."""
    decades = np.arange(0, np.log10(max(steps, 1)), 1 / RECORDS_A_DECADE)
    return [int(step) for step in np.round(10.0**decades) if step < steps]
