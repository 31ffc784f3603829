"""The largest curvature that a Langevin step meets, by power iteration on Hessian-vector products."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.posterior.local import LocalPosterior

ITERATIONS = 20
EQUIVALENTS = 2 * ITERATIONS
"""Full-data gradient equivalents of one estimate at one point."""


@eqx.filter_jit
def largest_curvature(
    posterior: LocalPosterior, points: Float[Array, "points d"], scale: Float[Array, " d"], key: PRNGKeyArray
) -> Float[Array, ""]:
    """The largest |eigenvalue| of √M·∇²U·√M over `points`, from below: 20 products a point from a random start.

    Not finite where the Hessian is not.
    """
    root = jnp.sqrt(scale)

    def at(argument: tuple[Float[Array, " d"], PRNGKeyArray]) -> Float[Array, ""]:
        w, start_key = argument

        def multiply(vector: Float[Array, " d"], _: None) -> tuple[Float[Array, " d"], Float[Array, ""]]:
            image = root * posterior.hessian_vector(w, root * vector)
            length = jnp.linalg.norm(image)
            return image / jnp.where(length > 0, length, 1), length

        start = jax.random.normal(start_key, w.shape, w.dtype)
        return jax.lax.scan(multiply, start / jnp.linalg.norm(start), None, ITERATIONS)[1][-1]

    return jnp.max(jax.lax.map(at, (points, jax.random.split(key, points.shape[0]))))
