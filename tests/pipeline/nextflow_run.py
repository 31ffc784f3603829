"""A run of the pipeline as a person starts it, and what it left behind."""

import csv
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
EXPERIMENTS = Path(__file__).resolve().parent / "experiments"
ENVIRONMENTS = Path(os.environ.get("LAMBDA_HAT_ENV_DIR", PROJECT / ".environments"))
# What a run of the pipeline measures about itself, and so may differ between two of them.
MEASURED = ("seconds", "memory")
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

    def requests(self) -> list[dict[str, str]]:
        with (self.outdir / "summary" / "requests.csv").open(encoding="utf-8", newline="") as table:
            return list(csv.DictReader(table))

    def estimates(self) -> list[dict[str, str]]:
        """The rows of results.csv without what the run measured about itself."""
        assert self.status == 0, self.output
        return [{name: text for name, text in row.items() if not name.startswith(MEASURED)} for row in self.results()]

    def records(self, pattern: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.outdir.glob(pattern))]

    def trace(self) -> list[dict[str, str]]:
        with (self.outdir / "pipeline_info" / "trace.txt").open(encoding="utf-8", newline="") as table:
            return list(csv.DictReader(table, delimiter="\t"))


def run_pipeline(
    folder: Path,
    *arguments: str,
    profile: str = "local",
    project: Path = PROJECT,
    outdir: str = "results",
    environment: Mapping[str, str] | None = None,
    seconds: float = 300,
) -> Run:
    """Start the pipeline of `project` in `folder`, with the environments of this checkout; end it after `seconds`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(PROJECT / "scripts" / "nextflow"), "run", str(project / "main.nf"), "-profile", profile]
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
