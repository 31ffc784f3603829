"""Two tasks of one CPU beside each other against one task of two CPUs: gradients per second of HMC while sampling."""

import json
import subprocess
import tempfile
from pathlib import Path

from stages import Planned, run

from cases.figure import Figure, figure
from cases.networks import SHORT, planned_network

GRADIENTS = {"mlp1k": 200_000, "mlp10k": 40_000}


def rate(planned: Planned, out: Path) -> float:
    """Gradients per second of the recorded draws."""
    record = json.loads((out / planned.run_id / "run.json").read_text(encoding="utf-8"))
    return record["gradients"]["sampling"] / record["seconds"]["sampling"]


def measure(rounds: int) -> list[Figure]:
    """The ratio for MLP1k and MLP10k in float32."""
    found = []
    for name, gradients in GRADIENTS.items():
        ratios = []
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            budget = {"gradients": gradients, "seconds": 600}
            planned = planned_network(name, "float32", folder / name, SHORT, tolerance=1e-6, budget=budget)
            shared = ["--compiled", str(folder / "compiled")]
            for number in range(-1, rounds):  # the first round compiles
                one = folder / f"one-{number}"
                run([*planned.sample_command(one), *shared], planned.lane(cpus=2))
                both = [folder / f"{side}-{number}" for side in ("left", "right")]
                lane = planned.lane(cpus=1)
                commands = [[*planned.sample_command(out), *shared] for out in both]
                started = [subprocess.Popen(line, env=lane, stderr=subprocess.DEVNULL) for line in commands]
                if any(process.wait() != 0 for process in started):
                    raise SystemExit("bench: sample failed; run it by hand")
                if number >= 0:
                    ratios.append(sum(rate(planned, out) for out in both) / rate(planned, one))
        found.append(figure(f"{name}, two tasks of a CPU over one of two", ratios, "×", "≥ .9"))
    return found
