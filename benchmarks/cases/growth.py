"""How does the cost of a gradient grow with d and n? HMC on ReLU networks 10-h-h-1, float32, two CPUs."""

import json
import os
import tempfile
from pathlib import Path

import yaml
from stages import Planned, prepare, run

from cases.figure import Figure, figure

HIDDEN = (25, 94, 310, 994)
"""Widths h that give about 1e3, 1e4, 1e5 and 1e6 parameters."""
ROWS = (1000, 10_000, 100_000, 1_000_000)
LEAST_GRADIENTS = 800
OPERATIONS = 1e12
"""Multiplications of weights and rows that a point may take, where that is more than the least gradients."""


def parameters(hidden: int) -> int:
    """d of a network 10-h-h-1 with biases."""
    return 11 * hidden + (hidden + 1) * hidden + hidden + 1


def planned_point(hidden: int, rows: int, folder: Path) -> Planned:
    """The network at its teacher, with few and short trajectories."""
    gradients = max(LEAST_GRADIENTS, min(200_000, int(OPERATIONS / (6 * parameters(hidden) * rows))))
    experiment = {
        "name": "growth",
        "seed": 0,
        "posterior": {"localization": 100},
        "targets": [
            {
                "name": "network",
                "model": {"kind": "mlp", "widths": [10, hidden, hidden, 1], "activation": "relu"},
                "data": {"kind": "teacher", "n": rows, "noise": {"kind": "gaussian", "scale": 0.1}},
                "at": "truth",
            }
        ],
        "samplers": [{"kind": "hmc", "precision": "float32", "warmup": 20, "leapfrog_steps": 5}],
        "runs": {"chains": 2, "tolerance": 1e-6, "budget": {"gradients": gradients, "seconds": 600}},
    }
    folder.mkdir()
    return prepare(yaml.safe_dump(experiment), folder)


def measure(rounds: int) -> list[Figure]:
    """Picoseconds of a gradient by weight and row, over d with 1000 rows and over n with 951 parameters."""
    cpus = min(2, len(os.sched_getaffinity(0)))
    points = [(hidden, ROWS[0]) for hidden in HIDDEN] + [(HIDDEN[0], rows) for rows in ROWS[1:]]
    found = []
    for hidden, rows in points:
        costs, memory = [], []
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            planned = planned_point(hidden, rows, folder / "point")
            for number in range(-1, rounds):
                out = folder / f"out-{number}"
                run([*planned.sample_command(out), "--compiled", str(folder / "compiled")], planned.lane(cpus))
                record = json.loads((out / planned.run_id / "run.json").read_text(encoding="utf-8"))
                if number >= 0:  # the first round compiles
                    cost = record["seconds"]["sampling"] / record["gradients"]["sampling"]
                    costs.append(1e12 * cost / (record["d"] * rows))
                    memory.append(record["peak_memory_bytes"] / 2**20)
        name = f"d = {parameters(hidden):,}, n = {rows:,}"
        found.append(figure(f"{name}: a gradient, by weight and row", costs, "ps"))
        found.append(figure(f"{name}: peak memory", memory, "MiB"))
    return found
