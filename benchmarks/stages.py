"""Runs the stages' commands one after another without Nextflow, as its tasks would, for measurements of one of them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Planned:
    """A plan with its first target built; its first run, whose folders are named `run_id`, is ready to be sampled."""

    folder: Path
    run_id: str
    precision: str
    target: Path

    def sample_command(self, out: Path) -> list[str]:
        return command("sample", rows=self.folder / "run.json", target=self.target, out=out)

    def analyze_command(self, runs: Path, out: Path) -> list[str]:
        rows, stages = self.folder / "run.json", self.folder / "plan" / "stages.json"
        return command("analyze", rows=rows, runs=runs, target=self.target, out=out, stages=stages)

    def lane(self, cpus: int) -> dict[str, str]:
        """The environment that the run's lane sets: its precision, and threads for so many CPUs."""
        x64 = "1" if self.precision == "float64" else "0"
        threads = dict.fromkeys(THREADS, "1") | dict.fromkeys(("NPROC", "JAX_NUM_CPU_DEVICES"), str(cpus))
        return environment(JAX_ENABLE_X64=x64, JAX_PLATFORMS="cpu", JAX_DEFAULT_PRNG_IMPL="threefry2x32", **threads)


def command(name: str, *arguments: Path, **options: Path) -> list[str]:
    flags = [part for option, value in options.items() for part in (f"--{option}", str(value))]
    return [str(PROJECT / "bin" / name), *map(str, arguments), *flags]


def environment(**settings: str) -> dict[str, str]:
    """The caller's, with this interpreter's folder first in PATH and no JAX or Matplotlib settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "MPL"))}
    return {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]]), **settings}


def run(arguments: list[str], settings: Mapping[str, str]) -> None:
    done = subprocess.run(arguments, env=settings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")


def prepare(experiment: str, folder: Path) -> Planned:
    """Plan an experiment given as YAML and build its first target, all in `folder`."""
    file, plan = folder / "experiment.yml", folder / "plan"
    file.write_text(experiment, encoding="utf-8")
    run(command("plan", file, out=plan), environment())
    rows = {}
    for name in ("target", "run"):
        first = (plan / f"{name}s.jsonl").read_text(encoding="utf-8").splitlines()[0]
        (folder / f"{name}.json").write_text(first, encoding="utf-8")
        rows[name] = json.loads(first)
    row, lane = folder / "target.json", environment(JAX_ENABLE_X64="0", JAX_PLATFORMS="cpu")
    run(command("build-target", rows=row, out=folder / "targets"), lane)
    return Planned(folder, rows["run"]["id"], rows["run"]["precision"], folder / "targets" / rows["target"]["id"])
