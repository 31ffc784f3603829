"""Diagnostics and PSIS against ArviZ's, intervals against draws of known mean."""

import tempfile
import warnings
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
from scipy.stats import binom

from lambda_hat_cli.estimate import UnusableTrace, diagnostics
from lambda_hat_cli.estimate.bias import discretisation_bias
from lambda_hat_cli.estimate.interval import Estimate, estimate_markov, estimate_weighted, may_stop
from lambda_hat_cli.estimate.psis import psis_smooth
from lambda_hat_cli.experiment.schema import HmcSettings, MclmcSettings, SgldSettings
from synthetic_runs import autoregressive, weighted_trace

with (
    warnings.catch_warnings(),
    tempfile.TemporaryDirectory() as own,
    # ArviZ notes there the day of its last warning, and processes that start together take each other's draft away.
    mock.patch("platformdirs.user_cache_dir", return_value=own),
):
    warnings.simplefilter("ignore")
    import arviz
    from arviz.stats import diagnostics as reference


def traces() -> Iterator[np.ndarray]:
    """Many shapes: odd and tiny draws, ties, heavy tails, antithetic and sticky chains, shifted chains."""
    rng = np.random.default_rng(7)
    for trial in range(250):
        chains = int(rng.integers(1, 9))
        draws = int(rng.integers(4, 40)) if trial % 2 else int(rng.integers(40, 301))
        x = autoregressive(chains, draws, float(rng.uniform(-0.99, 0.99)), 0.0, 1.0, trial)
        x = (x, np.round(x), x**2, np.exp(2 * x), x + np.arange(chains)[:, None])[trial % 5]
        if np.ptp(x) > 0:
            yield x


def test_diagnostics_equal_arviz() -> None:
    pairs = [
        (diagnostics.ess_mean, reference._ess_mean),
        (diagnostics.ess_bulk, reference._ess_bulk),
        (diagnostics.ess_tail, reference._ess_tail),
        (diagnostics.rhat_rank, reference._rhat_rank),
    ]
    for x in traces():
        for ours, theirs in pairs:
            with np.errstate(all="ignore"):
                expected = theirs(x)
            np.testing.assert_allclose(ours(x), expected, rtol=1e-9, err_msg=f"{ours.__name__} {x.shape}")


@pytest.mark.parametrize("draws", [0, 1, 3])
def test_too_few_draws_are_undefined(draws: int) -> None:
    x = np.ones((2, draws))
    for function in (diagnostics.ess_mean, diagnostics.ess_bulk, diagnostics.ess_tail, diagnostics.rhat_rank):
        assert np.isnan(function(x))
    assert np.isnan(diagnostics.standard_error(x))


def test_piece_means() -> None:
    x = np.array([[9.0, 1, 3, 5, 7, 9, 11, 13, 15], [9.0, 1, 1, 1, 1, 1, 1, 1, 1]])
    means = [2, 6, 10, 14, 1, 1, 1, 1]
    assert diagnostics.piece_means_se(x, 4) == pytest.approx(np.std(means, ddof=1) / np.sqrt(8))
    assert diagnostics.piece_means_se(x, 1) == pytest.approx(np.std(x.mean(axis=1), ddof=1) / np.sqrt(2))


def test_standard_error_of_independent_draws_is_arvizs_or_little_more() -> None:
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(200):
        x = rng.normal(size=(8, 400))
        ratios.append(diagnostics.standard_error(x) / reference._mcse_mean(x))
    assert min(ratios) >= 1.0 - 1e-9
    # The largest of three unbiased errors, two of them with 7 and 31 degrees of freedom, is larger by .1 on average.
    assert 1.0 < np.mean(ratios) < 1.2


def test_standard_error_sees_chains_that_stay_where_they_are() -> None:
    # A persistent part of every chain as large as the error of its mean: 200 groups of 8 chains, truth 0.
    rng = np.random.default_rng(6)
    z = []
    for _ in range(200):
        x = rng.normal(size=(8, 400)) + rng.normal(size=(8, 1)) / 20.0
        z.append(np.mean(x) / diagnostics.standard_error(x))
    # z² of a right error has mean 1 ± √(2/200); 4 of these.
    assert np.mean(np.square(z)) < 1.0 + 4.0 * np.sqrt(2.0 / 200)


def test_psis_equals_arviz() -> None:
    rng = np.random.default_rng(3)
    for trial in range(60):
        log_weights = rng.standard_t(3, size=int(rng.integers(10, 3000))) * rng.uniform(0.01, 4)
        expected, k_hat = arviz.psislw(log_weights)
        smoothed, ours = psis_smooth(log_weights)
        np.testing.assert_allclose(smoothed, expected, rtol=1e-9, err_msg=str(trial))
        np.testing.assert_allclose(ours, float(k_hat), rtol=1e-9)


def test_interval_covers_the_mean() -> None:
    """Nominal 95 % and the intended 95–97 %: 600 runs, both tails of the count beyond 1e-4 excluded."""
    seeds = 600
    runs = autoregressive(seeds * 4, 400, 0.6, 5.0, 2.0, 1000).reshape(seeds, 4, 400)
    estimates = [estimate_markov(run) for run in runs]
    covered = sum(estimate.low <= 5.0 <= estimate.high for estimate in estimates)
    low, high = binom.ppf(1e-4, seeds, 0.95), binom.ppf(1 - 1e-4, seeds, 0.98)
    assert low <= covered <= high


def test_bias_widens_the_interval_on_both_sides() -> None:
    llc = autoregressive(4, 400, 0.6, 5.0, 2.0, 0)
    plain, biased = estimate_markov(llc), estimate_markov(llc, bias=0.5)
    assert biased.llc == plain.llc
    assert plain.low - biased.low == pytest.approx(0.5)
    assert biased.high - plain.high == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("llc", "reason"),
    [
        (np.full((4, 100), 2.5), "did not move"),
        (np.where(np.arange(100) == 50, np.nan, np.arange(100.0))[None, :], "1 of 100"),
        (np.where(np.arange(100) == 50, np.inf, np.arange(100.0))[None, :], "not finite"),
        (np.zeros((4, 0)), "0 draws"),
        (np.arange(6.0).reshape(2, 3), "3 draws"),
    ],
)
def test_unusable_draws_have_no_estimate(llc: np.ndarray, reason: str) -> None:
    with pytest.raises(UnusableTrace, match=reason):
        estimate_markov(llc)


def test_may_stop_needs_every_condition() -> None:
    good = {
        "llc": 10.0, "se": 0.1, "low": 9.7, "high": 10.3, "half_width": 0.3,
        "ess_mean": 500.0, "ess_bulk": 500.0, "ess_tail": 500.0, "rhat": 1.01, "bias": 0.0,
    }  # fmt: skip
    assert may_stop(Estimate(**good), 0.05, 10.0)
    for worse in ({"ess_mean": 399.0}, {"ess_bulk": 399.0}, {"ess_tail": 399.0}, {"rhat": 1.03}, {"half_width": 0.6}):
        assert not may_stop(Estimate(**{**good, **worse}), 0.05, 10.0)
    assert not may_stop(Estimate(**{**good, "rhat": np.nan}), 0.05, 10.0)
    assert not may_stop(Estimate(**good), 0.05, -10.0)


def test_weighted_draws_find_the_exact_mean() -> None:
    """U = ‖z‖²/2 in 5 dimensions has mean 5/2 exactly; a proposal 10 % too wide is corrected by its weights."""
    trace = weighted_trace(1.1, draws=4000)
    estimate = estimate_weighted(trace.posterior["llc"], trace.sample_stats["log_weight"])
    assert abs(estimate.llc - 2.5) <= 4 * estimate.se
    assert estimate.plain == pytest.approx(2.5 * 1.21, rel=0.03)
    assert estimate.k_hat < 0.5
    # log Z − ELBO = KL(q‖p) = 5·(1.21 − 1 − log 1.21)/2.
    assert estimate.gap == pytest.approx(2.5 * (0.21 - np.log(1.21)), abs=0.01)


def test_draws_of_weight_zero_count_and_other_infinities_do_not_pass() -> None:
    trace = weighted_trace(1.1)
    llc, log_weight = trace.posterior["llc"].copy(), trace.sample_stats["log_weight"].copy()
    log_weight[0, 3], llc[0, 3] = -np.inf, np.nan
    assert np.isfinite(estimate_weighted(llc, log_weight).llc)
    log_weight[0, :10] = -np.inf
    with pytest.raises(UnusableTrace, match="weight zero"):
        estimate_weighted(llc, log_weight)
    log_weight[0, :10] = np.nan
    with pytest.raises(UnusableTrace, match="not finite"):
        estimate_weighted(llc, log_weight)


def test_discretisation_bias() -> None:
    llc = autoregressive(4, 200, 0.3, 10.0, 3.0, 0)
    sgld, hmc, mclmc = SgldSettings(kind="sgld"), HmcSettings(kind="hmc"), MclmcSettings(kind="mclmc")
    measured = discretisation_bias(sgld, {"extrapolation": 1 / 3}, {"llc_half_step": llc - 0.1}, llc)
    assert measured.value == pytest.approx(0.1)
    assert measured.step_effect == pytest.approx(0.3)
    assert discretisation_bias(sgld, {}, {}, llc).value is None
    assert discretisation_bias(sgld, {}, {"llc_half_step": llc}, llc).value is None
    assert discretisation_bias(hmc, {}, {}, llc).value == 0.0
    assert discretisation_bias(mclmc, {}, {}, llc).value is None
