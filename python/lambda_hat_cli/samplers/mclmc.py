"""Unadjusted microcanonical Langevin dynamics, recorded at two step sizes so that the step's error is measured."""

import math
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from lambda_hat_cli.experiment.schema import MclmcSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import (
    AbstractMarkovSampler,
    GradientLedger,
    SamplerDiverged,
    Say,
    Stats,
    WarmedUp,
    say_warmed_up,
)
from lambda_hat_cli.samplers.chains import chain_keys
from lambda_hat_cli.samplers.driver import BLOCK_DRAWS, advance, host_stats, split_stats
from lambda_hat_cli.samplers.filling import ENERGY_ERROR, Mover
from lambda_hat_cli.samplers.hmc import leaving_kernel
from lambda_hat_cli.samplers.isokinetic import Moving, leapfrog, refreshed, require_directions
from lambda_hat_cli.samplers.leaving import about_to_fill, leave_w_star

TUNE_BLOCKS = 10
RELAXATION_STEPS = 500
EXTRAPOLATION = 1 / 3
"""Leapfrog errs by O(ε²): K(0) = K(ε/2) + (K(ε/2) − K(ε))/3."""


class MclmcState(NamedTuple):
    """One chain: the level of steps ε and the level of steps ε/2."""

    whole: Moving
    half: Moving


class Seen(NamedTuple):
    """What one leapfrog step showed: tK, its square and the virial where it ended, and its squared energy error."""

    llc: Float[Array, ""]
    llc_square: Float[Array, ""]
    virial: Float[Array, ""]
    squared_error: Float[Array, ""]


class MclmcParameters(NamedTuple):
    """What the chains share: the step ε and the decoherence length L, both distances in parameter space."""

    step_size: Float[Array, ""]
    length: Float[Array, ""]


class MclmcSampler(AbstractMarkovSampler):
    """MCLMC (Robnik et al. 2023, "Microcanonical Hamiltonian Monte Carlo") by leapfrog, one gradient a step.

    No Metropolis test removes the error of the step, and the energy error does not bound it where λ̂ is far below d/2.
    It is measured: beside a level of steps ε runs one of steps ε/2 with the same noise, ξ = (ξ₁+ξ₂)/√2. A draw is
    `draw_steps` steps ε. With K₀ and K₁ the levels' means of tK over the draw and D = K₁ − K₀:
        llc_half_step  K₁
        llc            K₁ + D/3, Richardson's extrapolation of an O(ε²) error
    `llc_square`, `virial`, `energy` and `distance_squared` are the ε/2 level's. The mean of llc is that of the chain,
    its variance is smaller than Var[tK]; llc_square is the mean of (tK)² over the draw's steps. `energy` is U at the
    draw's end: the Hamiltonian itself is constant. `energy_error` is the mean squared energy error of a step ε over d,
    which the step is tuned by.
    """

    settings: MclmcSettings = eqx.field(static=True)

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w* by short HMC, fill flat directions, tune the step at the recording's decoherence length, freeze.

        Raises:
            SamplerDiverged: for d = 1, where there is no direction to turn to, and when every step tried is unstable.
            BudgetUsedUp: when `ledger` has nothing left.
        """
        require_directions(posterior.d)
        kernel = leaving_kernel(self.settings.precision, posterior)
        keys = chain_keys(key, chains, "warmup")
        left = leave_w_star(kernel, posterior, keys, self.settings.warmup, ledger)
        mover = Mover(posterior, chain_keys(key, chains, "filling"), ledger)
        filling = mover.fill(about_to_fill(posterior, left.states, left.step_size, key))
        target = self.settings.energy_error
        tuned = replace(filling, step_size=filling.step_size * (target / ENERGY_ERROR) ** (1.0 / 6.0))
        for _ in range(TUNE_BLOCKS):
            tuned = mover.tuned_block(tuned, target)
        size, dtype = tuned.step_size, posterior.w_star.dtype
        length = self.settings.decoherence_steps * size
        parameters = MclmcParameters(jnp.asarray(size, dtype), jnp.asarray(length, dtype))
        states = self._relaxed(posterior, parameters, tuned.chains, key, ledger)
        say_warmed_up(say, size, f"energy error {tuned.energy_error:.2g}", filling.filled, ledger)
        recorded, rest = split_stats(tuned.stats, posterior)
        return WarmedUp(
            states=states,
            parameters=parameters,
            tuned={
                "step_size": size,
                "decoherence_length": length,
                "warmup_energy_error": tuned.energy_error,
                "warmup_hmc_step_size": left.step_size,
                "draw_average_steps": float(self.settings.draw_steps),
                "extrapolation": EXTRAPOLATION,
                **filling.summary,
            },
            biased=None,
            posterior=recorded,
            stats=rest,
        )

    def step(
        self, posterior: LocalPosterior, parameters: MclmcParameters, state: MclmcState, key: PRNGKeyArray
    ) -> tuple[MclmcState, Stats]:
        """`draw_steps` leapfrog steps of each level, each followed by a partial refreshment of the direction."""
        steps, dtype = self.settings.draw_steps, state.whole.place.w.dtype
        size, length = parameters
        noise = jax.random.normal(key, (steps, 2, posterior.d), dtype)

        def move(at: Moving, size: Float[Array, ""], noise: Float[Array, " d"]) -> tuple[Moving, Seen]:
            moved, error = leapfrog(posterior, at, size)
            place = moved.place
            seen = Seen(place.llc, place.llc**2, posterior.virial(place.w, place.gradient), error**2)
            return Moving(place, refreshed(moved.direction, size / length, noise)), seen

        def one(state: MclmcState, noise: Float[Array, "2 d"]) -> tuple[MclmcState, tuple[Seen, Seen]]:
            whole, seen = move(state.whole, size, (noise[0] + noise[1]) / math.sqrt(2.0))
            half, seen_half = lax.scan(lambda at, own: move(at, 0.5 * size, own), state.half, noise)
            return MclmcState(whole, half), (seen, jax.tree.map(jnp.mean, seen_half))

        state, seen = lax.scan(one, state, noise)
        whole, half = jax.tree.map(jnp.mean, seen)
        place = state.half.place
        away = place.w - posterior.w_star
        gradients = jnp.asarray(float(3 * steps), dtype)
        return state, {
            "llc": half.llc + EXTRAPOLATION * (half.llc - whole.llc),
            "llc_half_step": half.llc,
            "llc_square": half.llc_square,
            "energy": place.potential,
            "energy_error": whole.squared_error / posterior.d,
            "step_size": size,
            "diverging": ~jnp.isfinite(whole.squared_error),
            "gradients": gradients,
            "evaluations": gradients,
            "virial": half.virial,
            "distance_squared": jnp.vdot(away, away),
        }

    def conclude(
        self,
        posterior: LocalPosterior,
        warmed: WarmedUp,
        states: PyTree,
        stats: dict[str, np.ndarray],
        ledger: GradientLedger,
    ) -> dict[str, float | None]:
        """The energy error while recording over what it was tuned to, and the correlation of the two levels.

        A ratio far above 1 is a step that has become too long; levels that are not correlated measure the step's error
        no better than two independent runs.
        """
        del posterior, warmed, states, ledger
        half = stats["llc_half_step"]
        whole = half - (stats["llc"] - half) / EXTRAPOLATION
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = float(np.corrcoef(half.ravel(), whole.ravel())[0, 1])
        return {
            "realised_energy_error_ratio": float(np.mean(stats["energy_error"])) / self.settings.energy_error,
            "level_correlation": correlation,
        }

    def position(self, state: MclmcState) -> Float[Array, " d"]:
        """The chain's w, of the ε/2 level."""
        return state.half.place.w

    def _relaxed(
        self,
        posterior: LocalPosterior,
        parameters: MclmcParameters,
        chains: Moving,
        key: PRNGKeyArray,
        ledger: GradientLedger,
    ) -> MclmcState:
        """Both levels started at `chains` and moved RELAXATION_STEPS steps, so that each is in its own law."""
        states = MclmcState(chains, chains)
        keys = chain_keys(key, chains.place.llc.shape[0], "warmup")
        for block in range(math.ceil(RELAXATION_STEPS / (BLOCK_DRAWS * self.settings.draw_steps))):
            ledger.require("warm-up")
            # Numbered after the draws that left w*, which used the same keys.
            first = self.settings.warmup + block * BLOCK_DRAWS
            states, stats, _ = advance(self, posterior, parameters, states, keys, np.asarray(first), BLOCK_DRAWS, False)
            seen = host_stats(stats)
            ledger.add("warmup", int(seen["evaluations"].sum()))
            if not np.isfinite(seen["llc"]).all():
                raise SamplerDiverged(
                    f"MCLMC became unstable at its tuned step {float(parameters.step_size):.3g}; "
                    "give a smaller energy_error, or take hmc"
                )
        return states
