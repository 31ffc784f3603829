"""Runs any Markov sampler: warm-up, jitted blocks of draws, the estimate so far, and the decision when to stop."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from lambda_hat_cli.artifacts.progress import RunningEstimate
from lambda_hat_cli.artifacts.run import BASELINE, RunStatus, Trace
from lambda_hat_cli.estimate.bias import discretisation_bias, is_adjusted
from lambda_hat_cli.estimate.checks import known
from lambda_hat_cli.estimate.diagnostics import virial_bound, virial_mean
from lambda_hat_cli.estimate.interval import WIDTH, Estimate, UnusableTrace, estimate_markov, may_stop
from lambda_hat_cli.experiment.schema import RunSettings, SamplerSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import (
    AbstractMarkovSampler,
    BudgetUsedUp,
    GradientLedger,
    SamplerDiverged,
    Say,
    SoFar,
    WarmedUp,
)
from lambda_hat_cli.samplers.chains import chain_keys, over_chains
from lambda_hat_cli.samplers.recording import Recording
from lambda_hat_cli.samplers.rounding import baseline_error

BLOCK_DRAWS = 25
FIRST_CHECK_DRAWS = 50
CHECK_GROWTH = 1.2


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
    fall: float,
    say: Say,
) -> MarkovRun:
    """Warm up and draw until the tolerance is met or the budget is used up.

    Args:
        key: the run's key. fall: Δ of the descent, nats; the tolerance is relative to λ̂ + Δ.
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
        recorded = _record(sampler, posterior, warmed, key, runs, ledger, fall, say)
    recording, tuned = recorded.recording, recorded.warmed.tuned
    if recording.draws > recording.first:
        with stopwatch.phase("baseline"):
            tuned = tuned | sampler.conclude(posterior, recorded.warmed, recorded.states, recording.kept(), ledger)
            ends = jax.vmap(sampler.position)(recorded.states)
            tuned = tuned | {BASELINE: baseline_error(posterior, ends, ledger)}
    trace = _trace(posterior, recorded.warmed, recording, runs.chains)
    return MarkovRun(trace, tuned, recorded.warmed.biased, recorded.status, recorded.reason)


@dataclass(frozen=True)
class _Recorded:
    """The draws that count and where the chains are after them; status and reason are those of MarkovRun."""

    warmed: WarmedUp
    states: PyTree
    recording: Recording
    status: RunStatus
    reason: str | None


def _record(
    sampler: AbstractMarkovSampler,
    posterior: LocalPosterior,
    warmed: WarmedUp,
    key: PRNGKeyArray,
    runs: RunSettings,
    ledger: GradientLedger,
    fall: float,
    say: Say,
) -> _Recorded:
    keys = chain_keys(key, runs.chains)
    states, recording = warmed.states, Recording()
    next_check, next_review = FIRST_CHECK_DRAWS, FIRST_CHECK_DRAWS
    start, gradients_before = time.monotonic(), ledger.total
    status: RunStatus = "completed"
    reason = None
    while True:
        try:
            ledger.require(f"sampling after {recording.draws} draws a chain")
        except BudgetUsedUp as end:
            status, reason = "budget_exhausted", str(end)
            break
        states, stats, positions = advance(
            sampler,
            posterior,
            warmed.parameters,
            states,
            keys,
            np.asarray(recording.draws),
            BLOCK_DRAWS,
            runs.save_positions,
        )
        block = host_stats(stats)
        recording.add(block, None if positions is None else np.asarray(positions))
        evaluations, gradients = int(block["evaluations"].sum()), float(block["gradients"].sum())
        ledger.add("sampling", evaluations, gradients / evaluations)
        if not np.isfinite(block["llc"]).all():
            status = "diverged"
            reason = (
                f"tK was not finite within the first {recording.draws} draws a chain; "
                "take a smaller step, a larger localization or float64"
            )
            break
        if recording.draws < next_check:
            continue
        next_check = _next_check(recording.draws)
        recording.leave_out(_settling(sampler.settling_share, warmed, recording.draws))
        spent = ledger.total - gradients_before
        checked = _checked(
            sampler.settings, warmed, recording.kept(), runs, fall, spent, time.monotonic() - start, ledger, say
        )
        if checked.stop or recording.draws >= next_review:
            next_review = 2 * recording.draws
            seconds = time.monotonic() - start
            warmed, restart = _reviewed(
                sampler, posterior, warmed, states, keys, recording, seconds, checked.coarse, ledger
            )
            if restart:
                say(f"{recording.draws} draws become warm-up: the step no longer fitted")
                recording.leave_out(recording.draws)
                next_check = recording.draws + FIRST_CHECK_DRAWS
            elif checked.stop:
                break
    recording.leave_out(_settling(sampler.settling_share, warmed, recording.draws))
    return _Recorded(warmed, states, recording, status, reason)


def _trace(posterior: LocalPosterior, warmed: WarmedUp, recording: Recording, chains: int) -> Trace:
    """The trace of the draws that count; those that do not follow the warm-up's."""
    if recording.draws == recording.first:
        return empty_trace(chains)
    recorded, rest = split_stats(recording.kept(), posterior)
    earlier, earlier_rest = split_stats(recording.left_out(), posterior)
    return Trace(
        draw_kind="markov",
        posterior=recorded,
        sample_stats=rest,
        warmup_posterior=_followed(warmed.posterior, earlier),
        warmup_sample_stats=_followed(warmed.stats, earlier_rest),
        positions=recording.positions(),
    )


def _followed(warmup: dict[str, np.ndarray], later: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What warm-up recorded, followed by the same of later draws; what only one of them knows is left out."""
    return {name: np.concatenate([values, later[name]], axis=1) for name, values in warmup.items() if name in later}


def _settling(share: float, warmed: WarmedUp, draws: int) -> int:
    """The first of `draws` draws that counts where `share` of all, warm-up's included, may not."""
    before = warmed.posterior["llc"].shape[1]
    return max(0, math.ceil(share * (before + draws)) - before)


def _reviewed(
    sampler: AbstractMarkovSampler,
    posterior: LocalPosterior,
    warmed: WarmedUp,
    states: PyTree,
    keys: PRNGKeyArray,
    recording: Recording,
    seconds: float,
    coarse: bool,
    ledger: GradientLedger,
) -> tuple[WarmedUp, bool]:
    """The sampler's review taken over, and whether recording starts again; `seconds` is how long it has taken."""
    kept = recording.kept()
    spent = float(kept["gradients"].sum()) if kept else 0.0
    share = 1.0 - recording.first / recording.draws
    may_restart = 0 < spent <= ledger.left and share * seconds <= ledger.deadline.at - time.monotonic()
    found = SoFar(may_restart, coarse, ledger)
    # Draws fold numbers counted up from 0 into the same keys.
    key = jax.random.fold_in(keys[0], np.uint32(0xFFFFFFFF - recording.draws))
    review = sampler.review(posterior, warmed, states, key, found)
    if review is None:
        return warmed, False
    return replace(warmed, parameters=review.parameters, tuned=review.tuned), review.restart


def _next_check(draws: int) -> int:
    return BLOCK_DRAWS * math.ceil(draws * CHECK_GROWTH / BLOCK_DRAWS)


@dataclass(frozen=True)
class _Checked:
    """Whether the run may stop, and whether its step's own error is known to take over half of the tolerance."""

    stop: bool
    coarse: bool


def _checked(
    settings: SamplerSettings,
    warmed: WarmedUp,
    stats: dict[str, np.ndarray],
    runs: RunSettings,
    fall: float,
    gradients: float,
    seconds: float,
    ledger: GradientLedger,
    say: Say,
) -> _Checked:
    """Say how far the run is, and judge it."""
    draws = stats["llc"].shape[1]
    bias = discretisation_bias(settings, warmed.tuned, stats, stats["llc"])
    try:
        estimate = estimate_markov(stats["llc"], bias.value or 0.0)
    except UnusableTrace as trouble:
        say(f"{draws} draws: {trouble}")
        return _Checked(stop=False, coarse=False)
    scale = estimate.llc + fall
    rate = gradients / seconds
    left = _seconds_left(estimate, runs.tolerance * scale, seconds, ledger, rate)
    say(
        f"{draws} draws × {runs.chains} chains: λ̂ {estimate.llc:.4g} ± {estimate.half_width:.2g}, "
        f"R-hat {estimate.rhat:.3f}, ESS {estimate.ess_mean:.0f}, {rate:,.0f} gradients/s, ≤ {left:.0f} s left",
        RunningEstimate(
            chains=runs.chains,
            draws=draws,
            llc=estimate.llc,
            half_width=known(estimate.half_width),
            ess=known(estimate.ess_mean),
            rhat=known(estimate.rhat),
            gradients_per_second=known(rate),
            seconds_left=known(left),
        ),
    )
    coarse = bias.value is not None and bias.value - WIDTH * bias.se > 0.5 * runs.tolerance * scale > 0
    # What moves to another law is not waited for.
    settled = is_adjusted(settings) or warmed.biased is not None or _in_equilibrium(stats["virial"], runs.tolerance)
    stop = may_stop(estimate, runs.tolerance, scale) and settled
    return _Checked(stop, coarse)


def _in_equilibrium(virial: np.ndarray, tolerance: float) -> bool:
    """Whether the virial, (chains, draws), is near enough 1 and known that well, as unadjusted chains must show.

    On a quadratic its distance from 1 is tK's own relative error; it also sees the directions that tK does not show.
    """
    mean, se = virial_mean(virial)
    bound = virial_bound(tolerance)
    return abs(mean - 1.0) <= bound and se <= bound


def _seconds_left(estimate: Estimate, wanted: float, seconds: float, ledger: GradientLedger, rate: float) -> float:
    """Seconds until the interval is narrow enough at the rate so far, bounded by the budget."""
    budget = min(ledger.left / rate, max(0.0, ledger.deadline.at - time.monotonic()))
    statistical = wanted - estimate.bias
    if not statistical > 0:
        return budget
    growth = ((estimate.half_width - estimate.bias) / statistical) ** 2
    return min(budget, max(0.0, seconds * (growth - 1.0)))
