"""The isokinetic leapfrog step that both kinds of MCLMC move by, and the partial refreshment of its direction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import Place, SamplerDiverged


class Moving(NamedTuple):
    """A place of one chain and the unit direction in which it moves."""

    place: Place
    direction: Float[Array, " d"]


def require_directions(d: int) -> None:
    """Go on only where there is a direction to turn to.

    Raises:
        SamplerDiverged: for d = 1.
    """
    if d < 2:
        raise SamplerDiverged("MCLMC needs at least two parameters; take hmc")


def leapfrog(posterior: LocalPosterior, at: Moving, size: Float[Array, ""]) -> tuple[Moving, Float[Array, ""]]:
    """One step of length `size`, one gradient: where it leads, and its energy error in nats.

    Source: Robnik, De Luca, Silverstein and Seljak 2023, "Microcanonical Hamiltonian Monte Carlo", eq. 14–16.
    """
    direction, first = kick(at.direction, at.place.gradient, 0.5 * size)
    w = at.place.w + size * direction
    reached = Place(w, *posterior.value_and_grad(w))
    direction, second = kick(direction, reached.gradient, 0.5 * size)
    return Moving(reached, direction), reached.potential - at.place.potential + first + second


def kick(
    direction: Float[Array, " d"], gradient: Float[Array, " d"], time: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Turn the unit direction along −∇U for `time`: the new direction and the kinetic energy gained; d ≥ 2.

    Source: Robnik and Seljak 2023, "Fluctuation without dissipation: microcanonical Langevin Monte Carlo", section 3;
    written with exp(−2δ) instead of cosh δ so that large gradients do not overflow.
    """
    d = direction.shape[0]
    norm = jnp.linalg.norm(gradient)
    downhill = -gradient / jnp.where(norm > 0, norm, 1.0)
    delta = time * norm / (d - 1)
    along = jnp.vdot(direction, downhill)
    decay = jnp.exp(-delta)
    turned = downhill * (1.0 - decay) * (1.0 + decay + along * (1.0 - decay)) + 2.0 * decay * direction
    gained = (d - 1) * (delta - np.log(2.0) + jnp.log(1.0 + along + (1.0 - along) * decay**2))
    return unit(turned), gained


def refreshed(
    direction: Float[Array, " d"], share: Float[Array, ""] | float, noise: Float[Array, " d"]
) -> Float[Array, " d"]:
    """The direction after a partial refreshment, which forgets it over 1/share steps.

    `share` is step size over decoherence length; the map is reversible for uniform directions whatever it is.
    """
    return unit(direction + jnp.sqrt(jnp.expm1(2.0 * share) / direction.shape[0]) * noise)


def unit(vector: Float[Array, " d"]) -> Float[Array, " d"]:
    """The vector scaled to length 1."""
    return vector / jnp.linalg.norm(vector)


def random_directions(key: PRNGKeyArray, places: Place) -> Moving:
    """A uniformly random direction for each chain; leaves of `places` have a leading axis of chains."""
    # NumPy, for a program of its own costs a second of compilation.
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    direction = random.standard_normal(places.w.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return Moving(places, jnp.asarray(direction, places.w.dtype))
