"""A deep linear network's last layer integrated out exactly: what is left of the local posterior for the other layers.

With the other layers b given, the last layer is Gaussian. Everything depends on the data through XᵀX, so an evaluation
costs no more for many rows than for few.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

Layers = tuple[Float[Array, "outputs inputs"], ...]


class Marginal(NamedTuple):
    """The problem as sufficient statistics; float64 arrays.

    Attributes:
        gram: XᵀX. labels: XᵀY. cross: Xᵀe with the residual e = Y − X·(w*'s product)ᵀ.
        others: w*'s layers but the last, first layer first. last: w*'s last layer A*.
        scale: s = t/(nσ²). localization: γ > 0.
    """

    gram: Float[Array, "inputs inputs"]
    labels: Float[Array, "inputs outputs"]
    cross: Float[Array, "inputs outputs"]
    others: Layers
    last: Float[Array, "outputs hidden"]
    scale: Float[Array, ""]
    localization: Float[Array, ""]


class Inner(NamedTuple):
    """What the integral over the last layer gives at one point b.

    Attributes:
        log_weight: log ∫ exp(−tK) over the last layer's Gaussian: b's density relative to its own Gaussian.
        mean: E[tK | b]. distance_squared: E[‖A − A*‖² | b] of the last layer.
    """

    log_weight: Float[Array, ""]
    mean: Float[Array, ""]
    distance_squared: Float[Array, ""]


class _Gaussian(NamedTuple):
    """The last layer given b: rows N(A*_k + shift_k, covariance), and the residual's terms that it was made of."""

    product: Float[Array, "hidden inputs"]
    root: Float[Array, "hidden hidden"]
    covariance: Float[Array, "hidden hidden"]
    gradient: Float[Array, "hidden outputs"]
    misfit: Float[Array, ""]


def marginal(
    x: Float[np.ndarray, "rows inputs"],
    y: Float[np.ndarray, "rows outputs"],
    layers: Sequence[Float[np.ndarray, "outputs inputs"]],
    sigma: float,
    nbeta: float,
    localization: float,
) -> Marginal:
    """The problem of a deep linear target: data, w*'s layers (first layer first), σ, t = nβ and γ.

    Raises:
        ValueError: without a second layer, or with γ ≤ 0, where nothing bounds the flat directions.
    """
    if len(layers) < 2 or localization <= 0:
        raise ValueError(f"needs at least two layers and γ > 0, got {len(layers)} and {localization}")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    exact = [np.asarray(layer, np.float64) for layer in layers]
    residual = y - x @ reduce(lambda below, above: above @ below, exact).T
    return Marginal(
        gram=jnp.asarray(x.T @ x),
        labels=jnp.asarray(x.T @ y),
        cross=jnp.asarray(x.T @ residual),
        others=tuple(jnp.asarray(layer) for layer in exact[:-1]),
        last=jnp.asarray(exact[-1]),
        scale=jnp.asarray(nbeta / (len(x) * sigma**2)),
        localization=jnp.asarray(localization, x.dtype),
    )


def inner(problem: Marginal, others: Layers) -> Inner:
    """The integral over the last layer at the other layers `others`.

    With S = ΦᵀΦ, P = γI + sS, r_k = (Φ−Φ*)A*_k − e_k and g_k = Φᵀr_k, row k of the last layer is
    N(A*_k − sP⁻¹g_k, P⁻¹), and log ∫ = −½N log det(P/γ) − (s/2) Σ_k (‖r_k‖² − ‖e_k‖² − s g_kᵀP⁻¹g_k).
    """
    s, gamma = problem.scale, problem.localization
    outputs, hidden = problem.last.shape
    at = _last_layer(problem, _product(others))
    whitened = solve_triangular(at.root, at.gradient, lower=True)
    shift = -s * at.covariance @ at.gradient
    log_det = 2 * jnp.sum(jnp.log(jnp.diag(at.root))) - hidden * jnp.log(gamma)
    trace = jnp.trace(at.covariance)
    features = at.product @ problem.gram @ at.product.T
    fit = jnp.sum(shift * (features @ shift)) + 2 * jnp.sum(shift * at.gradient) + at.misfit
    return Inner(
        log_weight=-0.5 * outputs * log_det - 0.5 * s * (at.misfit - s * jnp.sum(whitened**2)),
        mean=0.5 * s * fit + 0.5 * outputs * (hidden - gamma * trace),
        distance_squared=jnp.sum(shift**2) + outputs * trace,
    )


def gradient(problem: Marginal, others: Layers) -> Layers:
    """∇ log_weight: minus the mean of tK's gradient over the last layer given b (Fisher's identity)."""
    product, pull_back = jax.vjp(_product, others)
    at = _last_layer(problem, product)
    mean = problem.last.T - problem.scale * at.covariance @ at.gradient
    second_moment = mean @ mean.T + problem.last.shape[0] * at.covariance
    slope = problem.scale * (second_moment @ product @ problem.gram - mean @ problem.labels.T)
    (layers,) = pull_back(-slope)
    return layers


def _product(others: Layers) -> Float[Array, "hidden inputs"]:
    return reduce(lambda below, above: above @ below, others)


def _last_layer(problem: Marginal, product: Float[Array, "hidden inputs"]) -> _Gaussian:
    hidden = len(product)
    change = (product - _product(problem.others)).T @ problem.last.T
    features = product @ problem.gram
    precision = problem.localization * jnp.eye(hidden) + problem.scale * features @ product.T
    root = jnp.linalg.cholesky(precision)
    inverse = solve_triangular(root, jnp.eye(hidden), lower=True)
    return _Gaussian(
        product=product,
        root=root,
        covariance=inverse.T @ inverse,
        gradient=features @ change - product @ problem.cross,
        misfit=jnp.sum(change * (problem.gram @ change)) - 2 * jnp.sum(change * problem.cross),
    )
