"""Langevin dynamics against exact finite-t values and the closed forms of its discrete chains."""

import math
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from lambda_hat_cli.experiment.schema import RunSettings, SgldSettings
from lambda_hat_cli.posterior.local import Anchor, LocalPosterior, local_posterior
from lambda_hat_cli.samplers import driver, sgld, sgld_steps
from lambda_hat_cli.samplers.base import (
    BudgetUsedUp,
    Deadline,
    GradientLedger,
    Review,
    SamplerDiverged,
    SoFar,
    WarmedUp,
)
from lambda_hat_cli.samplers.chains import chain_keys
from lambda_hat_cli.samplers.driver import Stopwatch, advance, run_markov
from lambda_hat_cli.samplers.recording import Recording
from lambda_hat_cli.samplers.sgld import SgldSampler
from lambda_hat_cli.samplers.sgld_curvature import EQUIVALENTS
from lambda_hat_cli.samplers.sgld_noise import BATCHES, variance_cut
from lambda_hat_cli.samplers.sgld_steps import Batches, LangevinState, StepParameters
from oracles.exact_targets import NBETA, AllRows, crossing, exact_llc, quadratic, regression
from oracles.silence import silent

CHAINS = 32
CURVATURES = np.array([0.1, 1.0, 10.0])
FULL = Batches(size=None, control_variate="w_star", anchor_every=20)


def warmed(sampler: SgldSampler, posterior: LocalPosterior, limit: float = 1e9) -> tuple[WarmedUp, GradientLedger]:
    ledger = GradientLedger(limit=limit)
    return sampler.warm_up(posterior, jax.random.key(1), CHAINS, ledger, silent), ledger


def recorded(
    sampler: SgldSampler, posterior: LocalPosterior, draws: int = 100
) -> tuple[WarmedUp, dict[str, np.ndarray]]:
    """Warm-up and draws; each statistic (CHAINS, draws)."""
    ready, _ = warmed(sampler, posterior)
    keys = chain_keys(jax.random.key(2), CHAINS)
    _, stats, _ = advance(
        sampler, posterior, ready.parameters, ready.states, keys, jnp.asarray(0), draws, save_positions=False
    )
    return ready, {name: np.asarray(values) for name, values in stats.items()}


def pooled(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error from the means of independent chains."""
    means = values.mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))


def sampler(**settings: Any) -> SgldSampler:
    return SgldSampler(SgldSettings(kind="sgld", **{"warmup": 128, **settings}))


@pytest.mark.parametrize("preconditioner", ["none", "adam"])
def test_frozen_preconditioners_meet_the_exact_value(preconditioner: str) -> None:
    ready, stats = recorded(sampler(preconditioner=preconditioner), quadratic(CURVATURES))
    mean, error = pooled(stats["llc"])
    assert abs(mean - exact_llc(CURVATURES)) < 3.5 * error
    # The slowest direction forgets in 190 steps: .056 is to be expected.
    assert error < 0.08
    # Both levels are exact on a quadratic and share their noise: their difference is far below either's error.
    assert abs(np.mean(stats["llc"] - stats["llc_half_step"])) < 0.1 * error
    virial, virial_error = pooled(stats["virial"])
    assert abs(virial - 1) < 3.5 * virial_error
    assert ready.biased is None
    assert ready.tuned["step_times_curvature"] <= 0.6
    square, square_error = pooled(stats["llc_square"])
    share = NBETA * CURVATURES / (NBETA * CURVATURES + 1)
    assert abs(square - exact_llc(CURVATURES) ** 2 - 0.5 * np.sum(share**2)) < 3.5 * square_error
    scale = np.asarray(ready.parameters.scale)
    assert np.ptp(scale) == 0 if preconditioner == "none" else scale[0] > scale[2]


def test_exact_on_a_quadratic_at_a_step_where_the_plain_chain_doubles() -> None:
    """At ε·a = 2 the plain chain's stiff variance is twice the right one (1/(1 − ε·a/4))."""
    step_size = 2 / (NBETA * CURVATURES[-1] + 1)
    _, stats = recorded(sampler(step_size=step_size), quadratic(CURVATURES))
    mean, error = pooled(stats["llc"])
    assert abs(mean - exact_llc(CURVATURES)) < 3.5 * error
    assert np.all(stats["step_size"] == step_size)


def test_moving_form_with_a_constant_scale_is_the_plain_discrete_chain() -> None:
    """A floor that dwarfs the gradients makes M = 1/epsilon; E[tK] = ½Σ(t·h/a)/(1 − ε·a/4) is then exact."""
    floor, step_size = 1e6, 2e-3
    moving = sampler(preconditioner="rmsprop", moving=True, epsilon=floor, step_size=step_size * floor)
    ready, stats = recorded(moving, quadratic(CURVATURES))
    stiffness = NBETA * CURVATURES + 1
    expected = 0.5 * np.sum(NBETA * CURVATURES / stiffness / (1 - step_size * stiffness / 4))
    mean, error = pooled(stats["llc"])
    assert abs(mean - expected) < 3.5 * error
    assert expected > 1.5 * exact_llc(CURVATURES)
    assert "llc_half_step" not in stats
    assert "rmsprop" in ready.biased


def test_moving_preconditioner_is_wrong_by_the_known_amount_and_says_so() -> None:
    curvatures = np.array([0.01, 0.1, 1.0, 10.0])
    ready, stats = recorded(sampler(preconditioner="rmsprop", moving=True, step_size=1e-3), quadratic(curvatures))
    mean, error = pooled(stats["llc"])
    assert exact_llc(curvatures) == pytest.approx(1.7599, abs=1e-4)
    assert mean == pytest.approx(2.876, abs=3.5 * error + 0.02)
    assert ready.biased is not None


@pytest.mark.parametrize("control_variate", ["auto", "none", "w_star", "anchor"])
def test_step_halving_measures_the_bias_of_a_large_mini_batch_step(control_variate: str) -> None:
    """K(ε/2) is too large by what the extrapolation takes away, up to second order."""
    posterior, eigenvalues = regression(rows=200, d=3, seed=0)
    nbeta = float(posterior.nbeta)
    step_size = 1 / (nbeta * eigenvalues.max() + 1)
    batches = sampler(batch_size=4, step_size=step_size, control_variate=control_variate)
    _, stats = recorded(batches, posterior, draws=200)
    mean, error = pooled(stats["llc"])
    half, _ = pooled(stats["llc_half_step"])
    correction, correction_error = pooled(stats["llc"] - stats["llc_half_step"])
    exact = exact_llc(eigenvalues, nbeta)
    assert correction < -3 * correction_error
    assert abs(mean - exact) < 3.5 * error + 2 * correction**2 / exact
    assert half > mean


def test_control_variate_gradient_is_unbiased_and_exact_at_its_anchor() -> None:
    posterior, _ = regression(rows=50, d=3, seed=1)
    w = posterior.w_star + jnp.asarray([0.3, -0.2, 0.1])
    near = posterior.anchor(w + 0.01)

    def each(point: Array, anchor: Anchor) -> Array:
        rows = jnp.arange(50)
        return jax.vmap(lambda row: posterior.control_variate_gradient(point, row[None], anchor))(rows)

    plain = jax.vmap(lambda row: posterior.mini_batch_gradient(w, row[None]))(jnp.arange(50))
    np.testing.assert_allclose(plain.mean(axis=0), posterior.gradient(w), rtol=1e-9)
    for anchor in (posterior.anchor_at_w_star, near):
        np.testing.assert_allclose(each(w, anchor).mean(axis=0), posterior.gradient(w), rtol=1e-9)
    np.testing.assert_allclose(each(near.point, near), jnp.tile(posterior.gradient(near.point), (50, 1)), rtol=1e-9)


def test_variance_cut_is_the_ratio_of_the_traces_over_all_rows() -> None:
    """Against each row's gradient, weighted by the scale; the ratio of two means over 32 points × 64 batches."""
    posterior, _ = regression(rows=50, d=3, seed=1)
    points = posterior.w_star + 0.3 * jax.random.normal(jax.random.key(0), (32, 3))
    scale = jnp.asarray([0.5, 1.0, 3.0])
    rows, anchor = jnp.arange(50)[:, None], posterior.anchor_at_w_star

    def trace(estimates: Float[Array, "rows d"]) -> Float[Array, ""]:
        return jnp.sum(scale * jnp.var(estimates, axis=0))

    @jax.vmap
    def traces(w: Float[Array, " d"]) -> Float[Array, " 2"]:
        plain = jax.vmap(lambda row: posterior.mini_batch_gradient(w, row))(rows)
        corrected = jax.vmap(lambda row: posterior.control_variate_gradient(w, row, anchor))(rows)
        return jnp.stack([trace(plain), trace(corrected)])

    exact = traces(points).mean(axis=0)
    found = [variance_cut(posterior, points, scale, 5, jax.random.key(seed)) for seed in range(20)]
    ratio = float(exact[0] / exact[1])
    assert ratio > 1.5
    spread = np.std(found, ddof=1)
    assert spread < 0.15 * ratio
    assert abs(np.mean(found) - ratio) < 3.5 * spread / math.sqrt(20) + spread**2 / ratio


@pytest.mark.parametrize(("noise", "corrected"), [(3.0, 1.0), (0.0, 0.0)])
def test_auto_corrects_mini_batches_where_that_is_worth_its_cost(noise: float, corrected: float) -> None:
    """Without noise in the labels every row's gradient at w* is 0, and the control variate takes nothing away."""
    posterior, _ = regression(rows=200, d=3, seed=0, noise=noise)
    ready, _ = warmed(sampler(batch_size=20), posterior)
    assert ready.tuned["mini_batches_corrected"] == corrected
    assert ready.parameters.batches.control_variate == ("w_star" if corrected else "none")
    assert (ready.tuned["variance_cut"] > 5 / 3) == bool(corrected)


def test_measuring_the_noise_is_booked() -> None:
    """Beside the draws, of two mini-batches a step and a full gradient: 2·BATCHES mini-batches and a full gradient."""
    posterior, _ = regression(rows=200, d=3, seed=0)
    ready, ledger = warmed(sampler(batch_size=20), posterior)
    draws = int(ready.tuned["warmup_draws"])
    assert ledger.evaluations["warmup"] == CHAINS * (draws * (2 * 20 + 1) + 2 * BATCHES + 1)
    assert ledger.equivalents["warmup"] == pytest.approx(CHAINS * (draws * (4 + 1) + 0.2 * BATCHES + 1))


def test_noise_made_in_parts_meets_the_exact_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a draw's 12 steps four have their noise made at once; a setting of this test alone, for programs are kept."""
    monkeypatch.setattr(sgld_steps, "NOISE_IN_CACHE", 4 * 2 * 3)
    _, stats = recorded(sampler(draw_steps=12), quadratic(CURVATURES))
    mean, error = pooled(stats["llc"])
    assert abs(mean - exact_llc(CURVATURES)) < 3.5 * error


@pytest.mark.parametrize("settings", [{}, {"batch_size": 20, "control_variate": "none"}])
def test_float32_meets_the_exact_value(settings: dict[str, Any]) -> None:
    """Its normal numbers are made by other code than those of float64."""
    posterior, eigenvalues = regression(rows=200, d=3, seed=0)
    posterior = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), posterior)
    _, stats = recorded(sampler(precision="float32", **settings), posterior)
    assert stats["llc"].dtype == np.float32
    mean, error = pooled(stats["llc"].astype(float))
    assert abs(mean - exact_llc(eigenvalues, float(posterior.nbeta))) < 3.5 * error


def test_a_curvature_that_grew_starts_the_recording_again_with_a_step_that_fits() -> None:
    posterior = quadratic(CURVATURES)
    largest = NBETA * CURVATURES[-1] + 1
    w = jnp.tile(posterior.w_star, (2, 1))
    scale = jnp.ones_like(posterior.w_star)
    tuned = {"curvature": largest / 2, "curvature_growth": 1.0, "step_times_curvature": 0.5, "step_size": 1 / largest}
    kept = Batches(size=4, control_variate="none", anchor_every=20)
    ready = WarmedUp(
        w, StepParameters(jnp.asarray(1 / largest), scale, kept), tuned, None, {"llc": np.zeros((2, 5))}, {}
    )
    ledger = GradientLedger(limit=1e6)

    def review(chosen: SgldSampler, may_restart: bool = True, coarse: bool = False) -> Review:
        found = chosen.review(
            posterior, ready, LangevinState(w, w), jax.random.key(0), SoFar(may_restart, coarse, ledger)
        )
        assert found is not None
        return found

    again = review(sampler())
    assert again.restart
    assert again.parameters.batches == kept
    assert float(again.parameters.step_size) == pytest.approx(0.5 / largest, rel=1e-3)
    assert again.tuned["step_times_curvature"] == pytest.approx(0.5)
    assert again.tuned["curvature_growth"] == 1
    assert float(review(sampler(), coarse=True).parameters.step_size) == pytest.approx(0.5 / largest, rel=1e-3)
    for told in (review(sampler(), may_restart=False), review(sampler(step_size=1 / largest))):
        assert not told.restart
        assert told.tuned["step_times_curvature"] == pytest.approx(1, rel=1e-3)
        assert told.tuned["curvature_growth"] == pytest.approx(2, rel=1e-3)
    at_the_end = sampler().conclude(posterior, ready, LangevinState(w, w), {}, ledger)
    assert at_the_end["step_times_curvature"] == pytest.approx(1, rel=1e-3)
    assert ledger.equivalents == {"curvature": 5 * 2 * EQUIVALENTS}


def test_a_curvature_that_is_not_finite_is_told_and_starts_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was known stays known, so that the next finite one is compared with it."""
    monkeypatch.setattr(sgld, "largest_curvature", lambda *_: jnp.asarray(jnp.nan))
    posterior = quadratic(CURVATURES)
    w = jnp.tile(posterior.w_star, (2, 1))
    tuned = {"curvature": 10.0, "curvature_growth": 1.05, "step_times_curvature": 0.5, "step_size": 0.05}
    parameters = StepParameters(jnp.asarray(0.05), jnp.ones_like(posterior.w_star), FULL)
    ready = WarmedUp(w, parameters, tuned, None, {}, {})
    found = SoFar(may_restart=True, coarse=False, ledger=GradientLedger(limit=1e6))
    review = sampler().review(posterior, ready, LangevinState(w, w), jax.random.key(0), found)
    assert review is not None
    assert not review.restart
    assert review.tuned == {**tuned, "step_times_curvature": None, "step_size": pytest.approx(0.05)}


def test_a_recording_starts_again_only_with_the_seconds_to_draw_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first review asks for another start; it is granted with an hour left, not with a moment."""
    asked: list[bool] = []

    def review(self: SgldSampler, posterior: LocalPosterior, *arguments: Any) -> None:
        asked.append(arguments[-1].may_restart)

    monkeypatch.setattr(SgldSampler, "review", review)
    posterior = quadratic(CURVATURES)
    recording = Recording()
    recording.add({"llc": np.zeros((2, 50)), "gradients": np.ones((2, 50))}, None)
    ready = WarmedUp(None, None, {}, None, {"llc": np.zeros((2, 0))}, {})
    for seconds_left in (3600.0, 5.0):
        ledger = GradientLedger(1e6, deadline=Deadline(time.monotonic() + seconds_left))
        driver._reviewed(
            sampler(), posterior, ready, None, jax.random.split(jax.random.key(0)), recording, 10.0, False, ledger
        )
    assert asked == [True, False]


def test_records_until_directions_that_tk_does_not_show_are_filled() -> None:
    """Half of the directions are flat: tK converges long before they do, and their virial is half of all."""
    posterior = quadratic(np.array([0.0, 0.0, 5.0, 10.0]))
    runs = RunSettings(chains=CHAINS, tolerance=0.05, budget={"gradients": 20_000_000, "seconds": 600})
    ledger = GradientLedger(limit=2e7)
    run = run_markov(sampler(), posterior, jax.random.key(3), runs, ledger, Stopwatch(), 0.0, silent)
    assert run.status == "completed"
    virial = run.trace.sample_stats["virial"]
    assert abs(virial.mean() - 1) <= 0.05
    assert run.tuned["curvature_growth"] == pytest.approx(1, abs=1e-3)
    warmup, recorded_draws = run.trace.warmup_posterior["llc"].shape[1], virial.shape[1]
    assert warmup >= recorded_draws / 2
    assert run.trace.warmup_posterior["loss"].shape == run.trace.warmup_posterior["llc"].shape
    assert {values.shape for values in run.trace.warmup_sample_stats.values()} == {(CHAINS, warmup)}
    assert ledger.total < 2e7


class CountingTarget(AllRows):
    """A regression that reports how many rows each evaluation of its losses reads."""

    w_star: Float[Array, " d"]
    data: dict[str, Array]
    n: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    d: int = eqx.field(static=True)
    calls: list[int] = eqx.field(static=True)

    def losses(self, w: Float[Array, " d"], data: dict[str, Array]) -> Float[Array, " rows"]:
        # The argument has it called for every point where several are evaluated at once.
        jax.debug.callback(lambda _: self.calls.append(len(data["y"])), w[0])
        return 0.5 * (data["y"] - data["x"] @ w) ** 2


class Calls(list):
    """A list that is hashable by identity, as static fields must be."""

    __hash__ = object.__hash__


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": "full"},
        {"batch_size": 5},
        {"batch_size": 5, "control_variate": "none"},
        {"batch_size": 5, "control_variate": "w_star"},
        {"batch_size": 5, "control_variate": "anchor", "anchor_every": 10},
        {"batch_size": 5, "moving": True, "preconditioner": "rmsprop"},
    ],
)
def test_a_draw_counts_the_gradients_that_it_takes(settings: dict[str, Any]) -> None:
    calls = Calls()
    data = {"x": jax.random.normal(jax.random.key(0), (20, 2)), "y": jax.random.normal(jax.random.key(1), (20,))}
    posterior = local_posterior(CountingTarget(jnp.zeros(2), data, n=20, rows=20, d=2, calls=calls), 0.3, 1.0)
    counted = sampler(**settings)
    ready = counted.warm_up(posterior, jax.random.key(0), 2, GradientLedger(limit=1e6), silent)
    state = jax.tree.map(lambda leaf: leaf[0], ready.states)
    jax.effects_barrier()
    calls.clear()
    _, stats = jax.jit(counted.step)(posterior, ready.parameters, state, jax.random.key(1))
    jax.block_until_ready(stats)
    jax.effects_barrier()
    assert len(calls) == int(stats["evaluations"])
    assert sum(calls) / 20 == pytest.approx(float(stats["gradients"]))


def test_warm_up_books_its_gradients_and_keeps_to_a_quarter_of_the_budget() -> None:
    ready, ledger = warmed(sampler(), quadratic(CURVATURES), limit=1e5)
    draws = int(ready.tuned["warmup_draws"])
    assert ready.posterior["llc"].shape == ready.stats["virial"].shape == (CHAINS, draws)
    assert ledger.equivalents["warmup"] == CHAINS * draws * 20 <= 25_000
    assert ledger.equivalents["curvature"] == EQUIVALENTS * (1 + 6 * CHAINS)


def test_leaves_the_crossing_where_the_curvature_vanishes_at_w_star() -> None:
    ready, _ = warmed(sampler(), crossing())
    assert ready.tuned["warmup_restarts"] > 0
    assert np.isfinite(ready.posterior["llc"]).all()


def test_a_step_that_diverges_is_refused_in_words() -> None:
    with pytest.raises(SamplerDiverged, match=r"step_size 0\.01 .* give a smaller step_size"):
        warmed(sampler(step_size=0.01), quadratic(CURVATURES))
    with pytest.raises(BudgetUsedUp, match="gradients"):
        warmed(sampler(), quadratic(CURVATURES), limit=1.0)
