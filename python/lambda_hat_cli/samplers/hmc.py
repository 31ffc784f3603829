"""Hamiltonian Monte Carlo with an identity metric, a jittered step and pooled two-stage dual averaging."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.experiment.schema import HmcSettings
from lambda_hat_cli.posterior.local import LocalPosterior, evaluate
from lambda_hat_cli.samplers.base import AbstractMarkovSampler, GradientLedger, SamplerDiverged, Say, Stats, WarmedUp
from lambda_hat_cli.samplers.driver import chain_keys, host_stats, over_chains, split_stats

DIVERGENCE = 1000.0
FIRST_STEP = 1e-4
LOWEST_ACCEPTANCE = 0.1
ADAPT_BLOCK = 25

# Dual averaging (Hoffman and Gelman 2014, section 3.2): γ, t0, κ.
SHRINKAGE, STABILISATION, FORGETTING = 0.05, 10.0, 0.75

SEARCH, FIRST, SECOND, SETTLE, SKIP = range(5)


class HmcState(NamedTuple):
    """One chain: w, U(w), tK(w) and ∇U(w), so that no accepted point is evaluated twice."""

    w: Float[Array, " d"]
    potential: Float[Array, ""]
    llc: Float[Array, ""]
    gradient: Float[Array, " d"]


class HmcParameters(NamedTuple):
    """What the chains share: the step size before jitter."""

    step_size: Float[Array, ""]


class Adaptation(NamedTuple):
    """Step-size adaptation pooled over the chains, all scalars.

    Attributes:
        stage: the stage of the latest iteration. iterations: how many since the stage began.
        log_step, log_mean: log of the step in use and of its weighted average.
        anchor: where dual averaging shrinks log_step to. error: its running mean of target − acceptance.
    """

    stage: Int[Array, ""]
    iterations: Float[Array, ""]
    log_step: Float[Array, ""]
    log_mean: Float[Array, ""]
    anchor: Float[Array, ""]
    error: Float[Array, ""]


def start_states(posterior: LocalPosterior, chains: int, ledger: GradientLedger) -> HmcState:
    """Every chain at w*; costs one gradient, booked as `warmup`."""
    potential, llc, gradient = evaluate(posterior, posterior.w_star)
    ledger.add("warmup", 1)
    state = HmcState(posterior.w_star, potential, llc, gradient)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (chains, *leaf.shape)), state)


class HmcSampler(AbstractMarkovSampler):
    """HMC (Duane et al. 1987; Neal 2011) with a fixed number of leapfrog steps of a random common size.

    The size's log-uniform factor varies the trajectory's length too, so that no direction resonates, while every
    draw costs the same number of gradients: chains that advance together never wait for each other.
    """

    settings: HmcSettings = eqx.field(static=True)

    def leapfrog_steps(self, d: int) -> int:
        """Gradients a draw."""
        if self.settings.leapfrog_steps == "auto":
            return 10 if d <= 20 else 20
        return self.settings.leapfrog_steps

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Find a step at w*, leave w*, adapt again from a third of it, freeze and settle.

        Raises:
            SamplerDiverged: when no step is accepted. BudgetUsedUp: when `ledger` has nothing left.
        """
        states = start_states(posterior, chains, ledger)
        stages = warmup_stages(self.settings.warmup)
        states, step_size, stats = adapt(self, posterior, states, key, stages, ledger)
        acceptance = float(np.mean(stats["acceptance_rate"][:, stages >= SETTLE]))
        if not acceptance >= LOWEST_ACCEPTANCE:
            raise SamplerDiverged(
                f"HMC found no stable step: acceptance {acceptance:.2g} at step size {step_size:.3g} after warm-up"
            )
        say(
            f"warm-up done: step size {step_size:.3g}, acceptance {acceptance:.2f}, "
            f"{ledger.total:,.0f} gradients so far"
        )
        recorded, rest = split_stats(stats, posterior)
        return WarmedUp(
            states=states,
            parameters=HmcParameters(jnp.asarray(step_size, posterior.w_star.dtype)),
            tuned={
                "step_size": step_size,
                "leapfrog_steps": float(self.leapfrog_steps(posterior.d)),
                "warmup_acceptance": acceptance,
            },
            biased=None,
            posterior=recorded,
            stats=rest,
        )

    def step(
        self, posterior: LocalPosterior, parameters: HmcParameters, state: HmcState, key: PRNGKeyArray
    ) -> tuple[HmcState, Stats]:
        """One trajectory and its Metropolis decision; `energy` is the Hamiltonian of the accepted end."""
        dtype = state.w.dtype
        # One generator call a draw: each more costs a quarter of a second of compilation.
        symmetric = jax.random.uniform(key, (posterior.d + 2,), dtype, np.nextafter(np.asarray(-1, dtype), 0), 1)
        momentum = np.sqrt(2.0) * lax.erf_inv(symmetric[2:])
        jitter, threshold = 0.5 * (1.0 + symmetric[:2])
        low, high = np.log(self.settings.jitter)
        size = parameters.step_size * jnp.exp(low + (high - low) * jitter)
        start_energy = state.potential + 0.5 * jnp.vdot(momentum, momentum)

        def leapfrog(_: int, carry: tuple[HmcState, Float[Array, " d"]]) -> tuple[HmcState, Float[Array, " d"]]:
            at, half_momentum = carry
            w = at.w + size * half_momentum
            reached = HmcState(w, *posterior.value_and_grad(w))
            return reached, half_momentum - size * reached.gradient

        steps = self.leapfrog_steps(posterior.d)
        end, momentum = lax.fori_loop(0, steps, leapfrog, (state, momentum - 0.5 * size * state.gradient))
        momentum = momentum + 0.5 * size * end.gradient
        end_energy = end.potential + 0.5 * jnp.vdot(momentum, momentum)
        error = end_energy - start_energy
        usable = jnp.isfinite(error) & jnp.all(jnp.isfinite(end.gradient))
        acceptance = jnp.where(usable, jnp.minimum(1.0, jnp.exp(-error)), 0.0)
        accepted = threshold < acceptance
        state = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, state)
        away = state.w - posterior.w_star
        return state, {
            "llc": state.llc,
            "energy": jnp.where(accepted, end_energy, start_energy),
            "acceptance_rate": acceptance,
            "step_size": size,
            "diverging": ~usable | (error > DIVERGENCE),
            "gradients": jnp.asarray(float(steps), dtype),
            "evaluations": jnp.asarray(float(steps), dtype),
            "virial": posterior.virial(state.w, state.gradient),
            "distance_squared": jnp.vdot(away, away),
        }

    def position(self, state: HmcState) -> Float[Array, " d"]:
        """The chain's w."""
        return state.w


def warmup_stages(draws: int, settle: float = 0.5) -> Int[np.ndarray, " draws"]:
    """The stage of each warm-up draw: a tenth searches, then two adaptations (2 : 3), the share `settle` at the end."""
    settled = round(draws * settle)
    search = max(5, draws // 10)
    first = (draws - settled - search) * 2 // 5
    second = draws - settled - search - first
    return np.repeat([SEARCH, FIRST, SECOND, SETTLE], [search, first, second, settled])


def adapt(
    sampler: HmcSampler,
    posterior: LocalPosterior,
    states: HmcState,
    key: PRNGKeyArray,
    stages: Int[np.ndarray, " draws"],
    ledger: GradientLedger,
) -> tuple[HmcState, float, dict[str, np.ndarray]]:
    """Draw through `stages`, adapting one step size by the mean acceptance of all chains.

    Returns:
        The states, the frozen step size and every draw's statistics as (chains, draws).
    """
    chains = states.w.shape[0]
    keys = chain_keys(key, chains, "warmup")
    dtype = posterior.w_star.dtype
    zero, log_step = jnp.asarray(np.zeros((), dtype)), jnp.asarray(np.log(FIRST_STEP), dtype)
    adaptation = Adaptation(jnp.asarray(SEARCH), zero, log_step, log_step, zero, zero)
    blocks = []
    for start in range(0, len(stages), ADAPT_BLOCK):
        ledger.require("warm-up")
        block = stages[start : start + ADAPT_BLOCK]
        padded = np.concatenate([block, np.full(ADAPT_BLOCK - len(block), SKIP)])
        states, adaptation, stats = _adapt_block(
            sampler, posterior, states, adaptation, keys, np.asarray(start), padded
        )
        blocks.append({name: values[:, : len(block)] for name, values in host_stats(stats).items()})
        ledger.add("warmup", int(blocks[-1]["evaluations"].sum()))
    joined = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    return states, float(np.exp(adaptation.log_mean)), joined


@jax.jit
def _adapt_block(
    sampler: HmcSampler,
    posterior: LocalPosterior,
    states: HmcState,
    adaptation: Adaptation,
    keys: PRNGKeyArray,
    first_draw: Int[Array, ""],
    stages: Int[Array, " draws"],
) -> tuple[HmcState, Adaptation, Stats]:
    """Iterations of all chains; stage SKIP pads a block and does nothing, so that one program serves every block."""

    def iteration(
        carry: tuple[HmcState, Adaptation], now: tuple[Int[Array, ""], Int[Array, ""]]
    ) -> tuple[tuple[HmcState, Adaptation], Stats]:
        number, stage = now

        def draw(states: HmcState, adaptation: Adaptation) -> tuple[HmcState, Adaptation, Stats]:
            adaptation = _enter_stage(adaptation, stage)
            step_size = jnp.exp(jnp.where(stage >= SETTLE, adaptation.log_mean, adaptation.log_step))

            def chain(state: HmcState, key: PRNGKeyArray) -> tuple[HmcState, Stats]:
                return sampler.step(posterior, HmcParameters(step_size), state, jax.random.fold_in(key, number))

            states, stats = over_chains(posterior)(chain)(states, keys)
            acceptance = jnp.mean(stats["acceptance_rate"])
            return states, _learn(adaptation, acceptance, sampler.settings.target_acceptance), stats

        def skip(states: HmcState, adaptation: Adaptation) -> tuple[HmcState, Adaptation, Stats]:
            shapes = jax.eval_shape(draw, states, adaptation)[2]
            return states, adaptation, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        states, adaptation, stats = lax.cond(stage == SKIP, skip, draw, *carry)
        return (states, adaptation), stats

    numbers = first_draw + jnp.arange(stages.shape[0])
    (states, adaptation), stats = lax.scan(iteration, (states, adaptation), (numbers, stages))
    return states, adaptation, jax.tree.map(lambda leaf: leaf.T, stats)


def _enter_stage(adaptation: Adaptation, stage: Int[Array, ""]) -> Adaptation:
    """Reset the averages when `stage` begins; the second adaptation starts from a third of the first one's step."""
    begins = (stage != adaptation.stage) & (stage < SETTLE)
    step = jnp.where(stage == SECOND, adaptation.log_mean - jnp.log(3.0), adaptation.log_step)
    # Dual averaging shrinks towards a longer step, for a short trajectory wastes gradients: 2 times instead of the
    # usual 10, for the start is already near.
    fresh = Adaptation(
        stage=stage,
        iterations=jnp.zeros_like(adaptation.iterations),
        log_step=step.astype(adaptation.log_step.dtype),
        log_mean=step.astype(adaptation.log_step.dtype),
        anchor=(step + jnp.log(2.0)).astype(adaptation.log_step.dtype),
        error=jnp.zeros_like(adaptation.error),
    )
    return jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, adaptation._replace(stage=stage))


def _learn(adaptation: Adaptation, acceptance: Float[Array, ""], target: float) -> Adaptation:
    """One update of the step: doubling or halving while searching, dual averaging after, nothing once settled."""
    shortfall = target - acceptance
    iterations = adaptation.iterations + 1.0
    search = adaptation.log_step + jnp.log(2.0) * jnp.where(
        shortfall < 0, -shortfall / (1.0 - target), -shortfall / target
    )
    weight = 1.0 / (iterations + STABILISATION)
    error = (1.0 - weight) * adaptation.error + weight * shortfall
    averaged = adaptation.anchor - jnp.sqrt(iterations) / SHRINKAGE * error
    blend = iterations**-FORGETTING
    searching = adaptation.stage == SEARCH
    log_step = jnp.where(searching, search, averaged)
    log_mean = jnp.where(searching, search, blend * averaged + (1.0 - blend) * adaptation.log_mean)
    learned = Adaptation(adaptation.stage, iterations, log_step, log_mean, adaptation.anchor, error)
    return jax.tree.map(
        lambda new, old: jnp.where(adaptation.stage >= SETTLE, old, new.astype(old.dtype)), learned, adaptation
    )
