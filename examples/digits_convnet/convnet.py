"""A convolutional net on scikit-learn's images of digits, trained when the target is built."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.targets.losses import PerDatumCategoricalLoss
from lambda_hat_cli.targets.user import UserTarget


class ConvNet(eqx.Module):
    """Two convolutions with stride 2 and a linear layer, for one image at a time as Equinox's layers are."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    readout: eqx.nn.Linear

    def __init__(self, channels: int, key: PRNGKeyArray):
        """8×8 pixels become 3×3 places with `channels` features each, then one with twice as many."""
        of_first, of_second, of_readout = jax.random.split(key, 3)
        self.first = eqx.nn.Conv2d(1, channels, kernel_size=3, stride=2, key=of_first)
        self.second = eqx.nn.Conv2d(channels, 2 * channels, kernel_size=3, key=of_second)
        self.readout = eqx.nn.Linear(2 * channels, 10, key=of_readout)

    def __call__(self, image: Float[Array, "1 8 8"]) -> Float[Array, "10"]:
        """The logits of one image."""
        places = jnp.tanh(self.first(image))
        return self.readout(jnp.tanh(self.second(places)).ravel())


def target(images: int, channels: int, steps: int, learning_rate: float, seed: int) -> UserTarget:
    """The net, its images and how it is trained; the arguments come from the experiment file.

    This function is called when the target is built and again wherever it is sampled, where only the net's structure
    counts. What takes time, or needs a package that samplers lack, is in the two functions below.
    """

    def data() -> dict[str, np.ndarray]:
        from sklearn.datasets import load_digits  # in the build environment alone

        digits = load_digits()
        return {"x": (digits.images[:images, None] / 16.0).astype(np.float32), "y": digits.target[:images]}

    def train(net: ConvNet, data: dict[str, Array]) -> ConvNet:
        loss = PerDatumCategoricalLoss()
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

        def step(state: tuple[ConvNet, optax.OptState], _: None) -> tuple[tuple[ConvNet, optax.OptState], None]:
            net, moments = state
            gradient = jax.grad(lambda net: jnp.mean(loss(net, data)))(net)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(net, updates), moments), None

        state = (net, optimizer.init(net))
        return jax.jit(lambda state: jax.lax.scan(step, state, length=steps)[0])(state)[0]

    net = ConvNet(channels, jax.random.key(seed))
    return UserTarget(model=net, data=data, loss="categorical", train=train)
