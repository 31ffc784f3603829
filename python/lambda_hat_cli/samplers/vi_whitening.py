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
ROUNDS = 10
"""Corrections of the scales by the curvature along the spread that they give."""
POINTS = 32
"""Random points at which each round takes the mean curvature."""
SHARE = 0.25
"""The whole Hessian, and the rounds, are each made only where they cost at most this part of the gradients left."""
OVERFLOWN = 1e4
"""What every curvature is multiplied by where the spread overflows."""
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
    """S = V·diag(s): the eigenvectors V of ∇²U(w*) with scales s that fit the spread they give, or V = I and s at w*.

    Along eigenvectors the scales solve s_i⁻² = E[(Vᵀ·∇²U(w* + S z)·V)_ii] over z ~ N(0, I), which holds for the
    Gaussian of these axes that is nearest to the posterior (Opper and Archambeau 2009, "The variational Gaussian
    approximation revisited").
    On a quadratic these are the curvatures at w*. At a singular w* those say nothing of flat directions: taken as
    wide as the localization lets them be, products of several of them would cost thousands of nats. Along the axes
    themselves the scales are those at w*: there the same rounds made fits worse.

    Any invertible S is valid; a good one makes the fit short. Negative curvatures, which a w* beside a minimum has,
    count by their size.

    Returns:
        S, and the largest curvature at w* along the axes.
    """
    d = posterior.d
    probe_key, relax_key = jax.random.split(key)
    vectors = None
    if kind == "full" or (d <= FULL_UP_TO and 2 * d <= SHARE * ledger.left):
        hessian = np.asarray(_columns(posterior, jnp.eye(d, dtype=posterior.w_star.dtype)), np.float64)
        ledger.add("whitening", 2 * d)
        # The decomposition refuses what is not finite; the diagonal then carries it to the caller.
        if kind != "diagonal" and np.isfinite(hessian).all():
            curvatures, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
        else:
            curvatures = np.diagonal(hessian)
    else:
        signs = jax.random.rademacher(probe_key, (PROBES, d), posterior.w_star.dtype)
        products = np.asarray(signs, np.float64) * np.asarray(_columns(posterior, signs), np.float64)
        ledger.add("whitening", 2 * PROBES)
        curvatures = products.mean(axis=0)
    size = np.abs(curvatures)
    largest = float(np.max(size))
    least = max(float(posterior.localization), FLOOR * largest)
    precision = np.maximum(size, least)
    if (
        vectors is not None
        and least > 0
        and np.isfinite(precision).all()
        and ledger.left * SHARE >= 2 * ROUNDS * POINTS
    ):
        precision = _relaxed(posterior, vectors, precision, least, relax_key)
        ledger.add("whitening", 2 * ROUNDS * POINTS)
    scale = 1 / np.sqrt(precision)
    matrix = scale if vectors is None else vectors * scale
    return Whitening(jnp.asarray(matrix, posterior.w_star.dtype), np.asarray(np.sum(np.log(scale)))), largest


@eqx.filter_jit
def _columns(posterior: LocalPosterior, vectors: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """∇²U(w*)·v for every row v."""
    return jax.lax.map(lambda vector: posterior.hessian_vector(posterior.w_star, vector), vectors, batch_size=8)


def _relaxed(
    posterior: LocalPosterior,
    vectors: Float[np.ndarray, "d d"],
    precision: Float[np.ndarray, " d"],
    least: float,
    key: PRNGKeyArray,
) -> Float[np.ndarray, " d"]:
    """The mean curvature along the spread that it gives, from `precision` in ROUNDS rounds.

    Each round goes half the way, in the logarithm, because a direction that is flat at w* is steep where the others
    are wide: whole steps would overshoot from too wide to too narrow and back. The last half of the rounds is averaged.
    """
    dtype = posterior.w_star.dtype
    axes = jnp.asarray(vectors, dtype)
    means = []
    for round_key in jax.random.split(key, ROUNDS):
        scale = jnp.asarray(1 / np.sqrt(precision), dtype)
        mean = np.asarray(_mean_curvatures(posterior, axes, scale, round_key), np.float64)
        # Where the spread reaches beyond the floating-point range, every direction is taken to be far too wide.
        means.append(np.where(np.isfinite(mean), mean, OVERFLOWN * precision))
        precision = np.sqrt(precision * np.maximum(means[-1], least))
    return np.maximum(np.mean(means[ROUNDS // 2 :], axis=0), least)


@eqx.filter_jit
def _mean_curvatures(
    posterior: LocalPosterior, axes: Float[Array, "d d"], scale: Float[Array, " d"], key: PRNGKeyArray
) -> Float[Array, " d"]:
    """E[(Vᵀ·∇²U(w* + V·diag(s)·z)·V)_ii], z ~ N(0, I), without bias, by a random sign vector at each point."""

    def one(key: PRNGKeyArray) -> Float[Array, " d"]:
        point_key, sign_key = jax.random.split(key)
        z = jax.random.normal(point_key, scale.shape, scale.dtype)
        signs = jax.random.rademacher(sign_key, scale.shape, scale.dtype)
        product = posterior.hessian_vector(posterior.w_star + axes @ (scale * z), axes @ signs)
        return signs * (product @ axes)

    return jnp.mean(jax.lax.map(one, jax.random.split(key, POINTS), batch_size=8), axis=0)
