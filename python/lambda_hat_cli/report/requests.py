"""What sampling tasks asked for beside what their runs used, together for each target and its samplers."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_hat_cli.artifacts.request import TaskRequest
from lambda_hat_cli.artifacts.run import RunRecord
from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.report.collect import PlannedRun

NEAR = 0.9
"""Of what was asked for, what counts as nearly all of it."""


@dataclass(frozen=True)
class Used:
    """A quantity of a task: what it asked for and the most that was used; bytes or seconds."""

    asked: float
    used: float

    @property
    def share(self) -> float:
        """The part of the request that was used."""
        return self.used / self.asked


@dataclass(frozen=True)
class RequestRow:
    """The tasks of one target whose runs have these samplers; of memory and of time the task that used most of its own.

    Attributes:
        target: its name. samplers: of the runs that share a process.
        tasks: how many. cpus, attempts: the most of one.
        memory: bytes. time: seconds of all runs of a task; None where there was no limit.
    """

    target: str
    samplers: str
    tasks: int
    cpus: int
    attempts: int
    memory: Used
    time: Used | None

    @property
    def near(self) -> bool:
        """Whether a task used nearly all of its memory or time."""
        return _nearness(self) >= NEAR


def read_requests(folder: Path) -> list[TaskRequest]:
    """Every file of the folder, in the order of their names; none where there is no folder.

    Raises:
        UserError: when one is no request.
    """
    return [read_record(file, TaskRequest) for file in sorted(folder.glob("*"))]


def request_rows(requests: Iterable[TaskRequest], runs: Sequence[PlannedRun]) -> tuple[RequestRow, ...]:
    """A row for each target and the samplers of a task, those nearest to what they asked for first.

    Tasks none of whose runs has a record are left out.
    """
    by_id = {run.row.id: run for run in runs}
    together: dict[tuple[str, str], list[tuple[TaskRequest, list[RunRecord]]]] = defaultdict(list)
    for request in requests:
        members = [by_id[identity] for identity in request.runs if identity in by_id]
        records = [run.analysis.record.run for run in members if run.analysis is not None]
        if records:
            samplers = ", ".join(dict.fromkeys(run.row.sampler for run in members))
            together[members[0].row.target, samplers].append((request, records))
    rows = [_row(target, samplers, tasks) for (target, samplers), tasks in together.items()]
    return tuple(sorted(rows, key=_nearness, reverse=True))


def _row(target: str, samplers: str, tasks: Sequence[tuple[TaskRequest, Sequence[RunRecord]]]) -> RequestRow:
    memory = [Used(request.memory, max(run.peak_memory_bytes for run in runs)) for request, runs in tasks]
    time = [
        Used(request.seconds, sum(run.seconds["total"] for run in runs))
        for request, runs in tasks
        if request.seconds is not None
    ]
    return RequestRow(
        target=target,
        samplers=samplers,
        tasks=len(tasks),
        cpus=max(request.cpus for request, _ in tasks),
        attempts=max(request.attempt for request, _ in tasks),
        memory=max(memory, key=lambda used: used.share),
        time=max(time, key=lambda used: used.share, default=None),
    )


def _nearness(row: RequestRow) -> float:
    return max(row.memory.share, row.time.share if row.time else 0.0)
