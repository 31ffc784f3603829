"""Sequential Monte Carlo from a Gaussian to its product with a weight, along a path of weights, by HMC moves.

Del Moral, Doucet & Jasra 2006 (J. R. Stat. Soc. B 68:411), with the annealing of Neal 2001. Particles begin as
exact draws of the Gaussian, so directions that the weight leaves flat are right from the start.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

TARGET_ACCEPTANCE = 0.8


class Density(NamedTuple):
    """exp(log_weight(problem, power, z))·N(z; 0, I/γ), for powers from 0, where the weight is 1, to 1, the target.

    Static functions of a problem (a pytree), a power and one point z (dim,).

    Attributes:
        dim: dimension of z. observe: the numbers of (problem, z) that are averaged at power 1, shape (k,).
    """

    dim: int
    log_weight: Callable[..., Float[Array, ""]]
    gradient: Callable[..., Float[Array, " dim"]]
    observe: Callable[..., Float[Array, " k"]]


class Settings(NamedTuple):
    """How much work a run does.

    Attributes:
        particles: number of particles. moves: HMC moves after each rise of the power.
        trajectory: the longest trajectory in units of 1/√γ, the scale of flat directions; lengths are uniform below it.
        leapfrog_steps: the most steps of a trajectory, where the step size is small.
        final_moves: moves under the full weight that are averaged over.
        ess: the share of effective particles that each rise leaves; sets the number of rises.
        shortest_step: the least factor on the step size; small where the density narrows to a point.
    """

    particles: int
    moves: int
    trajectory: float
    leapfrog_steps: int
    final_moves: int
    ess: float
    shortest_step: float


class Schedule(NamedTuple):
    """What the pilot finds: the powers, rising to 1, and the step size at each."""

    powers: tuple[float, ...]
    step_sizes: tuple[float, ...]


class Outcome(NamedTuple):
    """One run: log Z of the weight under the Gaussian, the averages of `observe`, the mean acceptance."""

    log_normalizer: float
    averages: Float[np.ndarray, " k"]
    acceptance: float


def pilot(key: PRNGKeyArray, density: Density, problem: object, gamma: float, settings: Settings) -> Schedule:
    """Choose the powers and step sizes by a run of its own, so that later runs have them fixed and are unbiased."""
    z = _start(key, density.dim, gamma, settings.particles)
    log_w = jnp.zeros(settings.particles)
    power, step = 0.0, 1.0 / np.sqrt(gamma)
    powers, steps = [], []
    while power < 1.0:
        power = _next_power(density, problem, z, log_w, power, settings.ess)
        key, of_resampling, of_moves = jax.random.split(key, 3)
        z, log_w, _ = _raise(density, problem, of_resampling, z, log_w, power)
        for of_move in jax.random.split(of_moves, max(4, settings.moves)):
            longest = _longest(settings, gamma, step)
            z, log_w, acceptance = _moves(
                density, problem, of_move, z, log_w, power, step, gamma, 1, longest, settings.shortest_step
            )
            step *= float(np.exp(0.5 * (float(acceptance) - TARGET_ACCEPTANCE)))
        powers.append(power)
        steps.append(step)
    return Schedule(tuple(powers), tuple(steps))


def run(
    key: PRNGKeyArray, density: Density, problem: object, gamma: float, settings: Settings, schedule: Schedule
) -> Outcome:
    """One run with a fixed schedule: exp(log_normalizer) and its product with the averages are unbiased."""
    of_start, key = jax.random.split(key)
    z = _start(of_start, density.dim, gamma, settings.particles)
    log_w = jnp.zeros(settings.particles)
    log_normalizer = 0.0
    acceptances = []
    for power, step in zip(*schedule, strict=True):
        key, of_resampling, of_moves = jax.random.split(key, 3)
        z, log_w, increment = _raise(density, problem, of_resampling, z, log_w, power)
        longest = _longest(settings, gamma, step)
        z, log_w, acceptance = _moves(
            density, problem, of_moves, z, log_w, power, step, gamma, settings.moves, longest, settings.shortest_step
        )
        log_normalizer += float(increment)
        acceptances.append(float(acceptance))
    averages = []
    for of_move in jax.random.split(key, settings.final_moves):
        z, log_w, _ = _moves(density, problem, of_move, z, log_w, 1.0, step, gamma, 1, longest, settings.shortest_step)
        averages.append(np.asarray(_observe(density, problem, z)))
    return Outcome(log_normalizer, np.mean(averages, axis=0), float(np.mean(acceptances)))


def combine(outcomes: list[Outcome]) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The averages weighted by the runs' Z, as one large run would have it, and their standard errors (jackknife)."""
    log_z = np.array([outcome.log_normalizer for outcome in outcomes])
    weights = np.exp(log_z - log_z.max())
    averages = np.stack([outcome.averages for outcome in outcomes])
    value = weights @ averages / weights.sum()
    left_out = (weights @ averages - weights[:, None] * averages) / (weights.sum() - weights)[:, None]
    count = len(outcomes)
    return value, np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean(0)) ** 2, axis=0))


def _longest(settings: Settings, gamma: float, step: float) -> int:
    """The most leapfrog steps of a trajectory at this step size."""
    return min(settings.leapfrog_steps, math.ceil(settings.trajectory / (math.sqrt(gamma) * step)))


def _next_power(density: Density, problem: object, z: Array, log_w: Array, power: float, ess: float) -> float:
    """The largest power whose rise leaves the share `ess` of the particles effective, by bisection; at most 1."""

    def left(to: float) -> float:
        rise = np.asarray(_log_weights(density, problem, to, z) - log_w)
        weights = np.exp(rise - rise.max())
        return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))

    low, high = power, 1.0
    if left(high) >= ess:
        return 1.0
    while high - low > 1e-3 * low:
        # Powers that matter lie orders of magnitude apart.
        middle = math.sqrt(max(low, 1e-12) * high)
        low, high = (middle, high) if left(middle) >= ess else (low, middle)
    return low


@partial(jax.jit, static_argnums=(1, 3))
def _start(key: PRNGKeyArray, dim: int, gamma: Array, particles: int) -> Array:
    return jax.random.normal(key, (particles, dim)) / jnp.sqrt(gamma)


@partial(jax.jit, static_argnums=0)
def _log_weights(density: Density, problem: object, power: Array, z: Array) -> Array:
    return jax.vmap(density.log_weight, (None, None, 0))(problem, power, z)


@partial(jax.jit, static_argnums=0)
def _raise(
    density: Density, problem: object, key: PRNGKeyArray, z: Array, log_w: Array, power: Array
) -> tuple[Array, Array, Array]:
    """Systematic resampling for a rise to `power`; also the log of the mean weight."""
    risen = _log_weights(density, problem, power, z)
    log_weights = risen - log_w
    increment = jax.nn.logsumexp(log_weights) - jnp.log(len(z))
    cumulative = jnp.cumsum(jax.nn.softmax(log_weights))
    positions = (jnp.arange(len(z)) + jax.random.uniform(key)) / len(z)
    chosen = jnp.minimum(jnp.searchsorted(cumulative, positions), len(z) - 1)
    return z[chosen], risen[chosen], increment


@partial(jax.jit, static_argnums=0)
def _observe(density: Density, problem: object, z: Array) -> Array:
    return jnp.mean(jax.vmap(density.observe, (None, 0))(problem, z), axis=0)


@partial(jax.jit, static_argnums=0)
def _moves(
    density: Density,
    problem: object,
    key: PRNGKeyArray,
    z: Array,
    log_w: Array,
    power: Array,
    step: Array,
    gamma: Array,
    moves: Array,
    longest: Array,
    shortest: Array,
) -> tuple[Array, Array, Array]:
    """HMC moves that leave the density at `power` invariant; also the mean acceptance.

    A trajectory's length is common to all particles, its step size has a factor uniform over [shortest, 1.4] for each.
    """
    slope = jax.vmap(density.gradient, (None, None, 0))

    def force(z: Array) -> Array:
        return slope(problem, power, z) - gamma * z

    def move(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        z, log_w, accepted = state
        of_momentum, of_length, of_step, of_choice = jax.random.split(jax.random.fold_in(key, index), 4)
        momentum = jax.random.normal(of_momentum, z.shape)
        length = jax.random.randint(of_length, (), 1, longest + 1)
        size = step * jax.random.uniform(of_step, (len(z), 1), minval=shortest, maxval=1.4)

        def leap(_: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            there, p = at
            there = there + size * p
            return there, p + size * force(there)

        half = momentum + 0.5 * size * force(z)
        there, p = jax.lax.fori_loop(0, length, leap, (z, half))
        p = p - 0.5 * size * force(there)
        log_w_there = _log_weights(density, problem, power, there)

        def energy(z: Array, log_w: Array, p: Array) -> Array:
            return -log_w + 0.5 * gamma * jnp.sum(z**2, axis=1) + 0.5 * jnp.sum(p**2, axis=1)

        change = energy(z, log_w, momentum) - energy(there, log_w_there, p)
        probability = jnp.where(jnp.isfinite(change), jnp.exp(jnp.minimum(change, 0.0)), 0.0)
        yes = jax.random.uniform(of_choice, (len(z),)) < probability
        return (
            jnp.where(yes[:, None], there, z),
            jnp.where(yes, log_w_there, log_w),
            accepted + jnp.mean(probability),
        )

    z, log_w, accepted = jax.lax.fori_loop(0, moves, move, (z, log_w, jnp.zeros(())))
    return z, log_w, accepted / moves
