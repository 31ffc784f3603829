"""What share of the machine's matrix products per second does HMC reach while sampling, with two CPUs?

The peak is the better of NumPy's and JAX's, on square matrices of 2048. A gradient of a network counts six operations
for each weight and row: two forwards, four backwards, of which the first layer's need only two.
"""

import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from stages import THREADS, environment, run

from cases.beside import GRADIENTS, rate
from cases.figure import Figure, figure
from cases.networks import SHORT, planned_network

WIDTHS = {"mlp1k": (10, 25, 25, 1), "mlp10k": (10, 90, 90, 10)}
ROWS = 1000
GOALS = {("mlp1k", "float32"): "≥ 40 %", ("mlp10k", "float32"): "≥ 55 %", ("mlp10k", "float64"): "≥ 50 %"}
PRODUCTS = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec
one = np.random.default_rng(0).standard_normal((2048, 2048)).astype(sys.argv[1])
devices = jax.devices()
spec = PartitionSpec("devices")
each = jax.shard_map(lambda a: a @ a, mesh=Mesh(devices, ("devices",)), in_specs=spec, out_specs=spec)
several, on_devices = jnp.asarray(np.stack([one] * len(devices))), jax.jit(each)
ways = [(1, lambda: one @ one), (len(devices), lambda: on_devices(several).block_until_ready())]
best = 0.0
for number in range(24):
    products, multiply = ways[number % 2]
    start = time.perf_counter()
    multiply()
    if number > 1:
        best = max(best, products * 2 * 2048**3 / (time.perf_counter() - start))
print(best)
"""


def operations(widths: tuple[int, ...]) -> float:
    """Floating-point operations of the matrix products of one gradient."""
    first, *rest = [inputs * outputs for inputs, outputs in pairwise(widths)]
    return ROWS * (4.0 * first + 6.0 * sum(rest))


def peak(precision: str, cpus: int) -> float:
    """Operations per second of matrix products: NumPy's with so many threads or JAX's on as many devices."""
    x64 = "1" if precision == "float64" else "0"
    lane = environment(
        JAX_ENABLE_X64=x64, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(cpus), **dict.fromkeys(THREADS, str(cpus))
    )
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS, precision], env=lane, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def measure(rounds: int) -> list[Figure]:
    """The share for both networks in both precisions."""
    cpus = min(2, len(os.sched_getaffinity(0)))
    found = []
    for name, gradients in GRADIENTS.items():
        for precision in ("float32", "float64"):
            shares, rates, peaks = [], [], []
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                budget = {"gradients": gradients, "seconds": 600}
                planned = planned_network(name, precision, folder / name, SHORT, tolerance=1e-6, budget=budget)
                for number in range(-1, rounds):
                    out = folder / f"out-{number}"
                    run([*planned.sample_command(out), "--compiled", str(folder / "compiled")], planned.lane(cpus))
                    if number >= 0:  # the first round compiles
                        peaks.append(peak(precision, cpus) / 1e9)
                        rates.append(rate(planned, out))
                        shares.append(100 * rates[-1] * operations(WIDTHS[name]) / 1e9 / peaks[-1])
            found.append(
                figure(f"{name} {precision}, share of the peak", shares, "%", GOALS.get((name, precision), ""))
            )
            found.append(figure(f"{name} {precision}, gradients", rates, "1/s"))
            found.append(figure(f"{precision} matrix products", peaks, "Gflop/s"))
    return found
