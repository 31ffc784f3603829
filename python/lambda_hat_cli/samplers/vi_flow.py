"""A variational family for a few curved dimensions: an affine coupling flow with adjustable tails."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from lambda_hat_cli.samplers.vi_family import AbstractFamily

LAYERS = 6
HIDDEN = 32
LOG_SCALE_BOUND = 4.0
"""A coupling stretches by at most e^±this: an early step cannot throw the draws out of the floating-point range."""


class CouplingLayer(eqx.Module):
    """One invertible map x → z of points (d,): a coupling, then the same stretch for every point.

    The coordinates not `kept` become x·e^s + m with s and m from a network of the kept ones (Dinh et al. 2017,
    "Density estimation using Real NVP", eq. 7). Then each becomes e^a·sinh(e^b·asinh(x)) + c (Jones and Pewsey 2009,
    "Sinh-arcsinh distributions"), which gives a marginal the narrow centre and long tails of singular posteriors.
    """

    kept: Bool[Array, " d"]
    input_weight: Float[Array, "hidden d"]
    input_bias: Float[Array, " hidden"]
    output_weight: Float[Array, "2 d hidden"]
    output_bias: Float[Array, "2 d"]
    tail: Float[Array, " d"]
    log_scale: Float[Array, " d"]
    shift: Float[Array, " d"]

    def forward(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """z(x)."""
        log_scale, shift = self._coupling(x)
        coupled = x * jnp.exp(log_scale) + shift
        return jnp.exp(self.log_scale) * jnp.sinh(jnp.exp(self.tail) * jnp.arcsinh(coupled)) + self.shift

    def inverse(self, z: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """x(z) and log |det ∂x/∂z|."""
        stretched = (z - self.shift) * jnp.exp(-self.log_scale)
        angle = jnp.exp(-self.tail) * jnp.arcsinh(stretched)
        coupled = jnp.sinh(angle)
        log_scale, shift = self._coupling(coupled)
        # cosh² = 1 + sinh²
        slopes = 0.5 * (jnp.log1p(coupled**2) - jnp.log1p(stretched**2)) - self.tail - self.log_scale - log_scale
        return (coupled - shift) * jnp.exp(-log_scale), jnp.sum(slopes)

    def _coupling(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """s and m, from the kept coordinates of x and zero for them."""
        features = jnp.tanh(self.input_weight @ jnp.where(self.kept, x, 0) + self.input_bias)
        log_scale, shift = jnp.where(self.kept, 0, self.output_weight @ features + self.output_bias)
        return LOG_SCALE_BOUND * jnp.tanh(log_scale / LOG_SCALE_BOUND), shift


class CouplingFlow(AbstractFamily):
    """q is the law of the layers, one after the other, applied to N(0, I).

    Attributes:
        layers: every array with a leading axis of layers.
    """

    layers: CouplingLayer

    def log_density(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """The logarithm of q(z), by inverting the layers."""

        def one(
            carry: tuple[Float[Array, " d"], Float[Array, ""]], layer: CouplingLayer
        ) -> tuple[tuple[Float[Array, " d"], Float[Array, ""]], None]:
            point, total = carry
            point, log_determinant = layer.inverse(point)
            return (point, total + log_determinant), None

        (x, total), _ = lax.scan(one, (z, jnp.zeros((), z.dtype)), self.layers, reverse=True)
        return total - 0.5 * (jnp.sum(x**2) + z.size * math.log(2 * math.pi))

    def strata(self, key: PRNGKeyArray, number: int) -> tuple[Float[Array, "1 number d"], Float[Array, "1"]]:
        """One stratum."""
        points = self.draw(key, number)
        return points[None], jnp.ones(1, points.dtype)

    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number d"]:
        """`number` independent draws of q."""
        shape, dtype = (number, self.layers.tail.shape[1]), self.layers.tail.dtype

        def one(points: Float[Array, "number d"], layer: CouplingLayer) -> tuple[Float[Array, "number d"], None]:
            return jax.vmap(layer.forward)(points), None

        return lax.scan(one, jax.random.normal(key, shape, dtype), self.layers)[0]

    def log_densities(self, z: Float[np.ndarray, "draws d"]) -> Float[np.ndarray, " draws"]:
        """The logarithm of q at many points, computed in the lane's precision: d is small where a flow is of use."""
        return np.asarray(_log_densities(self, jnp.asarray(z)), np.float64)


@eqx.filter_jit
def _log_densities(flow: CouplingFlow, z: Float[Array, "draws d"]) -> Float[Array, " draws"]:
    return jax.vmap(flow.log_density)(z)


def initial_flow(key: PRNGKeyArray, d: int, dtype: np.dtype) -> CouplingFlow:
    """The identity, so that q is N(0, I): each layer keeps half of the coordinates, the next one the other half."""

    def layer(key: PRNGKeyArray, kept: Bool[Array, " d"]) -> CouplingLayer:
        return CouplingLayer(
            kept=kept,
            input_weight=jax.random.normal(key, (HIDDEN, d), dtype),
            input_bias=jnp.zeros(HIDDEN, dtype),
            output_weight=jnp.zeros((2, d, HIDDEN), dtype),
            output_bias=jnp.zeros((2, d), dtype),
            tail=jnp.zeros(d, dtype),
            log_scale=jnp.zeros(d, dtype),
            shift=jnp.zeros(d, dtype),
        )

    order_key, weight_key = jax.random.split(key)
    halves = jax.vmap(lambda key: jax.random.permutation(key, jnp.arange(d) % 2 == 0))(
        jax.random.split(order_key, LAYERS // 2)
    )
    kept = jnp.stack([halves, ~halves], axis=1).reshape(LAYERS, d)
    return CouplingFlow(jax.vmap(layer)(jax.random.split(weight_key, LAYERS), kept))
