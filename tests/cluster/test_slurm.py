"""The same experiment on a real SLURM, in job arrays, and on this machine alone; what jobs ask a cluster for."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.slurm_run import HERE, headers, run_on_slurm, squeue
from cluster.throwaway_slurm import throwaway_slurm
from pipeline.nextflow_run import Run, run_pipeline

STAGES = ("PLAN", "BUILD_TARGET", "SAMPLE_FLOAT64", "SAMPLE_FLOAT32", "ANALYZE", "REPORT")
TOO_MUCH = "process { withName: 'BUILD_TARGET' { cpus = 64; memory = 100.GB; time = 90.d } }\n"

pytestmark = [pytest.mark.slurm, pytest.mark.nextflow]


@pytest.fixture(scope="module")
def on_slurm(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which three of the four analyses, and the runs of each lane, are elements of job arrays."""
    folder = tmp_path_factory.mktemp("slurm")
    run = run_on_slurm(folder, slurm, "--experiment", str(HERE / "parity.yml"), "--array_size", "3")
    assert run.status == 0, run.output
    return run


def test_every_sampler_gave_an_estimate(on_slurm: Run) -> None:
    assert {row["sampler"] for row in on_slurm.results()} == {"hmc", "mclmc", "sgld", "vi"}
    for row in on_slurm.results():
        assert row["status"] in ("completed", "budget_exhausted"), row


def test_slurm_ran_the_tasks_in_arrays(on_slurm: Run, slurm: dict[str, str]) -> None:
    finished = [(job, name) for job, name, state in squeue(slurm, "%i|%j|%T", "--states=all") if state == "COMPLETED"]
    for stage in STAGES:
        assert any(stage in name for _, name in finished), (stage, finished)
    # Two float64 runs, two float32 runs, three of four analyses: elements are called <job>_<number>.
    arrays = [name for job, name in finished if "_" in job]
    assert [sum(stage in name for name in arrays) for stage in STAGES] == [0, 0, 2, 2, 3, 0], finished


def test_slurm_and_local_agree_to_the_last_digit(on_slurm: Run, tmp_path: Path) -> None:
    locally = run_pipeline(tmp_path, "--experiment", str(HERE / "parity.yml"))
    assert locally.estimates() == on_slurm.estimates()


def test_samplers_ask_for_a_gpu_and_nothing_else_does(slurm: dict[str, str], tmp_path: Path) -> None:
    run = run_on_slurm(tmp_path, slurm, "-stub", profile="slurm,gpu")
    assert run.status == 0, run.output
    for stage in STAGES:
        found = headers(run.outdir, stage)
        assert found, stage
        assert all(("--gres=gpu:1" in options) == stage.startswith("SAMPLE") for options in found), (stage, found)
    typed = run_on_slurm(tmp_path / "typed", slurm, "-stub", "--gpu_type", "h100", profile="slurm,gpu")
    # The cluster's GPUs have no type: it refuses the first such job, after which none is submitted.
    assert typed.status != 0
    assert "--gres=gpu:h100:1" in headers(typed.outdir, "SAMPLE")[0]
    assert "Requested node configuration is not available" in typed.output


def test_an_array_asks_for_what_its_largest_task_needs(slurm: dict[str, str], tmp_path: Path) -> None:
    run = run_on_slurm(tmp_path, slurm, "-stub", "--array_size", "2")
    assert run.status == 0, run.output
    builds = headers(run.outdir, "BUILD_TARGET")
    (array,) = [options for options in builds if "--array 0-1" in options]
    assert len(builds) == 3
    # The stub's own model asks for 1 h 28 min 30 s and 2 MiB more than 2 GiB to be built. Its float64 run,
    # which asks for 4 MiB more, is no build's concern.
    assert {"-t 01:28:30", "--mem 2050M"} <= array


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A cluster that takes any request and lets it wait for ever, as SLURM does by default."""
    with throwaway_slurm(refuses=False) as environment:
        yield environment


def test_requests_are_bounded_by_the_largest_node(patient: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "much.config").write_text(TOO_MUCH, encoding="utf-8")
    run = run_on_slurm(tmp_path, patient, "-stub", "-c", str(tmp_path / "much.config"))
    assert run.status == 0, run.output
    for options in headers(run.outdir, "BUILD_TARGET"):
        assert {"-c 4", "--mem 8000M", "-t 48:00:00"} <= options


@pytest.mark.waiting
def test_a_job_that_can_never_start_is_cancelled_and_named(patient: dict[str, str], tmp_path: Path) -> None:
    run = run_on_slurm(tmp_path, patient, "-stub", "--cluster_options=--cpus-per-task=99")
    assert run.status != 0
    assert "SLURM will never start job" in run.output
    assert "PLAN" in run.output
    assert "PartitionConfig" in run.output
    assert not squeue(patient, "%i", "--states=PENDING,RUNNING")


def test_a_request_that_slurm_refuses_ends_with_its_words(slurm: dict[str, str], tmp_path: Path) -> None:
    run = run_on_slurm(tmp_path, slurm, "-stub", "--cluster_options=--cpus-per-task=99")
    assert run.status != 0
    assert "More processors requested than permitted" in run.output


def test_an_unknown_partition_is_told_before_anything_is_submitted(slurm: dict[str, str], tmp_path: Path) -> None:
    run = run_on_slurm(tmp_path, slurm, "--queue", "fast")
    assert run.status != 0
    assert '--queue is "fast", but the cluster\'s partitions are main' in run.output
    assert not run.tasks("Submitted")


def test_without_sbatch_there_is_one_message(tmp_path: Path) -> None:
    """A PATH of everything but SLURM's commands."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            link = programs / program.name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
    for name in ("sbatch", "squeue", "scancel", "sinfo"):
        (programs / name).unlink()
    assert shutil.which("sbatch", path=str(programs)) is None
    run = run_pipeline(tmp_path / "run", profile="slurm", environment={"PATH": str(programs)}, seconds=120)
    assert run.status != 0
    assert "sbatch, squeue, scancel, sinfo are not on PATH" in run.output
    assert not run.tasks("Submitted")
