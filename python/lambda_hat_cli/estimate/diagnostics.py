"""Effective sample sizes, R-hat and Monte-Carlo errors of chains, in NumPy; equal to ArviZ's, quicker to import."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft
from scipy.special import ndtri

Draws = Float[np.ndarray, "chains draws"]

_MIN_DRAWS = 4
_BATCHES = 4


@dataclass(frozen=True)
class Diagnostics:
    """What `ess_mean`, `ess_bulk`, `ess_tail` and `rhat_rank` return for the same draws."""

    ess_mean: float
    ess_bulk: float
    ess_tail: float
    rhat: float


def diagnose(x: Draws) -> Diagnostics:
    """All four at once, ranking the draws once: what a check costs while a run goes on."""
    if not _usable(x):
        return Diagnostics(np.nan, np.nan, np.nan, np.nan)
    split = _split(x)
    scores = _rank_normalised(split)
    return Diagnostics(
        ess_mean=_ess(split),
        ess_bulk=_ess(scores),
        ess_tail=ess_tail(x),
        rhat=_rhat_of_scores(split, scores) if x.shape[0] > 1 else np.nan,
    )


def ess_mean(x: Draws) -> float:
    """Effective sample size for the mean: split chains, no rank normalisation. NaN below 4 draws or with a NaN.

    Vehtari et al. 2021 (Bayesian Analysis 16:667), eq. 10-13, with Geyer's initial monotone sequence.
    """
    if not _usable(x):
        return np.nan
    return _ess(_split(x))


def ess_bulk(x: Draws) -> float:
    """Effective sample size of the rank-normalised split chains (Vehtari et al. 2021, eq. 14)."""
    if not _usable(x):
        return np.nan
    return _ess(_rank_normalised(_split(x)))


def ess_tail(x: Draws) -> float:
    """The smaller effective sample size of the 5 % and 95 % quantiles' indicators (Vehtari et al. 2021, 4.3)."""
    if not _usable(x):
        return np.nan
    low, high = _quantiles(x, (0.05, 0.95))
    return min(_ess(_split(x <= low)), _ess(_split(x <= high)))


def rhat_rank(x: Draws) -> float:
    """Rank-normalised split R-hat, the larger of bulk and folded (Vehtari et al. 2021). NaN below two chains."""
    if not _usable(x) or x.shape[0] < 2:
        return np.nan
    split = _split(x)
    return _rhat_of_scores(split, _rank_normalised(split))


def piece_means_se(x: Draws, pieces: int) -> float:
    """Standard error of the mean from the means of equal, consecutive pieces of every chain.

    Draws that do not fill a piece are left out at the beginning. NaN with fewer draws than pieces, or a single piece.
    """
    chains, draws = x.shape
    length = draws // pieces
    if length == 0 or chains * pieces < 2:
        return np.nan
    means = x[:, draws - length * pieces :].reshape(chains * pieces, length).mean(axis=1)
    return float(np.std(means, ddof=1) / np.sqrt(means.size))


def standard_error(x: Draws, ess: float | None = None) -> float:
    """The largest of sd/√ESS_mean and the errors from four batch means a chain and from the means of whole chains.

    Batches see slow drifts that autocorrelations miss. Whole chains see where each of them stays all the while, such as
    its place along flat directions: batches show a part of that, the effective sample size hardly any.

    Args:
        x: draws in any unit, which is the error's.
        ess: `ess_mean(x)` where it is known already.
    """
    if not _usable(x):
        return np.nan
    by_ess = np.std(x, ddof=1) / np.sqrt(ess_mean(x) if ess is None else ess)
    return float(np.max([by_ess, piece_means_se(x, 1), piece_means_se(x, _BATCHES)]))


def virial_mean(virial: Draws) -> tuple[float, float]:
    """Mean of (w−w*)·∇U/d, 1 in equilibrium for every sampler, and its standard error."""
    return float(np.mean(virial)), standard_error(virial)


def virial_bound(tolerance: float) -> float:
    """How far from 1 the virial of unadjusted chains may be, and its standard error, to be relied on."""
    return min(tolerance, 0.1)


def autocovariance(x: Draws) -> Draws:
    """Biased autocovariance of every chain at all lags, by zero-padded FFT."""
    draws = x.shape[1]
    return fft.irfft(_power(x), n=_padded(draws), axis=1)[:, :draws] / draws


def average_ranks(x: Draws) -> Draws:
    """Ranks from 1 over all chains together; ties share their mean rank."""
    flat = x.ravel()
    order = np.argsort(flat)
    ordered = flat[order]
    first = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    last = np.append(first[1:], flat.size)
    ranks = np.empty(flat.size)
    ranks[order] = np.repeat((first + last + 1) / 2.0, last - first)
    return ranks.reshape(x.shape)


def _usable(x: Draws) -> bool:
    return x.shape[1] >= _MIN_DRAWS and not bool(np.isnan(x).any())


def _split(x: Draws | Bool[np.ndarray, "chains draws"]) -> Draws:
    """Halves of the chains, stacked; the middle draw of an odd length is in neither."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]]).astype(np.float64)


def _rank_normalised(x: Draws) -> Draws:
    """Normal scores of the average ranks with Blom's offset 3/8."""
    return ndtri((average_ranks(x) - 3 / 8) / (x.size + 1 / 4))


def _quantiles(x: Draws, probabilities: tuple[float, ...]) -> list[float]:
    """Linear (type 7) quantiles; written out, since another rounding would move ties across `<=`."""
    ordered = np.sort(x, axis=None)
    found = []
    for probability in probabilities:
        position = ordered.size * probability + 1.0 - probability
        below = int(np.clip(np.floor(position), 1, ordered.size - 1))
        share = min(max(position - below, 0.0), 1.0)
        found.append(float((1.0 - share) * ordered[below - 1] + share * ordered[below]))
    return found


def _rhat_of_scores(split: Draws, scores: Draws) -> float:
    """The larger of bulk and folded R-hat, from the split draws and their normal scores."""
    folded = np.abs(split - np.median(split))
    return max(_rhat(scores), _rhat(_rank_normalised(folded)))


def _rhat(x: Draws) -> float:
    """√((B/W + n − 1)/n) of Gelman and Rubin; infinite where the chains are constant and differ."""
    draws = x.shape[1]
    between = draws * np.var(x.mean(axis=1), ddof=1)
    within = np.mean(np.var(x, axis=1, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt((between / within + draws - 1) / draws))


def _ess(x: Draws) -> float:
    """Effective sample size by Geyer's initial positive and monotone sequences of autocorrelation pairs.

    A series that never changes (an indicator of an extreme quantile) counts in full, as in ArviZ.
    """
    chains, draws = x.shape
    if np.max(x) - np.min(x) < 1e-15:
        return float(x.size)
    # The mean over chains before the transform back: one inverse for all chains.
    covariance = fft.irfft(_power(x).mean(axis=0), n=_padded(draws))[:draws] / draws
    mean_variance = covariance[0] * draws / (draws - 1.0)
    variance_plus = covariance[0]
    if chains > 1:
        variance_plus = variance_plus + np.var(x.mean(axis=1), ddof=1)
    rho = 1.0 - (mean_variance - covariance) / variance_plus
    rho[0] = 1.0

    # Pairs (0,1), (2,3), …; the last that is looked at begins below draws − 2.
    pair_count = max(1, (draws - 1) // 2)
    pairs = rho[0 : 2 * pair_count : 2] + rho[1 : 2 * pair_count : 2]
    stops = np.flatnonzero(pairs <= 0.0)
    last = int(stops[0]) if stops.size else pair_count - 1
    final_even = rho[2 * last] if rho[2 * last] > 0 or pairs[last] >= 0 else 0.0
    tau = -1.0 + 2.0 * np.minimum.accumulate(pairs[:last]).sum() + final_even
    size = chains * draws
    return float(size / max(tau, 1.0 / np.log10(size)))


def _padded(draws: int) -> int:
    """A quick length of FFT at which no lag wraps around."""
    return int(fft.next_fast_len(2 * draws, real=True))


def _power(x: Draws) -> Float[np.ndarray, "chains frequencies"]:
    """Squared modulus of the zero-padded spectrum of every centred chain."""
    spectrum = fft.rfft(x - x.mean(axis=1, keepdims=True), n=_padded(x.shape[1]), axis=1)
    return spectrum.real**2 + spectrum.imag**2
