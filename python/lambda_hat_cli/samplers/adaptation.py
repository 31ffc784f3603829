"""Tunes the step size that Metropolis-adjusted chains share, by dual averaging of their pooled acceptance."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import AbstractMarkovSampler, GradientLedger, SamplerDiverged, Stats
from lambda_hat_cli.samplers.chains import over_chains
from lambda_hat_cli.samplers.driver import host_stats

BLOCK = 25
LOWEST_ACCEPTANCE = 0.1

# Dual averaging (Hoffman and Gelman 2014, section 3.2): γ, t0, κ.
SHRINKAGE, STABILISATION, FORGETTING = 0.05, 10.0, 0.75

BEFORE, SEARCH, ADAPT, RESTART, SETTLE, SKIP = range(6)
"""Stages: search by doubling; dual averaging from the step so far; the same from a third of it; the step frozen."""

Shown = tuple[Stats, Array | None]
"""What a draw tells: statistics, and ∇U where it is asked for."""


class StepSize(NamedTuple):
    """What chains with a Metropolis test share that have nothing else in common: the step size before jitter."""

    step_size: Float[np.ndarray | Array, ""]


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


class Kernel(eqx.Module):
    """A Metropolis-adjusted sampler, and how its step is tuned.

    Attributes:
        sampler: its parameters are a named tuple with a `step_size`.
        parameters: what the chains share; the step size in it is not read.
        target_acceptance: the mean acceptance that the step is tuned to.
        shows_gradients: whether states are a Place, whose ∇U after every draw can be kept.
    """

    sampler: AbstractMarkovSampler
    parameters: Any
    target_acceptance: float = eqx.field(static=True)
    shows_gradients: bool = eqx.field(static=True, default=False)


@dataclass(frozen=True)
class Adapted:
    """Chains whose step has been adapted.

    Attributes:
        states: every leaf with a leading axis of chains. step_size: before jitter, frozen.
        stats: of every draw, each (chains, draws). gradients: ∇U after the latest of them, (chains, kept, d).
    """

    states: PyTree
    step_size: float
    stats: dict[str, np.ndarray]
    gradients: Float[np.ndarray, "chains kept d"]


@dataclass(frozen=True)
class Settled:
    """Chains in equilibrium with a frozen step.

    Attributes:
        states: every leaf with a leading axis of chains. step_size: before jitter.
        acceptance: mean over the draws after the step was frozen.
        stats: of every draw of adaptation and after, each (chains, draws).
    """

    states: PyTree
    step_size: float
    acceptance: float
    stats: dict[str, np.ndarray]


def adapt_and_settle(
    kernel: Kernel,
    posterior: LocalPosterior,
    states: PyTree,
    keys: PRNGKeyArray,
    first_draw: int,
    draws: tuple[int, int],
    step_size: float,
    ledger: GradientLedger,
) -> Settled:
    """Adapt the step over draws[0] draws, freeze it and draw draws[1] more; the arguments are those of `adapt`.

    Raises:
        SamplerDiverged: when the frozen step is hardly ever accepted. BudgetUsedUp: when `ledger` has nothing left.
    """
    stages = np.repeat([ADAPT, SETTLE], draws)
    adapted = adapt(kernel, posterior, states, keys, first_draw, stages, step_size, ledger)
    acceptance = float(np.mean(adapted.stats["acceptance_rate"][:, stages == SETTLE]))
    if not acceptance >= LOWEST_ACCEPTANCE:
        raise SamplerDiverged(
            f"no stable step was found: acceptance {acceptance:.2g} at step size {adapted.step_size:.3g} after "
            "warm-up; take a larger localization or float64"
        )
    return Settled(adapted.states, adapted.step_size, acceptance, adapted.stats)


def adapt(
    kernel: Kernel,
    posterior: LocalPosterior,
    states: PyTree,
    keys: PRNGKeyArray,
    first_draw: int,
    stages: Int[np.ndarray, " draws"],
    step_size: float,
    ledger: GradientLedger,
    keep: int = 0,
) -> Adapted:
    """Draw through `stages`, adapting one step size, `step_size` at first, by the mean acceptance of all chains.

    Args:
        keys: one a chain; a draw's key folds in its number, counted from `first_draw`.
        keep: after how many draws, the latest, ∇U is kept; above 0 for a kernel that shows it.

    Raises:
        BudgetUsedUp: when `ledger` has nothing left.
    """
    dtype = posterior.w_star.dtype
    zero, log_step = jnp.zeros((), dtype), jnp.asarray(np.log(step_size), dtype)
    adaptation = Adaptation(jnp.asarray(BEFORE, jnp.int32), zero, log_step, log_step, zero, zero)
    blocks = []
    kept = [np.zeros((keys.shape[0], 0, posterior.d), dtype)]
    for start in range(0, len(stages), BLOCK):
        ledger.require("warm-up")
        block = stages[start : start + BLOCK]
        padded = np.concatenate([block, np.full(BLOCK - len(block), SKIP)]).astype(np.int32)
        # A program is compiled for its arguments' places, of which numbers on the host have none.
        here = jax.device_get(adaptation)
        states, adaptation, (stats, gradients) = _adapt_block(
            kernel, posterior, states, here, keys, np.asarray(first_draw + start), padded
        )
        blocks.append({name: values[:, : len(block)] for name, values in host_stats(stats).items()})
        ledger.add("warmup", int(blocks[-1]["evaluations"].sum()))
        early = max(0, len(stages) - keep - start)
        if early < len(block):
            kept.append(np.asarray(gradients)[:, early : len(block)])
    joined = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    return Adapted(states, float(np.exp(adaptation.log_mean)), joined, np.concatenate(kept, axis=1))


@jax.jit
def _adapt_block(
    kernel: Kernel,
    posterior: LocalPosterior,
    states: PyTree,
    adaptation: Adaptation,
    keys: PRNGKeyArray,
    first_draw: Int[Array, ""],
    stages: Int[Array, " draws"],
) -> tuple[PyTree, Adaptation, Shown]:
    """Iterations of all chains; stage SKIP pads a block and does nothing, so that one program serves every block."""

    def iteration(
        carry: tuple[PyTree, Adaptation], now: tuple[Int[Array, ""], Int[Array, ""]]
    ) -> tuple[tuple[PyTree, Adaptation], Shown]:
        number, stage = now

        def draw(states: PyTree, adaptation: Adaptation) -> tuple[PyTree, Adaptation, Shown]:
            adaptation = _enter_stage(adaptation, stage)
            step_size = jnp.exp(jnp.where(stage >= SETTLE, adaptation.log_mean, adaptation.log_step))
            parameters = kernel.parameters._replace(step_size=step_size)

            def chain(state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Stats]:
                return kernel.sampler.step(posterior, parameters, state, jax.random.fold_in(key, number))

            states, stats = over_chains(posterior)(chain)(states, keys)
            acceptance = jnp.mean(stats["acceptance_rate"])
            shown = stats, states.gradient if kernel.shows_gradients else None
            return states, _learn(adaptation, acceptance, kernel.target_acceptance), shown

        def skip(states: PyTree, adaptation: Adaptation) -> tuple[PyTree, Adaptation, Shown]:
            shapes = jax.eval_shape(draw, states, adaptation)[2]
            return states, adaptation, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        states, adaptation, shown = lax.cond(stage == SKIP, skip, draw, *carry)
        return (states, adaptation), shown

    numbers = first_draw + jnp.arange(stages.shape[0])
    (states, adaptation), shown = lax.scan(iteration, (states, adaptation), (numbers, stages))
    return states, adaptation, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), shown)


def _enter_stage(adaptation: Adaptation, stage: Int[Array, ""]) -> Adaptation:
    """Reset the averages when `stage` begins."""
    begins = (stage != adaptation.stage) & (stage < SETTLE)
    step = jnp.where(stage == RESTART, adaptation.log_mean - jnp.log(3.0), adaptation.log_step)
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
