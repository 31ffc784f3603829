"""Many replicates in little room: the first few one by one, and a line on what all of them say together."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lambda_hat_cli.estimate.interval import WIDTH
from lambda_hat_cli.report.collect import OUTCOMES, PlannedRun

SHOWN = 20
"""Replicates of a sampler that tables, page and pictures show one by one; a failed or missing one always is."""


LOST = ("failed", "missing")


@dataclass(frozen=True)
class Together:
    """All replicates of a sampler in one group, where they are too many to be shown one by one.

    Attributes:
        sampler: its name. number: how many there are. outcomes: how they ended, in words.
        llc, low, high: the mean of their λ̂, of those that have one, and mean ± WIDTH standard errors by their spread;
            None where fewer than two have a number.
        trouble: why the first of those that failed or are missing did; None where none did.
    """

    sampler: str
    number: int
    outcomes: str
    llc: float | None
    low: float | None
    high: float | None
    trouble: str | None

    @property
    def label(self) -> str:
        """`hmc, all 100`."""
        return f"{self.sampler}, all {self.number:,}"


def shown(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """The first replicates of each sampler, in the order of `runs`, which are of one group."""
    seen: Counter[str] = Counter()
    kept = []
    for run in runs:
        seen[run.row.sampler] += 1
        if seen[run.row.sampler] <= SHOWN or run.outcome in LOST:
            kept.append(run)
    return tuple(kept)


def together(runs: Iterable[PlannedRun]) -> tuple[Together, ...]:
    """What the replicates of each sampler say together, for the samplers that have more than are shown."""
    by_sampler: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_sampler.setdefault(run.row.sampler, []).append(run)
    return tuple(_together(name, members) for name, members in by_sampler.items() if len(members) > SHOWN)


def _together(sampler: str, runs: list[PlannedRun]) -> Together:
    ended = Counter(run.outcome for run in runs)
    values = [run.analysis.record.llc for run in runs if run.analysis and run.analysis.record.llc is not None]
    mean = half = None
    if len(values) > 1:
        mean, half = statistics.fmean(values), WIDTH * statistics.stdev(values) / math.sqrt(len(values))
    lost = (run for run in runs if run.outcome in LOST)
    return Together(
        sampler=sampler,
        number=len(runs),
        outcomes=", ".join(f"{ended[outcome]} {outcome}" for outcome in OUTCOMES if ended[outcome]),
        llc=mean,
        low=None if mean is None or half is None else mean - half,
        high=None if mean is None or half is None else mean + half,
        trouble=next((run.reasons[0] for run in lost), None),
    )
