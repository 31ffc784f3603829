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

# Gauss and Legendre's nodes integrate every polynomial below degree 2·NODES exactly.
NODES = 12
LINES = 8


def baseline_error(posterior: LocalPosterior, ends: Float[Array, "ends d"], ledger: GradientLedger) -> float | None:
    """How far rounding in this dtype may shift λ̂, nats: the mean error of tK over `ends` and twice its standard error.

    Takes at most LINES of `ends` and books the work as phase `baseline`. None where tK is not finite on a line. Losses
    that are not smooth add what the quadrature errs by.
    """
    errors = np.array([_error(posterior, end) for end in ends[:LINES]])
    ledger.add("baseline", errors.size * (NODES + 1))
    size = abs(float(np.mean(errors))) + 2.0 * float(np.std(errors)) / math.sqrt(errors.size)
    return size if math.isfinite(size) else None


def _error(posterior: LocalPosterior, end: Float[Array, " d"]) -> float:
    """tK at `end` less its integral along the line from w*."""
    away = end - posterior.w_star
    direction = np.asarray(away, np.float64)
    localizer = float(posterior.localization) * float(direction @ direction)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    integral = 0.0
    for share, weight in zip((nodes + 1.0) / 2.0, weights / 2.0, strict=True):
        gradient = evaluate(posterior, posterior.w_star + jnp.asarray(share, away.dtype) * away)[2]
        integral += weight * (float(np.asarray(gradient, np.float64) @ direction) - share * localizer)
    return float(evaluate(posterior, end)[1]) - integral
