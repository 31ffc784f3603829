"""What does float32 do to tK and to the energy errors by which HMC accepts? Against a float64 process, in nats.

The same positions and momenta, of a chain in equilibrium at the run's own step size, are judged in both, with the
same metric. An error e in the energy changes the probability of acceptance by at most |e|.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from stages import PROJECT, Planned, run

from cases.figure import Figure, figure
from cases.networks import planned_network

SCRIPT = PROJECT / "benchmarks" / "trajectories.py"


def rounding(planned: Planned, folder: Path) -> dict[str, float]:
    """What trajectories.py finds at the step size that a run of the plan tunes."""
    run(planned.sample_command(folder / "runs"), planned.lane(cpus=2))
    record = json.loads((folder / "runs" / planned.run_id / "run.json").read_text(encoding="utf-8"))
    command = [sys.executable, str(SCRIPT), str(planned.target), str(folder / "kept.npz")]
    path = {"PYTHONPATH": str(PROJECT / "python")}
    tuned = [str(record["tuned"][name]) for name in ("step_size", "least_share_of_speed")]
    run([*command, *tuned], planned.lane(cpus=1) | path)
    lane = replace(planned, precision="float64").lane(cpus=1)
    done = subprocess.run(command, env=lane | path, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure(rounds: int) -> list[Figure]:
    """For MLP1k and MLP10k; once, for the numbers do not vary."""
    del rounds
    found = []
    for name in ("mlp1k", "mlp10k"):
        with tempfile.TemporaryDirectory() as place:
            budget = {"gradients": 60_000, "seconds": 600}
            planned = planned_network(name, "float32", Path(place) / name, {}, tolerance=0.1, budget=budget)
            seen = rounding(planned, Path(place))
        relative = [100 * abs(seen["llc_mean"]) / seen["llc"]]
        found += [
            figure(f"{name}, mean of tK", [seen["llc"]], "nats"),
            figure(f"{name}, rounding's share of it", relative, "%"),
            figure(f"{name}, standard deviation of tK's rounding", [seen["llc_sd"]], "nats"),
            figure(f"{name}, mean size of an energy error", [seen["error"]], "nats"),
            figure(f"{name}, mean of its rounding", [seen["error_mean"]], "nats"),
            figure(f"{name}, standard deviation of its rounding", [seen["error_sd"]], "nats"),
        ]
    return found
