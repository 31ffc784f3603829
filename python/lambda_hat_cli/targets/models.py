"""The built-in models as Equinox modules: JAX arrays are their parameters, NumPy arrays their constants.

Batches are feature-major, (features, rows): W @ h on full batches is then faster than h @ Wᵀ on rows.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    MlpModel,
    NormalCrossingModel,
    QuadraticModel,
    SuperpositionModel,
)

BuiltInSpec = MlpModel | DeepLinearModel | QuadraticModel | NormalCrossingModel | SuperpositionModel

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": lambda h: jax.nn.gelu(h, approximate=False),
    "identity": lambda h: h,
}
LAYER_NORM_EPSILON = 1e-5


class Affine(eqx.Module):
    """h ↦ Wh + b on feature-major batches."""

    weight: Float[Array, "outputs inputs"]
    bias: Float[Array, " outputs"] | None

    def __call__(self, h: Float[Array, "inputs rows"]) -> Float[Array, "outputs rows"]:
        """Apply the map to every column."""
        out = self.weight @ h
        return out if self.bias is None else out + self.bias[:, None]


class Mlp(eqx.Module):
    """Fully connected network; the last layer is affine.

    Parameter order: weight, then bias where there is one, from the first layer to the last.
    """

    layers: tuple[Affine, ...]
    activation: str = eqx.field(static=True)
    layer_norm: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "inputs rows"]) -> Float[Array, "outputs rows"]:
        """The network's outputs for every column of x."""
        *hidden, last = self.layers
        h = x
        for layer in hidden:
            h = layer(h)
            if self.layer_norm:
                h = normalised(h)
            h = ACTIVATIONS[self.activation](h)
        return last(h)


class DeepLinear(eqx.Module):
    """W_L … W_1 x. Parameter order: W_1 (H_1 × H_0) first."""

    weights: tuple[Float[Array, "outputs inputs"], ...]

    def __call__(self, x: Float[Array, "inputs rows"]) -> Float[Array, "outputs rows"]:
        """The product applied to every column of x."""
        widths = (self.weights[0].shape[1], *(weight.shape[0] for weight in self.weights))
        if widths[0] * widths[-1] <= sum(a * b for a, b in pairwise(widths)):
            # One matrix for all rows costs less than one per layer; the choice depends on the shape only, so that
            # every subset of rows takes the same path.
            return self.product() @ x
        h = x
        for weight in self.weights:
            h = weight @ h
        return h

    def product(self) -> Float[Array, "outputs inputs"]:
        """W_L … W_1."""
        product = self.weights[0]
        for weight in self.weights[1:]:
            product = weight @ product
        return product


class Quadratic(eqx.Module):
    """K(w) = ½ wᵀHw with H = Q diag(h) Qᵀ; h and Q are constants."""

    w: Float[Array, " d"]
    curvatures: Float[np.ndarray | Array, " d"]
    rotation: Float[np.ndarray | Array, "d d"] | None

    def value(self) -> Float[Array, ""]:
        """K(w)."""
        u = self.w if self.rotation is None else self.w @ self.rotation
        return 0.5 * jnp.sum(self.curvatures * u**2)


class NormalCrossing(eqx.Module):
    """K(w) = Π w_j^(2k_j)."""

    w: Float[Array, " d"]
    exponents: tuple[int, ...] = eqx.field(static=True)

    def value(self) -> Float[Array, ""]:
        """K(w)."""
        powers = [self.w[j] ** (2 * k) for j, k in enumerate(self.exponents) if k > 0]
        return math.prod(powers[1:], start=powers[0])


class Superposition(eqx.Module):
    """E‖x − ReLU(WᵀWx + b)‖² over x = ζ·e_i, with i uniform among the c inputs and ζ uniform in [0, 1].

    Elhage et al. 2022, "Toy models of superposition", with the inputs in the limit of sparsity as in Chen et al. 2023,
    arXiv:2310.06301.
    """

    weight: Float[Array, "2 inputs"]
    bias: Float[Array, " inputs"]

    def value(self) -> Float[Array, ""]:
        """The expectation, exactly: before ReLU every output is linear in ζ, from b_j to b_j + (WᵀW)_ji."""
        first = jnp.broadcast_to(self.bias[:, None], (len(self.bias), len(self.bias)))
        last = first + self.weight.T @ self.weight
        low, high = jax.nn.relu(first), jax.nn.relu(last)
        crosses = (first > 0) != (last > 0)
        # The part of [0, 1] where the output is positive. Where both ends are, or neither is, no division takes place.
        part = jnp.where(crosses, (low + high) / jnp.where(crosses, jnp.abs(last - first), 1.0), first > 0)
        squares = part * (low**2 + low * high + high**2) / 3.0
        # E[ζ·output], for the output that answers to its own input: there last ≥ first.
        product = jnp.diag(part * (low + (3.0 - part) * high) / 6.0)
        return 1.0 / 3.0 + (jnp.sum(squares) - 2.0 * jnp.sum(product)) / len(self.bias)


BuiltIn = Mlp | DeepLinear | Quadratic | NormalCrossing | Superposition


def normalised(h: Float[Array, "features rows"]) -> Float[Array, "features rows"]:
    """Every column at mean 0 and variance 1 over its features (layer normalisation without parameters)."""
    centred = h - jnp.mean(h, axis=0)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=0) + LAYER_NORM_EPSILON)


def blank(spec: BuiltInSpec) -> BuiltIn:
    """The module of `spec` with every array zero, float32: the template that stored leaves are read into."""
    match spec:
        case MlpModel():
            return mlp(spec, [np.zeros(shape, np.float32) for shape in weight_shapes(spec.widths)])
        case DeepLinearModel():
            return deep_linear([np.zeros(shape, np.float32) for shape in weight_shapes(spec.widths)])
        case QuadraticModel():
            d = len(spec.curvatures)
            return quadratic(spec, np.zeros((d, d), np.float32) if spec.rotation else None)
        case NormalCrossingModel():
            return NormalCrossing(jnp.zeros(len(spec.exponents), jnp.float32), spec.exponents)
        case SuperpositionModel():
            return Superposition(jnp.zeros((2, spec.inputs), jnp.float32), jnp.zeros(spec.inputs, jnp.float32))


def weight_shapes(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """(outputs, inputs) of every layer."""
    return [(outputs, inputs) for inputs, outputs in pairwise(widths)]


def mlp(
    spec: MlpModel,
    weights: list[Float32[np.ndarray, "outputs inputs"]],
    biases: list[Float32[np.ndarray, " outputs"]] | None = None,
) -> Mlp:
    """The network of `spec` with these weights; biases default to zero and are left out where the spec has none."""
    biases = biases or [np.zeros(len(weight), np.float32) for weight in weights]
    layers = tuple(
        Affine(jnp.asarray(weight), jnp.asarray(bias) if spec.bias else None)
        for weight, bias in zip(weights, biases, strict=True)
    )
    return Mlp(layers, spec.activation, spec.layer_norm)


def deep_linear(weights: list[Float32[np.ndarray, "outputs inputs"]]) -> DeepLinear:
    """The product of these weights, first layer first."""
    return DeepLinear(tuple(jnp.asarray(weight) for weight in weights))


def quadratic(spec: QuadraticModel, rotation: Float32[np.ndarray, "d d"] | None) -> Quadratic:
    """The quadratic of `spec` at w = 0."""
    d = len(spec.curvatures)
    return Quadratic(jnp.zeros(d, jnp.float32), np.asarray(spec.curvatures, np.float32), rotation)
