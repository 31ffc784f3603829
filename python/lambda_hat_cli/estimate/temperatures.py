"""What a list of inverse temperatures tells: the slope on 1/β, whether λ̂ rises, and the multiplicity from λ̂(t).

Every number here comes from runs of one (target, γ, sampler) that differ in β alone, replicates included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import chdtrc, ndtr

from lambda_hat_cli.estimate.interval import WIDTH

Points = Float[np.ndarray, " points"]
Columns = Float[np.ndarray, "data columns"]
Weights = Float[np.ndarray, "data data"]

# What terms beyond those fitted may be of λ̂: with it the intervals cover on crossings whatever the runs' errors.
FORM_ERROR = 0.002
LEAST_TEMPERATURES = 4
MOST_CANDIDATES = 64
# A form is given up where noise alone would fit as badly once in a thousand times.
MISFIT_P = 1e-3
# log t + c at the least t, and the decay rate of a power of t: both unknown, so both range over all that is plausible.
_OFFSETS = np.geomspace(0.5, 500.0, 60)
_RATES = np.geomspace(0.02, 1.0, 24)


@dataclass(frozen=True)
class Temperature:
    """One run's numbers at one t.

    Attributes:
        beta: β. nbeta: t = nβ.
        llc, se: λ̂ and its standard error. bias: bound on the sampler's own error, ≥ 0.
        variance, variance_se, slope_se: Var[tK], its standard error and that of λ̂ − Var[tK]; all None where unknown.
    """

    beta: float
    nbeta: float
    llc: float
    se: float
    bias: float
    variance: float | None
    variance_se: float | None
    slope_se: float | None


@dataclass(frozen=True)
class Regression:
    """The straight line of E[nL_n] against 1/β.

    Attributes:
        llc: its slope, a mean of Var[tK] over these temperatures, which needs no baseline: λ where λ̂ does not depend on
            t. None where it is seen to. se: its standard error.
        low, high: llc ∓ (2.1·se + what the runs' biases can move it by).
        misfit_p: how often noise alone would leave such residuals; None with two runs. Below 1e-3 no line fits, and
            llc, se, low and high are None.
        trend, trend_se: dλ̂/d log t with its standard error, over and within the runs.
        trend_p: how often noise alone would give such a trend or a higher one. Below 1e-3 λ̂ rises, the slope lies below
            it, and llc, se, low and high are None. A w* above a minimum only makes λ̂ fall with t.
    """

    llc: float | None
    se: float | None
    low: float | None
    high: float | None
    misfit_p: float | None
    trend: float
    trend_se: float
    trend_p: float


@dataclass(frozen=True)
class Multiplicity:
    """The whole numbers m that fit λ̂(t).

    Attributes:
        best: the one that fits best.
        low, high: the least and the greatest within the 95 % interval; high is None where even the largest tried fits.
        misfit_p: how often noise alone would leave the residuals of the best; below 1e-3 the form does not hold, and
            low and high are None.
    """

    best: int | None
    low: int | None
    high: int | None
    misfit_p: float


def regression(runs: Sequence[Temperature]) -> Regression | None:
    """The weighted slope of E[nL_n] against 1/β; None with fewer than two temperatures.

    E[nL_n(w)] = nL_n(w*) + λ̂(β)/β, whose first term is the unknown intercept (Watanabe 2013, "A widely applicable
    Bayesian information criterion", corollary 3, for two temperatures).
    """
    if len({run.beta for run in runs}) < 2:
        return None
    x = np.array([1.0 / run.beta for run in runs])
    y, se, bias = (np.array([getattr(run, name) for run in runs]) * x for name in ("llc", "se", "bias"))
    share = _slope_shares(x, se)
    slope, error = float(share @ y), float(np.linalg.norm(share * se))
    half_width = WIDTH * error + float(np.abs(share) @ bias)
    residual = (y - slope * x) / se
    residual -= np.sum(residual / se) / np.sum(1.0 / se**2) / se
    misfit = float(chdtrc(len(runs) - 2, np.sum(residual**2))) if len(runs) > 2 else None
    trend, trend_se = _trend(runs)
    trend_p = float(ndtr(-trend / trend_se))
    if trend_p < MISFIT_P or (misfit is not None and misfit < MISFIT_P):
        return Regression(None, None, None, None, misfit, trend, trend_se, trend_p)
    return Regression(slope, error, slope - half_width, slope + half_width, misfit, trend, trend_se, trend_p)


def _slope_shares(x: Points, se: Points) -> Points:
    """What each value with the standard error `se` adds to the weighted slope over x."""
    weight = 1.0 / se**2
    centred = x - np.sum(weight * x) / np.sum(weight)
    return weight * centred / np.sum(weight * centred**2)


def _trend(runs: Sequence[Temperature]) -> tuple[float, float]:
    """dλ̂/d log t and its standard error: of λ̂ over the runs, and the mean of λ̂ − Var[tK] within them, by their errors.

    Within, runs weigh by the errors of λ̂: those of Var[tK] are small where it came out small. Biases count as errors.
    """
    llc, se, bias = (np.array([getattr(run, name) for run in runs]) for name in ("llc", "se", "bias"))
    errors = np.hypot(se, bias)
    share = _slope_shares(np.log([run.nbeta for run in runs]), errors)
    found = [(float(share @ llc), float(np.linalg.norm(share * errors)))]
    within = [
        (run.llc - run.variance, np.hypot(run.slope_se, run.bias), error)
        for run, error in zip(runs, errors, strict=True)
        if run.variance is not None and run.slope_se is not None
    ]
    if within:
        slopes, spread, error = np.array(within).T
        part = error**-2.0 / np.sum(error**-2.0)
        found.append((float(part @ slopes), float(np.linalg.norm(part * spread))))
    values, spread = np.array(found).T
    weight = spread**-2.0
    return float(np.sum(weight * values) / np.sum(weight)), float(np.sum(weight) ** -0.5)


def mean_error(errors: Sequence[float]) -> float:
    """Standard error of the mean of independent values with these errors."""
    return float(np.linalg.norm(errors)) / len(errors)


def multiplicity(runs: Sequence[Temperature], d: int) -> Multiplicity | None:
    """The multiplicities that λ̂(t) and Var[tK](t) admit; None below four temperatures.

    With u = log t, E[tK] = λ − (m−1)/(u+c) − b·exp(−κu) with c and κ unknown and b ≥ 0: the leading pole of the zeta
    function and the next one. Var[tK] = E[tK] − dE[tK]/du. For every m the constants are fitted by weighted least
    squares, with λ ≤ d/2 as for every model (Watanabe 2009, "Algebraic geometry and statistical learning theory"); an m
    that fits worse than the best by more than 2.1² in χ² is refused. The fit is flexible, so that a few temperatures
    at errors of per cents refuse little: then the interval says so.

    Args:
        runs: of one (target, γ, sampler); biases count as standard errors.
        d: parameters, which bound m.
    """
    if len({run.nbeta for run in runs}) < LEAST_TEMPERATURES:
        return None
    data = _data(runs)
    candidates = range(1, min(d, MOST_CANDIDATES) + 1)
    misfits = [_least_misfit(data, m, d / 2) for m in candidates]
    best = int(np.argmin(misfits))
    misfit_p = float(chdtrc(data.values.size - 3, misfits[best]))
    if misfit_p < MISFIT_P:
        return Multiplicity(None, None, None, misfit_p)
    kept = [m for m, misfit in zip(candidates, misfits, strict=True) if misfit <= misfits[best] + WIDTH**2]
    unbounded = kept[-1] == candidates[-1] < d
    return Multiplicity(candidates[best], kept[0], None if unbounded else kept[-1], misfit_p)


@dataclass(frozen=True)
class _Data:
    """The numbers to be fitted, scaled to unit errors by `root`, a root of their inverse covariance.

    Attributes:
        values: λ̂ and, where known, Var[tK] of each run, scaled. ones: the scaled column of λ.
        u: log t less its least. with_slope: 1 for Var[tK], 0 for λ̂. Both unscaled.
    """

    values: Points
    ones: Points
    u: Points
    with_slope: Points
    root: Weights


def _data(runs: Sequence[Temperature]) -> _Data:
    """λ̂ and Var[tK] of one run come from the same draws; how they vary together the error of their difference tells."""
    values, u, with_slope, roots = [], [], [], []
    first = min(np.log(run.nbeta) for run in runs)
    for run in runs:
        error = _error(run.se, run.bias, run.llc)
        found, covariance = [run.llc], np.array([[error**2]])
        if run.variance is not None and run.variance_se is not None and run.slope_se is not None:
            second = _error(run.variance_se, run.bias, run.llc)
            shared = (run.se**2 + run.variance_se**2 - run.slope_se**2) / (2.0 * run.se * run.variance_se)
            product = float(np.clip(shared, -0.95, 0.95)) * error * second
            found, covariance = [run.llc, run.variance], np.array([[error**2, product], [product, second**2]])
        values += found
        u += [float(np.log(run.nbeta) - first)] * len(found)
        with_slope += [0.0, 1.0][: len(found)]
        roots.append(np.linalg.inv(np.linalg.cholesky(covariance)))
    root = _block_diagonal(roots)
    return _Data(root @ np.array(values), root @ np.ones(len(values)), np.array(u), np.array(with_slope), root)


def _error(se: float, bias: float, llc: float) -> float:
    return float(np.sqrt(se**2 + bias**2 + (FORM_ERROR * llc) ** 2))


def _block_diagonal(blocks: Sequence[Weights]) -> Weights:
    size, at = sum(len(block) for block in blocks), 0
    whole = np.zeros((size, size))
    for block in blocks:
        whole[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return whole


def _least_misfit(data: _Data, m: int, most: float) -> float:
    """The least χ² of λ − (m−1)/(u+c) − b·exp(−κu) over c, κ, b ≥ 0 and λ ≤ most."""
    offsets, rates = (grid.ravel() for grid in np.meshgrid(_OFFSETS if m > 1 else _OFFSETS[:1], _RATES))
    v = data.u[:, None] + offsets
    slope = data.with_slope[:, None]
    rest = data.values[:, None] + (m - 1) * (data.root @ (1.0 / v + slope / v**2))
    ones = np.broadcast_to(data.ones[:, None], rest.shape)
    decay = data.root @ (np.exp(-rates * data.u[:, None]) * (1.0 + rates * slope))
    # With b free, what is left beside `decay` decides on λ; where that makes b negative, b = 0 is the best.
    length = np.sum(decay**2, axis=0)
    rest_left, ones_left = (x - decay * (np.sum(x * decay, axis=0) / length) for x in (rest, ones))
    limit = _limit(rest_left, ones_left, most)
    allowed = np.sum((limit * ones - rest) * decay, axis=0) >= 0
    free = np.sum((rest_left - limit * ones_left) ** 2, axis=0)
    without = np.sum((rest - _limit(rest, ones, most) * ones) ** 2, axis=0)
    return float(np.min(np.where(allowed, free, without)))


def _limit(rest: Columns, ones: Columns, most: float) -> Points:
    """The λ ≤ most of least squares, column by column."""
    return np.minimum(np.sum(ones * rest, axis=0) / np.sum(ones**2, axis=0), most)
