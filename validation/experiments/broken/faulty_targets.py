"""Targets with one fault each, put there on purpose: w* is no minimum, or the loss is computed badly.

The functions return model, data and loss as a user's file does; docs/validation.md says what each fault does to λ̂.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from lambda_hat_cli.targets.user import UserTarget


class Point(eqx.Module):
    """Parameters that a loss of their own is a function of."""

    w: Float[Array, " d"]


class Product(eqx.Module):
    """f(x) = B A x."""

    first: Float[Array, "hidden inputs"]
    second: Float[Array, "outputs hidden"]


def own_loss(w: np.ndarray, rows: int, loss: Callable[[Array], Array]) -> UserTarget:
    """A target whose loss is the same function of w for every row; the rows only set t = n/log n."""

    def per_row(model: Point, data: dict[str, Array]) -> Float[Array, " rows"]:
        return loss(model.w) + 0 * data["row"]

    return UserTarget(Point(jnp.asarray(w, jnp.float32)), {"row": np.zeros(rows, np.float32)}, per_row)


def displaced_quadratic(d: int, delta: float, rows: int, seed: int) -> UserTarget:
    """K = ½wᵀHw with curvatures from 1 to 100, w* in a random direction at t·K(w*) = delta nats."""
    curvatures = np.geomspace(1, 100, d)
    direction = np.random.default_rng(seed).normal(size=d)
    t = rows / np.log(rows)
    w = direction / np.linalg.norm(direction) * np.sqrt(2 * delta / (t * curvatures))
    return own_loss(w, rows, lambda w: 0.5 * jnp.sum(jnp.asarray(curvatures, w.dtype) * w**2))


def displaced_product(widths: list[int], rank: int, delta: float, rows: int, sigma: float, seed: int) -> UserTarget:
    """Reduced-rank regression with noise-free labels, w* in a random direction at t·K(w*) = delta nats."""
    inputs, hidden, outputs = widths
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs))
    first, second = np.eye(hidden, inputs), np.eye(outputs, hidden)
    first[rank:], second[:, rank:] = 0, 0
    y = x @ (second @ first).T
    moves = rng.normal(size=first.shape), rng.normal(size=second.shape)

    def displaced(scale: float) -> tuple[np.ndarray, np.ndarray]:
        return first + scale * moves[0], second + scale * moves[1]

    def excess(scale: float) -> float:
        a, b = displaced(scale)
        return rows / np.log(rows) * float(np.mean(np.sum((y - x @ (b @ a).T) ** 2, axis=1))) / (2 * sigma**2)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < delta else (low, middle)
    a, b = displaced(low)

    def loss(model: Product, data: dict[str, Array]) -> Float[Array, " rows"]:
        predicted = data["x"] @ (model.second @ model.first).T
        return jnp.sum((data["y"] - predicted) ** 2, axis=1) / (2 * sigma**2)

    product = Product(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    return UserTarget(product, {"x": x.astype(np.float32), "y": y.astype(np.float32)}, loss)


def wrong_data(d: int, rows: int, sigma: float, seed: int) -> UserTarget:
    """Linear regression whose w* is the solution of other data of the same law: δ is near d/log n nats."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=d)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(rows, d))
        return x, x @ truth + sigma * rng.normal(size=rows)

    others_x, others_y = draw()
    x, y = draw()
    w = np.linalg.lstsq(others_x, others_y, rcond=None)[0]

    def loss(model: Point, data: dict[str, Array]) -> Float[Array, " rows"]:
        return (data["y"] - data["x"] @ model.w) ** 2 / (2 * sigma**2)

    return UserTarget(Point(jnp.asarray(w, jnp.float32)), {"x": x.astype(np.float32), "y": y.astype(np.float32)}, loss)


def rounded(d: int, offset: float, rows: int) -> UserTarget:
    """A quadratic whose loss is rounded to float32 beside a large constant, in every precision.

    With offset 1e6 the loss moves in steps of 1/16, tK in steps of t/16 = 9 nats at 1000 rows. XLA removes
    (c + K) − c, but not an explicit rounding.
    """
    curvatures = np.geomspace(1, 100, d)

    def loss(w: Array) -> Array:
        quadratic = 0.5 * jnp.sum(jnp.asarray(curvatures, w.dtype) * w**2)
        return lax.reduce_precision(quadratic + offset, exponent_bits=8, mantissa_bits=23) - offset

    return own_loss(np.zeros(d), rows, loss)


def overflowing(d: int, unit: float, rows: int) -> UserTarget:
    """K = Σ w⁴, computed in units in which float32 ends at w² = √(3.4e38)/unit, in every precision."""

    def loss(w: Array) -> Array:
        fourth = lax.reduce_precision((w**2 * unit) ** 2, exponent_bits=8, mantissa_bits=23)
        return jnp.sum(fourth * (1 / unit) * (1 / unit))

    return own_loss(np.zeros(d), rows, loss)
