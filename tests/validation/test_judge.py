"""The statistics that judge the samplers, against values worked out by hand or by counting."""

import math
from dataclasses import replace

import numpy as np
import pytest
from judge import (
    SILENT_SHARE,
    WRONG_SHARE,
    band,
    claims,
    coverage,
    critical_value,
    least_covered,
    mean_error,
    most,
    order,
    wrong_share,
)
from scipy import stats

from validation.sample_outcomes import GOOD
from validation.test_small import COMPARISONS, FAMILIES, RUNS


def test_mean_error_allows_one_percent_or_three_standard_errors() -> None:
    tight = mean_error([10.05, 10.07, 10.06], 10.0, 0.0)
    assert tight is not None
    assert tight.error == pytest.approx(0.006)
    assert (tight.allowed, tight.within) == (0.01, True)
    wide = mean_error([9.0, 11.0], 10.0, 0.75)  # the mean's own error is 1
    assert wide is not None
    assert wide.allowed == pytest.approx(3 * math.hypot(1.0, 0.75) / 10)
    off = mean_error([10.2, 10.2], 10.0, 0.0)
    assert off is not None
    assert not off.within
    assert mean_error([10.0], 10.0, 0.0) is None


def test_only_reliable_runs_can_be_wrong() -> None:
    off = replace(GOOD, llc=10.6)
    runs = [GOOD] * 18 + [off] * 2 + [replace(off, verdict="uncertain")] * 50
    share = wrong_share(runs)
    assert (share.hits, share.runs) == (2, 20)
    exact = 1 - sum(math.comb(20, k) * 0.05**k * 0.95 ** (20 - k) for k in range(2))
    assert share.p == pytest.approx(exact)
    assert not share.rejected
    assert wrong_share([GOOD] * 15 + [off] * 5).rejected
    assert wrong_share([]).p == 1.0


def test_coverage_counts_every_interval_and_rejects_both_ways() -> None:
    missed = replace(GOOD, low=10.1, verdict="uncertain")
    nothing = replace(GOOD, llc=None, low=None, high=None, verdict="invalid")
    share = coverage([GOOD] * 190 + [missed] * 10 + [nothing] * 7)
    assert (share.hits, share.runs, share.rejected) == (190, 200, False)
    assert coverage([GOOD] * 170 + [missed] * 30).rejected
    assert coverage([GOOD] * 200).rejected  # .95**200 = 4e-5: intervals that are too wide are dishonest too


def test_order_compares_disjoint_intervals_of_different_limits() -> None:
    small = replace(GOOD, limit=2.0, low=1.9, high=2.1)
    large = replace(GOOD, limit=3.0, low=2.9, high=3.1)
    reversed_ = replace(GOOD, limit=4.0, low=0.5, high=0.6)
    wide = replace(GOOD, limit=5.0, low=0.0, high=9.0)
    bare, silent = replace(GOOD, llc=12.0, low=None), replace(GOOD, llc=None, low=None, high=None)
    found = order([large, small, reversed_, wide, replace(small), bare, silent])
    assert (found.preserved, found.reversed, found.overlapping) == (2, 3, 4)
    assert (found.right, found.judged, found.silent) == (5, 14, 5)  # only `bare` has another λ̂ than the rest
    assert found.share == 0.4
    assert order([small, small]).share is None


def test_claims_compare_the_budgets_sum_with_the_error() -> None:
    found = claims([GOOD, replace(GOOD, llc=11.0), replace(GOOD, claimed=None)])
    assert (found.runs, found.held, found.claimed) == (2, 1, 0.05)
    assert found.made == pytest.approx(0.05)


def test_a_run_is_accepted_only_when_reliable_and_at_a_minimum() -> None:
    assert GOOD.accepted
    for change in ({"verdict": "uncertain"}, {"minimum": "above_minimum"}, {"minimum": None}, {"verdict": None}):
        assert not replace(GOOD, **change).accepted


def test_critical_value_is_students_quantile() -> None:
    assert critical_value(11, 1, 0.05) == pytest.approx(2.228, abs=1e-3)  # tables: t of 10 degrees, two-sided 5 %
    assert critical_value(5, 1, 0.01) == pytest.approx(4.604, abs=1e-3)


def test_false_alarms_of_a_small_validation_are_as_rare_as_computed() -> None:
    """Simulated at a false-alarm probability of 10 %, where 4,000 validations can tell; the formula is the same."""
    families, runs, trials, wanted = 6, 8, 4000, 0.1
    critical = critical_value(runs, families, wanted)
    least = least_covered(runs * families, 1, wanted)
    rng = np.random.default_rng(0)
    alarms = 0
    for values in rng.normal(10.0, 0.3, size=(trials, families, runs)):
        alarms += any(not band(list(row), 10.0, 0.0, 0.0, critical).within for row in values)
    noise = 4 * math.sqrt(wanted * (1 - wanted) / trials)
    assert wanted * 0.9 - noise < alarms / trials < wanted + noise
    short = np.mean(rng.binomial(runs * families, 0.95, size=trials) < least)
    assert short <= wanted + noise


def test_the_bands_of_the_small_validation_leave_less_than_one_false_alarm_in_a_thousand() -> None:
    """Summed over all comparisons that tests/validation/test_small.py makes, from the exact tails."""
    judged = RUNS * len(FAMILIES)
    allowed = most(judged, SILENT_SHARE, COMPARISONS)
    silent = stats.binom.sf(allowed, judged, 0.01)
    means = len(FAMILIES) * max(
        2 * stats.t.sf(critical_value(n, COMPARISONS), n - 1) for n in range(RUNS - allowed, RUNS + 1)
    )
    intervals = max(
        stats.binom.cdf(least_covered(n, COMPARISONS) - 1, n, 0.95) for n in range(judged - allowed, judged + 1)
    )
    runs = judged + RUNS
    wrong = max(stats.binom.sf(most(n, WRONG_SHARE, COMPARISONS), n, 0.05) for n in range(1, runs + 1))
    assert 0 < allowed < RUNS
    assert silent + means + intervals + wrong <= 1e-3 * (1 + 1e-9)
