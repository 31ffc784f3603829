"""How long does each stage's command take on next to nothing, in its environment and in its container?

Plans, builds, samples (20 warm-up draws of a quadratic), analyses and reports by the commands as processes, without
shared programs, each in turn in the environment and in the image, --rounds times. Prints each stage's median seconds,
and what the container's first process took while nothing of the disk was in memory (only root can arrange that).

    python benchmarks/cold_start.py --environments DIR --container 'podman run --rm \\
        -v {project}:{project} -v {folder}:{folder} localhost/lambda-hat:{id}'

{id} becomes the stage's image tag, {project} and {folder} what the command must see; `env NAME=VALUE … COMMAND` is
put behind it.
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from stages import PROJECT, Planned, command, prepare

EXPERIMENT = """
name: cold-start
targets: [{name: quadratic, model: {kind: quadratic, curvatures: [1, 3]}}]
samplers: [{kind: hmc, warmup: 20}]
runs: {chains: 2, tolerance: 0.5, budget: {gradients: 3000, seconds: 600}}
"""
ENVIRONMENTS = {
    "plan": "analyze",
    "build-target": "build",
    "sample": "sample",
    "analyze": "analyze",
    "report": "analyze",
}


def environment_id(stage: str) -> str:
    """The id of the environment that a stage's command runs in, which is its image's tag."""
    name = ENVIRONMENTS[stage]
    return f"{name}-{sha256((PROJECT / 'envs' / f'{name}.txt').read_bytes()).hexdigest()[:12]}"


def stage_commands(planned: Planned, out: Path) -> dict[str, list[str]]:
    """Each stage's command as its process module starts it; `out` gets what they write."""
    stages = planned.folder / "plan" / "stages.json"
    return {
        "plan": command("plan", planned.folder / "experiment.yml", out=out / "plan"),
        "build-target": command("build-target", rows=planned.folder / "target.json", out=out / "targets"),
        "sample": planned.sample_command(out / "runs"),
        "analyze": planned.analyze_command(out / "runs", out / "analyses"),
        "report": command(
            "report",
            plan=out / "plan",
            analyses=out / "analyses",
            targets=out / "targets",
            failures=out / "failures",
            stages=stages,
            out=out / "report",
        ),
    }


def seconds(arguments: list[str], settings: dict[str, str]) -> float:
    """Wall seconds of a command that must end with 0."""
    start = time.monotonic()
    done = subprocess.run(arguments, env=settings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - start


def forget_the_disk() -> bool:
    """Empty the kernel's page cache; whether that was allowed."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of each stage's command on next to nothing.")
    parser.add_argument("--environments", type=Path, default=PROJECT / ".environments", help="the stages' environments")
    parser.add_argument("--container", required=True, metavar="COMMAND", help="runs a command in a stage's image")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 100), metavar="N")
    asked = parser.parse_args()
    environments = asked.environments.resolve()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planned = prepare(EXPERIMENT, folder)
        lane = {name: value for name, value in planned.lane(cpus=1).items() if os.environ.get(name) != value}
        times: dict[tuple[str, str], list[float]] = {}
        cold: dict[str, float] = {}
        for round_number in range(asked.rounds + 1):
            for where in ("environment", "container"):
                out = folder / "out"
                (out / "failures").mkdir(parents=True)
                for stage, arguments in stage_commands(planned, out).items():
                    identity = environment_id(stage)
                    if where == "environment":
                        path = os.pathsep.join([str(environments / identity / "bin"), os.environ["PATH"]])
                        prefix, settings = [], {**planned.lane(cpus=1), "PATH": path}
                    else:
                        inside = asked.container.format(project=PROJECT, folder=folder, id=identity)
                        variables = [f"{name}={value}" for name, value in lane.items() if name != "PATH"]
                        prefix, settings = [*shlex.split(inside), "env", *variables], dict(os.environ)
                    if round_number == 0 and where == "container" and forget_the_disk():
                        cold[stage] = seconds([*prefix, *arguments], settings)
                    else:
                        taken = seconds([*prefix, *arguments], settings)
                        if round_number:  # the first round brings the files into memory
                            times.setdefault((stage, where), []).append(taken)
                shutil.rmtree(out)
    for stage in ENVIRONMENTS:
        middle = {where: statistics.median(times[stage, where]) for where in ("environment", "container")}
        first = f", from the disk {cold[stage]:.1f} s" if stage in cold else ""
        print(f"{stage}: environment {middle['environment']:.2f} s, container {middle['container']:.2f} s{first}")


if __name__ == "__main__":
    main()
