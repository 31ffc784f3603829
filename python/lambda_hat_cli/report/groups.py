"""Runs that estimate the same number: same target, β and γ, whatever the sampler."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.schema import PosteriorSettings
from lambda_hat_cli.figures.combined import Curve, Panel
from lambda_hat_cli.report import numbers
from lambda_hat_cli.report.collect import Collection, PlannedRun, PlannedTarget
from lambda_hat_cli.report.replicates import shown
from lambda_hat_cli.report.results import ResultRow, result_row

CURVE_COLUMNS = ("gradients", "llc", "low", "high")


@dataclass(frozen=True)
class Group:
    """The runs of one (target, β, γ), in plan order, and the name of their combined picture."""

    target: PlannedTarget
    picture: str
    runs: tuple[PlannedRun, ...]


def groups(collection: Collection) -> tuple[Group, ...]:
    """The groups in plan order."""
    members: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in collection.runs:
        members.setdefault((run.row.target_id, setting_of(run.row.posterior)), []).append(run)
    return tuple(
        Group(runs[0].target, f"{runs[0].target.row.folder}-{setting}.png", tuple(runs))
        for (_, setting), runs in members.items()
    )


def setting_of(posterior: PosteriorSettings) -> str:
    """β and γ as part of a file's name, exactly."""
    temperature = posterior.inverse_temperature
    beta = temperature if isinstance(temperature, str) else repr(temperature)
    return f"beta-{beta}-gamma-{posterior.localization!r}"


def planned_words(posterior: PosteriorSettings) -> str:
    """β and γ in words, for runs whose n differ."""
    temperature = posterior.inverse_temperature
    beta = "1/log n" if isinstance(temperature, str) else numbers.significant(temperature)
    return f"β = {beta}, γ = {numbers.significant(posterior.localization)}"


def run_label(run: PlannedRun) -> str:
    """The sampler's name, with the replicate where it is not the first."""
    return run.row.sampler + (f" #{run.row.replicate + 1}" if run.row.replicate else "")


def panel(collection: Collection, group: Group) -> Panel:
    """What the combined picture of a group shows: the first replicates of each sampler."""
    drawn = shown(group.runs)
    results = [result_row(collection.plan.experiment.name, run) for run in drawn]
    first = results[0]
    exact = next((result for result in results if result.finite_t_value is not None), None)
    limit = next((result.truth for result in results if result.truth is not None), None)
    return Panel(
        title=first.target,
        subtitle=", ".join(
            f"{symbol} = {numbers.significant(value)}"
            for symbol, value in (("n", first.n), ("d", first.d), ("β", first.beta), ("γ", first.gamma))
        ),
        curves=tuple(_curve(run, result) for run, result in zip(drawn, results, strict=True)),
        finite_t=exact.finite_t_value if exact else None,
        finite_t_kind=exact.finite_t_kind if exact else None,
        limit=limit,
    )


def samplers(collection: Collection) -> tuple[str, ...]:
    """The samplers' names in plan order, each once; their order fixes their colours."""
    return tuple(dict.fromkeys(run.row.sampler for run in collection.runs))


def _curve(run: PlannedRun, result: ResultRow) -> Curve:
    return Curve(
        sampler=run.row.sampler,
        label=run_label(run),
        outcome=run.outcome,
        final=(result.llc, result.llc_low, result.llc_high),
        **_read_curve(run.analysis.path / "convergence.csv" if run.analysis else None),
    )


def _read_curve(path: Path | None) -> dict[str, np.ndarray]:
    """The curve's columns, each (points,) float64, empty cells NaN; no points for a run that drew nothing.

    Raises:
        UserError: when the file is no such table.
    """
    if path is None or not path.exists():
        return {name: np.empty(0) for name in CURVE_COLUMNS}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        return {name: np.array([float(line[name] or "nan") for line in lines]) for name in CURVE_COLUMNS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        columns = ", ".join(CURVE_COLUMNS)
        raise UserError(f"{path}: not a table with columns {columns} ({error!r}); analyse the run again") from error
