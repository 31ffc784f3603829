"""Exact coefficients and finite-t values against published tables, closed forms and an independent quadrature."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad

from lambda_hat_cli.experiment.schema import TargetSpec
from lambda_hat_cli.truth import coefficients as exact
from lambda_hat_cli.truth.assign import truth_for
from lambda_hat_cli.truth.finite_t import finite_t_for, normal_crossing_mean, quadratic_mean

T = 1000 / math.log(1000)


def pair(coefficient: exact.Coefficient) -> tuple[Fraction, int]:
    return coefficient.value, coefficient.multiplicity


# Aoyagi & Watanabe 2005: N = 5 outputs, M = 3 inputs, hidden width and true rank.
@pytest.mark.parametrize(
    ("hidden", "values"),
    [(1, ["3/2", "7/2"]), (2, ["3", "9/2", "6"]), (3, ["9/2", "11/2", "13/2", "15/2"])],
)
def test_reduced_rank_regression_table(hidden: int, values: list[str]) -> None:
    found = [exact.reduced_rank_regression(5, 3, hidden, rank).value for rank in range(len(values))]
    assert found == [Fraction(value) for value in values]


# Aoyagi 2024.
@pytest.mark.parametrize(
    ("widths", "rank", "value", "multiplicity"),
    [
        ([5, 3, 5], 0, "13/2", 2),
        ([10, 8, 6, 9, 7], 3, "53/2", 1),
        ([50, 20, 30, 40, 10], 5, "175", 1),
        ([6] * 7, 2, "15", 9),
        ([100] * 11, 0, "2750", 1),
        ([2, 2, 2, 2], 0, "3/2", 3),
        ([10] * 4, 3, "42", 3),
        *(([1] * (depth + 1), 0, "1/2", depth) for depth in range(1, 7)),
    ],
)
def test_deep_linear_table(widths: list[int], rank: int, value: str, multiplicity: int) -> None:
    assert pair(exact.deep_linear(widths, rank)) == (Fraction(value), multiplicity)


def test_two_layers_are_reduced_rank_regression() -> None:
    for n, m, h in product(range(1, 13), repeat=3):
        for rank in range(min(n, m, h) + 1):
            assert pair(exact.deep_linear([m, h, n], rank)) == pair(exact.reduced_rank_regression(n, m, h, rank))


def test_stratum_local_values_and_their_minimum() -> None:
    assert pair(exact.reduced_rank_stratum(10, 10, 10, 5, 10, 5)) == (50, 1)
    assert pair(exact.reduced_rank_regression(10, 10, 10, 5)) == (47, 2)
    assert exact.reduced_rank_stratum(2, 2, 2, 0, 2, 0).value == 2
    for n, m, h in product(range(1, 8), repeat=3):
        for rank in range(min(n, m, h) + 1):
            strata = {
                (a, b): pair(exact.reduced_rank_stratum(n, m, h, rank, a, b))
                for a in range(rank, min(h, m) + 1)
                for b in range(rank, min(h, n) + 1)
                if a + b - rank <= h
            }
            everywhere = pair(exact.reduced_rank_regression(n, m, h, rank))
            assert strata[rank, rank] == everywhere
            assert min(value for value, _ in strata.values()) == everywhere[0]
            # Where the rest is empty, the point is regular: half the rank of the Jacobian of (A, B) ↦ BA.
            for (a, b), (value, multiplicity) in strata.items():
                if a + b - rank == h or a == m or b == n:
                    assert (value, multiplicity) == (Fraction(n * a + m * b - a * b, 2), 1)


def test_transposition_changes_nothing() -> None:
    for n, m, h in product(range(1, 8), repeat=3):
        for rank in range(min(n, m, h) + 1):
            assert exact.reduced_rank_regression(n, m, h, rank) == exact.reduced_rank_regression(m, n, h, rank)
            for a, b in product(range(rank, min(h, m) + 1), range(rank, min(h, n) + 1)):
                if a + b - rank <= h:
                    straight = exact.reduced_rank_stratum(n, m, h, rank, a, b)
                    assert straight == exact.reduced_rank_stratum(m, n, h, rank, b, a)
    for widths in product(range(1, 6), repeat=4):
        for rank in range(min(widths) + 1):
            straight = exact.deep_linear(widths, rank)
            assert straight == exact.deep_linear(widths[::-1], rank)
            assert straight == exact.deep_linear((widths[0], widths[2], widths[1], widths[3]), rank)


def test_a_stratum_s_regular_part_is_half_the_rank_of_the_product_s_jacobian() -> None:
    random = np.random.default_rng(0)
    for n, m, h, rank, a, b in [(4, 3, 5, 1, 2, 3), (3, 4, 3, 2, 3, 2), (5, 5, 4, 0, 2, 1), (2, 6, 4, 1, 3, 2)]:
        gauge = np.linalg.qr(random.standard_normal((h, h)))[0]
        read = np.r_[:rank, a : a + b - rank]
        first = gauge[:, :a] @ random.standard_normal((a, m))
        second = random.standard_normal((n, b)) @ gauge[:, read].T
        assert np.linalg.matrix_rank(second @ first, tol=1e-9) == rank
        jacobian = np.hstack([np.kron(second, np.eye(m)), np.kron(np.eye(n), first.T)])
        rest = [n - b, m - a, h - a - b + rank]
        residual = exact.reduced_rank_regression(*rest, 0).value if min(rest) else 0
        regular = exact.reduced_rank_stratum(n, m, h, rank, a, b).value - residual
        assert regular == Fraction(int(np.linalg.matrix_rank(jacobian, tol=1e-9)), 2)


def test_exactly_one_set_of_widths_takes_part_in_a_deep_linear_network() -> None:
    for excess in product(range(5), repeat=5):
        ordered = sorted(excess)
        chosen = []
        for k in range(2, 6):
            total, ell = sum(ordered[:k]), k - 1
            last = k == 5 or (ordered[k - 1] < ordered[k] and total < ell * ordered[k])
            if total >= ell * ordered[k - 1] and last:
                chosen.append(pair(exact.deep_linear(ordered[:k], 0)))
        assert set(chosen) == {pair(exact.deep_linear(excess, 0))}


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 3), (2, 2), (3, 1)])
def test_impossible_strata_are_refused(a: int, b: int) -> None:
    with pytest.raises(ValueError, match="no matrices of ranks"):
        exact.reduced_rank_stratum(2, 3, 2, 1, a, b)


def test_elementary_families() -> None:
    assert pair(exact.regular(7)) == (Fraction(7, 2), 1)
    assert pair(exact.normal_crossing([1, 3, 3, 0])) == (Fraction(1, 6), 2)
    assert pair(exact.normal_crossing([2, 2])) == (Fraction(1, 4), 2)
    assert pair(exact.sum_of_powers([1, 2, 3])) == (Fraction(1, 2) + Fraction(1, 4) + Fraction(1, 6), 1)
    assert pair(exact.radial(3, 2)) == (Fraction(3, 4), 1)
    assert [pair(exact.tanh_zero_truth(units)) for units in (1, 2, 3, 4)] == [
        (Fraction(1, 2), 2),
        (Fraction(2, 3), 1),
        (Fraction(5, 6), 1),
        (1, 2),
    ]


@pytest.mark.parametrize("widths", [[3], [3, 2, 3]])
def test_impossible_rank_is_refused(widths: list[int]) -> None:
    with pytest.raises(ValueError, match="rank"):
        exact.deep_linear(widths, 3)


TABLE = {
    T: (0.4983, 0.3614, 0.2095, 0.1504, 0.1416, 0.0893),
    1e4: (0.5000, 0.4123, 0.2358, 0.1785, 0.1579, 0.1065),
    1e6: (0.5000, 0.4375, 0.2455, 0.1960, 0.1641, 0.1190),
}


@pytest.mark.parametrize(("t", "row"), TABLE.items())
def test_normal_crossings_at_finite_t(t: float, row: tuple[float, ...]) -> None:
    found = [
        normal_crossing_mean([k for k in pair if k], t, 1.0)
        for pair in ((0, 1), (1, 1), (1, 2), (2, 2), (1, 3), (3, 3))
    ]
    np.testing.assert_allclose(found, row, atol=5.1e-5)


@pytest.mark.parametrize(("k", "gamma"), [(1, 1.0), (2, 0.1), (5, 30.0)])
def test_one_coordinate_against_adaptive_quadrature(k: int, gamma: float) -> None:
    def weight(w: float) -> float:
        return math.exp(-T * w ** (2 * k) - 0.5 * gamma * w * w)

    normalizer = quad(weight, 0, 8, epsabs=0, epsrel=1e-11, limit=400)[0]
    moment = quad(lambda w: T * w ** (2 * k) * weight(w), 0, 8, epsabs=0, epsrel=1e-11, limit=400)[0]
    assert normal_crossing_mean([k], T, gamma) == pytest.approx(moment / normalizer, rel=1e-9)


def test_quadratic_at_finite_t() -> None:
    assert quadratic_mean([0.01, 0.1, 1.0, 10.0], 145.0, 1.0) == pytest.approx(1.7599, abs=5e-5)
    assert quadratic_mean([1.0, 0.0, 2.0], T, 0.0) == 1.0
    assert normal_crossing_mean([1], T, 1.0) == pytest.approx(quadratic_mean([2.0], T, 1.0), rel=1e-9)


def spec(**keys: object) -> TargetSpec:
    return TargetSpec.model_validate(keys)


def test_truth_of_built_targets() -> None:
    quadratic = truth_for(spec(model={"kind": "quadratic", "curvatures": [1.0, 0.0, 2.0, 3.0]}))
    assert (quadratic.coefficient, quadratic.multiplicity, quadratic.kind) == ("3/2", 1, "exact_global")
    crossing = truth_for(spec(model={"kind": "normal_crossing", "exponents": [1, 1]}))
    assert (crossing.coefficient, crossing.multiplicity) == ("1/2", 2)
    linear = {"model": {"kind": "deep_linear", "widths": [10] * 4}, "data": {"kind": "teacher", "rank": 3}}
    at_truth = truth_for(spec(**linear, at="truth"))
    assert (at_truth.coefficient, at_truth.multiplicity, at_truth.kind) == ("42", 3, "exact_global")
    square = {"model": {"kind": "deep_linear", "widths": [10] * 3}, "data": {"kind": "teacher", "rank": 5}}
    there = truth_for(spec(**square, at={"ranks": [10, 5]}))
    assert (there.coefficient, there.multiplicity, there.kind) == ("50", 1, "exact_local")
    narrow = {"model": {"kind": "deep_linear", "widths": [2, 5, 4]}, "data": {"kind": "teacher", "rank": 1}}
    assert truth_for(spec(**narrow, at={"ranks": [2, 1]})).coefficient == str(Fraction(4 * 2 + 2 * 1 - 2, 2))
    for unknown in (spec(**linear), spec(model={"kind": "mlp", "widths": [2, 3, 1]}, at="truth")):
        truth = truth_for(unknown)
        assert (truth.coefficient, truth.multiplicity, truth.kind) == (None, None, "none")
        assert truth.source


def test_finite_t_is_none_with_a_reason_where_nothing_is_known() -> None:
    crossing = {"kind": "normal_crossing", "exponents": [1, 0, 2]}
    assert finite_t_for(spec(model=crossing), 0, T, 1.0).value == pytest.approx(0.2095, abs=5e-5)
    for target, gamma, word in (
        (spec(model=crossing), 0.0, "improper"),
        (spec(model={"kind": "normal_crossing", "exponents": [1, 1, 1]}), 1.0, "two coordinates"),
        (spec(model={"kind": "mlp", "widths": [2, 3, 1]}), 1.0, "reference"),
    ):
        finite_t = finite_t_for(target, 0, T, gamma)
        assert (finite_t.value, finite_t.kind) == (None, "none")
        assert word in finite_t.source
