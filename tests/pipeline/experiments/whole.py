"""A target whose loss fails on three rows of the data."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat_cli.targets.user import UserTarget


class Point(eqx.Module):
    """The parameters themselves."""

    w: Float[Array, " d"]


def whole() -> UserTarget:
    def loss(model: Point, data: dict[str, Array]) -> Float[Array, " rows"]:
        if len(data["ones"]) == 3:
            raise ValueError("three rows are one too many")
        return 0.5 * jnp.sum(model.w**2) * data["ones"]

    return UserTarget(model=Point(jnp.zeros(2)), data={"ones": np.ones(10, np.float32)}, loss=loss)
