"""Second estimators from the same draws: Var[tK], which needs no baseline, and dλ̂/d log t = λ̂ − Var[tK].

Var[tK] = E[tK] − dE[tK]/d log t holds exactly for every local posterior (differentiate log ∫ exp(−tK)φ twice in log t),
and E[tK] and Var[tK] have the limit λ in common. Var[tK] is free of L_n(w*): a shift of tK moves λ̂ and leaves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from lambda_hat_cli.estimate.diagnostics import standard_error
from lambda_hat_cli.estimate.interval import WeightedEstimate

Draws = Float[np.ndarray, "chains draws"]


@dataclass(frozen=True)
class SecondEstimate:
    """Var[tK] and dλ̂/d log t with standard errors, in nats; None where the draws do not give it.

    The errors are the sampling's: that of a finite step size is not removed from Var[tK].
    """

    variance: float | None
    variance_se: float | None
    slope: float | None
    slope_se: float | None


NOTHING = SecondEstimate(None, None, None, None)


def second_of_chains(
    llc: Draws, stats: Mapping[str, Shaped[np.ndarray, "chains draws"]], points: bool
) -> SecondEstimate:
    """From Markov chains, to first order in the errors (delta method on the mean and the mean square).

    A spread of few values that comes out too small comes with too small an error. So the errors are at least the
    largest that a Gaussian posterior with this Var[tK] = V can give, at as many independent values as the standard
    error of λ̂ stands for: se·√(2V + 6) of V and se·√(2V + 3) of the difference. (There tK is ½Σeᵢzᵢ² with
    0 ≤ eᵢ ≤ 1, whose cumulants are κ₂ = ½Σeᵢ², κ₃ = Σeᵢ³ and κ₄ = 3Σeᵢ⁴.)

    Args:
        llc: the tK that λ̂ is the mean of.
        stats: `llc_square`, the mean over a draw's steps of (tK)², and `llc_half_step`, the mean of tK over the same
            steps where `llc` is extrapolated.
        points: whether each of `llc` is tK of one point; else it is a mean and its square says nothing of Var[tK].
    """
    level = stats.get("llc_half_step", llc)
    square = llc**2 if points else stats.get("llc_square")
    if square is None or not (np.isfinite(square).all() and np.isfinite(level).all()):
        return NOTHING
    mean = float(np.mean(level))
    deviation = square - 2.0 * mean * level + mean**2
    # The mean of the draws is nearer to them than E[tK] is, by the square of its error.
    se = standard_error(level)
    variance = float(np.mean(deviation)) + se**2
    twice = 2.0 * variance
    return SecondEstimate(
        variance=variance,
        variance_se=max(standard_error(deviation), se * float(np.sqrt(twice + 6.0))),
        slope=float(np.mean(llc)) - variance,
        slope_se=max(standard_error(llc - deviation), se * float(np.sqrt(twice + 3.0))),
    )


def second_of_weighted(estimate: WeightedEstimate) -> SecondEstimate:
    """From importance-weighted draws, the mean over the fits as for λ̂."""
    count = len(estimate.fits)
    variance = float(np.mean([fit.variance for fit in estimate.fits]))
    return SecondEstimate(
        variance=variance,
        variance_se=float(np.sqrt(np.sum([fit.variance_se**2 for fit in estimate.fits])) / count),
        slope=estimate.llc - variance,
        slope_se=float(np.sqrt(np.sum([fit.slope_se**2 for fit in estimate.fits])) / count),
    )
