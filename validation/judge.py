"""The statistics of every claim about the samplers: finished runs in, a judgement with its numbers out; no files.

Each claim is an exact test or a band from the Monte-Carlo error of both sides, so that a false alarm has a known
probability.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import stats

LEAST_ERROR = 0.01
WRONG_SHARE, WRONG_ALPHA = 0.05, 0.01
SILENT_SHARE = 0.01
NOMINAL_COVERAGE, COVERAGE_ALPHA = 0.95, 0.001
FALSE_ALARM = 1e-3


@dataclass(frozen=True)
class Outcome:
    """One planned run as the claims see it; None is unknown, as everything is of a run that failed.

    Attributes:
        verdict: None where the run failed or is missing.
        status: how sampling ended, `completed` where it stopped at its tolerance; None where the run failed.
        llc, low, high: λ̂ and its 95 % interval in nats, None where the verdict is `invalid`.
        reference, reference_se: E[tK] at the run's (n, β, γ) and its standard error (0 where exact).
        limit: λ.
        tolerance: the relative half-width that the run was to reach.
        claimed: the error that the analysis states, in units of λ̂.
        gradients: full-data gradient equivalents, all phases and chains.
    """

    target: str
    sampler: str
    verdict: Literal["reliable", "uncertain", "invalid"] | None = None
    status: str | None = None
    minimum: Literal["at_minimum", "above_minimum"] | None = None
    llc: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    reference_se: float = 0.0
    limit: float | None = None
    tolerance: float = math.nan
    claimed: float | None = None
    gradients: float | None = None

    @property
    def error(self) -> float | None:
        """(λ̂ − reference)/reference."""
        if self.llc is None or not self.reference:
            return None
        return (self.llc - self.reference) / self.reference

    @property
    def covered(self) -> bool | None:
        """Whether the interval holds the reference."""
        if self.low is None or self.high is None or self.reference is None:
            return None
        return self.low <= self.reference <= self.high

    @property
    def accepted(self) -> bool:
        """Offered as an estimate of λ: reliable, and at a minimum."""
        return self.verdict == "reliable" and self.minimum == "at_minimum"

    @property
    def wrong(self) -> bool | None:
        """Further from the reference than the tolerance."""
        return None if self.error is None else abs(self.error) > self.tolerance


@dataclass(frozen=True)
class MeanError:
    """The mean of independent runs against a reference, relative to the reference.

    Attributes:
        allowed: max(1 %, 3 standard errors of both sides).
    """

    runs: int
    mean: float
    se: float
    error: float
    allowed: float

    @property
    def within(self) -> bool:
        """Whether the claim holds."""
        return abs(self.error) <= self.allowed


def mean_error(values: Sequence[float], reference: float, reference_se: float) -> MeanError | None:
    """The mean's relative error and what is allowed of it; None of fewer than two runs."""
    if len(values) < 2:
        return None
    mean, se = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    allowed = max(LEAST_ERROR, 3 * math.hypot(se, reference_se) / reference)
    return MeanError(len(values), mean, se, (mean - reference) / reference, allowed)


@dataclass(frozen=True)
class Share:
    """`hits` of `runs`, and the exact binomial test's p against the share that is claimed."""

    hits: int
    runs: int
    p: float
    alpha: float

    @property
    def value(self) -> float | None:
        """The share, None of no runs."""
        return self.hits / self.runs if self.runs else None

    @property
    def rejected(self) -> bool:
        """Whether the claim is refuted."""
        return self.p < self.alpha


def wrong_share(outcomes: Iterable[Outcome]) -> Share:
    """Reliable runs beyond tolerance, against the 5 % that there may be."""
    wrong = [outcome.wrong for outcome in outcomes if outcome.verdict == "reliable" and outcome.wrong is not None]
    return wrong_among(sum(wrong), len(wrong))


def wrong_among(hits: int, runs: int) -> Share:
    """`hits` wrong of `runs` reliable ones: rejects where more than 5 % is likely (one-sided, p < .01)."""
    p = float(stats.binom.sf(hits - 1, runs, WRONG_SHARE)) if runs else 1.0
    return Share(hits, runs, p, WRONG_ALPHA)


def coverage(outcomes: Iterable[Outcome]) -> Share:
    """Intervals that hold the reference: rejects where 95 % is unlikely (two-sided, p < .001).

    Every run that gives an interval counts, whatever its verdict.
    """
    inside = [outcome.covered for outcome in outcomes if outcome.covered is not None]
    hits = sum(inside)
    p = float(stats.binomtest(hits, len(inside), NOMINAL_COVERAGE).pvalue) if inside else 1.0
    return Share(hits, len(inside), p, COVERAGE_ALPHA)


@dataclass(frozen=True)
class Order:
    """Pairs of estimates whose exact λ differ.

    Attributes:
        right, judged: pairs whose λ̂ are in the order of λ, of those that have both numbers.
        silent: pairs of which one or both have no number.
        preserved, reversed, overlapping: intervals that are disjoint and in the order of λ, or against it, or overlap.
    """

    right: int
    judged: int
    silent: int
    preserved: int
    reversed: int
    overlapping: int

    @property
    def disjoint(self) -> int:
        """Pairs whose intervals do not overlap."""
        return self.preserved + self.reversed

    @property
    def share(self) -> float | None:
        """Preserved among the disjoint ones."""
        return self.preserved / self.disjoint if self.disjoint else None


def order(outcomes: Iterable[Outcome]) -> Order:
    """Every pair of runs whose exact λ differ."""
    known = sorted(((o.limit, o) for o in outcomes if o.limit is not None), key=lambda pair: pair[0])
    right = judged = silent = preserved = reversed_ = overlapping = 0
    for (limit, small), (larger, large) in combinations(known, 2):
        if limit == larger:
            continue
        if small.llc is None or large.llc is None:
            silent += 1
            continue
        judged += 1
        right += small.llc < large.llc
        if small.low is None or small.high is None or large.low is None or large.high is None:
            continue
        preserved += small.high < large.low
        reversed_ += large.high < small.low
        overlapping += large.low <= small.high and small.low <= large.high
    return Order(right, judged, silent, preserved, reversed_, overlapping)


@dataclass(frozen=True)
class Claims:
    """Error claimed (the analysis's stated error) against error made, over runs where both are known.

    Attributes:
        held: runs whose error is at most what they claimed.
        claimed, made: median relative sizes.
    """

    runs: int
    held: int
    claimed: float | None
    made: float | None


def claims(outcomes: Iterable[Outcome]) -> Claims:
    """How the stated error compares with the true one; nothing is taken off for the reference's own."""
    pairs = [
        (outcome.claimed / abs(outcome.reference), abs(outcome.error))
        for outcome in outcomes
        if outcome.claimed is not None and outcome.error is not None and outcome.reference
    ]
    if not pairs:
        return Claims(0, 0, None, None)
    claimed, made = (float(np.median(column)) for column in zip(*pairs, strict=True))
    return Claims(len(pairs), sum(made <= claimed for claimed, made in pairs), claimed, made)


@dataclass(frozen=True)
class Band:
    """What a small validation allows of one family's mean: |mean − reference| ≤ allowance·reference + critical·se."""

    error: float
    width: float

    @property
    def within(self) -> bool:
        """Whether the family stays in its band."""
        return abs(self.error) <= self.width


def critical_value(runs: int, comparisons: int, false_alarm: float = FALSE_ALARM) -> float:
    """Student's two-sided quantile that `comparisons` means of `runs` normal values all keep with 1 − false_alarm.

    The union bound: each comparison may raise a false alarm with probability false_alarm/comparisons.
    """
    return float(stats.t.isf(false_alarm / comparisons / 2, runs - 1))


def band(values: Sequence[float], reference: float, reference_se: float, allowance: float, critical: float) -> Band:
    """The relative error of a mean and the relative width of its band.

    Args:
        values: λ̂ of independent runs.
        reference: E[tK]; reference_se its standard error.
        allowance: the relative bias that the sampler's design leaves, 0 for none.
        critical: from critical_value.
    """
    se = math.hypot(float(np.std(values, ddof=1)) / math.sqrt(len(values)), reference_se)
    return Band((float(np.mean(values)) - reference) / reference, allowance + critical * se / reference)


def least_covered(runs: int, comparisons: int, false_alarm: float = FALSE_ALARM) -> int:
    """The least number of `runs` intervals that must hold the reference.

    Fewer happen with probability below false_alarm/comparisons where each interval holds it with probability .95.
    """
    return int(stats.binom.ppf(false_alarm / comparisons, runs, NOMINAL_COVERAGE))


def most(runs: int, share: float, comparisons: int, false_alarm: float = FALSE_ALARM) -> int:
    """The most of `runs` that may go astray, where each does with probability `share`.

    More do with probability at most false_alarm/comparisons.
    """
    return int(stats.binom.isf(false_alarm / comparisons, runs, share))
