"""The same experiment on a real SLURM and on this machine alone."""

import csv
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = Path(os.environ.get("LAMBDA_HAT_ENV_DIR", PROJECT / ".environments"))
HERE = Path(__file__).resolve().parent
# What a run of the pipeline measures about itself, and so may differ between two of them.
MEASURED = ("seconds", "memory")

pytestmark = [pytest.mark.slurm, pytest.mark.nextflow]


def run_pipeline(profile: str, folder: Path, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of results.csv after a run of parity.yml; its work folder and results are in `folder`."""
    folder.mkdir()
    command = [str(PROJECT / "scripts" / "nextflow"), "-c", str(HERE / "quick.config"), "run", str(PROJECT / "main.nf")]
    command += ["-profile", profile, "--env_dir", str(ENVIRONMENTS), "--experiment", str(HERE / "parity.yml")]
    command += ["--outdir", str(folder / "results"), "--poll_interval", "500ms", "--submit_rate", "20/1sec"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "NXF_ANSI_LOG": "false"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "results" / "summary" / "results.csv").open(encoding="utf-8", newline="") as table:
        return sorted(csv.DictReader(table), key=lambda row: row["run_id"])


def without_measurements(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: text for name, text in row.items() if not name.startswith(MEASURED)} for row in rows]


@pytest.fixture(scope="module")
def on_slurm(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return run_pipeline("slurm", tmp_path_factory.mktemp("slurm") / "run", slurm)


def test_every_sampler_gave_an_estimate(on_slurm: list[dict[str, str]]) -> None:
    assert {row["sampler"] for row in on_slurm} == {"hmc", "mclmc", "sgld", "vi"}
    for row in on_slurm:
        assert row["status"] in ("completed", "budget_exhausted"), row


def test_slurm_ran_the_tasks(on_slurm: list[dict[str, str]], slurm: dict[str, str]) -> None:
    told = subprocess.run(
        ["squeue", "--noheader", "--states=all", "--format=%j %T"],
        env=slurm,
        capture_output=True,
        text=True,
        check=True,
    )
    finished = [name for name, state in (line.split() for line in told.stdout.splitlines()) if state == "COMPLETED"]
    for stage in ("PLAN", "BUILD_TARGET", "SAMPLE_FLOAT64", "SAMPLE_FLOAT32", "ANALYZE", "REPORT"):
        assert any(stage in name for name in finished), (stage, told.stdout)


def test_slurm_and_local_agree_to_the_last_digit(on_slurm: list[dict[str, str]], tmp_path: Path) -> None:
    locally = run_pipeline("local", tmp_path / "run", os.environ)
    assert without_measurements(locally) == without_measurements(on_slurm)


def test_without_sbatch_there_is_one_message(tmp_path: Path) -> None:
    """A PATH of everything but SLURM's commands."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            link = programs / program.name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    for name in ("sbatch", "squeue", "scancel"):
        (programs / name).unlink()
    assert shutil.which("sbatch", path=str(programs)) is None
    done = subprocess.run(
        [str(PROJECT / "scripts" / "nextflow"), "run", str(PROJECT / "main.nf"), "-profile", "slurm"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(programs), "NXF_ANSI_LOG": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "sbatch" in done.stdout + done.stderr
