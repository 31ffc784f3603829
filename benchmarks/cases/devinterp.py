"""Chain-steps per second of SGLD over devinterp 1.3.2's, four chains on two CPUs, the same data, weights and batches.

A chain-step is an update of one chain. Ours are those of both levels, ε and ε/2; with mini-batches each draw of
twenty steps has a full gradient of each level, and where the run found the control variate at w* worth its cost, five
gradients of a batch make three updates. Start-up, compiling and warm-up count on neither side. devinterp takes
its chains one after the other, with one thread or two, whichever is faster, from its default loader and from one
without collation; and, as its `cores` would have it, in two processes with half of the chains each. Its environment is
made from validation/devinterp/requirements.txt.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages import PROJECT, Planned, environment, prepare, run

from cases.figure import Figure, figure
from cases.networks import with_samplers

CHAINS = 4
DEVINTERP = PROJECT / "validation" / "devinterp"
ONE_PROCESS, TWO_PROCESSES = ((1, 1), (1, 2)), ((2, 1),)
UPDATES, CORRECTED = 3, 5
"""Updates for each step ε, and gradients of a mini-batch with a control variate; each level has a full one a draw."""


@dataclass(frozen=True)
class Problem:
    """An experiment's network, its batch, our budget of gradients and devinterp's steps a chain."""

    name: str
    batch: int | str
    gradients: int
    steps: int
    goal: str


PROBLEMS = (
    Problem("mlp1k", 100, 200_000, 1500, "≥ 35"),
    Problem("mlp1k", "full", 120_000, 1000, "≥ 25"),
    Problem("dln", 100, 400_000, 1500, "≥ 70"),
    Problem("dln", "full", 400_000, 1000, "≥ 55"),
    Problem("mlp10k", 100, 48_000, 800, "≥ 15"),
)


def ours(problem: Problem, planned: Planned, out: Path, compiled: Path) -> float:
    """Updates per second of the recorded draws."""
    run([*planned.sample_command(out), "--compiled", str(compiled)], planned.lane(cpus=2))
    record = json.loads((out / planned.run_id / "run.json").read_text(encoding="utf-8"))
    steps = record["settings"]["draw_steps"]
    evaluations = UPDATES * steps
    if problem.batch != "full":
        evaluations = (CORRECTED if record["tuned"]["mini_batches_corrected"] else UPDATES) * steps + 2
    return record["gradient_evaluations"]["sampling"] / evaluations * UPDATES * steps / record["seconds"]["sampling"]


def theirs(python: Path, target: Path, problem: Problem, loader: str, ways: Sequence[tuple[int, int]]) -> float:
    """Steps per second of devinterp with this loader, in the fastest of these ways: (processes, threads of each)."""
    lane = environment(PYTHONPATH=str(DEVINTERP), OMP_NUM_THREADS="2")
    arguments = [str(python), str(PROJECT / "benchmarks" / "devinterp_rate.py"), str(target)]
    arguments += ["--batch", str(problem.batch), "--loader", loader, "--steps", str(problem.steps)]
    rates = []
    for processes, threads in ways:
        line = [*arguments, "--threads", str(threads), "--chains", str(CHAINS // processes)]
        started = [subprocess.Popen(line, env=lane, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        said = [process.communicate()[0] for process in started]
        if any(process.returncode != 0 for process in started):
            sys.exit(f"bench: {' '.join(line)} failed")
        rates.append(sum(map(float, said)))
    return max(rates)


def devinterp_python() -> Path:
    """The interpreter of devinterp's environment, which is made where it is not there."""
    made = [str(PROJECT / "scripts" / "environments"), str(DEVINTERP / "requirements.txt")]
    done = subprocess.run(made, env=os.environ, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip()) / "bin" / "python3"


def measure(rounds: int) -> list[Figure]:
    """The ratios on every problem, with the rates."""
    python = devinterp_python()
    found = []
    for problem in PROBLEMS:
        mine = []
        others: dict[str, list[float]] = {"best loader": [], "default loader": [], "best loader, two processes": []}
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "plan").mkdir()
            settings = {"kind": "sgld", "precision": "float32", "batch_size": problem.batch}
            budget = {"gradients": problem.gradients, "seconds": 600}
            text = with_samplers(problem.name, [settings], chains=CHAINS, tolerance=1e-6, budget=budget)
            planned = prepare(text, folder / "plan")
            for number in range(-1, rounds):  # the first round compiles
                rate = ours(problem, planned, folder / f"out-{number}", folder / "compiled")
                if number >= 0:
                    mine.append(rate)
                    for way, rates in others.items():
                        ways = TWO_PROCESSES if way.endswith("processes") else ONE_PROCESS
                        rates.append(theirs(python, planned.target, problem, way.split()[0], ways))
        name = f"{problem.name}, batch {problem.batch}"
        for way, rates in others.items():
            ratios = [rate / other for rate, other in zip(mine, rates, strict=True)]
            goal = f"{problem.goal}×" if way == "best loader" else ""
            found.append(figure(f"{name}, over devinterp's {way}", ratios, "×", goal))
        found.append(figure(f"{name}, ours", mine, "chain-steps/s"))
        found.append(figure(f"{name}, devinterp's best loader", others["best loader"], "chain-steps/s"))
    return found
