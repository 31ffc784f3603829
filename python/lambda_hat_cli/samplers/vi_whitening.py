"""Coordinates in which the posterior near w* looks like N(0, I): w = w* + S z from the curvature at w*."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import GradientLedger

FULL_UP_TO = 1000
"""`auto` takes the whole Hessian up to this d: d Hessian-vector products and one eigendecomposition."""
PROBES = 64
"""Random signs for the diagonal of a Hessian that is too large to be made column by column."""
FULL_SHARE = 0.25
"""`auto` spends at most this part of the gradient budget on the whole Hessian."""
FLOOR = 1e-6
"""Curvatures below this part of the largest count as this: float32 does not resolve them."""


class Whitening(eqx.Module):
    """w = w* + S z.

    Attributes:
        matrix: S, (d, d), or its diagonal, (d,).
        log_determinant: log |det S|, float64 on the host.
    """

    matrix: Float[Array, "d d"] | Float[Array, " d"]
    log_determinant: Float[np.ndarray, ""]

    def offset(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """S z."""
        return self.matrix @ z if self.matrix.ndim == 2 else self.matrix * z

    def pull_back(self, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
        """Sᵀ g: a gradient over w as one over z."""
        return gradient @ self.matrix if self.matrix.ndim == 2 else self.matrix * gradient


def whiten(
    posterior: LocalPosterior,
    kind: Literal["auto", "full", "diagonal"],
    key: PRNGKeyArray,
    ledger: GradientLedger,
) -> tuple[Whitening, float]:
    """S = V·diag(|e|^(−1/2)) of ∇²U(w*) = V·diag(e)·Vᵀ, or from its diagonal alone.

    Any invertible S is valid; a good one makes the fit short. Negative curvatures, which a w* beside a minimum has,
    count by their size.

    Returns:
        S, and the largest curvature that it is made of.
    """
    d = posterior.d
    exact_fits = d <= FULL_UP_TO and 2 * d <= FULL_SHARE * ledger.left
    if kind == "full" or exact_fits:
        hessian = np.asarray(_columns(posterior, jnp.eye(d, dtype=posterior.w_star.dtype)), np.float64)
        ledger.add("whitening", 2 * d)
        # The decomposition refuses what is not finite; the diagonal then carries it to the caller.
        if kind != "diagonal" and np.isfinite(hessian).all():
            return _scaled(posterior, *np.linalg.eigh(0.5 * (hessian + hessian.T)))
        return _scaled(posterior, np.diagonal(hessian), None)
    signs = jax.random.rademacher(key, (PROBES, d), posterior.w_star.dtype)
    products = np.asarray(signs, np.float64) * np.asarray(_columns(posterior, signs), np.float64)
    ledger.add("whitening", 2 * PROBES)
    return _scaled(posterior, products.mean(axis=0), None)


@eqx.filter_jit
def _columns(posterior: LocalPosterior, vectors: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """∇²U(w*)·v for every row v."""
    return jax.lax.map(lambda vector: posterior.hessian_vector(posterior.w_star, vector), vectors, batch_size=8)


def _scaled(
    posterior: LocalPosterior, curvatures: Float[np.ndarray, " d"], vectors: Float[np.ndarray, "d d"] | None
) -> tuple[Whitening, float]:
    size = np.abs(curvatures)
    largest = float(np.max(size))
    size = np.maximum(size, max(float(posterior.localization), FLOOR * largest))
    scale = 1 / np.sqrt(size)
    matrix = scale if vectors is None else vectors * scale
    dtype = posterior.w_star.dtype
    return Whitening(jnp.asarray(matrix, dtype), np.asarray(np.sum(np.log(scale)))), largest
