"""λ̂ over a list of localizations: the runs of one target, by sampler, β and γ."""

from dataclasses import dataclass

import numpy as np

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.estimate.analysis import limit_of
from lambda_hat_cli.figures.localizations import LocalizationPanel, Place
from lambda_hat_cli.report.collect import Collection, PlannedTarget


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
    known: dict[tuple[str, float, float], list[tuple[float, float, float]]] = {}
    for record in group.records:
        if record.llc is not None and record.llc_low is not None and record.llc_high is not None:
            place = (record.sampler, record.beta, record.gamma)
            known.setdefault(place, []).append((record.llc, record.llc_low, record.llc_high))
    truth = group.target.record.truth if group.target.record else None
    return LocalizationPanel(
        title=group.target.row.name,
        places=tuple(_place(*place, estimates) for place, estimates in known.items()),
        limit=None if truth is None else limit_of(truth),
    )


def _place(sampler: str, beta: float, gamma: float, estimates: list[tuple[float, float, float]]) -> Place:
    """The mean of independent estimates; half widths shrink with the root of their number."""
    values = np.array(estimates)
    llc = float(values[:, 0].mean())
    half = np.maximum(values[:, 2] - values[:, 0], values[:, 0] - values[:, 1])
    half_width = float(np.linalg.norm(half)) / len(half)
    return Place(sampler, beta, gamma, llc, llc - half_width, llc + half_width)
