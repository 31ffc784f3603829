"""The checkpoints of a training through the real pipeline: one training, a run each, and only new ones when resumed."""

import csv
from pathlib import Path

import pytest

from pipeline.nextflow_run import EXPERIMENTS, run_pipeline

pytestmark = pytest.mark.nextflow


def test_more_checkpoints_leave_those_that_are_done(tmp_path: Path) -> None:
    experiment = tmp_path / "checkpoints.yml"
    text = (EXPERIMENTS / "checkpoints.yml").read_text(encoding="utf-8")
    experiment.write_text(text, encoding="utf-8")
    first = run_pipeline(tmp_path / "launch", "--experiment", str(experiment))
    assert first.status == 0, first.output
    assert first.tasks("Submitted") == [
        "ANALYZE", "ANALYZE", "BUILD_TARGET", "PLAN", "REPORT", "SAMPLE_FLOAT64", "SAMPLE_FLOAT64",
    ]  # fmt: skip
    before = {row["run_id"]: row for row in first.results()}

    experiment.write_text(text.replace("[0, 50]", "[0, 20, 50, 90]"), encoding="utf-8")
    more = run_pipeline(tmp_path / "launch", "--experiment", str(experiment), "-resume")
    assert more.status == 0, more.output
    assert more.tasks("Cached") == ["ANALYZE", "ANALYZE", "SAMPLE_FLOAT64", "SAMPLE_FLOAT64"], more.output
    assert {row["run_id"]: row for row in more.results() if row["run_id"] in before} == before

    summary = tmp_path / "launch/results/summary"
    with (summary / "checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["steps"]) for row in rows] == [("net", steps) for steps in ("0", "20", "50", "90")]
    assert {row["run_id"]: row["llc"] for row in rows} == {row["run_id"]: row["llc"] for row in more.results()}
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    (picture,) = (summary / "checkpoints").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "net through training" in (summary / "report.html").read_text(encoding="utf-8")
