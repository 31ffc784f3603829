"""Metropolis-adjusted MCLMC: isokinetic trajectories with partial refreshment, accepted on their energy error."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.experiment.schema import MclmcSettings
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
from lambda_hat_cli.samplers.hmc import default_steps, leaving_kernel
from lambda_hat_cli.samplers.isokinetic import Moving, leapfrog, refreshed, require_directions, unit
from lambda_hat_cli.samplers.leaving import filled_or_left, leave_w_star
from lambda_hat_cli.samplers.metropolis import metropolis

TARGET_ACCEPTANCE = 0.9
STEP_RANGE = (0.8, 1.2)
ADAPT_DRAWS, SETTLE_DRAWS = 150, 50
FIRST_STEP_SHARE = 0.7
"""Of the filling's step, which no Metropolis test bounded."""
DECOHERENCE_TRAJECTORIES = 1.25
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


class AdjustedState(NamedTuple):
    """One chain: where it is, and how many trajectories it has made."""

    place: Place
    draws: Int[Array, ""]


class AdjustedMclmcSampler(AbstractMarkovSampler):
    """Trajectories of isokinetic leapfrog steps from a fresh random direction, each accepted on its energy error.

    The direction is also refreshed in part after every step, over 1.25 trajectories; that leaves uniform directions
    as they are, so only the leapfrog steps' errors enter the Metropolis test (Riou-Durand and Vogrinc 2022,
    "Metropolis adjusted Langevin trajectories"; Robnik, Cohn-Gordon and Seljak 2025, "Metropolis adjusted
    microcanonical Hamiltonian Monte Carlo"). Lengths follow a golden-ratio sequence over [nl/2, 3nl/2] steps that all
    chains share: they vary, so that no direction resonates, and chains that advance together never wait for each other.
    A draw is the end of a trajectory, tK at a point.
    """

    settings: MclmcSettings = eqx.field(static=True)

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w* by short HMC, fill flat directions, tune the step to an acceptance of .9, freeze and settle.

        Raises:
            SamplerDiverged: for d = 1, where there is no direction to turn to, and when no step is accepted.
            BudgetUsedUp: when `ledger` has nothing left.
        """
        require_directions(posterior.d)
        keys = chain_keys(key, chains, "warmup")
        kernel = leaving_kernel(self.settings.precision, posterior)
        leaving = self.settings.warmup
        left = leave_w_star(kernel, posterior, keys, leaving, ledger)
        filling = filled_or_left(posterior, left.states, left.step_size, key, ledger)
        settled = adapt_and_settle(
            Kernel(self, StepSize(np.zeros((), posterior.w_star.dtype)), TARGET_ACCEPTANCE),
            posterior,
            AdjustedState(filling.chains.place, jnp.zeros(chains, jnp.int32)),
            keys,
            leaving,
            (ADAPT_DRAWS, SETTLE_DRAWS),
            FIRST_STEP_SHARE * filling.step_size,
            ledger,
        )
        say_warmed_up(say, settled.step_size, f"acceptance {settled.acceptance:.2f}", filling.filled, ledger)
        recorded, rest = split_stats(settled.stats, posterior)
        return WarmedUp(
            states=settled.states,
            parameters=StepSize(jnp.asarray(settled.step_size, posterior.w_star.dtype)),
            tuned={
                "step_size": settled.step_size,
                "leapfrog_steps": float(default_steps(posterior.d)),
                "decoherence_length": DECOHERENCE_TRAJECTORIES * default_steps(posterior.d) * settled.step_size,
                "warmup_acceptance": settled.acceptance,
                "warmup_hmc_step_size": left.step_size,
                **filling.summary,
            },
            biased=None,
            posterior=recorded,
            stats=rest,
        )

    def step(
        self, posterior: LocalPosterior, parameters: StepSize, state: AdjustedState, key: PRNGKeyArray
    ) -> tuple[AdjustedState, Stats]:
        """One trajectory and its Metropolis decision; `energy` is U, for the speed is fixed."""
        dtype, mean_steps = state.place.w.dtype, default_steps(posterior.d)
        start_key, noise_key = jax.random.split(key)
        fresh = jax.random.normal(start_key, (posterior.d + 2,), dtype)
        # The normal distribution's own function turns two of the numbers into uniform ones.
        jitter, threshold = 0.5 * (1.0 + lax.erf(fresh[:2] / np.sqrt(2.0)))
        size = parameters.step_size * (STEP_RANGE[0] + (STEP_RANGE[1] - STEP_RANGE[0]) * jitter)
        steps = trajectory_steps(state.draws, mean_steps)

        def one(number: Int[Array, ""], carry: tuple[Moving, Float[Array, ""]]) -> tuple[Moving, Float[Array, ""]]:
            at, error = carry
            moved, added = leapfrog(posterior, at, size)
            noise = jax.random.normal(jax.random.fold_in(noise_key, number), (posterior.d,), dtype)
            direction = refreshed(moved.direction, 1.0 / (DECOHERENCE_TRAJECTORIES * mean_steps), noise)
            return Moving(moved.place, direction), error + added

        start = Moving(state.place, unit(fresh[2:])), jnp.zeros((), dtype)
        end, error = lax.fori_loop(0, steps, one, start)
        place, _, stats = metropolis(posterior, state.place, end.place, error, threshold)
        gradients = steps.astype(dtype)
        return AdjustedState(place, state.draws + 1), stats | {
            "energy": place.potential,
            "step_size": size,
            "gradients": gradients,
            "evaluations": gradients,
        }

    def position(self, state: AdjustedState) -> Float[Array, " d"]:
        """The chain's w."""
        return state.place.w


def trajectory_steps(draw: Int[Array, ""], mean_steps: int) -> Int[Array, ""]:
    """Steps of trajectory number `draw`: evenly spread over [mean_steps/2, 3·mean_steps/2], whole numbers."""
    low = mean_steps // 2
    # In steps of 2⁻¹⁶ the fraction is exact, whatever the precision and however long the run.
    fraction = (draw * int(GOLDEN * 65536)) % 65536
    return low + (fraction * (mean_steps + 1)) // 65536
