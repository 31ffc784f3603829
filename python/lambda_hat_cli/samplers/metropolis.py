"""The Metropolis test of a move, and what it leaves to record."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import Place, Stats

DIVERGENCE = 1000.0


def metropolis(
    posterior: LocalPosterior, start: Place, end: Place, error: Float[Array, ""], threshold: Float[Array, ""]
) -> tuple[Place, Array, Stats]:
    """Accept `end` where `threshold`, uniform on [0, 1), is below exp(−error): the place, whether, and statistics.

    Args:
        error: energy at the end less energy at the start, nats; an end that is not finite is refused.
    """
    usable = jnp.isfinite(error) & jnp.all(jnp.isfinite(end.gradient))
    acceptance = jnp.where(usable, jnp.minimum(1.0, jnp.exp(-error)), 0.0)
    accepted = threshold < acceptance
    place = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, start)
    away = place.w - posterior.w_star
    return (
        place,
        accepted,
        {
            "llc": place.llc,
            "acceptance_rate": acceptance,
            "diverging": ~usable | (error > DIVERGENCE),
            "virial": posterior.virial(place.w, place.gradient),
            "distance_squared": jnp.vdot(away, away),
        },
    )
