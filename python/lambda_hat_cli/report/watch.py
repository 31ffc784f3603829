"""How far the runs of a pipeline are: its plan and results, joined with the progress files in its work folder."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from lambda_hat_cli.artifacts.progress import Progress, latest_progress
from lambda_hat_cli.artifacts.run import RunStatus
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.report import numbers
from lambda_hat_cli.report.plain import aligned, clipped, columns_of

State = Literal["running", "lost", "waiting", "missing", "finished"] | RunStatus
_IN_FLIGHT_FIRST: tuple[State, ...] = (
    "running", "lost", "failed", "diverged", "budget_exhausted", "completed", "finished", "missing", "waiting",
)  # fmt: skip
_HEADERS = ("run", "state", "λ̂ ± half width", "R-hat", "ESS", "chains × draws", "left", "heard of")
_RIGHT = frozenset({3, 4, 5, 6, 7})
_FOLDER_WIDTH = 40
"""Characters of a run's folder that a narrow terminal shows; a wide one, as many as the other columns leave."""
_OTHER_COLUMNS = 100


class Result(BaseModel):
    """What of an analysis.json is shown."""

    llc: float | None
    llc_low: float | None
    llc_high: float | None
    ess_mean: float | None
    rhat: float | None
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class WatchedRun:
    """A planned run and what is known of it now.

    Attributes:
        folder: its folder's name in the results.
        state: how the run ended; `running`; `lost` where its task ended before it did; `finished` where only the
            results tell of it; `waiting`, and `missing` where the pipeline has ended without it.
        progress: the last it told of itself in this pipeline, if anything.
        heard: when that was, as a file's time, seconds since 1970; 0 where it told nothing.
        exit_status: of its task, where that has ended.
        result: where its folder would be in the results.
    """

    folder: str
    state: State
    progress: Progress | None
    heard: float
    exit_status: int | None
    result: Path


@dataclass(frozen=True)
class Survey:
    """All planned runs at one moment. Ended: the pipeline has written its summary. Note: what hinders the watching."""

    runs: tuple[WatchedRun, ...]
    ended: bool
    note: str | None


class Watch:
    """A pipeline's results folder to look at, again and again."""

    def __init__(self, results: Path, work: Path | None = None):
        """Find the work folder where the pipeline noted it, unless it is given.

        Raises:
            UserError: when `results` is no results folder.
        """
        self._results = results
        self._note = results / "pipeline_info" / "folders.json"
        if not results.is_dir():
            raise UserError(f"{results}: no such folder; give the pipeline's --outdir")
        if not self._note.is_file():
            raise UserError(
                f"{self._note}: missing, so {results} is not the results folder of a pipeline; give its --outdir"
            )
        self._given = work
        self._plan = _Plan(results / "pipeline_info" / "plan" / "runs.jsonl")
        self._tasks: dict[Path, _Tasks] = {}

    def look(self) -> Survey:
        """The runs as they are now."""
        since = self._note.stat().st_mtime
        work = self._given or _noted_work_folder(self._note)
        tasks = self._tasks.setdefault(work, _Tasks(work)).look()
        # Of the tasks that worked on a run the last one counts; those of an earlier pipeline do not.
        current = sorted((task for task in tasks if task.heard >= since), key=lambda task: task.heard)
        latest = {run: task for task in current for run in task.latest}
        ended = _time_of(self._results / "summary" / "counts.json") >= since
        published = _names(self._results / "runs")
        watched = tuple(
            _watched(run, latest.get(run.id), run.folder in published, ended, self._results / "runs" / run.folder)
            for run in self._plan.look()
        )
        note = None if work.is_dir() else f"{work}: the tasks' work folder is not here; give it with --work"
        return Survey(watched, ended, note)


class _Planned(BaseModel):
    """What of a planned run is watched."""

    id: str
    folder: str


class _Plan:
    """The plan's runs; read again when their file is written again."""

    def __init__(self, file: Path):
        self._file = file
        self._written = 0.0
        self._runs: tuple[_Planned, ...] = ()

    def look(self) -> tuple[_Planned, ...]:
        """The runs; of a file that is being copied just now the lines that are whole, of none nothing."""
        written = _time_of(self._file)
        if written != self._written:
            lines = self._file.read_text(encoding="utf-8").splitlines() if written else []
            self._runs, self._written = tuple(_whole(lines)), written
        return self._runs


def _whole(lines: Iterable[str]) -> Iterator[_Planned]:
    for line in lines:
        with contextlib.suppress(ValidationError):
            yield _Planned.model_validate_json(line)


@dataclass(frozen=True)
class _Task:
    """A sampling task: the last progress of its runs by id, when its file was written, its exit status if it ended."""

    latest: dict[str, Progress]
    heard: float
    exit_status: int | None


class _Tasks:
    """The sampling tasks under a work folder; of one that has ended it remembers what there was to read."""

    def __init__(self, work: Path):
        self._work = work
        self._ended: dict[Path, _Task | None] = {}

    def look(self) -> list[_Task]:
        """All of them, whichever pipeline they belong to."""
        found = []
        for folder in self._folders():
            if folder in self._ended:
                task = self._ended[folder]
            else:
                # The exit status first: what is written before it is then read.
                status = _exit_status(folder / ".exitcode")
                task = _task(folder / "progress.jsonl", status)
                if status is not None:
                    self._ended[folder] = task
            if task is not None:
                found.append(task)
        return found

    def _folders(self) -> Iterator[Path]:
        """Nextflow's task folders: `ab/<the rest of the task's hash>`."""
        for prefix in _names(self._work):
            if len(prefix) == 2:
                yield from (self._work / prefix / name for name in _names(self._work / prefix))


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError:
        return set()


def _time_of(file: Path) -> float:
    """When it was written; 0 where it is not there."""
    with contextlib.suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _exit_status(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text(encoding="ascii"))
    return None


def _task(file: Path, exit_status: int | None) -> _Task | None:
    heard = _time_of(file)
    return _Task(latest_progress(file), heard, exit_status) if heard else None


def _noted_work_folder(note: Path) -> Path:
    try:
        return Path(json.loads(note.read_bytes())["work"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{note}: cannot be read ({error}); give the tasks' work folder with --work") from None


def _watched(run: _Planned, task: _Task | None, published: bool, ended: bool, result: Path) -> WatchedRun:
    make = partial(WatchedRun, folder=run.folder, result=result)
    if task is not None:
        progress = task.latest[run.id]
        lost = progress.state == "running" and task.exit_status is not None
        state: State = "lost" if lost else progress.state
        return make(state=state, progress=progress, heard=task.heard, exit_status=task.exit_status)
    state = "finished" if published else "missing" if ended else "waiting"
    return make(state=state, progress=None, heard=0.0, exit_status=None)


def table(survey: Survey, limit: int, now: float, width: int | None = None) -> str:
    """At most `limit` runs, those in flight first, then those that ended last; the rest is counted.

    Args:
        now: seconds since 1970, by the clock that the progress files' times are compared with.
        width: of the terminal in columns; None where there is none, and no line is cut.

    Returns:
        Lines, the table's cut to `width`, ending in a newline.
    """
    told = sorted(
        (run for run in survey.runs if run.state != "waiting"),
        key=lambda run: (_IN_FLIGHT_FIRST.index(run.state) if run.state in _IN_FLIGHT_FIRST[:3] else 3, -run.heard),
    )
    lines = [summary(survey)]
    if told:
        longest = None if width is None else max(_FOLDER_WIDTH, width - _OTHER_COLUMNS)
        rows = [_cells(run, now, longest) for run in told[:limit]]
        widths = [max(map(columns_of, column)) for column in zip(_HEADERS, *(cells for cells, _ in rows), strict=True)]
        lines += ["", aligned(_HEADERS, widths, _RIGHT)]
        lines += [_row(cells, words, widths) for cells, words in rows]
        if len(told) > limit:
            lines.append(f"and {len(told) - limit:,} more")
    note = [] if survey.note is None else ["", survey.note]
    return "\n".join([*(clipped(line.rstrip(), width) for line in lines), *note]) + "\n"


def summary(survey: Survey) -> str:
    """`5 runs: 2 running, 3 waiting`, by state in a fixed order."""
    if not survey.runs:
        return "nothing is planned yet"
    counts = Counter(run.state for run in survey.runs)
    total = f"{len(survey.runs):,} run{'' if len(survey.runs) == 1 else 's'}"
    parts = [f"{counts[state]:,} {_words(state)}" for state in _IN_FLIGHT_FIRST if counts[state]]
    return f"{total}: {', '.join(parts)}{'; the pipeline has ended' if survey.ended else ''}"


def _words(state: State) -> str:
    return state.replace("_", " ")


Cells = tuple[str, ...]


def _cells(run: WatchedRun, now: float, longest: int | None) -> tuple[Cells, str | None]:
    """The row of a run, its folder cut to `longest`, and what is said in place of its numbers where it has none."""
    folder, state = clipped(run.folder, longest), _words(run.state)
    empty = ("",) * (len(_HEADERS) - 2)
    result = None if run.state in ("running", "lost") else _result(run.result / "analysis.json")
    if result is not None:
        estimate = numbers.estimate(result.llc, result.llc_low, result.llc_high)
        told = (folder, f"{state}, {result.verdict}")
        if result.llc is None:
            return (*told, *empty), next(iter(result.reasons), None)
        return (*told, estimate, _rhat(result.rhat), numbers.count(result.ess_mean), "", "", ""), None
    if run.progress is None:
        return (folder, state, *empty), None
    silent = f"{_span(max(0.0, now - run.heard))} ago"
    if run.state == "lost":
        words = f"its task ended with status {run.exit_status}; {silent}: {run.progress.line}"
        return (folder, state, *empty), words
    so_far = run.progress.estimate
    if so_far is None:
        return (folder, state, *empty), f"{silent}: {run.progress.line}"
    half = so_far.half_width
    low, high = (None, None) if half is None else (so_far.llc - half, so_far.llc + half)
    left = "" if so_far.seconds_left is None or run.state != "running" else f"≤ {_span(so_far.seconds_left)}"
    shown = (
        numbers.estimate(so_far.llc, low, high),
        _rhat(so_far.rhat),
        numbers.count(so_far.ess),
        f"{so_far.chains} × {so_far.draws:,}",
        left,
        silent,
    )
    return (folder, state, *shown), None


def _row(cells: Cells, words: str | None, widths: Sequence[int]) -> str:
    """The aligned cells; words take the place of all columns after the state."""
    if words is None:
        return aligned(cells, widths, _RIGHT)
    return f"{aligned(cells[:2], widths[:2], ())}  {' '.join(words.split())}"


def _result(file: Path) -> Result | None:
    """An analysis' numbers; None where there is none, or not yet a whole one."""
    try:
        return Result.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _rhat(value: float | None) -> str:
    return numbers.UNKNOWN if value is None else f"{value:.3f}"


def _span(seconds: float) -> str:
    """A length of time to about two digits: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
