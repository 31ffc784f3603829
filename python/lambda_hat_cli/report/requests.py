"""What sampling tasks asked for beside what their runs used: task by task, and for each target and its samplers."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_hat_cli.artifacts.request import TaskRequest
from lambda_hat_cli.artifacts.store import read_record, write_text
from lambda_hat_cli.artifacts.target import ArtifactRecord
from lambda_hat_cli.report.collect import PlannedRun

NEAR = 0.9
"""Of what was asked for, what counts as nearly all of it."""
LISTED = 20
"""Lines that the page shows of them."""
FAR = 0.1
"""Of the memory that was asked for, what is so little that fewer tasks than could fit on a machine."""


class TaskRow(ArtifactRecord):
    """One line of requests.csv, a sampling task; None is an empty cell and means unknown, or that nothing was asked.

    Attributes:
        target: its name. samplers: of its runs, which share a process; `runs` is their number.
        attempt: the one that finished; what is asked is what it was given.
        memory_asked, memory_used: bytes, of the process. seconds_asked, seconds_used: wall time, of all runs together.
            Runs that left no record are in nothing that was used.
        run_ids: separated by blanks.
    """

    target: str
    samplers: str
    runs: int
    cpus: int
    attempt: int
    memory_asked: int | None
    memory_used: int | None
    seconds_asked: int | None
    seconds_used: float | None
    run_ids: str


@dataclass(frozen=True)
class Used:
    """A quantity of a task: what it asked for and what was used; bytes or seconds."""

    asked: float
    used: float

    @property
    def share(self) -> float:
        """The part of the request that was used."""
        return self.used / self.asked

    @property
    def near(self) -> bool:
        """Whether that is nearly all of it."""
        return self.share >= NEAR

    @property
    def far(self) -> bool:
        """Whether that is very little of it."""
        return self.share < FAR


@dataclass(frozen=True)
class RequestRow:
    """The tasks of one target whose runs have these samplers.

    Attributes:
        target: its name. samplers: of the runs that share a process.
        tasks, runs: how many. cpus, attempts: the most of one task.
        memory: bytes. time: seconds of all runs of a task. Each of the task that used the largest part of its own; None
            where none was asked for.
    """

    target: str
    samplers: str
    tasks: int
    runs: int
    cpus: int
    attempts: int
    memory: Used | None
    time: Used | None

    @property
    def name(self) -> str:
        """Both names as one."""
        return f"{self.target} / {self.samplers}"

    @property
    def nearness(self) -> float:
        """The larger of the parts of memory and time that were used."""
        return max((used.share for used in (self.memory, self.time) if used is not None), default=0.0)


def read_requests(folder: Path) -> list[TaskRequest]:
    """Every file of the folder, in the order of their names; none where there is no folder.

    Raises:
        UserError: when one is no request.
    """
    return [read_record(file, TaskRequest) for file in sorted(folder.glob("*"))]


def task_rows(requests: Iterable[TaskRequest], runs: Sequence[PlannedRun]) -> tuple[TaskRow, ...]:
    """A row for each task that has a planned run, by its first run in plan order."""
    by_id = {run.row.id: run for run in runs}
    places = {run.row.id: place for place, run in enumerate(runs)}
    tasks = [(request, [by_id[identity] for identity in request.runs if identity in by_id]) for request in requests]
    known = [(request, members) for request, members in tasks if members]
    return tuple(
        _task_row(request, members) for request, members in sorted(known, key=lambda task: places[task[1][0].row.id])
    )


def _task_row(request: TaskRequest, members: Sequence[PlannedRun]) -> TaskRow:
    records = [run.analysis.record.run for run in members if run.analysis is not None]
    return TaskRow(
        target=members[0].row.target,
        samplers=", ".join(dict.fromkeys(run.row.sampler for run in members)),
        runs=len(members),
        cpus=request.cpus,
        attempt=request.attempt,
        memory_asked=request.memory,
        memory_used=max((record.peak_memory_bytes for record in records), default=None),
        seconds_asked=request.seconds,
        seconds_used=sum(record.seconds["total"] for record in records) if records else None,
        run_ids=" ".join(run.row.id for run in members),
    )


def write_requests(path: Path, tasks: Iterable[TaskRow]) -> None:
    """Write requests.csv; unknown cells are empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(TaskRow.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(task.model_dump() for task in tasks)
    write_text(path, text.getvalue())


def request_rows(tasks: Iterable[TaskRow]) -> tuple[RequestRow, ...]:
    """A row for each target and the samplers of a task, those nearest to what they asked for first.

    Tasks none of whose runs has a record are left out.
    """
    together: dict[tuple[str, str], list[TaskRow]] = defaultdict(list)
    for task in tasks:
        if task.memory_used is not None:
            together[task.target, task.samplers].append(task)
    rows = [_request_row(target, samplers, members) for (target, samplers), members in together.items()]
    return tuple(sorted(rows, key=lambda row: row.nearness, reverse=True))


def _request_row(target: str, samplers: str, tasks: Sequence[TaskRow]) -> RequestRow:
    return RequestRow(
        target=target,
        samplers=samplers,
        tasks=len(tasks),
        runs=sum(task.runs for task in tasks),
        cpus=max(task.cpus for task in tasks),
        attempts=max(task.attempt for task in tasks),
        memory=_most((task.memory_asked, task.memory_used) for task in tasks),
        time=_most((task.seconds_asked, task.seconds_used) for task in tasks),
    )


def _most(tasks: Iterable[tuple[int | None, float | None]]) -> Used | None:
    """Of what tasks asked for and used the one of which the largest part was used."""
    known = (Used(asked, used) for asked, used in tasks if asked and used is not None)
    return max(known, key=lambda used: used.share, default=None)
