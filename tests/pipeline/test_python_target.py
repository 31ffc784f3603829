"""A target of the user's own: its files travel whatever they are called, and decide what a resumed run computes."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline.nextflow_run import ENVIRONMENTS, PROJECT, run_pipeline

pytestmark = pytest.mark.nextflow

SMALL = "samplers=[{kind: hmc, warmup: 20}]; runs={chains: 4, tolerance: 0.5, budget: {gradients: 8000}}"


def test_a_users_files_are_built_and_resumed(tmp_path: Path) -> None:
    """In one test because the second run starts where the first one ended."""
    folder = tmp_path / "somebody's work"
    shutil.copytree(PROJECT / "examples" / "linear_regression", folder)
    (folder / "it's beside $(touch them).py").write_text("raise SystemExit('nobody imports this')\n")
    environments = os.path.relpath(ENVIRONMENTS, folder)
    arguments = ("--experiment", "experiment.yml", "--set", SMALL, "--env_dir", environments)

    first = run_pipeline(folder, *arguments)
    assert first.status == 0, first.output
    (row,) = first.results()
    assert (row["n"], row["d"], row["truth_kind"]) == ("500", "6", "none")
    assert float(row["llc"]) > 0
    (built,) = (first.outdir / "targets").iterdir()
    assert {path.name for path in (built / "code").iterdir()} == {path.name for path in folder.glob("*.py")}

    again = run_pipeline(folder, *arguments, "-resume")
    assert again.tasks("Submitted") == ["PLAN"], again.output

    sibling = folder / "polynomials.py"
    sibling.write_text(sibling.read_text(encoding="utf-8") + "\n# another digest\n", encoding="utf-8")
    edited = run_pipeline(folder, *arguments, "-resume")
    assert edited.tasks("Submitted") == ["ANALYZE", "BUILD_TARGET", "PLAN", "REPORT", "SAMPLE_FLOAT64"], edited.output
