"""A target that takes half a minute to make, and is made twice to be built and once to be sampled."""

import time

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat_cli.targets.user import UserTarget


class Point(eqx.Module):
    """The parameters themselves."""

    w: Float[Array, " d"]


def slow() -> UserTarget:
    time.sleep(35)

    def loss(model: Point, data: dict[str, Array]) -> Float[Array, " rows"]:
        return 0.5 * jnp.sum(model.w**2) * data["ones"]

    return UserTarget(model=Point(jnp.zeros(2)), data={"ones": np.ones(10, np.float32)}, loss=loss)
