"""Addition modulo p by a small network that is shown some of the pairs; the others are held out."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.targets.user import UserTarget


class AddingNet(eqx.Module):
    """Both numbers embedded by one table, a hidden layer of their sum after a matrix each, logits."""

    embedding: Float[Array, "modulus width"]
    first: Float[Array, "hidden width"]
    second: Float[Array, "hidden width"]
    readout: Float[Array, "modulus hidden"]

    def __init__(self, modulus: int, width: int, hidden: int, key: PRNGKeyArray):
        """Entries of variance 1/inputs."""
        keys = jax.random.split(key, 4)
        self.embedding = jax.random.normal(keys[0], (modulus, width))
        self.first, self.second = (jax.random.normal(key, (hidden, width)) / np.sqrt(width) for key in keys[1:3])
        self.readout = jax.random.normal(keys[3], (modulus, hidden)) / np.sqrt(hidden)

    def __call__(self, pair: Int[Array, "2"]) -> Float[Array, " modulus"]:
        """The logits of (a + b) mod p for one pair (a, b)."""
        a, b = self.embedding[pair]
        return self.readout @ jax.nn.gelu(self.first @ a + self.second @ b)


def target(modulus: int, width: int, hidden: int, shown: float, seed: int) -> UserTarget:
    """The network before training and a random share `shown` of the pairs; the experiment file says how to train it."""
    pairs = np.random.default_rng(seed).permutation(modulus**2)
    first, second = np.divmod(pairs, modulus)
    x, y = np.stack([first, second], axis=1), (first + second) % modulus
    count = round(shown * len(pairs))
    return UserTarget(
        model=AddingNet(modulus, width, hidden, jax.random.key(seed)),
        data={"x": x[:count], "y": y[:count]},
        held_out={"x": x[count:], "y": y[count:]},
        loss="categorical",
    )
