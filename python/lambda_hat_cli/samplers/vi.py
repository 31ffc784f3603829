"""Variational inference: two independent fits of a family and importance-weighted draws from each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.artifacts.run import BASELINE, RunStatus, Trace
from lambda_hat_cli.estimate.interval import (
    LOST_WEIGHTS,
    UnusableTrace,
    WeightedEstimate,
    draws_needed,
    estimate_weighted,
    may_accept,
)
from lambda_hat_cli.estimate.psis import log_sum_exp
from lambda_hat_cli.experiment.schema import RunSettings, ViSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import GradientLedger, Say
from lambda_hat_cli.samplers.chains import ONE_BY_ONE_WORK
from lambda_hat_cli.samplers.driver import split_stats
from lambda_hat_cli.samplers.rounding import LINES, NODES, baseline_error
from lambda_hat_cli.samplers.vi_family import AbstractFamily, initial_mixture
from lambda_hat_cli.samplers.vi_flow import initial_flow
from lambda_hat_cli.samplers.vi_whitening import Whitening, whiten

FamilyName = Literal["gaussian", "mfa", "flow"]
FAMILIES: tuple[FamilyName, ...] = ("gaussian", "flow")
"""What `auto` tries."""
FLOW_UP_TO = 12
"""`auto` tries a flow up to this d; beyond, none was found that covers a posterior which a Gaussian does not."""
FITS = 2
"""Fits with random numbers of their own: their disagreement shows an optimisation that went astray. They start alike
and go down the same divergence, so that both can miss the same part of the posterior without disagreeing."""
BLOCK_STEPS = 100
MOST_DRAWS = 64_000
"""Draws of one fit, however wide the interval is."""
MOST_NUMBERS = 4_000_000
"""Draws of one fit times d, which are held in memory."""
LOSS_SHARE = 1 / 3
"""A loss without its gradient costs a third of one with it: one pass forward, none of the two backward."""
TOGETHER = 32
"""Points evaluated at once where a gradient is small."""


@dataclass(frozen=True)
class VariationalRun:
    """What a run of variational inference leaves behind.

    Attributes:
        trace: weighted_iid; a row is a fit, its draws are fresh, sample_stats["log_weight"] = log p̃ − log q with
            p̃ = exp(−U). (fits, 0) where the run ended before drawing.
        tuned: `families_tried`, and `family_kept`, the number of the one whose draws these are (under `auto` 1 is the
            Gaussian, 2 the flow). Of the draws `k_hat`, `gap` (log Z by
            importance sampling − ELBO, nats), `variance_ratio` (each the worst of the fits), `importance_ess` (the
            least), `plain_llc` (mean of tK without weights, a diagnostic only); `elbo` and `log_evidence` (means over
            the fits, log ∫exp(−U)dw). Of the fits `steps`, `nonfinite_steps` (left out, over both), `curvature`.
            None is unknown.
        status, reason: how the run ended; reason is None for `completed`.
    """

    trace: Trace
    tuned: dict[str, float | None]
    status: RunStatus
    reason: str | None


class Training(eqx.Module):
    """A fit under way."""

    family: AbstractFamily
    optimizer_state: optax.OptState
    key: PRNGKeyArray
    nonfinite_steps: Int[Array, ""]


@dataclass(frozen=True)
class Attempt:
    """Two fits of one family and the draws of each.

    Attributes:
        stats: (fits, draws). positions: w (fits, draws, d), or None where they are not kept. ends: a few of them.
        estimate: None where the draws hold none.
        steps: of each fit. nonfinite_steps: left out, over the fits.
        reason: why the fits are shorter than asked for, or None.
    """

    stats: dict[str, np.ndarray]
    positions: np.ndarray | None
    ends: np.ndarray
    estimate: WeightedEstimate | None
    steps: int
    nonfinite_steps: int
    reason: str | None

    @property
    def k_hat(self) -> float:
        """Of the worst fit, infinite where it is not known."""
        return math.inf if self.estimate is None or math.isnan(self.estimate.k_hat) else self.estimate.k_hat


def fit_and_draw(
    posterior: LocalPosterior,
    settings: ViSettings,
    key: PRNGKeyArray,
    runs: RunSettings,
    ledger: GradientLedger,
    fall: float,
    say: Say,
) -> VariationalRun:
    """Fit q twice from keys of their own, then draw from each, `settings.draws` times or more.

    `auto` takes a Gaussian, and goes on to a flow where the Gaussian's weights do not vouch for it, d is small and time
    is left; it keeps the family whose worst fit has the lower k̂.
    `fall` = tK(w*) − tK(w_min) enters the scale λ̂ + Δ that errors are judged by.

    Where the gradient budget does not hold `settings.steps` the fits are shorter, with their whole learning-rate
    schedule, and the status is budget_exhausted; so it is when the time runs out during a fit. Either way q is drawn
    from: the weights correct any q, and k̂ tells when they cannot.
    """
    whitening_key, *family_keys = jax.random.split(key, 1 + len(FAMILIES))
    whitening, curvature = whiten(posterior, settings.whitening, whitening_key, ledger)
    tuned: dict[str, float | None] = {"curvature": curvature if math.isfinite(curvature) else None}
    if not (math.isfinite(whitening.log_determinant) and bool(jnp.all(jnp.isfinite(whitening.matrix)))):
        return VariationalRun(
            _empty_trace(), tuned, "diverged", "the curvature at w* is zero or not finite; give a positive localization"
        )
    kept: Attempt | None = None
    reason: str | None = None
    tried = kept_number = 0
    for family, family_key in zip(families(settings, posterior.d), family_keys, strict=False):
        if kept is not None and ledger.deadline.passed:
            reason = f"{ledger.deadline.limit} was used up before {family} was tried: {ledger.deadline.remedy}"
            break
        attempt = _attempt(posterior, whitening, settings, family, family_key, runs, fall, ledger, say)
        if attempt is None:
            reason = (
                f"the budget of {ledger.limit:,.0f} gradients holds no fit of {family} with "
                f"{settings.samples_per_step} gradients a step and {settings.draws} draws: "
                "give runs.budget.gradients more"
            )
            break
        tried += 1
        if kept is None or attempt.k_hat < kept.k_hat:
            kept, kept_number, reason = attempt, tried, attempt.reason
        scale = fall + (0.0 if attempt.estimate is None else attempt.estimate.llc)
        if attempt.estimate is not None and may_accept(attempt.estimate, runs.tolerance, scale):
            break
    if kept is None:
        return VariationalRun(_empty_trace(), tuned, "budget_exhausted", reason)
    recorded, rest = split_stats(kept.stats, posterior)
    trace = Trace(draw_kind="weighted_iid", posterior=recorded, sample_stats=rest, positions=kept.positions)
    tuned |= {"families_tried": float(tried), "family_kept": float(kept_number), "steps": float(kept.steps)}
    tuned |= {"nonfinite_steps": float(kept.nonfinite_steps), **_diagnostics(kept)}
    tuned[BASELINE] = baseline_error(posterior, jnp.asarray(kept.ends), ledger)
    lost = lost_share(kept.stats)
    if lost > LOST_WEIGHTS:
        return VariationalRun(
            trace,
            tuned,
            "diverged",
            f"{100 * lost:.2g} % of the draws of a fit have no finite tK or weight: the fit reaches too far",
        )
    return VariationalRun(trace, tuned, "completed" if reason is None else "budget_exhausted", reason)


def lost_share(stats: Mapping[str, Float[np.ndarray, "fits draws"]]) -> float:
    """Part of the draws without a finite tK or weight, of the worst fit: as many as LOST_WEIGHTS may count as zero."""
    finite = np.isfinite(stats["llc"]) & np.isfinite(stats["log_weight"])
    return float(np.max(np.mean(~finite, axis=1)))


def families(settings: ViSettings, d: int) -> tuple[FamilyName, ...]:
    """What is fitted, in this order, until one is accepted."""
    if settings.family != "auto":
        return (settings.family,)
    return FAMILIES if d <= FLOW_UP_TO else FAMILIES[:1]


def _attempt(
    posterior: LocalPosterior,
    whitening: Whitening,
    settings: ViSettings,
    name: FamilyName,
    key: PRNGKeyArray,
    runs: RunSettings,
    fall: float,
    ledger: GradientLedger,
    say: Say,
) -> Attempt | None:
    """FITS fits of one family and their draws; None where the budget does not hold a single step."""
    strata = settings.components if name == "mfa" else 1
    per_stratum = max(1, settings.samples_per_step // strata)
    left = ledger.left - FITS * settings.draws * LOSS_SHARE - LINES * (NODES + 1)
    steps = min(settings.steps, int(left // (FITS * per_stratum * strata)))
    if steps < 1:
        return None
    reason = None
    if steps < settings.steps:
        reason = (
            f"the budget of {ledger.limit:,.0f} gradients holds {steps} of {settings.steps} steps a fit: "
            "give runs.budget.gradients more"
        )
    fits: list[AbstractFamily] = []
    draw_keys: list[PRNGKeyArray] = []
    nonfinite_steps = 0
    for number, fit_key in enumerate(jax.random.split(key, FITS), start=1):
        start_key, train_key, draw_key = jax.random.split(fit_key, 3)
        training, done = _train(
            posterior,
            whitening,
            _initial(name, settings, start_key, posterior),
            Schedule(steps, per_stratum, strata, settings.learning_rate),
            train_key,
            ledger,
            partial(_say_of_fit, say, f"vi {name} {number}/{FITS}"),
        )
        nonfinite_steps += int(training.nonfinite_steps)
        if done < steps:
            reason = (
                f"{ledger.deadline.limit} was used up after {done} of {settings.steps} steps of fit {number}: "
                f"{ledger.deadline.remedy}"
            )
        fits.append(training.family)
        draw_keys.append(draw_key)
    stats, w, estimate = _draw_enough(posterior, whitening, fits, draw_keys, settings.draws, runs, fall, ledger)
    return Attempt(stats, w if runs.save_positions else None, w[-1, :LINES], estimate, steps, nonfinite_steps, reason)


def _say_of_fit(say: Say, name: str, line: str) -> None:
    say(f"{name}: {line}")


def _draw_enough(
    posterior: LocalPosterior,
    whitening: Whitening,
    fits: Sequence[AbstractFamily],
    keys: Sequence[PRNGKeyArray],
    draws: int,
    runs: RunSettings,
    fall: float,
    ledger: GradientLedger,
) -> tuple[dict[str, np.ndarray], np.ndarray, WeightedEstimate | None]:
    """A pilot of `draws` of each fit, and as many draws afresh as it shows to be needed.

    The pilot decides and is then thrown away: draws that went on until their own interval is narrow would end early
    where the tail, which widens it, has not been met, and be too low. It is kept where it cannot be improved upon: its
    weights are hopeless, or there is room for no more draws than it has.

    Returns:
        Statistics (fits, draws), w (fits, draws, d), of which only a few where they are not to be saved, and the
        estimate, None where there is none.
    """
    pilot = _draw_batches(posterior, whitening, fits, keys, draws, range(1), runs.save_positions, ledger)
    affordable = (ledger.left - LINES * (NODES + 1)) / (len(fits) * LOSS_SHARE)
    most = int(min(MOST_DRAWS, MOST_NUMBERS / posterior.d, affordable) // draws)
    estimate = pilot[2]
    if estimate is None or most < 2 or ledger.deadline.passed:
        return pilot
    needed = draws_needed(estimate, draws, runs.tolerance, fall + estimate.llc)
    if needed == 0:
        return pilot
    numbers = range(1, 1 + min(most, math.ceil(min(needed, MOST_DRAWS) / draws)))
    return _draw_batches(posterior, whitening, fits, keys, draws, numbers, runs.save_positions, ledger)


def _draw_batches(
    posterior: LocalPosterior,
    whitening: Whitening,
    fits: Sequence[AbstractFamily],
    keys: Sequence[PRNGKeyArray],
    draws: int,
    numbers: range,
    whole: bool,
    ledger: GradientLedger,
) -> tuple[dict[str, np.ndarray], np.ndarray, WeightedEstimate | None]:
    """The batches of these `numbers` of each fit, `draws` each, at least one and no more once the time is up.

    Returns:
        As `_draw_enough`; w `whole`, or LINES of each batch.
    """
    rows: list[list[dict[str, np.ndarray]]] = [[] for _ in fits]
    points: list[list[np.ndarray]] = [[] for _ in fits]
    for number in numbers:
        if number > numbers.start and ledger.deadline.passed:
            break
        for index, (fit, key) in enumerate(zip(fits, keys, strict=True)):
            row, w = _draw(posterior, whitening, fit, draws, jax.random.fold_in(key, number))
            rows[index].append(row)
            points[index].append(w if whole else w[:LINES])
            ledger.add("sampling", draws, LOSS_SHARE)
    stats = {name: np.stack([np.concatenate([row[name] for row in each]) for each in rows]) for name in rows[0][0]}
    try:
        estimate = estimate_weighted(stats["llc"], stats["log_weight"])
    except UnusableTrace:
        estimate = None
    return stats, np.stack([np.concatenate(each) for each in points]), estimate


def _initial(name: FamilyName, settings: ViSettings, key: PRNGKeyArray, posterior: LocalPosterior) -> AbstractFamily:
    """Near N(0, I), the Gaussian that the whitening stands for."""
    d, dtype = posterior.d, posterior.w_star.dtype
    if name == "flow":
        return initial_flow(key, d, dtype)
    return initial_mixture(key, 1 if name == "gaussian" else settings.components, settings.rank, d, dtype)


@dataclass(frozen=True)
class Schedule:
    """One fit: steps, samples of each stratum a step, strata, and Adam's largest learning rate."""

    steps: int
    per_stratum: int
    strata: int
    learning_rate: float


def _train(
    posterior: LocalPosterior,
    whitening: Whitening,
    family: AbstractFamily,
    schedule: Schedule,
    key: PRNGKeyArray,
    ledger: GradientLedger,
    say: Say,
) -> tuple[Training, int]:
    """One fit; returns it and the steps done, fewer than scheduled when the time ran out."""
    rate = jnp.asarray(schedule.learning_rate, posterior.w_star.dtype)
    total = jnp.asarray(schedule.steps)
    start = _optimizer(rate, total, posterior.d).init(eqx.filter(family, eqx.is_inexact_array))
    training = Training(family, start, key, jnp.asarray(0))
    done = 0
    while done < schedule.steps and not ledger.deadline.passed:
        block = min(BLOCK_STEPS, schedule.steps - done)
        training, elbo = _descend(posterior, whitening, training, jnp.asarray(block), schedule.per_stratum, rate, total)
        done += block
        ledger.add("fit", block * schedule.per_stratum * schedule.strata)
        say(f"{done}/{schedule.steps} steps, ELBO {float(elbo):.5g}")
    return training, done


def _optimizer(learning_rate: Float[Array, ""], steps: Int[Array, ""], d: int) -> optax.GradientTransformation:
    """Adam, warm-up and cosine; a gradient longer than √d, the scale of whitened coordinates, is shortened to it."""

    def schedule(count: Int[Array, ""]) -> Float[Array, ""]:
        warm = jnp.minimum(1.0, (count + 1) / jnp.maximum(1.0, steps / 20))
        return learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * count / steps)))

    return optax.chain(optax.clip_by_global_norm(math.sqrt(d)), optax.adam(schedule))


@eqx.filter_jit
def _descend(
    posterior: LocalPosterior,
    whitening: Whitening,
    training: Training,
    block: Int[Array, ""],
    per_stratum: int,
    learning_rate: Float[Array, ""],
    steps: Int[Array, ""],
) -> tuple[Training, Float[Array, ""]]:
    """`block` steps and the mean ELBO along them; a step whose gradient is not finite is left out and counted."""
    optimizer = _optimizer(learning_rate, steps, posterior.d)

    def one(_: Int[Array, ""], carry: tuple[Training, Float[Array, ""]]) -> tuple[Training, Float[Array, ""]]:
        training, total = carry
        key, draw_key = jax.random.split(training.key)
        loss, gradient = eqx.filter_value_and_grad(negative_elbo)(
            training.family, posterior, whitening, draw_key, per_stratum
        )
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        updates, state = optimizer.update(gradient, training.optimizer_state)
        moved = (eqx.apply_updates(training.family, updates), state)
        family, state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), moved, (training.family, training.optimizer_state)
        )
        return Training(family, state, key, training.nonfinite_steps + ~finite), total - loss

    training, total = lax.fori_loop(0, block, one, (training, jnp.zeros((), posterior.w_star.dtype)))
    return training, total / block


def negative_elbo(
    family: AbstractFamily,
    posterior: LocalPosterior,
    whitening: Whitening,
    key: PRNGKeyArray,
    per_stratum: int,
) -> Float[Array, ""]:
    """E_q[log q(z) + U(w* + S z)] − log|det S| = KL(q‖p) − log ∫exp(−U)dw, an unbiased estimate in nats.

    Its gradient is the path derivative without the score term, whose mean is zero (Roeder, Wu and Duvenaud 2017,
    "Sticking the landing"): it vanishes draw by draw where q is exact. Stratified: every part of q is drawn from
    equally often and counted by its weight, so that the weights have a gradient too.
    """
    points, weights = family.strata(key, per_stratum)
    z = points.reshape(-1, posterior.d)
    still = lax.stop_gradient(z)

    def potential(z: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        energy, _, gradient = posterior.value_and_grad(posterior.w_star + whitening.offset(z))
        return energy, whitening.pull_back(gradient)

    energy, gradient = lax.stop_gradient(lax.map(potential, still, batch_size=_together(posterior)))
    # The value of U with its gradient along z, without differentiating through the potential a second time.
    linear = energy + jnp.sum(gradient * (z - still), axis=1)
    terms = linear + jax.vmap(lax.stop_gradient(family).log_density)(z)
    means = jnp.mean(terms.reshape(points.shape[:2]), axis=1)
    return jnp.sum(weights * means) - whitening.log_determinant


def _draw(
    posterior: LocalPosterior,
    whitening: Whitening,
    family: AbstractFamily,
    draws: int,
    key: PRNGKeyArray,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fresh draws of one fit: statistics (draws,) in float64, and w (draws, d)."""
    z, w, energy, llc = (np.asarray(values) for values in _evaluate(posterior, whitening, family, draws, key))
    energy = energy.astype(np.float64)
    return {
        "llc": llc.astype(np.float64),
        "energy": energy,
        "distance_squared": np.sum((w.astype(np.float64) - np.asarray(posterior.w_star, np.float64)) ** 2, axis=1),
        "log_weight": whitening.log_determinant - energy - family.log_densities(z),
    }, w


@eqx.filter_jit
def _evaluate(
    posterior: LocalPosterior, whitening: Whitening, family: AbstractFamily, draws: int, key: PRNGKeyArray
) -> tuple[Float[Array, "draws d"], Float[Array, "draws d"], Float[Array, " draws"], Float[Array, " draws"]]:
    """z, w, U(w) and tK(w) of `draws` draws."""
    z = family.draw(key, draws)
    w = posterior.w_star + jax.vmap(whitening.offset)(z)
    energy, llc = lax.map(posterior.potential, w, batch_size=_together(posterior))
    return z, w, energy, llc


def _together(posterior: LocalPosterior) -> int:
    return 1 if posterior.work > ONE_BY_ONE_WORK else TOGETHER


def _diagnostics(attempt: Attempt) -> dict[str, float | None]:
    """What `VariationalRun.tuned` says of the draws; all None where no estimate can be made of them."""
    names = ("k_hat", "gap", "variance_ratio", "importance_ess", "plain_llc", "elbo", "log_evidence")
    estimate = attempt.estimate
    if estimate is None:
        return dict.fromkeys(names)
    log_weight = attempt.stats["log_weight"]
    evidence = np.mean([log_sum_exp(row) - math.log(row.size) for row in log_weight])
    values = (
        estimate.k_hat,
        estimate.gap,
        estimate.variance_ratio,
        estimate.ess,
        estimate.plain,
        float(np.mean(log_weight)),
        float(evidence),
    )
    return {name: value if math.isfinite(value) else None for name, value in zip(names, values, strict=True)}


def _empty_trace() -> Trace:
    none = np.zeros((FITS, 0))
    return Trace(draw_kind="weighted_iid", posterior={"llc": none, "loss": none}, sample_stats={"log_weight": none})
