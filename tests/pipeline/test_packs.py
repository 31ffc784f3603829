"""Runs that share a process: the same numbers as alone, and no run's failure is another's."""

import shutil
from pathlib import Path

import pytest

from pipeline.nextflow_run import EXPERIMENTS, run_pipeline

pytestmark = pytest.mark.nextflow


def test_a_pack_has_the_results_of_its_runs_alone(tmp_path: Path) -> None:
    """In one test because the packed run builds on the first one's target."""
    for name in ("whole.yml", "whole.py"):
        shutil.copy2(EXPERIMENTS / name, tmp_path / name)
    arguments = ("--experiment", "whole.yml", "--diagnostics", "none")
    alone = run_pipeline(tmp_path, *arguments)
    assert alone.status != 0, alone.output
    assert len(alone.tasks("Submitted")) == 8, alone.output
    singles = alone.results()
    shutil.rmtree(alone.outdir)

    packed = run_pipeline(tmp_path, *arguments, "--set", "runs.pack=3", "-resume")
    assert packed.status != 0, packed.output
    assert packed.tasks("Cached") == ["BUILD_TARGET"]
    assert packed.tasks("Submitted") == ["ANALYZE", "PLAN", "REPORT", "SAMPLE_FLOAT64"]
    for one, other in zip(singles, packed.results(), strict=True):
        different = {name for name in one if one[name] != other[name]}
        assert different <= {"seconds_sampling", "seconds_total"}, different

    (task,) = packed.requests()
    assert (task["samplers"], task["runs"], task["attempt"]) == ("sgld, hmc", "3", "1")
    assert sorted(task["run_ids"].split()) == [row["run_id"] for row in packed.results()]
    assert 0 < int(task["memory_used"]) < int(task["memory_asked"])

    rows = {row["folder"]: row for row in packed.results()}
    (failed,) = (row for row in rows.values() if row["sampler"] == "sgld")
    assert failed["status"] == "failed"
    assert "three rows are one too many" in failed["reason"]
    assert all(float(row["llc"]) > 0 for row in rows.values() if row["sampler"] == "hmc")
    left = {path.name: {file.name for file in path.iterdir()} for path in (packed.outdir / "runs").iterdir()}
    files = {"run.json", "trace.nc", "analysis.json", "convergence.csv"}
    assert left == {folder: files for folder in rows if folder != failed["folder"]}
