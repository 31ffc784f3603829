"""λ̂ with its standard error and 95 % interval: one formula for Markov chains, another for weighted draws."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lambda_hat_cli.estimate import diagnostics
from lambda_hat_cli.estimate.psis import log_sum_exp, psis_smooth

Draws = Float[np.ndarray, "chains draws"]

# Stated as a multiple of the larger of two standard errors; 2.1 instead of 1.96 brings the coverage of runs that
# stop at their tolerance to 95–97 % on problems with exact answers.
WIDTH = 2.1
MIN_DRAWS = 4
ESS_TO_STOP = 400.0
RHAT_TO_STOP = 1.02
K_HAT_TO_ACCEPT, GAP_TO_ACCEPT = 0.5, 0.5
K_HAT_TO_DRAW_ON, GAP_TO_DRAW_ON = 0.7, 1.0
# Up to here a pilot of a few thousand draws has met the weights' tail, and tells how wide the interval will be.
K_HAT_OF_SHORT_TAILS = 0.3
# Below the first the variance of the squared weights is finite, so that a standard error can be read off them; at 1/2
# that of the weights is not. k̂ is too uncertain to follow the factor all the way to infinity.
K_HAT_OF_SURE_ERRORS, K_HAT_OF_LARGEST_FACTOR = 0.25, 0.45
LOST_WEIGHTS = 1e-3


class UnusableTrace(Exception):
    """The draws hold no estimate; the message is the reason, one sentence for a person."""


@dataclass(frozen=True)
class Estimate:
    """λ̂ from Markov chains.

    Attributes:
        llc: mean of tK over all chains and draws. se: its standard error.
        low, high: llc ∓ half_width; half_width = 2.1·se + bias.
        ess_mean, ess_bulk, ess_tail, rhat: of tK, as ArviZ defines them; rhat is NaN with one chain.
        bias: bound on the sampler's own error, in units of λ̂, 0 where it has none.
    """

    llc: float
    se: float
    low: float
    high: float
    half_width: float
    ess_mean: float
    ess_bulk: float
    ess_tail: float
    rhat: float
    bias: float


@dataclass(frozen=True)
class FitEstimate:
    """λ̂ from the independent weighted draws of one fit.

    Attributes:
        llc: Σ w·tK with Pareto-smoothed, normalised weights w. se: √Σ w²(tK − llc)² times `tail_factor`.
        k_hat: tail shape of the weights. gap: log mean exp(log weight) − mean(log weight), nats.
        ess: 1/Σw². variance_ratio: Var[tK]/E[tK] without weights. plain: the unweighted mean, a diagnostic only.
        variance: Σ w·(tK − llc)², and its standard error; slope_se: standard error of llc − variance; both with the
            same factor.
    """

    llc: float
    se: float
    k_hat: float
    gap: float
    ess: float
    variance_ratio: float
    plain: float
    variance: float
    variance_se: float
    slope_se: float


@dataclass(frozen=True)
class WeightedEstimate:
    """λ̂ from the weighted draws of one or more independent fits, each fit counted alike.

    Attributes:
        llc, se, low, high, half_width: of the mean over the fits; half_width = 2.1·se.
        k_hat, gap, variance_ratio: the worst of the fits; ess: the least. plain: the mean of the plain averages.
        fits: the fits one by one.
    """

    llc: float
    se: float
    low: float
    high: float
    half_width: float
    k_hat: float
    gap: float
    ess: float
    variance_ratio: float
    plain: float
    fits: tuple[FitEstimate, ...]


def estimate_markov(llc: Draws, bias: float = 0.0) -> Estimate:
    """λ̂ and its interval from the recorded tK of Markov chains.

    Its standard error is `diagnostics.standard_error`.

    Args:
        llc: tK in nats, float64.
        bias: the sampler's own error in the same units, ≥ 0; it widens the interval on both sides.

    Raises:
        UnusableTrace: for too few draws, non-finite draws, or draws that are all equal.
    """
    check_usable(llc)
    mean = float(np.mean(llc))
    found = diagnostics.diagnose(llc)
    se = diagnostics.standard_error(llc, found.ess_mean)
    half_width = WIDTH * se + bias
    return Estimate(
        llc=mean,
        se=se,
        low=mean - half_width,
        high=mean + half_width,
        half_width=half_width,
        ess_mean=found.ess_mean,
        ess_bulk=found.ess_bulk,
        ess_tail=found.ess_tail,
        rhat=found.rhat,
        bias=bias,
    )


def estimate_weighted(llc: Draws, log_weight: Draws) -> WeightedEstimate:
    """λ̂ and its interval from weighted independent draws; every row is one fit with a proposal of its own.

    Args:
        llc: tK in nats, float64, (fits, draws).
        log_weight: log p − log q up to a constant of the fit, same shape; −∞ is a draw of weight zero.

    Raises:
        UnusableTrace: when more than one draw in a thousand has weight zero, or any other number is not finite.
    """
    fits = tuple(_estimate_fit(*row) for row in zip(llc, log_weight, strict=True))
    mean = float(np.mean([fit.llc for fit in fits]))
    se = float(np.sqrt(np.sum([fit.se**2 for fit in fits])) / len(fits))
    half_width = WIDTH * se
    return WeightedEstimate(
        llc=mean,
        se=se,
        low=mean - half_width,
        high=mean + half_width,
        half_width=half_width,
        k_hat=float(np.max([fit.k_hat for fit in fits])),
        gap=float(np.max([fit.gap for fit in fits])),
        ess=float(np.min([fit.ess for fit in fits])),
        variance_ratio=float(np.max([fit.variance_ratio for fit in fits])),
        plain=float(np.mean([fit.plain for fit in fits])),
        fits=fits,
    )


def may_stop(estimate: Estimate, tolerance: float, scale: float) -> bool:
    """Whether a run may end: every effective sample size ≥ 400, R-hat ≤ 1.02, half width ≤ tolerance·scale.

    `scale` is λ̂ + Δ, the positive number that the tolerance is relative to. Whatever is NaN does not pass.
    """
    return (
        all(size >= ESS_TO_STOP for size in (estimate.ess_mean, estimate.ess_bulk, estimate.ess_tail))
        and estimate.rhat <= RHAT_TO_STOP
        and estimate.half_width <= tolerance * scale
    )


def may_accept(estimate: WeightedEstimate, tolerance: float, scale: float) -> bool:
    """Whether weighted draws need no better proposal: k̂, gap, sample size and half width as a reliable run has them.

    `scale` is λ̂ + Δ. Whatever is NaN does not pass.
    """
    return (
        estimate.k_hat <= K_HAT_TO_ACCEPT
        and estimate.gap <= GAP_TO_ACCEPT
        and estimate.ess >= ESS_TO_STOP
        and estimate.half_width <= tolerance * scale
    )


def draws_needed(pilot: WeightedEstimate, drawn: int, tolerance: float, scale: float) -> float:
    """How many fresh draws of each fit make the interval as narrow as the tolerance, judged by a pilot of `drawn`.

    0 where no number of draws gives a usable number. Infinite where the weights' tail is so long that a few draws hide
    it: the pilot's own width, low whenever its tail was not met, must not decide then. Else twice what that width asks
    for, as it is not known exactly.
    """
    if not (pilot.k_hat <= K_HAT_TO_DRAW_ON and pilot.gap <= GAP_TO_DRAW_ON):
        return 0.0
    if pilot.k_hat > K_HAT_OF_SHORT_TAILS or not scale > 0:
        return float("inf")
    return 2.0 * drawn * (pilot.half_width / (tolerance * scale)) ** 2


def tail_factor(k_hat: float) -> float:
    """What a standard error read off weights of this tail shape is multiplied by, ≥ 1.

    A Pareto tail of shape k has a mean square in proportion to 1/(1 − 2k), to which draws that are seldom made
    contribute most; what was seen of it is typically too little. 1/√(2 − 4k) is that growth from k = 1/4 on, and at
    most where k̂ is unknown.
    """
    within = np.fmax(K_HAT_OF_SURE_ERRORS, np.fmin(k_hat, K_HAT_OF_LARGEST_FACTOR))
    return float(1.0 / np.sqrt(2.0 - 4.0 * within))


def check_usable(llc: Draws) -> None:
    """Refuse draws of which no diagnostic means anything.

    Raises:
        UnusableTrace: for too few draws, non-finite draws, or draws that are all equal.
    """
    if llc.ndim != 2 or llc.shape[0] < 1 or llc.shape[1] < MIN_DRAWS:
        draws = llc.shape[1] if llc.ndim == 2 else 0
        raise UnusableTrace(f"{draws} draws a chain were recorded, at least {MIN_DRAWS} are needed; raise the budget")
    lost = int(np.count_nonzero(~np.isfinite(llc)))
    if lost:
        raise UnusableTrace(
            f"{lost} of {llc.size} draws of tK are not finite; the sampler left the region it can follow"
        )
    if np.ptp(llc) == 0.0:
        raise UnusableTrace(f"every draw of tK is {llc.flat[0]:g}; the chains did not move")


def _estimate_fit(llc: Float[np.ndarray, " draws"], log_weight: Float[np.ndarray, " draws"]) -> FitEstimate:
    zero = np.isneginf(log_weight)
    if np.mean(zero) > LOST_WEIGHTS:
        raise UnusableTrace(
            f"{np.count_nonzero(zero)} of {zero.size} draws have weight zero; the fit reaches far beyond the posterior"
        )
    llc, log_weight = llc[~zero], log_weight[~zero]
    if not np.isfinite(log_weight).all():
        raise UnusableTrace("importance weights are not finite; the fit did not converge")
    check_usable(llc[None, :])
    smoothed, k_hat = psis_smooth(log_weight)
    weight = np.exp(smoothed)
    mean = float(np.sum(weight * llc))
    deviation = (llc - mean) ** 2
    variance = float(np.sum(weight * deviation))
    plain = float(np.mean(llc))
    factor = tail_factor(k_hat)
    return FitEstimate(
        llc=mean,
        se=factor * _weighted_error(weight, llc - mean),
        k_hat=k_hat,
        gap=log_sum_exp(log_weight) - float(np.log(log_weight.size)) - float(np.mean(log_weight)),
        ess=float(1.0 / np.sum(weight**2)),
        variance_ratio=float(np.var(llc, ddof=1)) / plain if plain != 0.0 else float("nan"),
        plain=plain,
        variance=variance,
        variance_se=factor * _weighted_error(weight, deviation - variance),
        slope_se=factor * _weighted_error(weight, llc - mean - deviation + variance),
    )


def _weighted_error(weight: Float[np.ndarray, " draws"], centred: Float[np.ndarray, " draws"]) -> float:
    """Standard error of a self-normalised weighted mean, √Σ w²·(value − mean)² (Owen 2013, eq. 9.8)."""
    return float(np.sqrt(np.sum(weight**2 * centred**2)))
