"""The workflow's wiring, without any of its environments."""

from pathlib import Path

import pytest

from pipeline.nextflow_run import copy_of_the_project, run_pipeline

pytestmark = pytest.mark.nextflow


def test_a_stub_run_makes_every_output_without_environments(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    (project / "python").rename(tmp_path / "no python here")
    run = run_pipeline(tmp_path / "launch", "-stub", "--env_dir", "nowhere", project=project)
    assert run.status == 0, run.output
    assert run.tasks("Submitted") == sorted(
        ["PLAN", "BUILD_TARGET", "SAMPLE_FLOAT64", "SAMPLE_FLOAT32", "ANALYZE", "ANALYZE", "REPORT"]
    )
    assert {record["precision"] for record in run.records("runs/*/run.json")} == {"float64", "float32"}
    for name in ("targets/stub-00000000/target.json", "summary/report.html", "pipeline_info/plan/runs.jsonl"):
        assert (run.outdir / name).is_file(), name
    # 20 minutes, and for the 600 000 steps of training a millisecond each and a little.
    assert {task["time"] for task in run.trace() if "BUILD_TARGET" in task["name"]} == {"30m 1s"}


def test_help_lists_the_parameters_and_starts_nothing(tmp_path: Path) -> None:
    run = run_pipeline(tmp_path, "--help")
    assert run.status == 0, run.output
    assert "--experiment" in run.output
    assert "(none|light|full) [light]" in run.output
    assert not run.tasks("Submitted")
    assert not run.outdir.exists()
