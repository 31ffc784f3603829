"""How long does the whole `sample` command take on MLP1k, from the start of the process to its end, with two CPUs?

HMC in float32 twice. Once it ends by itself, with what a verdict of `reliable` asks for: an interval within 4 % and an
effective sample size of 400. Once its budget ends after 75 draws of each chain, which gives a standard error well
below 2 % and the verdict `uncertain`.
Cold has no compiled programs, warm has those of the cold one. Standard errors are the analysis's.
"""

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from stages import Planned, run

from cases.figure import Figure, figure
from cases.networks import planned_network

SHORT_DRAWS = 75
"""Draws of each chain: of 20 runs of another seed all had a number after so many, their standard errors .3 to .7 %."""


@dataclass
class Measured:
    """What the runs of a plan took and reached."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"cold": [], "warm": []})
    memory: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    ess: list[float] = field(default_factory=list)

    def add(self, planned: Planned, folder: Path, number: int) -> None:
        """Run the plan cold, then warm."""
        for kind, seconds in self.seconds.items():
            out, analyses = folder / f"{kind}-{number}", folder / f"analysis-{kind}-{number}"
            start = time.monotonic()
            run([*planned.sample_command(out), "--compiled", str(folder / f"compiled-{number}")], planned.lane(cpus=2))
            seconds.append(time.monotonic() - start)
            run(planned.analyze_command(out, analyses), planned.lane(cpus=1))
            analysis = json.loads((analyses / planned.run_id / "analysis.json").read_text(encoding="utf-8"))
            self.memory.append(analysis["run"]["peak_memory_bytes"] / 2**20)
            self.error.append(100 * analysis["llc_se"] / analysis["llc"])
            self.ess.append(analysis["ess_mean"])

    def figures(self, name: str, goals: tuple[str, str]) -> list[Figure]:
        """Seconds cold and warm, what was reached, and the peak memory."""
        return [
            figure(f"MLP1k, {name}, cold", self.seconds["cold"], "s", goals[0]),
            figure(f"MLP1k, {name}, warm", self.seconds["warm"], "s", goals[1]),
            figure(f"{name}: standard error", self.error, "%"),
            figure(f"{name}: effective sample size", self.ess, "draws"),
            figure(f"{name}: peak memory", self.memory, "MiB"),
        ]


def budget_of_short(planned: Planned, folder: Path) -> int:
    """The budget of gradients that a run of the plan has used up after its first draws."""
    run(planned.sample_command(folder / "whole"), planned.lane(cpus=2))
    record = json.loads((folder / "whole" / planned.run_id / "run.json").read_text(encoding="utf-8"))
    gradients, draws = record["gradients"], record["chains"] * record["draws"]
    sampling = SHORT_DRAWS * record["chains"] * gradients["sampling"] / draws
    # A budget ends before the block of draws after which nothing is left.
    return int(gradients["descent"] + gradients["warmup"] + sampling) - 1


def measure(rounds: int) -> list[Figure]:
    """Both runs, cold and warm."""
    whole, short = Measured(), Measured()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planned = planned_network("mlp1k", "float32", folder / "mlp1k", {}, tolerance=0.04)
        budget = {"gradients": budget_of_short(planned, folder), "seconds": 600}
        ended = planned_network("mlp1k", "float32", folder / "short", {}, tolerance=0.04, budget=budget)
        for number in range(rounds):
            whole.add(planned, folder / "mlp1k", number)
            short.add(ended, folder / "short", number)
    return [
        *short.figures(
            f"{SHORT_DRAWS} draws a chain", ("≤ 7 s to a standard error of 2 %", "≤ 4 s to a standard error of 2 %")
        ),
        *whole.figures("to its own end", ("", "")),
    ]
