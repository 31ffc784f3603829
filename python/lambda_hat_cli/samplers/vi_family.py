"""Variational families: what each must offer, and the mixture of factor analyzers, a Gaussian where it has one part."""

import math
from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractFamily(eqx.Module):
    """A law q over whitened coordinates z with a density, trained by its floating-point leaves. Leaves are final."""

    @abstractmethod
    def log_density(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """The logarithm of q(z)."""

    @abstractmethod
    def strata(self, key: PRNGKeyArray, number: int) -> tuple[Float[Array, "strata number d"], Float[Array, " strata"]]:
        """`number` draws from every part of q and the parts' weights, which add to 1; both differentiable in q."""

    @abstractmethod
    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number d"]:
        """`number` independent draws of q."""

    @abstractmethod
    def log_densities(self, z: Float[np.ndarray, "draws d"]) -> Float[np.ndarray, " draws"]:
        """The logarithm of q at many points, as float64 on the host."""


class MixtureOfFactorAnalyzers(AbstractFamily):
    """q(z) = Σ_k π_k N(z; μ_k, Λ_kΛ_kᵀ + diag(σ_k²)).

    Source: Ghahramani and Hinton 1996, "The EM algorithm for mixtures of factor analyzers". One component of
    rank 0 is a diagonal Gaussian.

    Attributes:
        logits: log π up to a constant. means: μ. factors: Λ. log_scales: log σ.
    """

    logits: Float[Array, " components"]
    means: Float[Array, "components d"]
    factors: Float[Array, "components d rank"]
    log_scales: Float[Array, "components d"]

    def log_density(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """The logarithm of q(z), by the matrix inversion and determinant lemmas in O(components·d·rank²)."""

        def component(
            mean: Float[Array, " d"], factor: Float[Array, "d rank"], log_scale: Float[Array, " d"]
        ) -> Float[Array, ""]:
            offset = (z - mean) * jnp.exp(-log_scale)
            whitened = factor * jnp.exp(-log_scale)[:, None]
            capacitance = jnp.eye(factor.shape[1], dtype=z.dtype) + whitened.T @ whitened
            lower = jnp.linalg.cholesky(capacitance)
            projected = jax.scipy.linalg.solve_triangular(lower, whitened.T @ offset, lower=True)
            distance = jnp.sum(offset**2) - jnp.sum(projected**2)
            log_determinant = 2 * jnp.sum(log_scale) + 2 * jnp.sum(jnp.log(jnp.diagonal(lower)))
            return -0.5 * (distance + log_determinant + z.size * math.log(2 * math.pi))

        terms = jax.vmap(component)(self.means, self.factors, self.log_scales)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + terms)

    def strata(
        self, key: PRNGKeyArray, number: int
    ) -> tuple[Float[Array, "components number d"], Float[Array, " components"]]:
        """`number` draws from every component, and π."""
        components, d, rank = self.factors.shape
        noise_key, factor_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (components, number, d), self.means.dtype)
        loading = jax.random.normal(factor_key, (components, number, rank), self.means.dtype)
        spread = jnp.exp(self.log_scales)[:, None] * noise + jnp.einsum("kdr,ksr->ksd", self.factors, loading)
        return self.means[:, None] + spread, jax.nn.softmax(self.logits)

    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number d"]:
        """`number` independent draws of the mixture."""
        component_key, noise_key, factor_key = jax.random.split(key, 3)
        chosen = jax.random.categorical(component_key, self.logits, shape=(number,))
        noise = jax.random.normal(noise_key, (number, self.means.shape[1]), self.means.dtype)
        loading = jax.random.normal(factor_key, (number, self.factors.shape[2]), self.means.dtype)
        spread = jnp.exp(self.log_scales[chosen]) * noise + jnp.einsum("sdr,sr->sd", self.factors[chosen], loading)
        return self.means[chosen] + spread

    def log_densities(self, z: Float[np.ndarray, "draws d"]) -> Float[np.ndarray, " draws"]:
        """log q in float64 on the host: importance weights are differences of sums over d."""
        logits, means, factors, log_scales = (
            np.asarray(leaf, np.float64) for leaf in (self.logits, self.means, self.factors, self.log_scales)
        )
        points = np.asarray(z, np.float64)
        log_weights = logits - np.logaddexp.reduce(logits)
        terms = np.empty((len(means), len(points)))
        for k, (mean, factor, log_scale) in enumerate(zip(means, factors, log_scales, strict=True)):
            offset = (points - mean) * np.exp(-log_scale)
            whitened = factor * np.exp(-log_scale)[:, None]
            lower = np.linalg.cholesky(np.eye(factor.shape[1]) + whitened.T @ whitened)
            projected = np.linalg.solve(lower, whitened.T @ offset.T)
            distance = np.sum(offset**2, axis=1) - np.sum(projected**2, axis=0)
            log_determinant = 2 * np.sum(log_scale) + 2 * np.sum(np.log(np.diagonal(lower)))
            terms[k] = log_weights[k] - 0.5 * (distance + log_determinant + points.shape[1] * math.log(2 * math.pi))
        return np.logaddexp.reduce(terms, axis=0)


def initial_mixture(key: PRNGKeyArray, components: int, rank: int, d: int, dtype: np.dtype) -> MixtureOfFactorAnalyzers:
    """Near N(0, I), which is the Laplace approximation in whitened coordinates.

    Components and factors differ a little, so that training can tell them apart.
    A single component starts in the middle.
    """
    mean_key, factor_key = jax.random.split(key)
    spread = 0.1 if components > 1 else 0.0
    return MixtureOfFactorAnalyzers(
        logits=jnp.zeros(components, dtype),
        means=spread * jax.random.normal(mean_key, (components, d), dtype),
        factors=0.01 * jax.random.normal(factor_key, (components, d, rank), dtype),
        log_scales=jnp.zeros((components, d), dtype),
    )
