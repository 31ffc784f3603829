"""λ̂ over the combinations of a grid: the targets of one entry, by what the grid varies."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_hat_cli.artifacts.store import write_text
from lambda_hat_cli.figures.grids import GridPanel, GridPoint, GridSeries
from lambda_hat_cli.report.collect import Collection, PlannedRun
from lambda_hat_cli.report.groups import planned_words, setting_of
from lambda_hat_cli.report.replicates import SHOWN
from lambda_hat_cli.report.results import mark_of, result_row

COLUMNS = (
    "target", "target_id", "n", "d", "beta", "gamma", "sampler", "replicate", "run_id", "verdict", "minimum", "delta",
    "llc", "llc_se", "llc_low", "llc_high", "finite_t_value",
)  # fmt: skip
SEED = "seed"


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
    """What the group's picture shows: of many replicates the first."""
    values = {_label(value): value for value in (run.target.row.varied[group.against] for run in group.runs)}
    labels = tuple(values)
    by_series: dict[tuple[str, str], list[GridPoint]] = defaultdict(list)
    for run in group.runs:
        if run.row.replicate < SHOWN:
            result, varied = result_row(experiment, run), run.target.row.varied
            point = GridPoint(labels.index(_label(varied[group.against])), mark_of(result), result.finite_t_value)
            by_series[run.row.sampler, _others(varied, group)].append(point)
    return GridPanel(
        title=group.name,
        subtitle=planned_words(group.runs[0].row.posterior),
        key=group.against,
        values=tuple(map(float, values.values()))
        if group.against != SEED and all(map(_is_number, values.values()))
        else labels,
        series=tuple(GridSeries(sampler, others, tuple(points)) for (sampler, others), points in by_series.items()),
    )


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
