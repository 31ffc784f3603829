"""What goes wrong stays where it went wrong, is told once, and shows in the exit status."""

from pathlib import Path

import pytest

from pipeline.nextflow_run import EXPERIMENTS, Run, run_pipeline

pytestmark = pytest.mark.nextflow


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_pipeline(tmp_path_factory.mktemp("faulty"), "--experiment", str(EXPERIMENTS / "faulty.yml"))


def test_the_others_finish_and_the_exit_status_is_not_zero(faulty: Run) -> None:
    assert faulty.status != 0, faulty.output
    rows = {row["target"]: row for row in faulty.results()}
    assert rows["bowl"]["status"] in ("completed", "budget_exhausted")
    assert float(rows["bowl"]["llc"]) > 0
    assert (rows["raising"]["status"], rows["raising"]["llc"]) == ("failed", "")
    assert (rows["killed"]["status"], rows["killed"]["llc"]) == ("missing", "")
    assert faulty.output.count("2 of 3 runs failed or are missing") == 1


def test_the_report_names_failed_and_missing_runs_with_their_reasons(faulty: Run) -> None:
    page = (faulty.outdir / "summary" / "report.html").read_text(encoding="utf-8")
    assert "the student forgot the data" in page
    assert "killed" in page
    table = (faulty.outdir / "summary" / "results.txt").read_text(encoding="utf-8")
    assert "the student forgot the data" in " ".join(table.split())  # lines are wrapped
    assert table in faulty.output


def test_a_killed_task_is_tried_once_more_with_more_memory(faulty: Run) -> None:
    attempts = [task for task in faulty.trace() if "killed" in task["name"]]
    assert [(task["attempt"], task["exit"]) for task in attempts] == [("1", "137"), ("2", "137")]
    assert attempts[0]["memory"] != attempts[1]["memory"]


def test_a_bad_experiment_stops_before_anything_else(tmp_path: Path) -> None:
    run = run_pipeline(tmp_path, "--experiment", str(EXPERIMENTS / "wrong.yml"))
    assert run.status != 0
    assert run.tasks("Submitted") == ["PLAN"]
    assert run.output.count("warmpu") == 1, run.output
    assert 'did you mean "warmup"?' in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experment", "x.yml"], "--experment is no parameter of this pipeline; did you mean --experiment?"),
        (["--max-cpus", "2"], "--max-cpus is no parameter of this pipeline; did you mean --max_cpus?"),
        (["--max_cpus", "two"], '--max_cpus is "two", but must be a whole number of at least 1'),
        (["--env_dir", "nowhere"], "nowhere' analyze build sample`"),
    ],
)
def test_a_wrong_parameter_stops_at_once(arguments: list[str], message: str, tmp_path: Path) -> None:
    run = run_pipeline(tmp_path, *arguments)
    assert run.status != 0
    assert run.output.count(message) == 1, run.output
    assert not run.tasks("Submitted")
