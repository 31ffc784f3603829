"""Thermodynamic integration of exact curves with simulated noise, against exact free energies."""

import dataclasses

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from lambda_hat_cli.estimate.free_energy import free_energy
from lambda_hat_cli.truth.finite_t import normal_crossing_mean
from unit.test_estimate_temperatures import curve, noisy

SETS = 200


def exact_difference(exponents: tuple[int, ...] | None, low: float, high: float) -> float:
    """Twenty curvatures of 1 have F = 10·log(t + 1) + constant; a crossing's λ(t) is integrated finely."""
    if exponents is None:
        return 10.0 * float(np.log((high + 1.0) / (low + 1.0)))
    return float(quad(lambda u: normal_crossing_mean(exponents, float(np.exp(u)), 1.0), np.log(low), np.log(high))[0])


@pytest.mark.parametrize("exponents", [None, (1, 1), (1, 2)])
@pytest.mark.parametrize("temperatures", [3, 8])
def test_its_intervals_hold_the_free_energy(exponents: tuple[int, ...] | None, temperatures: int) -> None:
    t, rng = np.geomspace(1.0, 1e4, temperatures), np.random.default_rng(0)
    exact, expected = curve(exponents, t), exact_difference(exponents, t[0], t[-1])
    found = [free_energy(noisy(t, exact, 0.01, rng)) for _ in range(SETS)]
    held = sum(f is not None and f.low is not None and f.low <= expected <= f.high for f in found)
    assert held >= binom.ppf(1e-4, SETS, 0.95)


def test_many_temperatures_leave_little_error_of_the_rule() -> None:
    t = np.geomspace(1.0, 1e4, 20)
    found = free_energy(noisy(t, curve((1, 1), t), 1e-6, np.random.default_rng(0)))
    assert found is not None
    assert found.quadrature is not None
    assert found.quadrature < 0.01 * found.difference
    assert found.difference == pytest.approx(exact_difference((1, 1), 1.0, 1e4), rel=1e-3)


def test_replicates_share_their_node_and_halve_its_variance() -> None:
    t, rng = np.geomspace(1.0, 100.0, 3), np.random.default_rng(0)
    runs = noisy(t, curve(None, t), 0.01, rng)
    one, two = free_energy(runs), free_energy([*runs, *runs])
    assert one is not None
    assert two is not None
    assert two.difference == pytest.approx(one.difference)
    assert two.se == pytest.approx(one.se / np.sqrt(2))


def test_without_slopes_nothing_bounds_the_rule() -> None:
    t = np.geomspace(1.0, 100.0, 3)
    runs = noisy(t, curve(None, t), 0.01, np.random.default_rng(0))
    found = free_energy([dataclasses.replace(runs[0], variance=None, slope_se=None), *runs[1:]])
    assert found is not None
    assert (found.quadrature, found.low, found.high) == (None, None, None)
    assert free_energy(runs[:1]) is None
