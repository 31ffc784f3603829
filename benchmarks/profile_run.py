"""Where the seconds of a run go: start-up, tracing, lowering, compiling or loading programs, and the gradients.

    python profile_run.py ROW.json TARGET OUT COMPILED        in the run's lane

Prints JSON: seconds by part, and microseconds of a gradient on one CPU in the sampler, alone, and of its products.
"""

import json
import sys
import time

BEGAN = time.perf_counter()

from collections import defaultdict  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

from lambda_hat_cli.artifacts.store import read_records  # noqa: E402
from lambda_hat_cli.artifacts.target import TargetFolder  # noqa: E402
from lambda_hat_cli.experiment.rows import RunRow  # noqa: E402
from lambda_hat_cli.posterior.local import LocalPosterior, local_posterior, resolve_inverse_temperature  # noqa: E402
from lambda_hat_cli.samplers.base import Place  # noqa: E402
from lambda_hat_cli.samplers.hmc import SLOWED_DIRECTIONS, default_steps, trajectory  # noqa: E402
from lambda_hat_cli.samplers.metric import stiffest  # noqa: E402
from lambda_hat_cli.samplers.run import sample  # noqa: E402
from lambda_hat_cli.targets.compiled import shared_programs  # noqa: E402
from lambda_hat_cli.targets.load import load_target  # noqa: E402

IMPORTED = time.perf_counter()
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling, or loading what was compiled",
}
REPEATS = 5
SECONDS = 0.2


def microseconds(function: jax.stages.Wrapped, start: jax.Array, gradients: int) -> float:
    """Of one gradient, where `function` of a number of rounds takes so many each round; the best of some repeats."""
    rounds, taken = 1, 0.0
    while taken < SECONDS:
        rounds *= 2
        jax.block_until_ready(function(start, rounds))
        began = time.perf_counter()
        jax.block_until_ready(function(start, rounds))
        taken = time.perf_counter() - began
    best = taken
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(function(start, rounds))
        best = min(best, time.perf_counter() - began)
    return 1e6 * best / (rounds * gradients)


def in_trajectories(posterior: LocalPosterior) -> float:
    """Of a gradient within HMC's trajectories."""
    steps = default_steps(posterior.d)
    some = np.random.default_rng(0).normal(size=(100, posterior.d)).astype(posterior.w_star.dtype)
    metric = stiffest(some, SLOWED_DIRECTIONS)
    size = jnp.asarray(1e-6, posterior.w_star.dtype)

    @jax.jit
    def move(start: jax.Array, rounds: int) -> jax.Array:
        def one(number: jax.Array, at: Place) -> Place:
            momentum = jax.random.normal(jax.random.fold_in(jax.random.key(0), number), at.w.shape, at.w.dtype)
            return trajectory(posterior, metric, at, metric.momentum(momentum), size, steps)[0]

        return lax.fori_loop(0, rounds, one, Place(start, *posterior.value_and_grad(start))).w

    return microseconds(move, posterior.w_star, steps)


def alone(posterior: LocalPosterior) -> float:
    """Of a gradient after the other."""

    @jax.jit
    def descend(start: jax.Array, rounds: int) -> jax.Array:
        return lax.fori_loop(0, rounds, lambda _, w: w - 1e-12 * posterior.gradient(w), start)

    return microseconds(descend, posterior.w_star, 1)


def products(widths: list[int], rows: int, dtype: np.dtype) -> float:
    """Of a gradient's matrix products: W·h forward, then δ·hᵀ and, but for the first layer, Wᵀ·δ."""
    random = np.random.default_rng(0)
    shapes = [(outputs, inputs) for inputs, outputs in pairwise(widths)]
    weights = [jnp.asarray(random.normal(size=shape) / np.sqrt(shape[1]), dtype) for shape in shapes]
    x = jnp.asarray(random.normal(size=(widths[0], rows)), dtype)

    @jax.jit
    def multiply(start: jax.Array, rounds: int) -> jax.Array:
        def one(_: int, scale: jax.Array) -> jax.Array:
            layers = [weight * scale for weight in weights]
            hs = [x]
            for weight in layers:
                hs.append(weight @ hs[-1])
            back, total = hs[-1], scale
            for number in reversed(range(len(layers))):
                total = total + 1e-12 * (back @ hs[number].T)[0, 0]
                back = layers[number].T @ back if number else back
            return total

        return lax.fori_loop(0, rounds, one, start)

    return microseconds(multiply, jnp.ones((), dtype), 1)


def main() -> None:
    row_file, target, out, compiled = map(Path, sys.argv[1:])
    (row,) = read_records(row_file, RunRow)
    parts: dict[str, float] = defaultdict(float)

    def note(event: str, seconds: float, **_: str | int) -> None:
        if event in EVENTS:
            parts[EVENTS[event]] += seconds

    jax.monitoring.register_event_duration_secs_listener(note)
    with shared_programs(compiled, out, print) as share:
        began = time.perf_counter()
        record = sample(row, target, out / row.id, lambda *_: None)
        whole = time.perf_counter() - began
        share()
    parts = dict(parts)
    parts["imports"] = IMPORTED - BEGAN
    parts["the rest: gradients and what lies between"] = whole - sum(parts[name] for name in EVENTS.values())
    loaded = load_target(TargetFolder(target), np.dtype(row.precision))
    beta = resolve_inverse_temperature(row.posterior.inverse_temperature, loaded.n)
    posterior = local_posterior(loaded, beta, row.posterior.localization)
    gradient = {
        "in HMC": in_trajectories(posterior),
        "alone": alone(posterior),
        "of its products alone": products(widths_of(target), loaded.rows, np.dtype(row.precision)),
    }
    print(json.dumps({"seconds": parts, "gradients": sum(record.gradients.values()), "microseconds": gradient}))


def widths_of(target: Path) -> list[int]:
    """The widths of the network in a target folder."""
    return json.loads((target / "target.json").read_text(encoding="utf-8"))["spec"]["model"]["widths"]


if __name__ == "__main__":
    main()
