"""How long does the whole `sample` command take on MLP1k, from the start of the process to its end, with two CPUs?

HMC in float32 until it stops by itself: its interval is within 4 % (a standard error of 2 %) and its effective sample
size is what a verdict of `reliable` asks for. Cold has no compiled programs, warm has those of the rounds before.
"""

import json
import tempfile
import time
from pathlib import Path

from stages import run

from cases.figure import Figure, figure
from cases.networks import planned_network


def measure(rounds: int) -> list[Figure]:
    """Seconds of the command cold and warm, what it reached, and its peak memory."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    memory, error, ess = [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planned = planned_network("mlp1k", "float32", folder / "mlp1k", {}, tolerance=0.04)
        for number in range(rounds):
            for kind in ("cold", "warm"):
                out = folder / f"{kind}-{number}"
                compiled = folder / (f"compiled-{number}" if kind == "cold" else "compiled-0")
                command = [*planned.sample_command(out), "--compiled", str(compiled)]
                start = time.monotonic()
                run(command, planned.lane(cpus=2))
                seconds[kind].append(time.monotonic() - start)
                record = json.loads((out / planned.run_id / "run.json").read_text(encoding="utf-8"))
                memory.append(record["peak_memory_bytes"] / 2**20)
                analyses = folder / f"analysis-{kind}-{number}"
                run(planned.analyze_command(out, analyses), planned.lane(cpus=1))
                analysis = json.loads((analyses / planned.run_id / "analysis.json").read_text(encoding="utf-8"))
                error.append(100 * analysis["llc_se"] / analysis["llc"])
                ess.append(analysis["ess_mean"])
    return [
        figure("MLP1k, whole command, cold", seconds["cold"], "s", "≤ 7 s to a standard error of 2 %"),
        figure("MLP1k, whole command, warm", seconds["warm"], "s", "≤ 4 s to a standard error of 2 %"),
        figure("standard error that it reached", error, "%"),
        figure("effective sample size that it reached", ess, "draws"),
        figure("peak memory", memory, "MiB"),
    ]
