"""Runs any Markov sampler: warm-up, jitted blocks of draws, the estimate so far, and the decision when to stop."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from lambda_hat_cli.artifacts.run import RunStatus, Trace
from lambda_hat_cli.estimate.bias import discretisation_bias
from lambda_hat_cli.estimate.interval import Estimate, UnusableTrace, estimate_markov, may_stop
from lambda_hat_cli.experiment.schema import RunSettings, SamplerSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import (
    AbstractMarkovSampler,
    BudgetUsedUp,
    GradientLedger,
    SamplerDiverged,
    Say,
    WarmedUp,
)

BLOCK_DRAWS = 25
FIRST_CHECK_DRAWS = 50
CHECK_GROWTH = 1.2
# Above this many multiply-adds a gradient, one chain after the other keeps the working set in the cache and wins.
ONE_BY_ONE_WORK = 20_000

_PHASES = {"warmup": 1, "sampling": 2, "filling": 3}


@dataclass
class Stopwatch:
    """Wall seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to phase `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


@dataclass(frozen=True)
class MarkovRun:
    """What a run of Markov chains leaves behind.

    Attributes:
        trace: the recorded draws; (chains, 0) where the run ended before recording.
        tuned, biased: as in WarmedUp; empty and None where warm-up did not end.
        status, reason: how the run ended; reason is None for `completed`.
    """

    trace: Trace
    tuned: dict[str, float | None]
    biased: str | None
    status: RunStatus
    reason: str | None


@partial(jax.jit, static_argnames=("phase", "chains"))
def chain_keys(key: PRNGKeyArray, chains: int, phase: str = "sampling") -> PRNGKeyArray:
    """One key for each chain of a phase ("warmup", "filling" or "sampling"), (chains,).

    A draw's key folds in the draw's number, so that no key depends on block sizes.
    """
    return jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, _PHASES[phase])))(jnp.arange(chains))


def over_chains(posterior: LocalPosterior) -> Any:
    """`jax.vmap` for small gradients, one chain after the other for larger ones: f ↦ f over a leading axis of chains.

    The choice depends on sizes only, never on a timing, so that results are reproducible.
    """
    one_by_one = posterior.work > ONE_BY_ONE_WORK

    def mapped(function: Any) -> Any:
        if one_by_one:
            return lambda *arguments: lax.map(lambda packed: function(*packed), arguments)
        return jax.vmap(function)

    return mapped


@partial(jax.jit, static_argnames=("draws", "save_positions"))
def advance(
    sampler: AbstractMarkovSampler,
    posterior: LocalPosterior,
    parameters: PyTree,
    states: PyTree,
    keys: PRNGKeyArray,
    first_draw: Int[Array, ""],
    draws: int,
    save_positions: bool,
) -> tuple[PyTree, dict[str, Array], Array | None]:
    """Draw `draws` times with every chain.

    Args:
        sampler, posterior, parameters: shared by the chains.
        states: chain states, leading axis of chains. keys: one a chain.
        first_draw: the number of the block's first draw since recording began.

    Returns:
        The states after the block; each statistic as (chains, draws); positions (chains, draws, d) or None.
    """

    def chain(state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, tuple[dict[str, Array], Array | None]]:
        def draw(state: PyTree, number: Int[Array, ""]) -> tuple[PyTree, tuple[dict[str, Array], Array | None]]:
            state, stats = sampler.step(posterior, parameters, state, jax.random.fold_in(key, number))
            return state, (stats, sampler.position(state) if save_positions else None)

        return lax.scan(draw, state, first_draw + jnp.arange(draws))

    states, (stats, positions) = over_chains(posterior)(chain)(states, keys)
    return states, stats, positions


def host_stats(stats: dict[str, Array]) -> dict[str, np.ndarray]:
    """Statistics as float64 (flags as bool) NumPy arrays."""
    arrays = {name: np.asarray(values) for name, values in stats.items()}
    return {name: values if values.dtype == bool else values.astype(np.float64) for name, values in arrays.items()}


def split_stats(
    stats: dict[str, np.ndarray], posterior: LocalPosterior
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A trace's two groups from a sampler's statistics: (`llc` and `loss` = L_n, everything else)."""
    loss_at_w_star = float(np.sum(np.asarray(posterior.loss_at_w_star, np.float64))) / posterior.rows
    rest = {name: values for name, values in stats.items() if name not in ("llc", "evaluations")}
    return {"llc": stats["llc"], "loss": loss_at_w_star + stats["llc"] / float(posterior.nbeta)}, rest


def empty_trace(chains: int) -> Trace:
    """The trace of a run that ended before its first recorded draw."""
    none = np.zeros((chains, 0))
    return Trace(draw_kind="markov", posterior={"llc": none, "loss": none}, sample_stats={})


def run_markov(
    sampler: AbstractMarkovSampler,
    posterior: LocalPosterior,
    key: PRNGKeyArray,
    runs: RunSettings,
    ledger: GradientLedger,
    stopwatch: Stopwatch,
    delta: float,
    say: Say,
) -> MarkovRun:
    """Warm up and draw until the tolerance is met or the budget is used up.

    Args:
        key: the run's key. delta: δ of the descent, nats; the tolerance is relative to λ̂ + δ.
        ledger: books every gradient; the budget is exceeded by less than one block of BLOCK_DRAWS draws.
        say: takes the progress lines.
    """
    try:
        with stopwatch.phase("warmup"):
            warmed = sampler.warm_up(posterior, key, runs.chains, ledger, say)
    except BudgetUsedUp as end:
        return MarkovRun(empty_trace(runs.chains), {}, None, "budget_exhausted", str(end))
    except SamplerDiverged as end:
        return MarkovRun(empty_trace(runs.chains), {}, None, "diverged", str(end))
    with stopwatch.phase("sampling"):
        return _record(sampler, posterior, warmed, key, runs, ledger, delta, say)


def _record(
    sampler: AbstractMarkovSampler,
    posterior: LocalPosterior,
    warmed: WarmedUp,
    key: PRNGKeyArray,
    runs: RunSettings,
    ledger: GradientLedger,
    delta: float,
    say: Say,
) -> MarkovRun:
    keys = chain_keys(key, runs.chains)
    states, blocks, positions = warmed.states, [], []
    draws, next_check = 0, FIRST_CHECK_DRAWS
    start, gradients_before = time.monotonic(), ledger.total
    status: RunStatus = "completed"
    reason = None
    while True:
        try:
            ledger.require(f"sampling after {draws} draws a chain")
        except BudgetUsedUp as end:
            status, reason = "budget_exhausted", str(end)
            break
        states, stats, block_positions = advance(
            sampler, posterior, warmed.parameters, states, keys, np.asarray(draws), BLOCK_DRAWS, runs.save_positions
        )
        block = host_stats(stats)
        blocks.append(block)
        if block_positions is not None:
            positions.append(np.asarray(block_positions))
        draws += BLOCK_DRAWS
        evaluations, gradients = int(block["evaluations"].sum()), float(block["gradients"].sum())
        ledger.add("sampling", evaluations, gradients / evaluations)
        if not np.isfinite(block["llc"]).all():
            status, reason = "diverged", f"tK was not finite within the first {draws} draws a chain"
            break
        if draws >= next_check:
            next_check = _next_check(draws)
            spent = ledger.total - gradients_before
            if _checked(
                sampler.settings,
                warmed,
                _joined(blocks),
                draws,
                runs,
                delta,
                spent,
                time.monotonic() - start,
                ledger,
                say,
            ):
                break
    stats = _joined(blocks) if blocks else {}
    tuned = warmed.tuned
    if not stats:
        trace = empty_trace(runs.chains)
    else:
        tuned = tuned | sampler.conclude(posterior, warmed, states, stats, ledger)
        recorded, rest = split_stats(stats, posterior)
        trace = Trace(
            draw_kind="markov",
            posterior=recorded,
            sample_stats=rest,
            warmup_posterior=warmed.posterior,
            warmup_sample_stats=warmed.stats,
            positions=np.concatenate(positions, axis=1) if positions else None,
        )
    return MarkovRun(trace, tuned, warmed.biased, status, reason)


def _next_check(draws: int) -> int:
    return BLOCK_DRAWS * math.ceil(draws * CHECK_GROWTH / BLOCK_DRAWS)


def _joined(blocks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}


def _checked(
    settings: SamplerSettings,
    warmed: WarmedUp,
    stats: dict[str, np.ndarray],
    draws: int,
    runs: RunSettings,
    delta: float,
    gradients: float,
    seconds: float,
    ledger: GradientLedger,
    say: Say,
) -> bool:
    """Say how far the run is; whether it may stop."""
    bias = discretisation_bias(settings, warmed.tuned, stats, stats["llc"])
    try:
        estimate = estimate_markov(stats["llc"], bias.value or 0.0)
    except UnusableTrace as trouble:
        say(f"{draws} draws: {trouble}")
        return False
    scale = estimate.llc + delta
    rate = gradients / seconds
    left = _seconds_left(estimate, runs.tolerance * scale, seconds, ledger, rate)
    say(
        f"{draws} draws × {runs.chains} chains: λ̂ {estimate.llc:.4g} ± {estimate.half_width:.2g}, "
        f"R-hat {estimate.rhat:.3f}, ESS {estimate.ess_mean:.0f}, {rate:,.0f} gradients/s, ≤ {left:.0f} s left"
    )
    return may_stop(estimate, runs.tolerance, scale)


def _seconds_left(estimate: Estimate, wanted: float, seconds: float, ledger: GradientLedger, rate: float) -> float:
    """Seconds until the interval is narrow enough at the rate so far, bounded by the budget."""
    budget = min(ledger.left / rate, max(0.0, ledger.deadline - time.monotonic()))
    statistical = wanted - estimate.bias
    if not statistical > 0:
        return budget
    growth = ((estimate.half_width - estimate.bias) / statistical) ** 2
    return min(budget, max(0.0, seconds * (growth - 1.0)))
