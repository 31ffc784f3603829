"""Effective draws of tK per second of HMC over a plain BlackJAX HMC in float64: MLP1k, γ = 100, eight chains, two CPUs.

The plain one is written in benchmarks/blackjax_rate.py. Ours draws until its budget of gradients is used up; both have
the same estimator of the effective sample size. Compiling counts on neither side. A second ratio counts the warm-up's
seconds of both, for the draws that were taken.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from stages import PROJECT, Planned, run

from cases.figure import Figure, figure
from cases.networks import planned_network

CHAINS, WARMUP, DRAWS = 8, 500, 500
GRADIENTS = {"float64": 300_000, "float32": 600_000}
GOALS = {"float64": "≥ 30×", "float32": "≥ 60×"}


def plain(planned: Planned) -> dict[str, float]:
    """What blackjax_rate.py says."""
    line = [sys.executable, str(PROJECT / "benchmarks" / "blackjax_rate.py"), str(planned.target)]
    line += map(str, (CHAINS, WARMUP, DRAWS))
    # One device with two threads, which is what JAX does with two CPUs unless it is told otherwise.
    lane = planned.lane(cpus=2) | {"PYTHONPATH": str(PROJECT / "python"), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(line, env=lane, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def ours(planned: Planned, folder: Path, number: int) -> dict[str, float]:
    """The effective sample size and the seconds of a run, whose programs are compiled."""
    out, analyses = folder / f"out-{number}", folder / f"analyses-{number}"
    run([*planned.sample_command(out), "--compiled", str(folder / "compiled")], planned.lane(cpus=2))
    run(planned.analyze_command(out, analyses), planned.lane(cpus=1))
    analysis = json.loads((analyses / planned.run_id / "analysis.json").read_text(encoding="utf-8"))
    seconds = analysis["run"]["seconds"]
    return {
        "ess": analysis["ess_mean"],
        "llc": analysis["llc"],
        **{name: seconds[name] for name in ("warmup", "sampling")},
    }


def rate(found: dict[str, float], warmup: bool) -> float:
    """Effective draws per second, of drawing alone or of warm-up too."""
    return found["ess"] / (found["sampling"] + (found["warmup"] if warmup else 0.0))


def measure(rounds: int) -> list[Figure]:
    """The ratios in both precisions, and the rates."""
    seen: dict[str, list[dict[str, float]]] = {"float64": [], "float32": [], "plain": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plans = {}
        for precision, gradients in GRADIENTS.items():
            budget = {"gradients": gradients, "seconds": 600}
            plans[precision] = planned_network(
                "mlp1k", precision, folder / precision, {}, tolerance=1e-6, budget=budget
            )
            ours(plans[precision], folder / precision, -1)  # compiles
        for number in range(rounds):
            seen["plain"].append(plain(plans["float64"]))
            for precision, planned in plans.items():
                seen[precision].append(ours(planned, folder / precision, number))
    found = []
    for precision, goal in GOALS.items():
        pairs = list(zip(seen[precision], seen["plain"], strict=True))
        ratios = [rate(mine, warmup=False) / rate(other, warmup=False) for mine, other in pairs]
        found.append(figure(f"{precision}, over plain BlackJAX", ratios, "×", goal))
        ratios = [rate(mine, warmup=True) / rate(other, warmup=True) for mine, other in pairs]
        found.append(figure(f"{precision}, over plain BlackJAX, warm-up included", ratios, "×"))
    for name, runs in seen.items():
        found.append(figure(f"{name}, effective draws", [rate(one, warmup=False) for one in runs], "1/s"))
        found.append(figure(f"{name}, effective sample size", [one["ess"] for one in runs], "draws"))
        found.append(figure(f"{name}, λ̂", [one["llc"] for one in runs], "nats"))
    return found
