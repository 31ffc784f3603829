"""The summary folder: tables, combined pictures, the page and the counts that a pipeline's exit status comes from."""

import json
from collections.abc import Sequence
from pathlib import Path

from lambda_hat_cli.artifacts.store import write_text
from lambda_hat_cli.figures.checkpoints import draw_checkpoints
from lambda_hat_cli.figures.combined import draw_overview, draw_panel
from lambda_hat_cli.figures.grids import draw_grid
from lambda_hat_cli.figures.localizations import draw_localizations
from lambda_hat_cli.figures.temperatures import draw_temperatures
from lambda_hat_cli.figures.training import draw_training
from lambda_hat_cli.report.checkpoints import checkpoint_panel, write_checkpoints
from lambda_hat_cli.report.collect import Collection
from lambda_hat_cli.report.console import table
from lambda_hat_cli.report.grids import grid_panel, write_grids
from lambda_hat_cli.report.groups import groups, panel, samplers
from lambda_hat_cli.report.layout import (
    CHECKPOINTS,
    CONVERGENCE,
    GRIDS,
    LOCALIZATIONS,
    OVERVIEW,
    TEMPERATURES,
    TRAINING,
)
from lambda_hat_cli.report.localizations import localization_panel
from lambda_hat_cli.report.page import page
from lambda_hat_cli.report.requests import TaskRow, request_rows, write_requests
from lambda_hat_cli.report.results import result_rows, write_csv, write_parquet
from lambda_hat_cli.report.sweeps import sweeps_of
from lambda_hat_cli.report.temperatures import temperature_panel, write_temperatures


def write_summary(folder: Path, collection: Collection, tasks: Sequence[TaskRow]) -> None:
    """Fill an existing, empty folder with everything that is said about the experiment as a whole.

    Args:
        tasks: the sampling tasks with what they asked for and used; empty where that is not known.

    Raises:
        UserError: when an analysis folder's table of convergence cannot be read.
    """
    rows = result_rows(collection)
    write_csv(folder / "results.csv", rows)
    write_parquet(folder / "results.parquet", rows)
    write_text(folder / "results.txt", table(collection))
    write_text(folder / "counts.json", json.dumps(counts(collection), indent=2) + "\n")
    names = samplers(collection)
    _draw_pictures(folder, collection, names)
    name, sweeps = collection.plan.experiment.name, sweeps_of(collection)
    if sweeps.temperatures:
        write_temperatures(folder / "temperatures.csv", sweeps.temperatures)
        (folder / TEMPERATURES).mkdir()
        for group in sweeps.temperatures:
            draw_temperatures(temperature_panel(name, group), names, folder / TEMPERATURES / group.picture)
    if sweeps.localizations:
        (folder / LOCALIZATIONS).mkdir()
        for target in sweeps.localizations:
            draw_localizations(localization_panel(target), names, folder / LOCALIZATIONS / target.picture)
    if sweeps.trainings:
        write_checkpoints(folder / "checkpoints.csv", name, sweeps.trainings)
        (folder / CHECKPOINTS).mkdir()
        for each in sweeps.trainings:
            draw_checkpoints(checkpoint_panel(name, each), names, folder / CHECKPOINTS / each.picture)
    if sweeps.grids:
        write_grids(folder / "grids.csv", name, sweeps.grids)
        (folder / GRIDS).mkdir()
        for grid in sweeps.grids:
            draw_grid(grid_panel(name, grid), names, folder / GRIDS / grid.picture)
    if tasks:
        write_requests(folder / "requests.csv", tasks)
    write_text(folder / "report.html", page(collection, sweeps, request_rows(tasks), folder))


def counts(collection: Collection) -> dict[str, int]:
    """How many runs were planned, came to an end, failed, and left nothing."""
    planned, failed, missing = len(collection.runs), collection.count("failed"), collection.count("missing")
    return {"planned": planned, "completed": planned - failed - missing, "failed": failed, "missing": missing}


def _draw_pictures(folder: Path, collection: Collection, names: Sequence[str]) -> None:
    every = groups(collection)
    panels = [panel(collection, group) for group in every]
    draw_overview(panels, names, folder / OVERVIEW)
    (folder / CONVERGENCE).mkdir()
    for group, shown in zip(every, panels, strict=True):
        draw_panel(shown, names, folder / CONVERGENCE / group.picture)
    for target in collection.targets:
        if target.training is not None:
            (folder / TRAINING).mkdir(exist_ok=True)
            draw_training(target.training, folder / TRAINING / f"{target.row.folder}.png")
