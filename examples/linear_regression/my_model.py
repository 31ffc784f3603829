"""A target without Equinox: linear regression at its least-squares solution, whose learning coefficient is d/2."""

import jax.numpy as jnp
from jaxtyping import Array, Float
from polynomials import legendre_features, noisy_samples

from lambda_hat_cli.targets.user import UserTarget

DEGREE = 5

Parameters = dict[str, Float[Array, " features"]]


def predict(parameters: Parameters, features: Float[Array, "rows features"]) -> Float[Array, " rows"]:
    """f(x) = φ(x)·weights for every row. Any tree of JAX arrays can be a model: here a dict with one array."""
    return features @ parameters["weights"]


def target(rows: int, sigma: float, seed: int) -> UserTarget:
    """The regression at w*, its data and its loss; the arguments come from the experiment file.

    The solution is exact, so w* is the minimum of the loss over these data.
    """
    x, y = noisy_samples(rows, sigma, seed)
    features = legendre_features(x, DEGREE)
    weights = jnp.linalg.lstsq(features, y)[0]

    def loss(parameters: Parameters, data: dict[str, Array]) -> Float[Array, " rows"]:
        """The Gaussian negative log-likelihood of every row, up to its constant, in nats."""
        return (data["y"] - predict(parameters, data["features"])) ** 2 / (2 * sigma**2)

    return UserTarget(model={"weights": weights}, data={"features": features, "y": y}, loss=loss)
