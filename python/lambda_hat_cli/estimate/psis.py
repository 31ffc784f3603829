"""Pareto-smoothed importance sampling: the weights' upper tail replaced by a fitted one, and its shape k̂."""

import numpy as np
from jaxtyping import Float

LogWeights = Float[np.ndarray, " draws"]


def psis_smooth(log_weights: LogWeights) -> tuple[LogWeights, float]:
    """Smooth the log weights of independent draws (Vehtari et al. 2024, JMLR 25(72), algorithm 1).

    Returns:
        Normalised log weights (their exponentials add to 1) and k̂; k̂ is infinite where the tail has fewer than five
        draws and NaN where no tail can be fitted; the weights are then as given.
    """
    x = np.asarray(log_weights, dtype=np.float64)
    x = x - np.max(x)
    tail_size = int(np.ceil(min(x.size / 5.0, 3.0 * np.sqrt(x.size))))
    cutoff = max(float(np.sort(x)[-tail_size - 1]), float(np.log(np.finfo(np.float64).tiny)))
    (tail,) = np.nonzero(x > cutoff)
    k_hat = np.inf
    if tail.size > 4:
        tail = tail[np.argsort(x[tail])]
        k_hat, scale = _fit_generalised_pareto(np.exp(x[tail]) - np.exp(cutoff))
        if np.isfinite(k_hat):
            probabilities = np.arange(0.5, tail.size) / tail.size
            x[tail] = np.log(_generalised_pareto_quantile(probabilities, k_hat, scale) + np.exp(cutoff))
            x = np.minimum(x, 0.0)
    return x - log_sum_exp(x), float(k_hat)


def log_sum_exp(x: LogWeights) -> float:
    """The logarithm of Σ exp(x) without overflow."""
    largest = np.max(x)
    return float(np.log(np.sum(np.exp(x - largest))) + largest)


def _fit_generalised_pareto(excess: Float[np.ndarray, " tail"]) -> tuple[float, float]:
    """Shape and scale of sorted excesses (Zhang & Stephens 2009), the shape drawn weakly towards 1/2."""
    size = excess.size
    grid_size = 30 + int(np.sqrt(size))
    with np.errstate(all="ignore"):
        b = 1.0 - np.sqrt(grid_size / (np.arange(1, grid_size + 1) - 0.5))
        b = b / (3.0 * excess[int(size / 4 + 0.5) - 1]) + 1.0 / excess[-1]
        shape = np.log1p(-b[:, None] * excess).mean(axis=1)
        likelihood = size * (np.log(-(b / shape)) - shape - 1.0)
        weight = 1.0 / np.exp(likelihood - likelihood[:, None]).sum(axis=1)
        kept = weight >= 10.0 * np.finfo(np.float64).eps
        b_mean = float(np.sum(b[kept] * weight[kept] / weight[kept].sum()))
        k = float(np.log1p(-b_mean * excess).mean())
        scale = -k / b_mean
    return (size * k + 5.0) / (size + 10.0), scale


def _generalised_pareto_quantile(
    probabilities: Float[np.ndarray, " tail"], shape: float, scale: float
) -> Float[np.ndarray, " tail"]:
    if scale <= 0:
        return np.full_like(probabilities, np.nan)
    if abs(shape) < np.finfo(np.float64).eps:
        return -scale * np.log1p(-probabilities)
    return scale * np.expm1(-shape * np.log1p(-probabilities)) / shape
