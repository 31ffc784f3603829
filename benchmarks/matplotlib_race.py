"""Do analyses that start at once disturb each other's figures?

Each round starts eight `analyze` commands at the same moment under one HOME that no Matplotlib has seen, so that all
of them make its font cache there; a matplotlibrc in it asks for TeX, and the environment for a backend with windows.
An analysis counts as failed where it ends with another status than 0 or a figure differs by a byte from that of an
analysis run alone.

    python benchmarks/matplotlib_race.py [ROUNDS]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from stages import Planned, environment, prepare, run

AT_ONCE = 8
FIGURES = ("trace.png", "rank_energy.png", "llc_convergence.png")
EXPERIMENT = """
name: race
targets: [{name: quadratic, model: {kind: quadratic, curvatures: [1, 3, 10]}}]
samplers: [{kind: hmc, warmup: 50}]
runs: {chains: 4, tolerance: 0.2, budget: {gradients: 20000, seconds: 600}}
"""


def figures(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FIGURES}


def hostile_home(folder: Path) -> dict[str, str]:
    """The environment of a person whose Matplotlib is set up in every way that must not matter."""
    settings = folder / ".config" / "matplotlib"
    settings.mkdir(parents=True)
    (settings / "matplotlibrc").write_text("text.usetex: True\nbackend: TkAgg\naxes.formatter.use_mathtext: True\n")
    return environment(HOME=str(folder), MPLBACKEND="TkAgg", XDG_CONFIG_HOME=str(folder / ".config"), **ONE_THREAD)


ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def race_once(planned: Planned, sampled: Path, alone: dict[str, bytes], folder: Path) -> list[str]:
    """What went wrong in one round, a line for each analysis that failed."""
    settings = hostile_home(folder / "home")
    outs = [folder / f"analysis-{number}" for number in range(AT_ONCE)]
    started = [
        subprocess.Popen(planned.analyze_command(sampled, out), env=settings, stderr=subprocess.PIPE, text=True)
        for out in outs
    ]
    failures = []
    for process, out in zip(started, outs, strict=True):
        _, said = process.communicate()
        if process.returncode != 0:
            failures.append(f"{out.name} ended with {process.returncode}: {said.strip()}")
        elif changed := [name for name, drawn in figures(out / planned.run_id).items() if drawn != alone[name]]:
            failures.append(f"{out.name} drew {', '.join(changed)} otherwise than alone")
    return failures


def race(rounds: int, folder: Path) -> list[str]:
    """All failures of so many rounds."""
    planned = prepare(EXPERIMENT, folder)
    sampled = folder / "runs"
    run(planned.sample_command(sampled), planned.lane(cpus=1))
    run(planned.analyze_command(sampled, folder / "alone"), environment(MPLBACKEND="Agg", **ONE_THREAD))
    alone = figures(folder / "alone" / planned.run_id)
    failures = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            failures += [f"round {number}: {line}" for line in race_once(planned, sampled, alone, Path(place))]
    return failures


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as place:
        failures = race(rounds, Path(place))
    print("\n".join([*failures, f"{len(failures)} of {rounds * AT_ONCE} analyses failed in {rounds} rounds"]))
    sys.exit(bool(failures))
