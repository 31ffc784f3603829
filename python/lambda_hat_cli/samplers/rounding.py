"""What rounding does to tK: its value at the last draws against the same number from gradients.

Along the line from w* to w, tK(w) = ∫₀¹ ∇tK(w* + s(w−w*))·(w−w*) ds. Gradients do not see how large the losses are, so
that the difference is the rounding of L_n(w) − L_n(w*), also where every datum is rounded the same way.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat_cli.posterior.local import LocalPosterior, evaluate
from lambda_hat_cli.samplers.base import GradientLedger

# Gauss and Legendre's nodes on [0, 1] integrate every polynomial below degree 2·NODES exactly.
NODES = 12
MOST_PANELS = 16
LINES = 8
SMALL = 2e-4
"""Of tK: less than this a verdict does not ask about, be it rounding or what is left of the integral."""


def baseline_error(posterior: LocalPosterior, ends: Float[Array, "ends d"], ledger: GradientLedger) -> float | None:
    """How far rounding in this dtype may shift λ̂, nats: the mean error of tK over `ends` and twice its standard error.

    Takes at most LINES of `ends` and books the work as phase `baseline`. The lines are cut into more panels until the
    error is small or the integral does not change by half of it any more; where it still does, as along the many kinks
    of a ReLU network, the rounding is not resolved.

    Returns:
        None where the rounding is not resolved or tK is not finite on a line.
    """
    ends = ends[:LINES]
    values = np.array([float(evaluate(posterior, end)[1]) for end in ends])
    ledger.add("baseline", len(values))
    panels, before = 1, None
    while True:
        integrals = np.array([_integral(posterior, end, panels) for end in ends])
        ledger.add("baseline", len(values) * panels * NODES)
        size = _size(values - integrals)
        if not math.isfinite(size):
            return None
        if size <= SMALL * abs(float(np.mean(values))):
            return size
        if before is not None and _size(integrals - before) <= 0.5 * size:
            return size
        if panels == MOST_PANELS:
            return None
        panels, before = 2 * panels, integrals


def _size(errors: Float[np.ndarray, " ends"]) -> float:
    """The mean's size and twice its standard error."""
    return abs(float(np.mean(errors))) + 2.0 * float(np.std(errors)) / math.sqrt(errors.size)


def _integral(posterior: LocalPosterior, end: Float[Array, " d"], panels: int) -> float:
    """tK at `end` from gradients along the line from w*, cut into equal panels of NODES nodes."""
    away = end - posterior.w_star
    direction = np.asarray(away, np.float64)
    localizer = float(posterior.localization) * float(direction @ direction)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    shares = (np.arange(panels)[:, None] + (nodes + 1.0) / 2.0) / panels
    slopes = np.empty(shares.shape)
    for index, share in np.ndenumerate(shares):
        gradient = evaluate(posterior, posterior.w_star + jnp.asarray(share, away.dtype) * away)[2]
        slopes[index] = float(np.asarray(gradient, np.float64) @ direction) - share * localizer
    return float(np.sum(slopes @ weights)) / (2.0 * panels)
