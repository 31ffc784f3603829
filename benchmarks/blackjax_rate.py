"""HMC on MLP1k as one would write it with BlackJAX: window adaptation at w*, then all chains by vmap and scan.

    python blackjax_rate.py TARGET CHAINS WARMUP DRAWS        in the float64 lane

The posterior is the pipeline's, written plainly: rows first, the mean squared error, the momenta's diagonal metric and
the step from BlackJAX's window adaptation, 20 leapfrog steps. Compiling is not timed. Prints JSON: the effective sample
size of tK over all chains and the seconds of warm-up and of drawing.
"""

import json
import math
import sys
import time
from itertools import pairwise
from pathlib import Path

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lambda_hat_cli.estimate.diagnostics import ess_mean

LEAPFROG_STEPS = 20
LOCALIZATION = 100.0
AGREEMENT = 1e-6


def layers_of(folder: Path, widths: list[int]) -> list[tuple[jax.Array, jax.Array]]:
    """Weights (outputs, inputs) and biases at w*, from the first layer to the last."""
    shapes: list[tuple[int, ...]] = []
    for inputs, outputs in pairwise(widths):
        shapes += [(outputs, inputs), (outputs,)]
    template = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    leaves = [jnp.asarray(leaf, float) for leaf in eqx.tree_deserialise_leaves(folder / "params.eqx", template)]
    return list(zip(leaves[::2], leaves[1::2], strict=True))


def main() -> None:
    folder, (chains, warmup, draws) = Path(sys.argv[1]), map(int, sys.argv[2:])
    record = json.loads((folder / "target.json").read_text(encoding="utf-8"))
    with np.load(folder / "data.npz", allow_pickle=False) as stored:
        x, y = jnp.asarray(stored["x"], float), jnp.asarray(stored["y"], float)
    n, scale = record["n"], record["scale"]
    w_star, unravel = ravel_pytree(layers_of(folder, record["spec"]["model"]["widths"]))

    def loss(w: jax.Array) -> jax.Array:
        h = x
        *hidden, last = unravel(w)
        for weight, bias in hidden:
            h = jax.nn.relu(h @ weight.T + bias)
        return jnp.mean(jnp.sum((h @ last[0].T + last[1] - y) ** 2, axis=1)) / (2 * scale**2)

    at_w_star = loss(w_star)
    if abs(float(at_w_star) - record["loss_at_w_star"]) > AGREEMENT * record["loss_at_w_star"]:
        sys.exit(f"{folder}: L_n(w*) is {float(at_w_star)} here and {record['loss_at_w_star']} in target.json")
    nbeta = n / math.log(n)

    def logdensity(w: jax.Array) -> jax.Array:
        return -nbeta * loss(w) - 0.5 * LOCALIZATION * jnp.sum((w - w_star) ** 2)

    adaptation = blackjax.window_adaptation(blackjax.hmc, logdensity, num_integration_steps=LEAPFROG_STEPS)
    adapt = jax.jit(lambda key: adaptation.run(key, w_star, num_steps=warmup)[0]).lower(jax.random.key(0)).compile()
    start = time.perf_counter()
    state, parameters = jax.block_until_ready(adapt(jax.random.key(0)))
    warmup_seconds = time.perf_counter() - start
    kernel = blackjax.hmc(logdensity, **parameters)

    def draw(states: blackjax.mcmc.hmc.HMCState, key: jax.Array) -> tuple[blackjax.mcmc.hmc.HMCState, jax.Array]:
        states, _ = jax.vmap(kernel.step)(jax.random.split(key, chains), states)
        return states, states.position

    states = jax.vmap(kernel.init)(jnp.tile(state.position, (chains, 1)))
    keys = jax.random.split(jax.random.key(1), draws)
    sample = jax.jit(lambda states, keys: jax.lax.scan(draw, states, keys)).lower(states, keys).compile()
    start = time.perf_counter()
    _, positions = jax.block_until_ready(sample(states, keys))
    seconds = time.perf_counter() - start
    llc = nbeta * (np.asarray(jax.lax.map(jax.vmap(loss), positions)).T - float(at_w_star))
    print(json.dumps({"ess": ess_mean(llc), "llc": float(llc.mean()), "warmup": warmup_seconds, "sampling": seconds}))


if __name__ == "__main__":
    main()
