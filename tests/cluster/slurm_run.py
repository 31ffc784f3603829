"""A run of the pipeline on a throw-away SLURM, and what that cluster's commands say."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.nextflow_run import Run, run_pipeline

HERE = Path(__file__).resolve().parent
# A cluster of one host answers at once: ask it often.
ASK_OFTEN = ("-c", str(HERE / "quick.config"), "--poll_interval", "500ms", "--submit_rate", "20/1sec")


def run_on_slurm(folder: Path, cluster: Mapping[str, str], *arguments: str, profile: str = "slurm") -> Run:
    """Run the pipeline in `folder` on the cluster that the environment `cluster` names."""
    return run_pipeline(folder, *ASK_OFTEN, *arguments, profile=profile, environment=cluster, seconds=600)


def squeue(cluster: Mapping[str, str], fields: str, *options: str) -> list[list[str]]:
    """The jobs of the cluster, each as the texts of `fields` (squeue's format, separated by |)."""
    command = ["squeue", "--noheader", f"--format={fields}", *options]
    told = subprocess.run(command, env=dict(cluster), capture_output=True, text=True, check=True)
    return [line.split("|") for line in told.stdout.splitlines()]


def headers(outdir: Path, process: str) -> list[set[str]]:
    """The #SBATCH options of each job script in the work folder beside `outdir` whose name has `process` in it."""
    scripts = [path.read_text(encoding="utf-8") for path in (outdir.parent / "work").glob("*/*/.command.run")]
    options = [
        {line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("#SBATCH")} for text in scripts
    ]
    return [found for found in options if any(option.startswith("-J") and process in option for option in found)]
