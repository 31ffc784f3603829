"""A target of one's own: linear regression at its least-squares solution, whose learning coefficient is d/2."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float
from polynomials import legendre_features, noisy_samples

from lambda_hat_cli.targets.user import UserTarget

DEGREE = 5


class Line(eqx.Module):
    """f(x) = φ(x)·weights. A JAX array of floats in the module is a parameter."""

    weights: Float[Array, " features"]

    def __call__(self, features: Float[Array, "rows features"]) -> Float[Array, " rows"]:
        """The prediction for every row."""
        return features @ self.weights


def target(rows: int, sigma: float, seed: int) -> UserTarget:
    """The regression at w*, its data and its loss; the arguments come from the experiment file.

    The solution is exact, so w* is the minimum of the loss over these data. The function is called when the target is
    built and again whenever it is loaded; on loading, only the structure of the module and the loss are used.
    """
    x, y = noisy_samples(rows, sigma, seed)
    features = legendre_features(x, DEGREE)
    weights = jnp.linalg.lstsq(features, y)[0]

    def loss(model: Line, data: dict[str, Array]) -> Float[Array, " rows"]:
        """The Gaussian negative log-likelihood of every row, up to its constant, in nats."""
        return (data["y"] - model(data["features"])) ** 2 / (2 * sigma**2)

    return UserTarget(model=Line(weights), data={"features": features, "y": y}, loss=loss)
