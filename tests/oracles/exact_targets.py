"""Targets small enough for closed forms, with the interface of a loaded target."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat_cli.posterior.local import LocalPosterior, local_posterior

NBETA = 145.0


class AllRows(eqx.Module):
    """Sums its losses over every row of its data."""

    data: eqx.AbstractVar[dict[str, Array]]

    @property
    def full_data(self) -> dict[str, Array]:
        """All of it."""
        return self.data


class QuadraticTarget(AllRows):
    """K(w) = ½ (w−w*)ᵀH(w−w*), its own loss."""

    w_star: Float[Array, " d"]
    hessian: Float[Array, "d d"]
    data: dict[str, Array]
    n: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    d: int = eqx.field(static=True)

    def losses(self, w: Float[Array, " d"], data: dict[str, Array]) -> Float[Array, "1"]:
        offset = w - self.w_star
        return 0.5 * (offset @ (self.hessian @ offset))[None]


class CrossingTarget(AllRows):
    """K(w) = w₁²w₂², its own loss."""

    w_star: Float[Array, " d"]
    data: dict[str, Array]
    n: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    d: int = eqx.field(static=True)

    def losses(self, w: Float[Array, " d"], data: dict[str, Array]) -> Float[Array, "1"]:
        return jnp.prod(w**2)[None]


class RegressionTarget(AllRows):
    """Linear regression with unit noise: ℓ_i(w) = ½(y_i − x_i·w)², quadratic with Hessian XᵀX/n."""

    w_star: Float[Array, " d"]
    data: dict[str, Array]
    n: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    d: int = eqx.field(static=True)

    def losses(self, w: Float[Array, " d"], data: dict[str, Array]) -> Float[Array, " rows"]:
        return 0.5 * (data["y"] - data["x"] @ w) ** 2


def quadratic(curvatures: np.ndarray, rotation: np.ndarray | None = None, localization: float = 1.0) -> LocalPosterior:
    """The posterior of a quadratic at t = 145, w* away from the origin."""
    d = len(curvatures)
    turn = np.eye(d) if rotation is None else rotation
    hessian = jnp.asarray((turn * curvatures) @ turn.T)
    target = QuadraticTarget(jnp.linspace(-1.0, 1.0, d), hessian, {}, n=1000, rows=1, d=d)
    return local_posterior(target, NBETA / 1000, localization)


def crossing() -> LocalPosterior:
    """The posterior of w₁²w₂² at n = 1000, β = 1/log n, γ = 1: E[tK] = .3614."""
    return local_posterior(CrossingTarget(jnp.zeros(2), {}, n=1000, rows=1, d=2), 1 / math.log(1000), 1.0)


def regression(rows: int, d: int, seed: int, noise: float = 1.0) -> tuple[LocalPosterior, np.ndarray]:
    """A regression at its least-squares solution, γ = 1, and the eigenvalues of its Hessian."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, d)) * np.geomspace(1, 0.3, d)
    y = x @ rng.normal(size=d) + noise * rng.normal(size=rows)
    w_star = np.linalg.lstsq(x, y, rcond=None)[0]
    target = RegressionTarget(jnp.asarray(w_star), {"x": jnp.asarray(x), "y": jnp.asarray(y)}, n=rows, rows=rows, d=d)
    return local_posterior(target, 1 / math.log(rows), 1.0), np.linalg.eigvalsh(x.T @ x / rows)


def exact_llc(curvatures: np.ndarray, nbeta: float = NBETA, localization: float = 1.0) -> float:
    """E[tK] = ½ Σ t·h/(t·h+γ)."""
    return float(0.5 * np.sum(nbeta * curvatures / (nbeta * curvatures + localization)))


def rotation(d: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
