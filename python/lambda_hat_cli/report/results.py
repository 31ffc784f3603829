"""The table of results: one typed row for every planned run, as CSV and Parquet."""

import csv
import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from lambda_hat_cli.artifacts.analysis import VerdictLabel
from lambda_hat_cli.artifacts.store import write_text
from lambda_hat_cli.artifacts.target import ArtifactRecord
from lambda_hat_cli.experiment.schema import Precision
from lambda_hat_cli.figures.marks import Mark
from lambda_hat_cli.report.collect import Collection, PlannedRun, Status


class ResultRow(ArtifactRecord):
    """One line of results.csv; None is an empty cell and means unknown. docs/results.md explains each column."""

    experiment: str
    target: str
    target_id: str
    sampler: str
    run_id: str
    replicate: int
    precision: Precision
    status: Status
    verdict: VerdictLabel | None
    llc: float | None
    llc_se: float | None
    llc_low: float | None
    llc_high: float | None
    truth: float | None
    truth_kind: Literal["exact_global", "exact_local", "none"] | None
    finite_t_value: float | None
    finite_t_se: float | None
    finite_t_kind: Literal["exact", "reference", "none"] | None
    relative_error: float | None
    relative_error_limit: float | None
    minimum: Literal["at_minimum", "above_minimum"] | None
    delta: float | None
    rhat: float | None
    ess: float | None
    gradients: float | None
    seconds_sampling: float | None
    seconds_total: float | None
    n: int | None
    d: int | None
    beta: float | None
    gamma: float
    nbeta: float | None
    target_kind: str
    ess_bulk: float | None
    ess_tail: float | None
    truth_exact: str | None
    folder: str
    reason: str | None
    llc_variance: float | None
    llc_variance_se: float | None
    llc_slope: float | None
    llc_slope_se: float | None
    stated_error: float | None


def result_row(experiment: str, run: PlannedRun) -> ResultRow:
    """The row of one planned run; what no stage has reported stays None."""
    row, target = run.row, run.target.record
    analysis = run.analysis.record if run.analysis else None
    record = analysis.run if analysis else None
    truth = analysis.truth if analysis else target.truth if target else None
    n = record.n if record else target.n if target else row.n
    beta = record.inverse_temperature if record else _planned_beta(row.posterior.inverse_temperature, n)
    return ResultRow(
        experiment=experiment,
        target=row.target,
        target_id=row.target_id,
        sampler=row.sampler,
        run_id=row.id,
        replicate=row.replicate,
        precision=row.precision,
        status=run.status,
        verdict=analysis.verdict if analysis and run.status != "failed" else None,
        llc=analysis.llc if analysis else None,
        llc_se=analysis.llc_se if analysis else None,
        llc_low=analysis.llc_low if analysis else None,
        llc_high=analysis.llc_high if analysis else None,
        truth=float(Fraction(truth.coefficient)) if truth and truth.coefficient else None,
        truth_kind=truth.kind if truth else None,
        finite_t_value=analysis.finite_t.value if analysis else None,
        finite_t_se=analysis.finite_t.se if analysis else None,
        finite_t_kind=analysis.finite_t.kind if analysis else None,
        relative_error=analysis.relative_error if analysis else None,
        relative_error_limit=analysis.relative_error_limit if analysis else None,
        minimum=analysis.minimum if analysis else None,
        delta=analysis.delta if analysis else None,
        rhat=analysis.rhat if analysis else None,
        ess=analysis.ess_mean if analysis else None,
        gradients=math.fsum(record.gradients.values()) if record else None,
        seconds_sampling=record.seconds.get("sampling") if record else None,
        seconds_total=record.seconds.get("total") if record else None,
        n=n,
        d=record.d if record else target.d if target else row.d,
        beta=beta,
        gamma=row.posterior.localization,
        nbeta=n * beta if n is not None and beta is not None else None,
        target_kind=row.target_kind,
        ess_bulk=analysis.ess_bulk if analysis else None,
        ess_tail=analysis.ess_tail if analysis else None,
        truth_exact=truth.coefficient if truth else None,
        folder=row.folder,
        reason="; ".join(run.reasons) or None,
        llc_variance=analysis.llc_variance if analysis else None,
        llc_variance_se=analysis.llc_variance_se if analysis else None,
        llc_slope=analysis.llc_slope if analysis else None,
        llc_slope_se=analysis.llc_slope_se if analysis else None,
        stated_error=analysis.stated_error if analysis else None,
    )


def result_rows(collection: Collection) -> tuple[ResultRow, ...]:
    """A row for every planned run, in plan order."""
    return tuple(result_row(collection.plan.experiment.name, run) for run in collection.runs)


def write_csv(path: Path, rows: tuple[ResultRow, ...]) -> None:
    """Write the rows; floats are written so that reading gives the same bits, unknown cells are empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, fieldnames=list(ResultRow.model_fields), lineterminator="\n")
    table.writeheader()
    table.writerows(row.model_dump() for row in rows)
    write_text(path, text.getvalue())


def write_parquet(path: Path, rows: tuple[ResultRow, ...]) -> None:
    """Write the same rows with typed columns; unknown cells are null."""
    schema = pa.schema([(name, _arrow_type(field.annotation)) for name, field in ResultRow.model_fields.items()])
    pq.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], schema=schema), path)


def _planned_beta(inverse_temperature: float | str, n: int | None) -> float | None:
    """β as the plan implies it: `auto` is 1/log n, unknown where n is."""
    if not isinstance(inverse_temperature, str):
        return inverse_temperature
    return 1 / math.log(n) if n is not None else None


def _arrow_type(annotation: object) -> pa.DataType:
    """The column type of a field: text unless its annotation allows an int or a float."""
    kinds = (annotation, *get_args(annotation))
    return pa.int64() if int in kinds else pa.float64() if float in kinds else pa.string()


def mark_of(result: ResultRow) -> Mark:
    """How the run is marked in pictures that compare runs."""
    estimate = None
    if result.llc is not None and result.llc_low is not None and result.llc_high is not None:
        estimate = (result.llc, result.llc_low, result.llc_high)
    return Mark(estimate, result.verdict == "reliable", result.minimum)
