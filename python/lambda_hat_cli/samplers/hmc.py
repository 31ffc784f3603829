"""Hamiltonian Monte Carlo with a jittered step, slower along stiff directions, started where flat ones are filled."""

from dataclasses import replace
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.experiment.schema import HmcSettings, Precision
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.adaptation import ADAPT, Kernel, adapt, adapt_and_settle
from lambda_hat_cli.samplers.base import (
    AbstractMarkovSampler,
    GradientLedger,
    Place,
    Say,
    Stats,
    WarmedUp,
    say_warmed_up,
)
from lambda_hat_cli.samplers.chains import chain_keys
from lambda_hat_cli.samplers.driver import split_stats
from lambda_hat_cli.samplers.leaving import filled_or_left, leave_w_star, parts
from lambda_hat_cli.samplers.metric import GRADIENTS_A_DIRECTION, Metric, identity, stiffest
from lambda_hat_cli.samplers.metropolis import metropolis

MOST_LEAVING_DRAWS = 60
FEW_DIMENSIONS = 20
"""Up to so many, trajectories are short, their steps of a wide range and small, and no direction is slowed."""
MOST_DIMENSIONS, MOST_GRADIENTS = 50_000, 480
"""So many gradients of so many parameters take at most as much memory as Python and JAX themselves."""
SLOWED_DIRECTIONS = 16
"""On MLP1k 8, 16, 32 and 64 have 11 to 19 effective draws in a thousand gradients, no number clearly the most."""
BEFORE_SLOWING, AFTER_SLOWING, AT_ONCE = 0.36, 0.45, 0.4
"""Shares of adaptation: before directions are slowed, of what is left then, and where it is done at once."""


class HmcParameters(NamedTuple):
    """What the chains share: the step size before jitter, and the metric of their momenta."""

    step_size: Float[np.ndarray | Array, ""]
    metric: Metric


class HmcSampler(AbstractMarkovSampler):
    """HMC (Duane et al. 1987; Neal 2011) with a fixed number of leapfrog steps of a random common size.

    The size's log-uniform factor varies the trajectory's length too, so that no direction resonates, while every
    draw costs the same number of gradients: chains that advance together never wait for each other.
    """

    settings: HmcSettings = eqx.field(static=True)

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w*, fill flat directions, adapt from a third of the step that left w*, slow what is stiff, adapt again.

        Then the step is frozen and the chains settle. Where filling finds no stable step they go on from where they
        left w*. Where no direction is to be slowed there is one adaptation; see `schedule`.

        Raises:
            SamplerDiverged: when no step is accepted. BudgetUsedUp: when `ledger` has nothing left.
        """
        keys = chain_keys(key, chains, "warmup")
        plan = schedule(self.settings.warmup, posterior.d, chains)
        kernel = hmc_kernel(self.settings, posterior, plan.slowed)
        left = leave_w_star(kernel, posterior, keys, plan.leaving, ledger)
        filling = filled_or_left(posterior, left.states, left.step_size, key, ledger)
        places, step_size, seen = filling.chains.place, left.step_size / 3.0, [left.stats]
        if plan.slowed:
            stages = np.repeat(ADAPT, plan.before)
            even = adapt(kernel, posterior, places, keys, plan.leaving, stages, step_size, ledger, plan.gradients)
            metric = stiffest(even.gradients.reshape(-1, posterior.d), plan.slowed)
            kernel = replace(kernel, parameters=kernel.parameters._replace(metric=metric))
            places, step_size, seen = even.states, even.step_size, [left.stats, even.stats]
        drawn, draws = plan.leaving + plan.before, (plan.after, plan.settling)
        settled = adapt_and_settle(kernel, posterior, places, keys, drawn, draws, step_size, ledger)
        say_warmed_up(say, settled.step_size, f"acceptance {settled.acceptance:.2f}", filling.filled, ledger)
        seen.append(settled.stats)
        recorded, rest = split_stats(
            {name: np.concatenate([stats[name] for stats in seen], axis=1) for name in settled.stats}, posterior
        )
        shares = kernel.parameters.metric.shares
        frozen = kernel.parameters._replace(step_size=np.asarray(settled.step_size, posterior.w_star.dtype))
        return WarmedUp(
            states=settled.states,
            parameters=jax.tree.map(jnp.asarray, frozen),
            tuned={
                "step_size": settled.step_size,
                "leapfrog_steps": float(self._leapfrog_steps(posterior.d)),
                "slowed_directions": float(np.sum(shares < 1.0)),
                "least_share_of_speed": float(np.sqrt(np.min(shares, initial=1.0))),
                "warmup_acceptance": settled.acceptance,
                **filling.summary,
            },
            biased=None,
            posterior=recorded,
            stats=rest,
        )

    def step(
        self, posterior: LocalPosterior, parameters: HmcParameters, state: Place, key: PRNGKeyArray
    ) -> tuple[Place, Stats]:
        """One trajectory and its Metropolis decision; `energy` is the Hamiltonian of the accepted end."""
        dtype = state.w.dtype
        # One generator call a draw: each more costs a quarter of a second of compilation.
        symmetric = jax.random.uniform(key, (posterior.d + 2,), dtype, np.nextafter(np.asarray(-1, dtype), 0), 1)
        metric = parameters.metric
        start_momentum = metric.momentum(np.sqrt(2.0) * lax.erf_inv(symmetric[2:]))
        jitter, threshold = 0.5 * (1.0 + symmetric[:2])
        low, high = np.log(self._jitter(posterior.d))
        size = jnp.asarray(parameters.step_size) * jnp.exp(low + (high - low) * jitter)
        start_energy = state.potential + kinetic_energy(metric, start_momentum)
        steps = self._leapfrog_steps(posterior.d)
        end, momentum = trajectory(posterior, metric, state, start_momentum, size, steps)
        error = energy_error(posterior, metric, state, end, start_momentum, momentum)
        state, accepted, stats = metropolis(posterior, state, end, error, threshold)
        return state, stats | {
            "energy": jnp.where(accepted, end.potential + kinetic_energy(metric, momentum), start_energy),
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

    def _jitter(self, d: int) -> tuple[float, float]:
        """The range of the factor on the step size."""
        return default_jitter(d) if self.settings.jitter == "auto" else self.settings.jitter


class Schedule(NamedTuple):
    """Draws of each chain in a warm-up, part by part.

    Attributes:
        leaving: from w*. before: adaptation until stiff directions are slowed, 0 where none is. after: the adaptation
            that ends with the step frozen. settling: with the frozen step.
        slowed: how many directions are slowed. gradients: of how many of the draws `before`, the latest, gradients
            say which.
    """

    leaving: int
    before: int
    after: int
    settling: int
    slowed: int
    gradients: int


def schedule(warmup: int | Literal["auto"], d: int, chains: int) -> Schedule:
    """How the draws of a warm-up are spent, and whether so many of them show what is stiff in d dimensions.

    Where stiff directions are slowed chains settle in fewer draws: `auto` is 200 there, else 300.
    """
    suited = FEW_DIMENSIONS < d <= MOST_DIMENSIONS and 1 < chains <= MOST_GRADIENTS
    draws = (200 if suited else 300) if warmup == "auto" else warmup
    leaving = min(MOST_LEAVING_DRAWS, draws * 2 // 5)
    before, later = parts(draws - leaving, BEFORE_SLOWING)
    gradients = min(before, MOST_GRADIENTS // chains)
    if suited and gradients * chains >= GRADIENTS_A_DIRECTION * SLOWED_DIRECTIONS:
        return Schedule(leaving, before, *parts(later, AFTER_SLOWING), SLOWED_DIRECTIONS, gradients)
    return Schedule(leaving, 0, *parts(draws - leaving, AT_ONCE), 0, 0)


def leaving_kernel(precision: Precision, posterior: LocalPosterior) -> Kernel:
    """HMC as other samplers leave w* by it: short steps, no direction slowed."""
    return hmc_kernel(HmcSettings(kind="hmc", precision=precision, target_acceptance=0.9), posterior)


def hmc_kernel(settings: HmcSettings, posterior: LocalPosterior, rank: int = 0) -> Kernel:
    """HMC as the adaptation of its step takes it, with a metric that may slow `rank` directions and slows none yet."""
    d, dtype = posterior.d, posterior.w_star.dtype
    target = default_acceptance(d) if settings.target_acceptance == "auto" else settings.target_acceptance
    parameters = HmcParameters(np.zeros((), dtype), identity(d, rank, dtype))
    return Kernel(HmcSampler(settings), parameters, target, shows_gradients=rank > 0)


def default_acceptance(d: int) -> float:
    """The mean acceptance that the step is tuned to in d dimensions; small steps alone enter narrow arms."""
    return 0.9 if d <= FEW_DIMENSIONS else 0.8


def default_steps(d: int) -> int:
    """Leapfrog steps of a trajectory in d dimensions."""
    return 10 if d <= FEW_DIMENSIONS else 20


def default_jitter(d: int) -> tuple[float, float]:
    """The range of the factor on the step size in d dimensions.

    Narrow arms of normal crossings are entered by small steps alone. In many dimensions a range without them has up to
    half as many effective draws again where there are no such arms.
    """
    return (0.15, 1.5) if d <= FEW_DIMENSIONS else (0.5, 1.2)


def kinetic_energy(metric: Metric, momentum: Float[Array, " d"]) -> Float[Array, ""]:
    """½ pᵀM⁻¹p, nats."""
    return 0.5 * jnp.vdot(momentum, metric.velocity(momentum))


def trajectory(
    posterior: LocalPosterior,
    metric: Metric,
    start: Place,
    momentum: Float[Array, " d"],
    size: Float[Array, ""],
    steps: int,
) -> tuple[Place, Float[Array, " d"]]:
    """Where `steps` leapfrog steps of length `size` lead, and the momentum there; one gradient a step."""

    def leapfrog(_: int, carry: tuple[Place, Float[Array, " d"]]) -> tuple[Place, Float[Array, " d"]]:
        at, half_momentum = carry
        w = at.w + size * metric.velocity(half_momentum)
        reached = Place(w, *posterior.value_and_grad(w))
        return reached, half_momentum - size * reached.gradient

    end, momentum = lax.fori_loop(0, steps, leapfrog, (start, momentum - 0.5 * size * start.gradient))
    return end, momentum + 0.5 * size * end.gradient


def energy_error(
    posterior: LocalPosterior,
    metric: Metric,
    start: Place,
    end: Place,
    start_momentum: Float[Array, " d"],
    end_momentum: Float[Array, " d"],
) -> Float[Array, ""]:
    """H(end) − H(start), nats, as sums of differences: a difference of sums over d terms loses digits as d grows."""
    kinetic = jnp.vdot(end_momentum - start_momentum, metric.velocity(end_momentum + start_momentum))
    both_away = (end.w - posterior.w_star) + (start.w - posterior.w_star)
    localizer = posterior.localization * jnp.vdot(end.w - start.w, both_away)
    return (end.llc - start.llc) + 0.5 * (kinetic + localizer)
