"""The loss per datum, in nats: callables `loss(model, data) -> (rows,)` that work on any subset of the rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat_cli.experiment.schema import Deviation, DigitsData, FileData, TargetSpec, TeacherData

Data = dict[str, Array]
Loss = Callable[[Any, Data], Float[Array, " rows"]]
Likelihood = Literal["gaussian", "categorical", "own", "custom"]


@dataclass(frozen=True)
class GaussianLoss:
    """‖y − f(x)‖²/(2σ²), the negative log-likelihood up to its constant; x (rows, inputs), y (rows, outputs)."""

    scale: float

    def __call__(self, model: Any, data: Data) -> Float[Array, " rows"]:
        """The loss of every row."""
        residual = model(data["x"].T) - data["y"].T
        return jnp.sum(residual**2, axis=0) / (2.0 * self.scale**2)


@dataclass(frozen=True)
class CategoricalLoss:
    """Cross-entropy −log softmax(f(x))_y; x (rows, inputs), y (rows,) integer classes."""

    def __call__(self, model: Any, data: Data) -> Float[Array, " rows"]:
        """The loss of every row."""
        log_probabilities = jax.nn.log_softmax(model(data["x"].T), axis=0)
        return -jnp.take_along_axis(log_probabilities, data["y"][None, :], axis=0)[0]


@dataclass(frozen=True)
class PerDatumGaussianLoss:
    """GaussianLoss for a model of one datum, as Equinox's layers are; x (rows, …), y (rows, …) of the model's shape."""

    scale: float

    def __call__(self, model: Any, data: Data) -> Float[Array, " rows"]:
        """The loss of every row, summed over all axes of y but the first."""
        residual = jax.vmap(model)(data["x"]) - data["y"]
        return jnp.sum(residual.reshape(len(residual), -1) ** 2, axis=1) / (2.0 * self.scale**2)


@dataclass(frozen=True)
class PerDatumCategoricalLoss:
    """CategoricalLoss for a model of one datum, as Equinox's layers are; x (rows, …), y (rows,) integer classes."""

    def __call__(self, model: Any, data: Data) -> Float[Array, " rows"]:
        """The loss of every row."""
        log_probabilities = jax.nn.log_softmax(jax.vmap(model)(data["x"]), axis=1)
        return -jnp.take_along_axis(log_probabilities, data["y"][:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class OwnLoss:
    """For a model that is its own loss: K(w) as the one row of no data."""

    def __call__(self, model: Any, data: Data) -> Float[Array, " 1"]:
        """K(w), shape (1,)."""
        del data
        return model.value()[None]


def built_in_loss(spec: TargetSpec) -> Loss:
    """The loss of a built-in target."""
    match spec.data:
        case TeacherData(noise=noise):
            return GaussianLoss(noise.scale)
        case FileData(noise=Deviation(scale=scale)):
            return GaussianLoss(scale)
        case DigitsData() | FileData():
            return CategoricalLoss()
        case _:
            return OwnLoss()


def finite_or_none(loss: float) -> float | None:
    """A loss that nothing depends on, as records hold it: they have no NaN and no infinity."""
    return loss if math.isfinite(loss) else None


def likelihood_of(loss: Loss) -> tuple[Likelihood, float | None]:
    """The name of a loss's likelihood, and σ where it has one."""
    match loss:
        case GaussianLoss(scale=scale) | PerDatumGaussianLoss(scale=scale):
            return "gaussian", scale
        case CategoricalLoss() | PerDatumCategoricalLoss():
            return "categorical", None
        case OwnLoss():
            return "own", None
        case _:
            return "custom", None
