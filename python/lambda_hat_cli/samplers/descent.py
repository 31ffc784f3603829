"""A short descent on U from w* tells whether w* is a minimum, and by how many nats it is not."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from lambda_hat_cli.artifacts.run import Descent
from lambda_hat_cli.posterior.local import LocalPosterior, evaluate
from lambda_hat_cli.samplers.base import GradientLedger

MAX_ITERATIONS = 60
HISTORY = 10


def descend(posterior: LocalPosterior, ledger: GradientLedger) -> Descent | None:
    """L-BFGS on U from w*, booked as phase `descent`; None where U is not finite at w*.

    δ is the largest drop of U below U(w*) = 0 at any point visited, so that rounding never makes it negative
    (L-BFGS-B: Byrd, Lu, Nocedal and Zhu 1995).
    """
    w_star = np.asarray(posterior.w_star, np.float64)
    dtype = posterior.w_star.dtype
    gradient_norms: list[float] = []
    best = 0.0
    best_distance = 0.0

    def objective(w: Float[np.ndarray, " d"]) -> tuple[float, Float[np.ndarray, " d"]]:
        nonlocal best, best_distance
        value, _, gradient = evaluate(posterior, jnp.asarray(w, dtype))
        ledger.add("descent", 1)
        slope = np.asarray(gradient, np.float64)
        gradient_norms.append(float(np.linalg.norm(slope)))
        if float(value) < best:
            best, best_distance = float(value), float(np.linalg.norm(w - w_star))
        return float(value), slope

    if not np.isfinite(objective(w_star)[1]).all():
        return None
    found = minimize(
        objective, w_star, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS, "maxcor": HISTORY}
    )
    return Descent(
        delta=max(0.0, -best), gradient_norm=gradient_norms[0], iterations=int(found.nit), distance=best_distance
    )
