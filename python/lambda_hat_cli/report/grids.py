"""λ̂ over the combinations of a grid: the targets of one entry, by what the grid varies."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lambda_hat_cli.artifacts.store import write_text
from lambda_hat_cli.figures.grids import GridPanel, GridPoint, GridSeries
from lambda_hat_cli.report.collect import Collection, PlannedRun
from lambda_hat_cli.report.groups import planned_words, setting_of
from lambda_hat_cli.report.replicates import SHOWN
from lambda_hat_cli.report.results import mark_of, result_row

COLUMNS = (
    "target", "target_id", "n", "d", "beta", "gamma", "sampler", "replicate", "run_id", "verdict", "minimum", "delta",
    "llc", "llc_se", "llc_low", "llc_high", "finite_t_value", "truth",
)  # fmt: skip
SEED = "seed"
DRAWN = 12
"""Lines that a picture shows; more of them would hide each other."""


@dataclass(frozen=True)
class GridGroup:
    """The runs of one entry's combinations at one β and γ as they were planned.

    Attributes:
        name: the entry's. picture: a file name.
        keys: what the grid varies, as in the file; the first that is no seed is what λ̂ is drawn against.
        runs: in plan order.
    """

    name: str
    picture: str
    keys: tuple[str, ...]
    runs: tuple[PlannedRun, ...]

    @property
    def against(self) -> str:
        """The key on the x axis."""
        return next((key for key in self.keys if key != SEED), SEED)


def grid_groups(collection: Collection) -> tuple[GridGroup, ...]:
    """The groups in plan order; none where no entry has a grid. Checkpoints are shown through their training alone."""
    runs: dict[tuple[str, str], list[PlannedRun]] = defaultdict(list)
    for run in collection.runs:
        if run.target.row.varied and run.target.row.step is None:
            runs[run.target.row.entry, setting_of(run.row.posterior)].append(run)
    return tuple(
        GridGroup(name, f"{name}-{setting}.png", tuple(members[0].target.row.varied), tuple(members))
        for (name, setting), members in runs.items()
    )


def grid_panel(experiment: str, group: GridGroup) -> GridPanel:
    """What the group's picture shows: of many replicates the first, of many lines a few, evenly chosen."""
    values = {_label(value): value for value in (run.target.row.varied[group.against] for run in group.runs)}
    labels = tuple(values)
    numeric = group.against != SEED and all(map(_is_number, values.values()))
    by_series: dict[tuple[str, str], list[GridPoint]] = defaultdict(list)
    for run in group.runs:
        if run.row.replicate < SHOWN:
            result, varied = result_row(experiment, run), run.target.row.varied
            place = labels.index(_label(varied[group.against]))
            point = GridPoint(place, mark_of(result), result.finite_t_value, result.truth)
            by_series[run.row.sampler, _others(varied, group)].append(point)
    drawn = _evenly(list(dict.fromkeys(others for _, others in by_series)), len({sampler for sampler, _ in by_series}))
    return GridPanel(
        title=group.name,
        subtitle=planned_words(group.runs[0].row.posterior),
        key=group.against,
        values=tuple(map(float, values.values())) if numeric else labels,
        joined=numeric,
        series=tuple(
            GridSeries(sampler, others, tuple(points))
            for (sampler, others), points in by_series.items()
            if others in drawn
        ),
        undrawn=sum(others not in drawn for _, others in by_series),
    )


def _evenly(others: Sequence[str], samplers: int) -> set[str]:
    """The choices of the other values of which every sampler's line is drawn, the first and the last among them."""
    room = max(1, DRAWN // samplers)
    return {others[place] for place in np.linspace(0, len(others) - 1, min(room, len(others))).round().astype(int)}


def write_grids(path: Path, experiment: str, grids: Sequence[GridGroup]) -> None:
    """Write grids.csv, one row a run, with a column for each key of any grid; unknown cells are empty."""
    keys = tuple(dict.fromkeys(key for group in grids for key in group.keys))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("name", *keys, *COLUMNS))
    for group in grids:
        for run in group.runs:
            result, varied = result_row(experiment, run), run.target.row.varied
            cells = [_label(varied[key]) if key in varied else None for key in keys]
            table.writerow([group.name, *cells, *(getattr(result, column) for column in COLUMNS)])
    write_text(path, text.getvalue())


def _others(varied: Mapping[str, Any], group: GridGroup) -> str:
    """The values besides the one on the x axis and the seed, in words."""
    return ", ".join(f"{key} = {_label(varied[key])}" for key in group.keys if key not in (group.against, SEED))


def _label(value: Any) -> str:
    """A value as it could stand in the file; text without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
