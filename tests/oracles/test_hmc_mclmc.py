"""HMC and both kinds of MCLMC against exact finite-t values and against BlackJAX, within Monte-Carlo errors."""

import math
import time
from functools import partial
from typing import Any, Literal

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from pydantic import ValidationError

from lambda_hat_cli.estimate.interval import Estimate, estimate_markov
from lambda_hat_cli.experiment.schema import Budget, HmcSettings, MclmcSettings, RunSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers import leaving
from lambda_hat_cli.samplers.adaptation import ADAPT, Adapted, adapt
from lambda_hat_cli.samplers.adjusted import AdjustedMclmcSampler, trajectory_steps
from lambda_hat_cli.samplers.base import AbstractMarkovSampler, Deadline, GradientLedger, Place, SamplerDiverged
from lambda_hat_cli.samplers.chains import chain_keys
from lambda_hat_cli.samplers.driver import MarkovRun, Stopwatch, run_markov
from lambda_hat_cli.samplers.filling import ENERGY_ERROR, Mover, stands_still
from lambda_hat_cli.samplers.hmc import HmcSampler, energy_error, hmc_kernel, schedule, trajectory
from lambda_hat_cli.samplers.isokinetic import Moving, leapfrog, refreshed, unit
from lambda_hat_cli.samplers.leaving import about_to_fill
from lambda_hat_cli.samplers.mclmc import MclmcSampler
from lambda_hat_cli.samplers.metric import Metric, identity, stiffest
from oracles.exact_targets import crossing, exact_llc, quadratic
from oracles.silence import silent

CURVATURES = np.geomspace(1.0, 100.0, 20)
SEEDS = 4
HMC = HmcSampler(HmcSettings(kind="hmc"))
ADJUSTED = AdjustedMclmcSampler(MclmcSettings(kind="mclmc", adjusted=True))
MCLMC = MclmcSampler(MclmcSettings(kind="mclmc"))
# Two-sided 1e-4 is 3.9 standard errors; these are estimated, and few.
BEYOND_CHANCE = 4.5
integrators = blackjax.mcmc.integrators


def run(
    sampler: AbstractMarkovSampler, posterior: LocalPosterior, seed: int, tolerance: float, gradients: int = 2_000_000
) -> tuple[MarkovRun, GradientLedger]:
    ledger = GradientLedger(gradients, deadline=Deadline(time.monotonic() + 300))
    runs = RunSettings(tolerance=tolerance, budget=Budget(gradients=gradients))
    return run_markov(sampler, posterior, jax.random.key(seed), runs, ledger, Stopwatch(), 0.0, silent), ledger


def pooled(sampler: AbstractMarkovSampler, posterior: LocalPosterior, tolerance: float) -> tuple[float, float]:
    """Mean over the seeds and its standard error."""
    estimates: list[Estimate] = []
    for seed in range(SEEDS):
        outcome, _ = run(sampler, posterior, seed, tolerance)
        assert outcome.status == "completed", outcome.reason
        estimates.append(estimate_markov(outcome.trace.posterior["llc"]))
    return (
        float(np.mean([estimate.llc for estimate in estimates])),
        float(np.sqrt(np.mean([estimate.se**2 for estimate in estimates]) / SEEDS)),
    )


@pytest.mark.parametrize("sampler", [HMC, ADJUSTED, MCLMC], ids=["hmc", "adjusted", "mclmc"])
def test_the_exact_value_of_the_quadratic_is_met(sampler: AbstractMarkovSampler) -> None:
    mean, se = pooled(sampler, quadratic(CURVATURES), 0.02)
    assert abs(mean - exact_llc(CURVATURES)) < BEYOND_CHANCE * se


@pytest.mark.parametrize("sampler", [HMC, ADJUSTED], ids=["hmc", "adjusted"])
def test_the_exact_value_of_the_crossing_is_met(sampler: AbstractMarkovSampler) -> None:
    mean, se = pooled(sampler, crossing(), 0.04)
    assert abs(mean - 0.3614) < BEYOND_CHANCE * se


def test_mclmc_removes_the_error_of_its_step_where_few_directions_count() -> None:
    """Five stiff directions among 100 flat ones: the step fits all of them, its error in tK comes from the five."""
    curvatures = np.r_[np.zeros(100), np.full(5, 100.0)]
    outcome, _ = run(MCLMC, quadratic(curvatures, localization=100.0), 0, 0.05)
    assert outcome.status == "completed", outcome.reason
    llc = outcome.trace.posterior["llc"]
    estimate = estimate_markov(llc)
    correction = estimate_markov(outcome.trace.sample_stats["llc_half_step"] - llc)
    assert abs(estimate.llc - exact_llc(curvatures, localization=100.0)) < BEYOND_CHANCE * estimate.se
    # Leapfrog spreads tK too widely; half the step leaves a quarter of that.
    assert correction.llc > 5 * correction.se


def test_squares_are_recorded_beside_means() -> None:
    """Var[tK] = E[(tK)²] − E[tK]² = ½Σ(th/(th+γ))² on a quadratic."""
    outcome, _ = run(MCLMC, quadratic(CURVATURES), 0, 0.02)
    square = estimate_markov(outcome.trace.sample_stats["llc_square"])
    shares = 145.0 * CURVATURES / (145.0 * CURVATURES + 1.0)
    # The ε/2 level errs by O(ε²), half a per cent of the square here.
    exact = exact_llc(CURVATURES) ** 2 + 0.5 * float(np.sum(shares**2))
    assert abs(square.llc - exact) < BEYOND_CHANCE * square.se + 0.01 * exact


# Flat directions --------------------------------------------------------------------------------

FLAT = np.r_[np.zeros(100), np.geomspace(100.0, 3000.0, 5)]


def test_flat_directions_are_filled_before_hmc_records() -> None:
    """A hundred directions of width 1 beside stiff ones that bound a trajectory's length to a fraction of that."""
    outcome, _ = run(HMC, quadratic(FLAT), 0, 0.05)
    assert outcome.tuned["flat_directions_filled"] == 1.0
    assert outcome.status == "completed", outcome.reason
    estimate = estimate_markov(outcome.trace.posterior["llc"])
    assert abs(estimate.llc - exact_llc(FLAT)) < BEYOND_CHANCE * estimate.se
    # Eight independent chains know the sum of a hundred squares to 5 %.
    assert np.mean(outcome.trace.sample_stats["distance_squared"]) == pytest.approx(100.0, rel=0.25)


def test_hmc_goes_on_where_filling_finds_no_stable_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def unstable(*_: object) -> None:
        raise SamplerDiverged("unstable")

    monkeypatch.setattr(Mover, "fill", unstable)
    outcome, _ = run(HMC, quadratic(CURVATURES), 0, 0.05)
    assert outcome.status == "completed", outcome.reason
    assert outcome.tuned["flat_directions_filled"] == 0.0
    assert outcome.tuned["filling_rhat"] is None


def test_one_parameter_is_no_trouble_for_hmc_and_refused_by_mclmc() -> None:
    outcome, _ = run(HMC, quadratic(np.array([10.0])), 0, 0.05)
    assert outcome.status == "completed", outcome.reason
    assert outcome.tuned["flat_directions_filled"] == 0.0
    for sampler in (ADJUSTED, MCLMC):
        refused, _ = run(sampler, quadratic(np.array([10.0])), 0, 0.05)
        assert refused.status == "diverged"
        assert "at least two parameters" in str(refused.reason)


@pytest.mark.parametrize("sampler", [HMC, ADJUSTED, MCLMC], ids=["hmc", "adjusted", "mclmc"])
def test_a_step_that_shrank_to_zero_is_no_step(sampler: AbstractMarkovSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that stand still are accepted whatever they do."""

    def shrunk(*arguments: Any) -> Adapted:
        return Adapted(arguments[2], 0.0, {}, np.zeros((8, 0, len(CURVATURES))))

    monkeypatch.setattr(leaving, "adapt", shrunk)
    outcome, _ = run(sampler, quadratic(CURVATURES), 0, 0.05)
    assert outcome.status == "diverged"
    assert "no stable step" in str(outcome.reason)


def test_filling_keeps_to_its_share_of_the_budget() -> None:
    posterior, ledger = quadratic(FLAT), GradientLedger(20_000)
    near = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (8, *leaf.shape)), place_near(posterior))
    start = about_to_fill(posterior, near, 1e-3, jax.random.key(0))
    filling = Mover(posterior, chain_keys(jax.random.key(0), 8, "filling"), ledger).fill(start)
    assert not filling.filled
    assert 0 < filling.steps * 8 <= ledger.total <= 0.3 * 20_000


def test_growth_of_the_distance_is_seen() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(8, 90))
    assert stands_still(10.0 + noise)
    assert not stands_still(10.0 + np.linspace(0, 9, 90) + noise)


# BlackJAX ---------------------------------------------------------------------------------------


def log_density(posterior: LocalPosterior, w: Float[Array, " d"]) -> Float[Array, ""]:
    return -posterior.potential(w)[0]


def place_near(posterior: LocalPosterior) -> Place:
    w = posterior.w_star + 0.05
    return Place(w, *posterior.value_and_grad(w))


SLOWER = Metric(np.linalg.qr(np.arange(8.0).reshape(4, 2) ** 2 + 1.0)[0], np.array([0.02, 0.5]))


def inverse_mass(metric: Metric) -> np.ndarray:
    return np.asarray(jax.vmap(metric.velocity)(jnp.eye(len(metric.directions))))


@pytest.mark.parametrize(
    "metric", [identity(4, 0, float), identity(4, 2, float), SLOWER], ids=["one", "blank", "slower"]
)
def test_a_trajectory_is_that_of_blackjax(metric: Metric) -> None:
    """The same momentum, step, length and inverse mass matrix lead BlackJAX's leapfrog to the same end and energy."""
    posterior = quadratic(CURVATURES[:4])
    start, momentum = place_near(posterior), jnp.asarray([0.3, -1.0, 0.2, 2.0])
    end, final = trajectory(posterior, metric, start, momentum, jnp.asarray(0.02), 7)
    kinetic = blackjax.mcmc.metrics.default_metric(jnp.asarray(inverse_mass(metric))).kinetic_energy
    density = partial(log_density, posterior)
    integrate = integrators.velocity_verlet(density, kinetic)
    first = theirs = integrators.new_integrator_state(density, start.w, momentum)
    for _ in range(7):
        theirs = integrate(theirs, 0.02)
    np.testing.assert_allclose(end.w, theirs.position, rtol=1e-12)
    np.testing.assert_allclose(final, theirs.momentum, rtol=1e-12)
    energies = [kinetic(state.momentum) - state.logdensity for state in (theirs, first)]
    error = energy_error(posterior, metric, start, end, momentum, final)
    assert float(error) == pytest.approx(float(energies[0] - energies[1]), rel=1e-9)


def test_momenta_have_the_mass_matrix_as_their_covariance() -> None:
    root = np.asarray(jax.vmap(SLOWER.momentum)(jnp.eye(4)))
    np.testing.assert_allclose(root @ root.T @ inverse_mass(SLOWER), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(inverse_mass(SLOWER)), [0.02, 0.5, 1.0, 1.0], rtol=1e-12)


def test_gradients_show_the_stiffest_directions() -> None:
    """Gradients of U = ½wᵀAw at draws of exp(−U) have the covariance A, exactly."""
    rng, draws = np.random.default_rng(0), 20_000
    rotation = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    curvatures = np.r_[4000.0, 1000.0, 250.0, np.full(27, 10.0)]
    gradients = rng.normal(size=(draws, 30)) * np.sqrt(curvatures) @ rotation.T
    metric = stiffest(gradients, 3)
    np.testing.assert_allclose(metric.directions.T @ metric.directions, np.eye(3), atol=1e-10)
    overlap = np.abs(np.diag(metric.directions.T @ rotation[:, :3]))
    # First-order perturbation: 1 − overlap² = Σ λ_i·λ_j/(λ_i − λ_j)²/draws, at most 27·250·10/240²/draws + …
    assert np.all(1 - overlap**2 < 5 * (27 * 250 * 10 / 240**2 + 250 * 1000 / 750**2) / draws)
    # The fourth is the largest of 27 equal ones: about 10·(1 + √(27/draws))², less 1.2 and ± 1.3 of the Tracy–Widom
    # law's scale, .4 % (Johnstone 2001, eq. 1.4); the others err by √(2/draws).
    top, scale = 10 * (1 + np.sqrt(27 / draws)) ** 2, 0.0043
    error = np.sqrt(2 / draws + (1.3 * scale) ** 2)
    assert np.all(np.abs(metric.shares / (top / curvatures[:3]) - 1) < BEYOND_CHANCE * error + 1.2 * scale)


def poor_gradients() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(100, 1000))
    return {
        "few": some[:11],
        "not finite": np.full((100, 1000), np.nan),
        "zero": np.zeros((100, 1000)),
        "of chains that stand still": np.repeat(some[:8], 50, axis=0),
        "of few directions": rng.normal(size=(100, 5)) @ some[:5],
        "of one dimension more than are slowed": some[:, :3],
    }


@pytest.mark.parametrize("gradients", poor_gradients().values(), ids=poor_gradients())
def test_nothing_is_slowed_where_gradients_show_too_little(gradients: np.ndarray) -> None:
    d = gradients.shape[1]
    metric = stiffest(gradients, 3)
    assert metric.directions.shape == (d, 3)
    np.testing.assert_array_equal(metric.shares, 1.0)
    np.testing.assert_array_equal(metric.velocity(jnp.ones(d)), 1.0)


@pytest.mark.parametrize("ratio", [1e2, 1e8, 1e12])
@pytest.mark.parametrize("draws", [100, 2000], ids=["fewer draws than dimensions", "more"])
def test_momenta_belong_to_the_metric_whatever_the_gradients(draws: int, ratio: float) -> None:
    """M^½·M⁻¹·M^½ = I, on which alone exactness rests, in float32 too."""
    rng = np.random.default_rng(0)
    stiff = np.r_[ratio * np.geomspace(1.0, 0.01, 5), np.ones(295)]
    gradients = rng.normal(size=(draws, 300)) * np.sqrt(stiff) @ np.linalg.qr(rng.normal(size=(300, 300)))[0]
    for dtype, allowed in ((np.float64, 1e-11), (np.float32, 1e-3)):
        metric = stiffest(gradients.astype(dtype), 4)
        assert metric.directions.dtype == dtype
        assert metric.shares.min() < 0.2
        unit_vectors = jnp.eye(300, dtype=dtype)
        kinetic = jax.vmap(lambda one, metric=metric: metric.velocity(metric.momentum(one)))(unit_vectors)
        root = np.asarray(jax.vmap(metric.momentum)(unit_vectors), np.float64)
        np.testing.assert_allclose(np.asarray(kinetic, np.float64) @ root.T, np.eye(300), atol=allowed)


def test_the_latest_gradients_of_an_adaptation_are_kept() -> None:
    """Forty draws are a block and a padded one; the last gradient is that of the state."""
    posterior = quadratic(np.geomspace(1.0, 100.0, 30))
    kernel = hmc_kernel(HmcSettings(kind="hmc"), posterior, rank=16)
    near = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (4, *leaf.shape)), place_near(posterior))
    keys, stages = chain_keys(jax.random.key(0), 4, "warmup"), np.repeat(ADAPT, 40)
    some, all_of_them, none = (
        adapt(kernel, posterior, near, keys, 0, stages, 0.01, GradientLedger(1e6), keep) for keep in (30, 40, 0)
    )
    assert none.gradients.shape == (4, 0, 30)
    assert all_of_them.gradients.shape == (4, 40, 30)
    np.testing.assert_array_equal(some.gradients, all_of_them.gradients[:, 10:])
    np.testing.assert_array_equal(some.gradients[:, -1], some.states.gradient)


@pytest.mark.parametrize(
    ("warmup", "d", "chains", "expected"),
    [
        ("auto", 20, 8, (60, 0, 96, 144, 0, 0)),
        ("auto", 21, 8, (60, 50, 40, 50, 16, 50)),
        ("auto", 50_000, 2, (60, 50, 40, 50, 16, 50)),
        ("auto", 50_001, 8, (60, 0, 96, 144, 0, 0)),
        ("auto", 951, 1, (60, 0, 96, 144, 0, 0)),
        ("auto", 951, 64, (60, 50, 40, 50, 16, 7)),
        (1000, 951, 8, (60, 338, 270, 332, 16, 60)),
        (20, 951, 8, (8, 0, 4, 8, 0, 0)),
    ],
)
def test_a_warm_up_is_spent_on_slowing_where_that_pays(
    warmup: int | Literal["auto"], d: int, chains: int, expected: tuple[int, ...]
) -> None:
    planned = schedule(warmup, d, chains)
    assert planned == expected
    assert sum(planned[:4]) == (warmup if warmup != "auto" else 200 if planned.slowed else 300)


def test_the_exact_value_is_met_where_directions_are_slowed() -> None:
    """Forty stiff directions of five decades: more than are slowed, so that both kinds are met."""
    curvatures = np.geomspace(1e-2, 1e3, 40)
    mean, se = pooled(HMC, quadratic(curvatures), 0.02)
    assert abs(mean - exact_llc(curvatures)) < BEYOND_CHANCE * se
    outcome, _ = run(HMC, quadratic(curvatures), 0, 0.1)
    assert outcome.tuned["slowed_directions"] == 16.0
    assert 0 < outcome.tuned["least_share_of_speed"] < 0.2
    assert run(HMC, quadratic(CURVATURES), 0, 0.1)[0].tuned["slowed_directions"] == 0.0


@pytest.mark.parametrize("size", [1e-3, 0.05, 0.5], ids=["short", "tuned", "too long"])
def test_an_isokinetic_step_is_that_of_blackjax(size: float) -> None:
    posterior = quadratic(CURVATURES[:4])
    start = Moving(place_near(posterior), unit(jnp.asarray([0.3, -1.0, 0.2, 2.0])))
    ours, error = leapfrog(posterior, start, jnp.asarray(size))
    density = partial(log_density, posterior)
    state = integrators.new_integrator_state(density, start.place.w, start.direction)
    theirs, kinetic = integrators.isokinetic_velocity_verlet(density)(state, size)
    np.testing.assert_allclose(ours.place.w, theirs.position, rtol=1e-12)
    np.testing.assert_allclose(ours.direction, theirs.momentum, rtol=1e-10)
    np.testing.assert_allclose(error, kinetic - theirs.logdensity + state.logdensity, rtol=1e-8, atol=1e-10)


def test_a_refreshment_is_that_of_blackjax() -> None:
    direction, key = unit(jnp.arange(1.0, 6.0)), jax.random.key(3)
    theirs = integrators.partially_refresh_momentum(direction, key, 0.2, 3.0)
    np.testing.assert_allclose(refreshed(direction, 0.2 / 3.0, jax.random.normal(key, (5,))), theirs, rtol=1e-12)


def test_blackjax_samples_the_same_law_with_our_steps() -> None:
    """BlackJAX's MCLMC at our step and length has the mean of our level of steps ε, bias and all."""
    posterior = quadratic(CURVATURES)
    outcome, _ = run(MCLMC, posterior, 0, 0.02)
    half = outcome.trace.sample_stats["llc_half_step"]
    ours = estimate_markov(half - 3.0 * (outcome.trace.posterior["llc"] - half))
    density = partial(log_density, posterior)
    kernel = blackjax.mcmc.mclmc.build_kernel(integrator=integrators.isokinetic_velocity_verlet)
    size, length = outcome.tuned["step_size"], outcome.tuned["decoherence_length"]

    @jax.jit
    @jax.vmap
    def chain(key: Array) -> Float[Array, " steps"]:
        start = blackjax.mcmc.mclmc.init(posterior.w_star + 0.05, density, key)

        def step(state: object, key: Array) -> tuple[object, Float[Array, ""]]:
            state, _ = kernel(key, state, density, 1.0, length, size)
            return state, posterior.llc(state.position)

        return jax.lax.scan(step, start, jax.random.split(key, 6000))[1]

    llc = np.asarray(chain(jax.random.split(jax.random.key(0), 8)))[:, 1000:]
    theirs = estimate_markov(llc.reshape(8, 500, 10).mean(axis=2))
    assert abs(ours.llc - theirs.llc) < BEYOND_CHANCE * math.hypot(ours.se, theirs.se)


def test_our_step_has_the_energy_error_that_blackjax_tunes_to() -> None:
    """BlackJAX's tuner, one chain of leapfrog steps, ends within its noise of the step that filling ends with."""
    posterior = quadratic(CURVATURES)
    density = partial(log_density, posterior)
    kernel = blackjax.mcmc.mclmc.build_kernel(integrator=integrators.isokinetic_velocity_verlet)
    start = blackjax.mcmc.mclmc.init(posterior.w_star + 0.05, density, jax.random.key(1))
    _, theirs, _ = blackjax.mclmc_find_L_and_step_size(
        kernel, 20_000, start, jax.random.key(2), density, desired_energy_var=1e-4, diagonal_preconditioning=False
    )
    ours, _ = run(MCLMC, posterior, 0, 0.05)
    # The energy error's variance goes as ε⁶, so that its noise hardly moves the step.
    assert ours.tuned["step_size"] == pytest.approx(float(theirs.step_size), rel=0.35)


# Cost -------------------------------------------------------------------------------------------


def test_lengths_of_adjusted_trajectories_are_spread_evenly() -> None:
    lengths = np.asarray(jax.vmap(lambda draw: trajectory_steps(draw, 10))(jnp.arange(1100)))
    assert np.bincount(lengths).tolist()[5:] == pytest.approx([100] * 11, abs=5)
    assert lengths[:5].tolist() != sorted(lengths[:5].tolist())


@pytest.mark.parametrize("sampler", [HMC, ADJUSTED, MCLMC], ids=["hmc", "adjusted", "mclmc"])
def test_gradient_counts_are_those_of_the_draws(sampler: AbstractMarkovSampler) -> None:
    outcome, ledger = run(sampler, quadratic(CURVATURES), 0, 0.05)
    chains, draws = outcome.trace.posterior["llc"].shape
    filled = int(outcome.tuned["filling_steps"])
    adapted = np.asarray(trajectory_steps(np.arange(200 + draws), 10))
    # HMC leaves w* in all three; MCLMC's levels ε and ε/2 take three gradients a step, its tuning and relaxation are
    # 1,000 and 500 steps.
    warmup, sampling = {
        HMC: (300 * 10, draws * 10),
        ADJUSTED: (60 * 10 + adapted[:200].sum(), adapted[200:].sum()),
        MCLMC: (60 * 10 + 1000 + 3 * 500, draws * 30),
    }[sampler]
    assert ledger.equivalents["sampling"] == chains * sampling == ledger.evaluations["sampling"]
    assert ledger.equivalents["warmup"] == 1 + chains * (warmup + filled)


@pytest.mark.parametrize("sampler", [HMC, ADJUSTED, MCLMC], ids=["hmc", "adjusted", "mclmc"])
def test_the_budget_is_exceeded_by_less_than_a_block(sampler: AbstractMarkovSampler) -> None:
    outcome, ledger = run(sampler, quadratic(CURVATURES), 0, 1e-4, gradients=60_000)
    assert outcome.status == "budget_exhausted"
    assert "60,000 gradients" in str(outcome.reason)
    assert 60_000 <= ledger.total < 60_000 + 8 * 25 * 30


def test_a_budget_that_ends_in_warm_up_leaves_no_draws() -> None:
    outcome, _ = run(HMC, quadratic(CURVATURES), 0, 0.05, gradients=3_000)
    assert outcome.status == "budget_exhausted"
    assert "warm-up" in str(outcome.reason)
    assert outcome.trace.posterior["llc"].shape == (8, 0)


def test_what_only_unadjusted_steps_use_is_refused_with_a_metropolis_test() -> None:
    with pytest.raises(ValidationError, match="energy_error is for adjusted: false"):
        MclmcSettings(kind="mclmc", adjusted=True, energy_error=ENERGY_ERROR)
