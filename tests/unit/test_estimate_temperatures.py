"""λ and the multiplicity over temperatures, on curves that quadrature gives, with simulated noise of known size."""

import numpy as np
import pytest
from scipy.stats import binom

from lambda_hat_cli.estimate.diagnostics import standard_error
from lambda_hat_cli.estimate.second import second_of_chains
from lambda_hat_cli.estimate.temperatures import Temperature, multiplicity, regression
from lambda_hat_cli.truth.finite_t import normal_crossing_mean, quadratic_mean
from synthetic_runs import autoregressive

SETS = 60


def curve(exponents: tuple[int, ...] | None, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact E[tK] and Var[tK] = E − dE/d log t at γ = 1: a normal crossing, or twenty curvatures of 1."""

    def mean(nbeta: float) -> float:
        return (
            quadratic_mean([1.0] * 20, nbeta, 1.0) if exponents is None else normal_crossing_mean(exponents, nbeta, 1.0)
        )

    h = 0.02
    means, up, down = (np.array([mean(nbeta * factor) for nbeta in t]) for factor in (1.0, np.exp(h), np.exp(-h)))
    return means, means - (up - down) / (2 * h)


def noisy(
    t: np.ndarray, exact: tuple[np.ndarray, np.ndarray], error: float, rng: np.random.Generator
) -> list[Temperature]:
    """A run at every t: λ̂ errs by `error`, Var[tK] by twice that, correlated as for a Gamma law."""
    runs = []
    for nbeta, mean, variance in zip(t, *exact, strict=True):
        se, second = error * mean, 2 * error * variance
        z = rng.normal(size=2)
        runs.append(
            Temperature(
                beta=nbeta / 1000,
                nbeta=nbeta,
                llc=mean + se * z[0],
                se=se,
                bias=0.0,
                variance=variance + second * (0.6 * z[0] + 0.8 * z[1]),
                variance_se=second,
                slope_se=float(np.sqrt(se**2 + second**2 - 1.2 * se * second)),
            )
        )
    return runs


@pytest.mark.parametrize(("exponents", "d", "true"), [((1, 1), 2, 2), ((2, 2), 2, 2), ((1, 2), 2, 1), (None, 20, 1)])
@pytest.mark.parametrize("error", [0.02, 0.002])
def test_the_interval_holds_the_multiplicity(
    exponents: tuple[int, ...] | None, d: int, true: int, error: float
) -> None:
    """95 % of the intervals at least; fewer than the binomial's 1e-4 quantile would be no accident."""
    t = np.geomspace(100, 1e6, 6)
    exact, rng = curve(exponents, t), np.random.default_rng(0)
    found = [multiplicity(noisy(t, exact, error, rng), d) for _ in range(SETS)]
    held = sum(m.low is not None and m.low <= true and (m.high is None or true <= m.high) for m in found)
    assert held >= binom.ppf(1e-4, SETS, 0.95)


def test_many_precise_temperatures_tell_the_multiplicity() -> None:
    t, rng = np.geomspace(1e2, 1e12, 20), np.random.default_rng(0)
    crossing = multiplicity(noisy(t, curve((1, 1), t), 1e-3, rng), d=2)
    assert (crossing.best, crossing.low, crossing.high) == (2, 2, 2)


def test_the_multiplicity_needs_four_temperatures() -> None:
    t, rng = np.geomspace(100, 1e4, 3), np.random.default_rng(0)
    assert multiplicity(2 * noisy(t, curve((1, 1), t), 0.01, rng), d=2) is None


def test_a_curve_of_no_such_form_has_no_interval() -> None:
    t, rng = np.geomspace(100, 1e6, 6), np.random.default_rng(0)
    zigzag = np.array([1.0, 5.0, 1.0, 5.0, 1.0, 5.0])
    found = multiplicity(noisy(t, (zigzag, zigzag), 0.01, rng), d=4)
    assert (found.best, found.low, found.high) == (None, None, None)
    assert found.misfit_p < 1e-3


def test_the_line_against_1_over_beta_has_slope_lambda() -> None:
    """λ̂ = 10 at every t: the slope is 10, its intervals cover, and its two-temperature form is Watanabe's quotient."""
    t, rng = np.geomspace(100, 1e4, 5), np.random.default_rng(0)
    flat = np.full(5, 10.0)
    found = [regression(noisy(t, (flat, flat), 0.02, rng)) for _ in range(400)]
    lines = [line for line in found if line.llc is not None]
    assert 400 - len(lines) <= binom.ppf(1 - 1e-4, 400, 1e-3)
    covered = sum(line.low <= 10.0 <= line.high for line in lines)
    assert covered >= binom.ppf(1e-4, len(lines), 0.95)
    spread = np.std([line.llc for line in lines])
    assert spread == pytest.approx(np.mean([line.se for line in lines]), rel=0.2)
    one, two = noisy(np.array([100.0, 400.0]), (np.array([10.0, 9.0]), np.array([10.0, 9.0])), 0.01, rng)
    quotient = (one.llc / one.beta - two.llc / two.beta) / (1 / one.beta - 1 / two.beta)
    assert regression([one, two]).llc == pytest.approx(quotient)
    assert regression([one, one]) is None


def test_no_slope_where_the_curve_is_no_line() -> None:
    t, rng = np.geomspace(100, 1e4, 5), np.random.default_rng(0)
    rising = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    line = regression(noisy(t, (rising, rising), 0.01, rng))
    assert (line.llc, line.se, line.low, line.high) == (None, None, None, None)
    assert line.misfit_p < 1e-3


def drawn(tk: np.ndarray, t: float) -> Temperature:
    """A run of n = 1000 with these independent draws of tK."""
    second = second_of_chains(tk, {}, points=True)
    return Temperature(
        beta=t / 1000,
        nbeta=t,
        llc=float(tk.mean()),
        se=standard_error(tk),
        bias=0.0,
        variance=second.variance,
        variance_se=second.variance_se,
        slope_se=second.slope_se,
    )


def crossing_draws(t: float, gamma: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Exact draws of t·w₁²w₂² for exp(−t·w₁²w₂² − γ‖w‖²/2): w₂ given w₁ is Gaussian, w₁ has a known density."""
    w = np.linspace(-8, 8, 20001) / np.sqrt(gamma)
    mass = np.cumsum(np.exp(-0.5 * gamma * w**2) / np.sqrt(2 * t * w**2 + gamma))
    first = np.interp(rng.random(shape), mass / mass[-1], w)
    return t * first**2 * rng.normal(size=shape) ** 2 / (2 * t * first**2 + gamma)


def test_no_slope_where_lambda_hat_rises_along_a_line() -> None:
    """Crossing (1,1), λ = ½: λ̂ goes from .16 to .24 along what is a line in 1/β within the noise, of slope .14."""
    rng = np.random.default_rng(0)
    t = 1000 * np.array([0.5, 0.7, 1.0, 1.4, 2.0]) / np.log(1000)
    lines = [regression([drawn(crossing_draws(each, 10.0, (4, 100), rng), each) for each in t]) for _ in range(40)]
    withheld = [line for line in lines if line.llc is None]
    assert len(withheld) >= binom.ppf(1e-4, 40, 0.9)
    assert np.median([line.misfit_p for line in lines]) > 1e-3


@pytest.mark.parametrize("d", [1, 20])
def test_few_draws_of_a_quadratic_keep_its_slope_and_multiplicity(d: int) -> None:
    """tK of a Gaussian posterior is Gamma(d/2) at every t: what is withheld by chance is as rare as stated."""
    rng, t = np.random.default_rng(d), np.geomspace(50, 500, 5)
    runs = [[drawn(rng.gamma(d / 2, size=(4, 50)), each) for each in t] for _ in range(200)]
    lines = [regression(each) for each in runs]
    assert sum(line.llc is None for line in lines) <= binom.ppf(1 - 1e-4, 200, 4e-3)
    assert sum(multiplicity(each, d).misfit_p < 0.01 for each in runs[:60]) <= binom.ppf(1 - 1e-4, 60, 0.02)


def test_the_variance_form_and_its_error() -> None:
    """Gaussian AR(1) draws of standard deviation 3: Var = 9 within its errors, also from means over pairs of steps."""
    covered, means = 0, 0
    for seed in range(150):
        points = autoregressive(4, 400, 0.5, 10.0, 3.0, seed)
        found = second_of_chains(points, {}, points=True)
        covered += abs(found.variance - 9.0) <= 2.1 * found.variance_se
        pairs = points.reshape(4, 200, 2)
        averaged = second_of_chains(pairs.mean(axis=2), {"llc_square": (pairs**2).mean(axis=2)}, points=False)
        assert averaged.variance == pytest.approx(found.variance, rel=0.02)
        means += abs(averaged.slope - 1.0) <= 2.1 * averaged.slope_se
    assert min(covered, means) >= binom.ppf(1e-4, 150, 0.93)
    assert second_of_chains(points, {}, points=False).variance is None
