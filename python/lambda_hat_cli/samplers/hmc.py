"""Hamiltonian Monte Carlo with an identity metric and a jittered step, started where flat directions are filled."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.experiment.schema import HmcSettings
from lambda_hat_cli.posterior.local import LocalPosterior, evaluate
from lambda_hat_cli.samplers.adaptation import ADAPT, RESTART, SEARCH, SETTLE, Kernel, StepSize, adapt
from lambda_hat_cli.samplers.base import (
    AbstractMarkovSampler,
    GradientLedger,
    Place,
    SamplerDiverged,
    Say,
    Stats,
    WarmedUp,
)
from lambda_hat_cli.samplers.driver import chain_keys, split_stats
from lambda_hat_cli.samplers.filling import Filling, Mover
from lambda_hat_cli.samplers.isokinetic import random_directions

DIVERGENCE = 1000.0
FIRST_STEP = 1e-4
LOWEST_ACCEPTANCE = 0.1
MOST_LEAVING_DRAWS = 60


class HmcSampler(AbstractMarkovSampler):
    """HMC (Duane et al. 1987; Neal 2011) with a fixed number of leapfrog steps of a random common size.

    The size's log-uniform factor varies the trajectory's length too, so that no direction resonates, while every
    draw costs the same number of gradients: chains that advance together never wait for each other.
    """

    settings: HmcSettings = eqx.field(static=True)

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w*, fill flat directions, adapt again from a third of the step that left w*, freeze and settle.

        Where filling finds no stable step the chains go on from where they left w*.

        Raises:
            SamplerDiverged: when no step is accepted. BudgetUsedUp: when `ledger` has nothing left.
        """
        keys = chain_keys(key, chains, "warmup")
        kernel = Kernel(self, self.settings.target_acceptance)
        leaving = min(MOST_LEAVING_DRAWS, self.settings.warmup * 2 // 5)
        places, leaving_step, left = leave_w_star(kernel, posterior, keys, leaving, ledger)
        filling = filled_or_left(posterior, places, leaving_step, key, ledger)
        stages = np.repeat([ADAPT, SETTLE], _parts(self.settings.warmup - leaving, 0.4))
        states, step_size, stats = adapt(
            kernel, posterior, filling.chains.place, keys, leaving, stages, leaving_step / 3.0, ledger
        )
        acceptance = float(np.mean(stats["acceptance_rate"][:, stages == SETTLE]))
        if not acceptance >= LOWEST_ACCEPTANCE:
            raise SamplerDiverged(
                f"HMC found no stable step: acceptance {acceptance:.2g} at step size {step_size:.3g} after warm-up"
            )
        say(
            f"warm-up done: step size {step_size:.3g}, acceptance {acceptance:.2f}, "
            f"{'filled' if filling.filled else 'flat directions not filled'}, {ledger.total:,.0f} gradients so far"
        )
        recorded, rest = split_stats(
            {name: np.concatenate([left[name], values], axis=1) for name, values in stats.items()}, posterior
        )
        return WarmedUp(
            states=states,
            parameters=StepSize(jnp.asarray(step_size, posterior.w_star.dtype)),
            tuned={
                "step_size": step_size,
                "leapfrog_steps": float(self._leapfrog_steps(posterior.d)),
                "warmup_acceptance": acceptance,
                **filling.summary,
            },
            biased=None,
            posterior=recorded,
            stats=rest,
        )

    def step(
        self, posterior: LocalPosterior, parameters: StepSize, state: Place, key: PRNGKeyArray
    ) -> tuple[Place, Stats]:
        """One trajectory and its Metropolis decision; `energy` is the Hamiltonian of the accepted end."""
        dtype = state.w.dtype
        # One generator call a draw: each more costs a quarter of a second of compilation.
        symmetric = jax.random.uniform(key, (posterior.d + 2,), dtype, np.nextafter(np.asarray(-1, dtype), 0), 1)
        momentum = np.sqrt(2.0) * lax.erf_inv(symmetric[2:])
        jitter, threshold = 0.5 * (1.0 + symmetric[:2])
        low, high = np.log(self.settings.jitter)
        size = parameters.step_size * jnp.exp(low + (high - low) * jitter)
        start_energy = state.potential + 0.5 * jnp.vdot(momentum, momentum)
        steps = self._leapfrog_steps(posterior.d)
        end, momentum = trajectory(posterior, state, momentum, size, steps)
        end_energy = end.potential + 0.5 * jnp.vdot(momentum, momentum)
        state, accepted, stats = metropolis(posterior, state, end, end_energy - start_energy, threshold)
        return state, stats | {
            "energy": jnp.where(accepted, end_energy, start_energy),
            "step_size": size,
            "gradients": jnp.asarray(float(steps), dtype),
            "evaluations": jnp.asarray(float(steps), dtype),
        }

    def position(self, state: Place) -> Float[Array, " d"]:
        """The chain's w."""
        return state.w

    def _leapfrog_steps(self, d: int) -> int:
        """Gradients a draw."""
        return default_steps(d) if self.settings.leapfrog_steps == "auto" else self.settings.leapfrog_steps


def default_steps(d: int) -> int:
    """Leapfrog steps of a trajectory in d dimensions."""
    return 10 if d <= 20 else 20


def trajectory(
    posterior: LocalPosterior, start: Place, momentum: Float[Array, " d"], size: Float[Array, ""], steps: int
) -> tuple[Place, Float[Array, " d"]]:
    """Where `steps` leapfrog steps of length `size` lead, and the momentum there; one gradient a step."""

    def leapfrog(_: int, carry: tuple[Place, Float[Array, " d"]]) -> tuple[Place, Float[Array, " d"]]:
        at, half_momentum = carry
        w = at.w + size * half_momentum
        reached = Place(w, *posterior.value_and_grad(w))
        return reached, half_momentum - size * reached.gradient

    end, momentum = lax.fori_loop(0, steps, leapfrog, (start, momentum - 0.5 * size * start.gradient))
    return end, momentum + 0.5 * size * end.gradient


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


def leave_w_star(
    kernel: Kernel, posterior: LocalPosterior, keys: PRNGKeyArray, draws: int, ledger: GradientLedger
) -> tuple[Place, float, dict[str, np.ndarray]]:
    """Short HMC from w*: a tenth of `draws` searches a step, then two adaptations (2 : 3).

    Returns:
        Where the chains are, their step size and every draw's statistics as (chains, draws).

    Raises:
        BudgetUsedUp: when `ledger` has nothing left.
    """
    potential, llc, gradient = evaluate(posterior, posterior.w_star)
    ledger.add("warmup", 1)
    start = Place(posterior.w_star, potential, llc, gradient)
    places = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (keys.shape[0], *leaf.shape)), start)
    search = max(4, draws // 10)
    stages = np.repeat([SEARCH, ADAPT, RESTART], (search, *_parts(draws - search, 0.4)))
    return adapt(kernel, posterior, places, keys, 0, stages, FIRST_STEP, ledger)


def filled_or_left(
    posterior: LocalPosterior, places: Place, hmc_step: float, key: PRNGKeyArray, ledger: GradientLedger
) -> Filling:
    """Fill flat directions from `places`; the chains as they were where that has no meaning or finds no stable step.

    Args:
        places: leaves with a leading axis of chains, away from w*. hmc_step: HMC's step size there.

    Raises:
        BudgetUsedUp: when `ledger` has nothing left.
    """
    left = about_to_fill(posterior, places, hmc_step, key)
    if posterior.d < 2 or not left.step_size > 0:
        return left
    try:
        return Mover(posterior, chain_keys(key, places.w.shape[0], "filling"), ledger).fill(left)
    except SamplerDiverged:
        return left


def about_to_fill(posterior: LocalPosterior, places: Place, hmc_step: float, key: PRNGKeyArray) -> Filling:
    """The chains at `places` with random directions; an isokinetic step of ε moves as one of HMC of 2ε/√d, or less."""
    return Filling(random_directions(key, places), 0.5 * math.sqrt(posterior.d) * hmc_step)


def _parts(draws: int, share: float) -> tuple[int, int]:
    """`draws` in two, the first at most the given share of them."""
    first = int(draws * share)
    return first, draws - first
