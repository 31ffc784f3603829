"""Hamiltonian Monte Carlo with an identity metric and a jittered step, started where flat directions are filled."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.experiment.schema import HmcSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.adaptation import Kernel, StepSize, adapt_and_settle
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
from lambda_hat_cli.samplers.metropolis import metropolis

MOST_LEAVING_DRAWS = 60
FEW_DIMENSIONS = 20
"""Up to so many, trajectories are short and their steps of a wide range."""


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
        kernel = hmc_kernel(self.settings)
        leaving = min(MOST_LEAVING_DRAWS, self.settings.warmup * 2 // 5)
        places, leaving_step, left = leave_w_star(kernel, posterior, keys, leaving, ledger)
        filling = filled_or_left(posterior, places, leaving_step, key, ledger)
        draws = parts(self.settings.warmup - leaving, 0.4)
        settled = adapt_and_settle(
            kernel, posterior, filling.chains.place, keys, leaving, draws, leaving_step / 3.0, ledger
        )
        say_warmed_up(say, settled.step_size, f"acceptance {settled.acceptance:.2f}", filling.filled, ledger)
        recorded, rest = split_stats(
            {name: np.concatenate([left[name], values], axis=1) for name, values in settled.stats.items()}, posterior
        )
        return WarmedUp(
            states=settled.states,
            parameters=StepSize(jnp.asarray(settled.step_size, posterior.w_star.dtype)),
            tuned={
                "step_size": settled.step_size,
                "leapfrog_steps": float(self._leapfrog_steps(posterior.d)),
                "warmup_acceptance": settled.acceptance,
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
        start_momentum = np.sqrt(2.0) * lax.erf_inv(symmetric[2:])
        jitter, threshold = 0.5 * (1.0 + symmetric[:2])
        low, high = np.log(self._jitter(posterior.d))
        size = parameters.step_size * jnp.exp(low + (high - low) * jitter)
        start_energy = state.potential + 0.5 * jnp.vdot(start_momentum, start_momentum)
        steps = self._leapfrog_steps(posterior.d)
        end, momentum = trajectory(posterior, state, start_momentum, size, steps)
        error = energy_error(posterior, state, end, start_momentum, momentum)
        state, accepted, stats = metropolis(posterior, state, end, error, threshold)
        return state, stats | {
            "energy": jnp.where(accepted, end.potential + 0.5 * jnp.vdot(momentum, momentum), start_energy),
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


def hmc_kernel(settings: HmcSettings) -> Kernel:
    """HMC with its target acceptance, as the adaptation of its step takes it."""
    return Kernel(HmcSampler(settings), settings.target_acceptance)


def default_steps(d: int) -> int:
    """Leapfrog steps of a trajectory in d dimensions."""
    return 10 if d <= FEW_DIMENSIONS else 20


def default_jitter(d: int) -> tuple[float, float]:
    """The range of the factor on the step size in d dimensions.

    Narrow arms of normal crossings are entered by small steps alone. In many dimensions a range without them has up to
    half as many effective draws again where there are no such arms.
    """
    return (0.15, 1.5) if d <= FEW_DIMENSIONS else (0.5, 1.2)


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


def energy_error(
    posterior: LocalPosterior,
    start: Place,
    end: Place,
    start_momentum: Float[Array, " d"],
    end_momentum: Float[Array, " d"],
) -> Float[Array, ""]:
    """H(end) − H(start), nats, as sums of differences: a difference of sums over d terms loses digits as d grows."""
    kinetic = jnp.vdot(end_momentum - start_momentum, end_momentum + start_momentum)
    both_away = (end.w - posterior.w_star) + (start.w - posterior.w_star)
    localizer = posterior.localization * jnp.vdot(end.w - start.w, both_away)
    return (end.llc - start.llc) + 0.5 * (kinetic + localizer)
