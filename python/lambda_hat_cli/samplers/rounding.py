"""What rounding does to tK: its value at the last draws against the same number from gradients.

Along the line from w* to w, tK(w) = ∫₀¹ ∇tK(w* + s(w−w*))·(w−w*) ds. Gradients do not see how large the losses are, so
that the difference is the rounding of L_n(w) − L_n(w*), also where every datum is rounded the same way.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import GradientLedger
from lambda_hat_cli.samplers.chains import over_chains

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
    values = np.asarray(_values(posterior, ends), np.float64)
    ledger.add("baseline", len(values))
    panels, before = 1, None
    while True:
        integrals = _integrals(posterior, ends, panels)
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


def _integrals(posterior: LocalPosterior, ends: Float[Array, "ends d"], panels: int) -> Float[np.ndarray, " ends"]:
    """tK at `ends` from gradients along the lines from w*, each cut into equal panels of NODES nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total = np.zeros(len(ends))
    for panel in range(panels):
        shares = (panel + (nodes + 1.0) / 2.0) / panels
        slopes = np.asarray(_slopes(posterior, ends, jnp.asarray(shares, ends.dtype)), np.float64)
        total += slopes @ weights
    return total / (2.0 * panels)


@jax.jit
def _values(posterior: LocalPosterior, ends: Float[Array, "ends d"]) -> Float[Array, " ends"]:
    """tK at `ends`, as the samplers compute it."""
    return over_chains(posterior)(lambda end: posterior.value_and_grad(end)[1])(ends)


@jax.jit
def _slopes(
    posterior: LocalPosterior, ends: Float[Array, "ends d"], shares: Float[Array, " nodes"]
) -> Float[Array, "ends nodes"]:
    """(w−w*)·∇tK at these shares of the way from w* to each of `ends`."""

    def along(end: Float[Array, " d"]) -> Float[Array, " nodes"]:
        away = end - posterior.w_star

        def slope(share: Float[Array, ""]) -> Float[Array, ""]:
            gradient = posterior.gradient(posterior.w_star + share * away)
            return jnp.vdot(gradient - posterior.localization * share * away, away)

        return lax.map(slope, shares)

    return over_chains(posterior)(along)(ends)
