"""Where does the time of a run go that has its programs compiled? HMC in float32 on one CPU, MLP1k and MLP10k.

The seconds of a whole run by part, and what a gradient takes within the sampler, alone, and its matrix products.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from stages import PROJECT, run

from cases.figure import Figure, figure
from cases.networks import planned_network

GRADIENTS = {"mlp1k": 150_000, "mlp10k": 80_000}


def measure(rounds: int) -> list[Figure]:
    """Seconds by part and microseconds of a gradient."""
    found = []
    for name, gradients in GRADIENTS.items():
        seen = []
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            budget = {"gradients": gradients, "seconds": 600}
            planned = planned_network(name, "float32", folder / name, {}, tolerance=1e-6, budget=budget)
            compiled = folder / "compiled"
            run([*planned.sample_command(folder / "first"), "--compiled", str(compiled)], planned.lane(cpus=1))
            line = [sys.executable, str(PROJECT / "benchmarks" / "profile_run.py"), str(folder / name / "run.json")]
            lane = planned.lane(cpus=1) | {"PYTHONPATH": str(PROJECT / "python")}
            for number in range(rounds):
                out = folder / f"out-{number}"
                done = subprocess.run(
                    [*line, str(planned.target), str(out), str(compiled)],
                    env=lane,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                seen.append(json.loads(done.stdout))
        for part in seen[0]["seconds"]:
            found.append(figure(f"{name}, {part}", [one["seconds"][part] for one in seen], "s"))
        for part in seen[0]["microseconds"]:
            found.append(figure(f"{name}, a gradient {part}", [one["microseconds"][part] for one in seen], "µs"))
    return found
