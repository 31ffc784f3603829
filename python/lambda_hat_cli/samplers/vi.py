"""Variational inference by a mixture of factor analyzers: two independent fits and weighted draws from each."""

import math
import time
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.artifacts.run import RunStatus, Trace
from lambda_hat_cli.estimate.interval import UnusableTrace, estimate_weighted
from lambda_hat_cli.estimate.psis import log_sum_exp
from lambda_hat_cli.experiment.schema import RunSettings, ViSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import GradientLedger, Say
from lambda_hat_cli.samplers.driver import ONE_BY_ONE_WORK, split_stats
from lambda_hat_cli.samplers.vi_family import MixtureOfFactorAnalyzers, initial_family, log_density_float64
from lambda_hat_cli.samplers.vi_whitening import Whitening, whiten

FITS = 2
"""Independent fits: their disagreement is seen by no diagnostic of one alone."""
BLOCK_STEPS = 100
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
        tuned: of the draws `k_hat`, `gap` (log Z by importance sampling − ELBO, nats), `variance_ratio`
            (each the worst of the fits), `importance_ess` (the least), `plain_llc` (mean of tK without weights, a
            diagnostic only); `elbo` and `log_evidence` (means over the fits, log ∫exp(−U)dw); of the fit `steps`,
            `nonfinite_steps` (left out, over both fits), `curvature`. None is unknown.
        status, reason: how the run ended; reason is None for `completed`.
    """

    trace: Trace
    tuned: dict[str, float | None]
    status: RunStatus
    reason: str | None


class Training(eqx.Module):
    """A fit under way."""

    family: MixtureOfFactorAnalyzers
    optimizer_state: optax.OptState
    key: PRNGKeyArray
    nonfinite_steps: Int[Array, ""]


def fit_and_draw(
    posterior: LocalPosterior,
    settings: ViSettings,
    key: PRNGKeyArray,
    runs: RunSettings,
    ledger: GradientLedger,
    say: Say,
) -> VariationalRun:
    """Fit q twice from keys of their own, then draw `settings.draws` times from each.

    Where the gradient budget does not hold `settings.steps` the fits are shorter, with their whole learning-rate
    schedule, and the status is budget_exhausted; so it is when the time runs out during a fit. Either way q is drawn
    from: the weights correct any q, and k̂ tells when they cannot.
    """
    whitening_key, *fit_keys = jax.random.split(key, 1 + FITS)
    whitening, curvature = whiten(posterior, settings.whitening, whitening_key, ledger)
    tuned: dict[str, float | None] = {"curvature": curvature if math.isfinite(curvature) else None}
    if not (math.isfinite(whitening.log_determinant) and bool(jnp.all(jnp.isfinite(whitening.matrix)))):
        return VariationalRun(
            _empty_trace(), tuned, "diverged", "the curvature at w* is zero or not finite; give a positive localization"
        )
    per_component = max(1, settings.samples_per_step // settings.components)
    per_step = per_component * settings.components
    left = ledger.left - FITS * settings.draws * LOSS_SHARE
    steps = min(settings.steps, int(left // (FITS * per_step)))
    if steps < 1:
        return VariationalRun(
            _empty_trace(),
            tuned,
            "budget_exhausted",
            f"the budget of {ledger.limit:,.0f} gradients holds no fit of {per_step} gradients a step and "
            f"{settings.draws} draws: give runs.budget.gradients more",
        )
    reason = None
    if steps < settings.steps:
        reason = (
            f"the budget of {ledger.limit:,.0f} gradients holds {steps} of {settings.steps} steps a fit: "
            "give runs.budget.gradients more"
        )
    rows: list[dict[str, np.ndarray]] = []
    positions: list[np.ndarray] = []
    nonfinite_steps = 0
    for number, fit_key in enumerate(fit_keys, start=1):
        train_key, draw_key = jax.random.split(fit_key)
        training, done = _train(
            posterior, whitening, settings, per_component, steps, train_key, ledger, say, f"vi fit {number}/{FITS}"
        )
        nonfinite_steps += int(training.nonfinite_steps)
        if done < steps:
            reason = (
                f"the budget of seconds ended fit {number} after {done} of {settings.steps} steps: "
                "give runs.budget.seconds more"
            )
        row, w = _draw(posterior, whitening, training.family, settings.draws, draw_key)
        ledger.add("sampling", settings.draws, LOSS_SHARE)
        rows.append(row)
        if runs.save_positions:
            positions.append(w)
    stats = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    recorded, rest = split_stats(stats, posterior)
    trace = Trace(
        draw_kind="weighted_iid",
        posterior=recorded,
        sample_stats=rest,
        positions=np.stack(positions) if positions else None,
    )
    tuned |= {"steps": float(steps), "nonfinite_steps": float(nonfinite_steps), **_diagnostics(stats)}
    lost = int(np.count_nonzero(~(np.isfinite(stats["llc"]) & np.isfinite(stats["log_weight"]))))
    if lost:
        return VariationalRun(
            trace,
            tuned,
            "diverged",
            f"{lost} of {stats['llc'].size} draws have no finite tK or weight: the fit reaches too far",
        )
    return VariationalRun(trace, tuned, "completed" if reason is None else "budget_exhausted", reason)


def _train(
    posterior: LocalPosterior,
    whitening: Whitening,
    settings: ViSettings,
    per_component: int,
    steps: int,
    key: PRNGKeyArray,
    ledger: GradientLedger,
    say: Say,
    name: str,
) -> tuple[Training, int]:
    """One fit; returns it and the steps done, fewer than `steps` when the time ran out."""
    start_key, key = jax.random.split(key)
    family = initial_family(start_key, settings.components, settings.rank, posterior.d, posterior.w_star.dtype)
    rate, total = jnp.asarray(settings.learning_rate, posterior.w_star.dtype), jnp.asarray(steps)
    optimizer = _optimizer(rate, total, posterior.d)
    training = Training(family, optimizer.init(family), key, jnp.asarray(0))
    done = 0
    while done < steps and time.monotonic() < ledger.deadline:
        block = min(BLOCK_STEPS, steps - done)
        training, elbo = _descend(posterior, whitening, training, jnp.asarray(block), per_component, rate, total)
        done += block
        ledger.add("fit", block * per_component * settings.components)
        say(f"{name}: {done}/{steps} steps, ELBO {float(elbo):.5g}")
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
    per_component: int,
    learning_rate: Float[Array, ""],
    steps: Int[Array, ""],
) -> tuple[Training, Float[Array, ""]]:
    """`block` steps and the mean ELBO along them; a step whose gradient is not finite is left out and counted."""
    optimizer = _optimizer(learning_rate, steps, posterior.d)

    def one(_: Int[Array, ""], carry: tuple[Training, Float[Array, ""]]) -> tuple[Training, Float[Array, ""]]:
        training, total = carry
        key, draw_key = jax.random.split(training.key)
        loss, gradient = eqx.filter_value_and_grad(negative_elbo)(
            training.family, posterior, whitening, draw_key, per_component
        )
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        updates, state = optimizer.update(gradient, training.optimizer_state)
        moved = (optax.apply_updates(training.family, updates), state)
        family, state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), moved, (training.family, training.optimizer_state)
        )
        return Training(family, state, key, training.nonfinite_steps + ~finite), total - loss

    training, total = lax.fori_loop(0, block, one, (training, jnp.zeros((), posterior.w_star.dtype)))
    return training, total / block


def negative_elbo(
    family: MixtureOfFactorAnalyzers,
    posterior: LocalPosterior,
    whitening: Whitening,
    key: PRNGKeyArray,
    per_component: int,
) -> Float[Array, ""]:
    """E_q[log q(z) + U(w* + S z)] − log|det S| = KL(q‖p) − log ∫exp(−U)dw, an unbiased estimate in nats.

    Its gradient is the path derivative without the score term, whose mean is zero (Roeder, Wu and Duvenaud 2017,
    "Sticking the landing"): it vanishes draw by draw where q is exact. Stratified: every component is drawn from
    equally often and counted by its weight, so that the weights have a gradient too.
    """
    points = family.draw_each(key, per_component)
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
    return jnp.sum(jax.nn.softmax(family.logits) * means) - whitening.log_determinant


def _draw(
    posterior: LocalPosterior,
    whitening: Whitening,
    family: MixtureOfFactorAnalyzers,
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
        "log_weight": whitening.log_determinant - energy - log_density_float64(family, z),
    }, w


@eqx.filter_jit
def _evaluate(
    posterior: LocalPosterior, whitening: Whitening, family: MixtureOfFactorAnalyzers, draws: int, key: PRNGKeyArray
) -> tuple[Float[Array, "draws d"], Float[Array, "draws d"], Float[Array, " draws"], Float[Array, " draws"]]:
    """z, w, U(w) and tK(w) of `draws` draws."""
    z = family.draw(key, draws)
    w = posterior.w_star + jax.vmap(whitening.offset)(z)
    energy, llc = lax.map(posterior.potential, w, batch_size=_together(posterior))
    return z, w, energy, llc


def _together(posterior: LocalPosterior) -> int:
    return 1 if posterior.work > ONE_BY_ONE_WORK else TOGETHER


def _diagnostics(stats: dict[str, np.ndarray]) -> dict[str, float | None]:
    """What `VariationalRun.tuned` says of the draws; all None where no estimate can be made of them."""
    names = ("k_hat", "gap", "variance_ratio", "importance_ess", "plain_llc", "elbo", "log_evidence")
    try:
        estimate = estimate_weighted(stats["llc"], stats["log_weight"])
    except UnusableTrace:
        return dict.fromkeys(names)
    log_weight = stats["log_weight"]
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
