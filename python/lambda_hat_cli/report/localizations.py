"""λ̂ over a list of localizations: the runs of one target, by sampler, β and γ."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.estimate.analysis import limit_of
from lambda_hat_cli.estimate.interval import WIDTH
from lambda_hat_cli.estimate.temperatures import mean_error
from lambda_hat_cli.figures.localizations import LocalizationPanel, Place
from lambda_hat_cli.figures.marks import Minimum
from lambda_hat_cli.report.collect import Collection, PlannedTarget
from lambda_hat_cli.report.temperatures import point_of


@dataclass(frozen=True)
class LocalizationGroup:
    """One target with more than one γ planned; `picture` is a file name."""

    target: PlannedTarget
    picture: str
    records: tuple[AnalysisRecord, ...]


def localization_groups(collection: Collection) -> tuple[LocalizationGroup, ...]:
    """The groups in plan order; none where every target has one γ."""
    gammas: dict[str, set[float]] = {}
    records: dict[str, list[AnalysisRecord]] = {}
    for run in collection.runs:
        gammas.setdefault(run.row.target_id, set()).add(run.row.posterior.localization)
        if run.analysis is not None:
            records.setdefault(run.row.target_id, []).append(run.analysis.record)
    return tuple(
        LocalizationGroup(target, f"{target.row.folder}.png", tuple(records.get(target.row.id, ())))
        for target in collection.targets
        if len(gammas.get(target.row.id, ())) > 1
    )


def localization_panel(group: LocalizationGroup) -> LocalizationPanel:
    """What the group's picture shows; replicates are averaged."""
    known: dict[tuple[str, float, float], list[AnalysisRecord]] = defaultdict(list)
    for record in group.records:
        if record.llc is not None:
            known[record.sampler, record.beta, record.gamma].append(record)
    truth = group.target.record.truth if group.target.record else None
    return LocalizationPanel(
        title=group.target.row.name,
        places=tuple(found for place, records in known.items() if (found := _place(*place, records)) is not None),
        limit=None if truth is None else limit_of(truth),
    )


def _place(sampler: str, beta: float, gamma: float, records: Sequence[AnalysisRecord]) -> Place | None:
    """The mean of independent estimates: their standard errors shrink with their number, what biases them does not."""
    points = [point for record in records if (point := point_of(record)) is not None]
    if not points:
        return None
    llc = float(np.mean([point.llc for point in points]))
    half_width = WIDTH * mean_error([point.se for point in points]) + float(np.mean([point.bias for point in points]))
    return Place(
        sampler=sampler,
        beta=beta,
        gamma=gamma,
        llc=llc,
        low=llc - half_width,
        high=llc + half_width,
        reliable=all(record.verdict == "reliable" for record in records),
        minimum=_minimum({record.minimum for record in records}),
    )


def _minimum(found: set[Minimum | None]) -> Minimum | None:
    """One run above a minimum makes a mean that is no estimate of λ."""
    if "above_minimum" in found:
        return "above_minimum"
    return "at_minimum" if found == {"at_minimum"} else None
