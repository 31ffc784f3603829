"""The workflow's wiring, without any of its environments."""

import re
from pathlib import Path

import pytest
from project_copy import copy_of_the_project

from pipeline.nextflow_run import PROJECT, run_pipeline

pytestmark = pytest.mark.nextflow


def test_a_stub_run_makes_every_output_without_environments(tmp_path: Path) -> None:
    project = copy_of_the_project(tmp_path / "project")
    (project / "python").rename(tmp_path / "no python here")
    run = run_pipeline(tmp_path / "launch", "-stub", "--env_dir", "nowhere", project=project)
    assert run.status == 0, run.output
    assert run.tasks("Submitted") == sorted(
        ["PLAN", "BUILD_TARGET", "BUILD_TARGET", "SAMPLE_FLOAT64", "SAMPLE_FLOAT32", "ANALYZE", "ANALYZE", "REPORT"]
    )
    assert {record["precision"] for record in run.records("runs/*/run.json")} == {"float64", "float32"}
    for name in ("targets/stub-00000000/target.json", "summary/report.html", "pipeline_info/plan/runs.jsonl"):
        assert (run.outdir / name).is_file(), name
    # 20 minutes, and for the 600 000 steps of training a millisecond each and a little; for the user's own model an
    # hour more, and 10 000 steps of a millisecond and 100 × 1e5 / 2e8 s.
    assert {task["time"] for task in run.trace() if "BUILD_TARGET" in task["name"]} == {"30m 1s", "1h 28m 30s"}
    # 2 GB, and what the sizes in target.json need, which the plan does not know: for 2 chains 64 × 10 000 + 8 × 100 000
    # numbers each, on 2 CPUs 16 × 4000 × 100 each; for variational inference also 12 × 4000 draws × 10 000.
    asked = {task["name"].split()[0]: task["memory"] for task in run.trace() if "SAMPLE" in task["name"]}
    assert asked == {"ESTIMATE:SAMPLE_FLOAT64": "2.1 GB", "ESTIMATE:SAMPLE_FLOAT32": "3.8 GB"}


def test_the_page_says_how_a_task_gets_more(tmp_path: Path) -> None:
    page = (PROJECT / "docs/running.md").read_text(encoding="utf-8")
    example = re.search(r"```groovy\n(.*?)```", page, re.DOTALL)
    assert example
    (tmp_path / "my.config").write_text(example[1], encoding="utf-8")
    arguments = ("-stub", "--env_dir", "nowhere", "--max_memory", "20.GB", "-c", str(tmp_path / "my.config"))
    run = run_pipeline(tmp_path / "launch", *arguments)
    assert run.status == 0, run.output
    asked = {(task["time"], task["memory"]) for task in run.trace() if "BUILD_TARGET" in task["name"]}
    assert asked == {("12h", "16 GB")}


def test_help_lists_the_parameters_and_starts_nothing(tmp_path: Path) -> None:
    run = run_pipeline(tmp_path, "--help")
    assert run.status == 0, run.output
    assert "--experiment" in run.output
    assert "(none|light|full) [light]" in run.output
    assert not run.tasks("Submitted")
    assert not run.outdir.exists()
