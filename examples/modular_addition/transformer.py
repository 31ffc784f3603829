"""A transformer with one layer that adds modulo p, trained on all pairs when the target is built."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.targets.losses import PerDatumCategoricalLoss
from lambda_hat_cli.targets.user import UserTarget


class Transformer(eqx.Module):
    """Embedding, attention, a hidden layer and the logits at the last of the tokens a, b, =; no normalisation."""

    embedding: Float[Array, "tokens width"]
    positions: Float[Array, "3 width"]
    attention: eqx.nn.MultiheadAttention
    hidden: eqx.nn.Linear
    output: eqx.nn.Linear
    readout: eqx.nn.Linear

    def __init__(self, modulus: int, width: int, heads: int, key: PRNGKeyArray):
        """Tokens are the numbers below `modulus`, and = after them."""
        keys = jax.random.split(key, 6)
        self.embedding = jax.random.normal(keys[0], (modulus + 1, width)) / np.sqrt(width)
        self.positions = jax.random.normal(keys[1], (3, width)) / np.sqrt(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[2])
        self.hidden = eqx.nn.Linear(width, 4 * width, key=keys[3])
        self.output = eqx.nn.Linear(4 * width, width, key=keys[4])
        self.readout = eqx.nn.Linear(width, modulus, use_bias=False, key=keys[5])

    def __call__(self, pair: Int[Array, "2"]) -> Float[Array, " modulus"]:
        """The logits of (a + b) mod p for one pair (a, b)."""
        equals = len(self.embedding) - 1
        stream = self.embedding[jnp.append(pair, equals)] + self.positions
        last = stream[-1] + self.attention(stream[-1:], stream, stream)[0]
        last = last + self.output(jax.nn.gelu(self.hidden(last)))
        return self.readout(last)


def target(modulus: int, width: int, heads: int, steps: int, learning_rate: float, seed: int) -> UserTarget:
    """The transformer, all pairs and how it is trained; the arguments come from the experiment file."""
    first, second = np.divmod(np.arange(modulus**2), modulus)
    data = {"x": np.stack([first, second], axis=1), "y": (first + second) % modulus}

    def train(transformer: Transformer, data: dict[str, Array]) -> Transformer:
        """Full-batch Adam; every random number comes from `seed`, so the same target is built each time."""
        loss = PerDatumCategoricalLoss()
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
        parameters, rest = eqx.partition(transformer, eqx.is_inexact_array)

        def mean_loss(parameters: Transformer) -> Float[Array, ""]:
            return jnp.mean(loss(eqx.combine(parameters, rest), data))

        def step(state: tuple[Transformer, optax.OptState], _: None) -> tuple[tuple[Transformer, optax.OptState], None]:
            parameters, moments = state
            updates, moments = optimizer.update(jax.grad(mean_loss)(parameters), moments)
            return (optax.apply_updates(parameters, updates), moments), None

        state = (parameters, optimizer.init(parameters))
        trained = jax.jit(lambda state: jax.lax.scan(step, state, length=steps)[0])(state)[0]
        return eqx.combine(trained, rest)

    transformer = Transformer(modulus, width, heads, jax.random.key(seed))
    return UserTarget(model=transformer, data=data, loss="categorical", train=train)
