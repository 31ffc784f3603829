"""What was planned, joined with what came of it: every planned target and run, whether or not it has a result."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from lambda_hat_cli.artifacts.analysis import AnalysisFolder, VerdictLabel
from lambda_hat_cli.artifacts.failure import FailureNote, Stage
from lambda_hat_cli.artifacts.run import RunStatus
from lambda_hat_cli.artifacts.store import read_record, read_records
from lambda_hat_cli.artifacts.target import TargetRecord, TrainingRecord
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.rows import PlanRecord, RunRow, TargetRow

Result = TypeVar("Result")
Status = RunStatus | Literal["missing"]
Outcome = VerdictLabel | Literal["failed", "missing"]
OUTCOMES: tuple[Outcome, ...] = ("reliable", "uncertain", "invalid", "failed", "missing")
STAGES: dict[Stage, str] = {"build_target": "building the target", "sample": "sampling", "analyze": "the analysis"}
LOST = "the task was killed or crashed; see pipeline_info/trace.txt"


@dataclass(frozen=True)
class PlannedTarget:
    """A target of the plan; `record` is None where it was not built, `failure` says why where that is known."""

    row: TargetRow
    record: TargetRecord | None
    failure: FailureNote | None

    @property
    def training(self) -> TrainingRecord | None:
        """How the target was trained; None where it was not, by no step at all included."""
        training = self.record.training if self.record is not None else None
        return training if training is not None and training.steps > 0 else None

    @property
    def reason(self) -> str | None:
        """Why there is no target; None where there is one."""
        if self.record is not None:
            return None
        return describe(self.failure) if self.failure else f"no result of building the target: {LOST}"


@dataclass(frozen=True)
class PlannedRun:
    """A run of the plan; `analysis` is None where there is none, `failure` says why where that is known."""

    row: RunRow
    target: PlannedTarget
    analysis: AnalysisFolder | None
    failure: FailureNote | None

    @cached_property
    def status(self) -> Status:
        """How the run ended."""
        if self.analysis is not None:
            return self.analysis.record.run.status
        return "failed" if self.failure or self.target.failure else "missing"

    @cached_property
    def outcome(self) -> Outcome:
        """The verdict, or why there is none."""
        if self.analysis is None or self.status == "failed":
            return "failed" if self.status == "failed" else "missing"
        return self.analysis.record.verdict

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why the run is not reliable, most important first; empty where it is."""
        if self.analysis is not None:
            record = self.analysis.record
            return tuple(dict.fromkeys(reason for reason in (*record.reasons, record.run.reason) if reason))
        if self.failure:
            return (describe(self.failure),)
        if self.target.reason:
            return (self.target.reason,)
        return (f"no result of sampling or analysis: {LOST}",)


@dataclass(frozen=True)
class Collection:
    """Everything the report is made of, in plan order.

    Attributes:
        plan: what was asked for.
        stray: failure notes of stages that could not even read which target or run they were for.
    """

    plan: PlanRecord
    targets: tuple[PlannedTarget, ...]
    runs: tuple[PlannedRun, ...]
    stray: tuple[FailureNote, ...]

    def count(self, outcome: Outcome) -> int:
        """How many runs ended so."""
        return sum(run.outcome == outcome for run in self.runs)


def describe(note: FailureNote) -> str:
    """A failure note as one sentence that names its stage."""
    return f"{STAGES[note.stage]} failed: {note.message}"


def collect(plan: Path, analyses: Path, targets: Path, failures: Path) -> Collection:
    """Join the plan with the analysis folders, target folders and failure notes found in these folders.

    Raises:
        UserError: when the plan cannot be read, or a result belongs to nothing in it or comes twice.
    """
    asked = read_record(plan / "experiment.json", PlanRecord)
    target_rows = read_records(plan / "targets.jsonl", TargetRow)
    run_rows = read_records(plan / "runs.jsonl", RunRow)
    planned = {row.id for row in run_rows} | {row.id for row in target_rows}

    records = [(file, read_record(file, TargetRecord)) for file in _inside(targets, "*/target.json")]
    built = _by_id(((file, record, record.id) for file, record in records), planned)
    folders = [AnalysisFolder(file.parent) for file in _inside(analyses, "*/analysis.json")]
    analysed = _by_id(((folder.path, folder, folder.record.run_id) for folder in folders), planned)
    found = [read_record(file, FailureNote) for file in _inside(failures, "*.json")]
    notes = {note.id: note for note in found}

    by_target = {row.id: PlannedTarget(row, built.get(row.id), notes.get(row.id)) for row in target_rows}
    for row in run_rows:
        if row.target_id not in by_target:
            raise UserError(f"{plan / 'runs.jsonl'}: run {row.id} needs target {row.target_id}, which is not planned")
    runs = (PlannedRun(row, by_target[row.target_id], analysed.get(row.id), notes.get(row.id)) for row in run_rows)
    stray = tuple(note for note in found if note.id not in planned)
    return Collection(asked, tuple(by_target.values()), tuple(runs), stray)


def _inside(folder: Path, pattern: str) -> list[Path]:
    """Matching files in order of their names; none where the folder does not exist."""
    return sorted(folder.glob(pattern))


def _by_id(found: Iterable[tuple[Path, Result, str]], planned: set[str]) -> dict[str, Result]:
    """Results by identity, each planned and found once."""
    results: dict[str, Result] = {}
    for path, result, identity in found:
        if identity not in planned:
            raise UserError(f"{path}: its id {identity} is not in the plan; give the plan that it was made from")
        if identity in results:
            raise UserError(f"{path}: a second result with id {identity}; give each result once")
        results[identity] = result
    return results
