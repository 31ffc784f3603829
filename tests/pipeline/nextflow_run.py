"""A run of the pipeline as a person starts it, and what it left behind."""

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
EXPERIMENTS = Path(__file__).resolve().parent / "experiments"
ENVIRONMENTS = Path(os.environ.get("LAMBDA_HAT_ENV_DIR", PROJECT / ".environments"))
PIPELINE = ("main.nf", "nextflow.config", "nextflow_schema.json", "lib", "conf", "modules", "bin", "python", "envs")
TASK = re.compile(r"\] (Submitted|Cached|Re-submitted) process > (?:ESTIMATE:)?(\S+)")


@dataclass(frozen=True)
class Run:
    """Exit status and everything printed; `outdir` is where the results are."""

    status: int
    output: str
    outdir: Path

    def tasks(self, how: str) -> list[str]:
        """Process names of the tasks that were `Submitted`, `Re-submitted` or `Cached`, sorted, one for each task."""
        return sorted(name for kind, name in TASK.findall(self.output) if kind == how)

    def results(self) -> list[dict[str, str]]:
        with (self.outdir / "summary" / "results.csv").open(encoding="utf-8", newline="") as table:
            return sorted(csv.DictReader(table), key=lambda row: row["run_id"])

    def records(self, pattern: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.outdir.glob(pattern))]

    def trace(self) -> list[dict[str, str]]:
        with (self.outdir / "pipeline_info" / "trace.txt").open(encoding="utf-8", newline="") as table:
            return list(csv.DictReader(table, delimiter="\t"))


def run_pipeline(
    folder: Path,
    *arguments: str,
    project: Path = PROJECT,
    outdir: str = "results",
    environment: Mapping[str, str] | None = None,
    seconds: float = 300,
) -> Run:
    """Start the pipeline of `project` in `folder`, with the environments of this checkout; end it after `seconds`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(PROJECT / "scripts" / "nextflow"), "run", str(project / "main.nf"), "-profile", "local"]
    command += ["--env_dir", str(ENVIRONMENTS), "--outdir", outdir, *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NXF_ANSI_LOG": "false", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Run(done.returncode, done.stdout, folder / outdir)


def copy_of_the_project(folder: Path) -> Path:
    """The pipeline alone, as a clone would have it, to be changed by a test."""
    folder.mkdir(parents=True)
    for name in PIPELINE:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        else:
            shutil.copy2(source, folder / name)
    return folder
