"""λ̂ over a list of inverse temperatures: the runs of one (target, γ, sampler) and what they say together."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.artifacts.store import write_text
from lambda_hat_cli.estimate.analysis import limit_of
from lambda_hat_cli.estimate.free_energy import FreeEnergy, free_energy
from lambda_hat_cli.estimate.interval import WIDTH
from lambda_hat_cli.estimate.temperatures import (
    MISFIT_P,
    Multiplicity,
    Regression,
    Temperature,
    multiplicity,
    regression,
)
from lambda_hat_cli.figures.temperatures import Series, TemperaturePanel, TemperaturePoint
from lambda_hat_cli.report import numbers
from lambda_hat_cli.report.collect import Collection, PlannedRun, PlannedTarget
from lambda_hat_cli.report.replicates import SHOWN
from lambda_hat_cli.report.results import mark_of, result_row

COLUMNS = (
    "target", "target_id", "gamma", "sampler", "runs", "temperatures", "llc_regression", "llc_regression_se",
    "llc_regression_low", "llc_regression_high", "llc_regression_misfit_p", "llc_trend", "llc_trend_se", "llc_trend_p",
    "multiplicity_best", "multiplicity_low",
    "multiplicity_high", "multiplicity_misfit_p", "free_energy", "free_energy_se", "free_energy_quadrature",
    "free_energy_low", "free_energy_high", "free_energy_low_nbeta", "free_energy_high_nbeta",
)  # fmt: skip


@dataclass(frozen=True)
class SamplerSeries:
    """The usable runs of one sampler, in order of t, what they say together, and its runs `without` a number."""

    sampler: str
    runs: tuple[PlannedRun, ...]
    without: tuple[PlannedRun, ...]
    records: tuple[AnalysisRecord, ...]
    regression: Regression | None
    multiplicity: Multiplicity | None
    free_energy: FreeEnergy | None


@dataclass(frozen=True)
class TemperatureGroup:
    """One (target, γ) with more than one temperature planned; `picture` is a file name."""

    target: PlannedTarget
    gamma: float
    picture: str
    series: tuple[SamplerSeries, ...]


def temperature_groups(collection: Collection) -> tuple[TemperatureGroup, ...]:
    """The groups in plan order; none where every (target, γ) has one temperature."""
    members: dict[tuple[str, float], list[PlannedRun]] = {}
    for run in collection.runs:
        members.setdefault((run.row.target_id, run.row.posterior.localization), []).append(run)
    return tuple(
        TemperatureGroup(
            target=runs[0].target,
            gamma=gamma,
            picture=f"{runs[0].target.row.folder}-gamma-{gamma!r}.png",
            series=tuple(
                _series(sampler, [run for run in runs if run.row.sampler == sampler])
                for sampler in dict.fromkeys(run.row.sampler for run in runs)
            ),
        )
        for (_, gamma), runs in members.items()
        if len({run.row.posterior.inverse_temperature for run in runs}) > 1
    )


def temperature_panel(experiment: str, group: TemperatureGroup) -> TemperaturePanel:
    """What the group's picture shows: of many replicates the first."""
    records = [record for series in group.series for record in series.records]
    exact = {record.nbeta: record.finite_t.value for record in records if record.finite_t.value is not None}
    truth = group.target.record.truth if group.target.record else None
    return TemperaturePanel(
        title=group.target.row.name,
        subtitle=f"γ = {numbers.significant(group.gamma)}",
        series=tuple(Series(series.sampler, _points(experiment, series)) for series in group.series),
        exact=tuple(sorted(exact.items())),
        limit=None if truth is None else limit_of(truth),
    )


def _points(experiment: str, series: SamplerSeries) -> tuple[TemperaturePoint, ...]:
    """Its runs in order of t, those without a number too unless their t is not known."""
    results = [result_row(experiment, run) for run in (*series.runs, *series.without) if run.row.replicate < SHOWN]
    points = [
        TemperaturePoint(result.nbeta, mark_of(result), result.llc_variance)
        for result in results
        if result.nbeta is not None
    ]
    return tuple(sorted(points, key=lambda point: point.t))


def write_temperatures(path: Path, groups: tuple[TemperatureGroup, ...]) -> None:
    """Write temperatures.csv, one row a (target, γ, sampler); unknown cells are empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for group in groups:
        for series in group.series:
            line, found, energy = series.regression, series.multiplicity, series.free_energy
            temperatures = len({record.nbeta for record in series.records})
            table.writerow(
                [
                    *(group.target.row.name, group.target.row.id, group.gamma, series.sampler),
                    *(len(series.records), temperatures),
                    *((line.llc, line.se, line.low, line.high, line.misfit_p) if line else 5 * [None]),
                    *((line.trend, line.trend_se, line.trend_p) if line else 3 * [None]),
                    *((found.best, found.low, found.high, found.misfit_p) if found else 4 * [None]),
                    *((energy.difference, energy.se, energy.quadrature) if energy else 3 * [None]),
                    *((energy.low, energy.high, energy.low_nbeta, energy.high_nbeta) if energy else 4 * [None]),
                ]
            )
    write_text(path, text.getvalue())


def regression_words(found: Regression | None) -> str:
    """The slope of the line, or why it is withheld."""
    if found is None:
        return "needs two temperatures"
    if found.llc is None:
        return "none: λ̂ rises with t" if found.trend_p < MISFIT_P else "none: no line fits, λ̂ depends on t"
    return numbers.estimate(found.llc, found.low, found.high)


def trend_words(found: Regression | None) -> str:
    """dλ̂/d log t with 2.1 standard errors."""
    if found is None:
        return "–"
    half_width = WIDTH * found.trend_se
    return numbers.estimate(found.trend, found.trend - half_width, found.trend + half_width)


def multiplicity_words(found: Multiplicity | None) -> str:
    """The interval in words: what fits, and whether that says anything."""
    if found is None:
        return "needs four temperatures"
    if found.low is None:
        return "no interval: λ̂(t) does not have the form that it is read from"
    if found.high is None:
        return f"{found.low} or more"
    return f"{found.low}" if found.low == found.high else f"{found.low} to {found.high}"


def free_energy_words(found: FreeEnergy | None) -> str:
    """The difference of free energies with its interval, and between which t."""
    if found is None:
        return "needs two temperatures"
    ends = f", from t = {numbers.significant(found.low_nbeta)} to {numbers.significant(found.high_nbeta)}"
    return numbers.estimate(found.difference, found.low, found.high) + ends


def _series(sampler: str, runs: list[PlannedRun]) -> SamplerSeries:
    usable = [run for run in runs if run.analysis is not None and run.analysis.record.llc is not None]
    usable.sort(key=lambda run: run.analysis.record.nbeta if run.analysis else 0.0)
    records = tuple(run.analysis.record for run in usable if run.analysis is not None)
    points = [point for record in records if (point := point_of(record)) is not None]
    return SamplerSeries(
        sampler=sampler,
        runs=tuple(usable),
        without=tuple(run for run in runs if run.analysis is None or run.analysis.record.llc is None),
        records=records,
        regression=regression(points),
        multiplicity=multiplicity(points, records[0].d) if records else None,
        free_energy=free_energy(points),
    )


def point_of(record: AnalysisRecord) -> Temperature | None:
    """A run's numbers with its sampler's bias apart from its standard error; None where it has none to use."""
    if record.llc is None or record.llc_se is None or record.llc_high is None or not record.llc_se > 0:
        return None
    return Temperature(
        beta=record.beta,
        nbeta=record.nbeta,
        llc=record.llc,
        se=record.llc_se,
        bias=max(0.0, record.llc_high - record.llc - WIDTH * record.llc_se),
        variance=record.llc_variance,
        variance_se=record.llc_variance_se,
        slope_se=record.llc_slope_se,
    )
