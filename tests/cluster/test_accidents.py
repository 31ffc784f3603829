"""What a real cluster does to tasks: no memory, no time, a cancelled job, a node that dies."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cluster.slurm_run import HERE, run_on_slurm, squeue
from cluster.throwaway_slurm import fail_node, throwaway_slurm
from pipeline.nextflow_run import Run

pytestmark = [pytest.mark.slurm, pytest.mark.nextflow, pytest.mark.waiting]

BEFORE_SAMPLING = 10.0  # seconds until a job that has just started is surely past its start


def when_running(cluster: Mapping[str, str], name: str, run: Future[Run], strike: Callable[[str, str], None]) -> None:
    """Call strike(job, node) some seconds after the job whose name ends with `name` was seen to run."""
    while not run.done():
        for job, title, node in squeue(cluster, "%A|%j|%N", "--states=RUNNING"):
            if name in title:
                time.sleep(BEFORE_SAMPLING)
                strike(job, node)
                return
        time.sleep(0.5)
    pytest.fail(f"no job {name} was seen: {run.result().output}")


def cancel(cluster: Mapping[str, str], job: str) -> None:
    subprocess.run(["scancel", job], env=dict(cluster), check=True)


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of accidents.yml to which everything happened that its targets are named for."""
    arguments = ("-c", str(HERE / "accidents.config"), "--experiment", str(HERE / "accidents.yml"))
    with throwaway_slurm() as cluster, ThreadPoolExecutor(3) as threads:
        run = threads.submit(run_on_slurm, tmp_path_factory.mktemp("accidents"), cluster, *arguments)

        strikes = [
            threads.submit(
                when_running, cluster, "SAMPLE_FLOAT64_(cancelled", run, lambda job, _node: cancel(cluster, job)
            ),
            threads.submit(
                when_running, cluster, "SAMPLE_FLOAT64_(deserted", run, lambda _job, node: fail_node(cluster, node)
            ),
        ]
        for strike in strikes:
            strike.result()
        yield run.result()


def attempts(run: Run, process: str, target: str) -> list[tuple[str, str]]:
    """(status, exit status) of each attempt of the target's task, in order."""
    tasks = [task for task in run.trace() if f":{process} ({target}-" in task["name"]]
    return [(task["status"], task["exit"]) for task in sorted(tasks, key=lambda task: int(task["attempt"]))]


def test_nothing_was_lost(struck: Run) -> None:
    assert struck.status == 0, struck.output
    assert {row["target"] for row in struck.results()} == {"cancelled", "deserted", "endless", "hungry", "slow"}
    for row in struck.results():
        assert row["status"] in ("completed", "budget_exhausted"), row
        assert float(row["llc"]) > 0, row


@pytest.mark.parametrize(
    ("process", "target", "ends"),
    [
        ("SAMPLE_FLOAT32", "hungry", {"137"}),
        # Nextflow has SLURM signal a task before its limit (140); where that comes too late SLURM ends it (143).
        ("BUILD_TARGET", "slow", {"140", "143"}),
        ("SAMPLE_FLOAT64", "cancelled", {"143"}),
        ("SAMPLE_FLOAT64", "deserted", {"-"}),
    ],
)
def test_what_the_cluster_killed_was_tried_again(struck: Run, process: str, target: str, ends: set[str]) -> None:
    first, second = attempts(struck, process, target)
    assert first[0] in ("FAILED", "ABORTED"), first
    assert first[1] in ends, first
    assert second == ("COMPLETED", "0")


def test_the_second_attempt_had_more_memory_and_time(struck: Run) -> None:
    asked = {(task["name"].split()[0], task["attempt"]): task for task in struck.trace()}
    assert [asked["ESTIMATE:SAMPLE_FLOAT32", attempt]["memory"] for attempt in "12"] == ["150 MB", "2 GB"]
    assert asked["ESTIMATE:BUILD_TARGET", "2"]["time"] == "10m"


def test_a_run_left_before_its_task_was_ended(struck: Run) -> None:
    assert attempts(struck, "SAMPLE_FLOAT64", "endless") == [("COMPLETED", "0")]
    (record,) = struck.records("runs/endless-*/run.json")
    assert record["status"] == "budget_exhausted"
    assert "the task's time limit" in record["reason"]
    # Of 180 s the last 90 are kept back.
    assert 60 < record["seconds"]["total"] < 120
