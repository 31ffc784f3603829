"""What the sample command alone says and takes: a run's progress, and the time that its task has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from lambda_hat_cli.artifacts.progress import ProgressLog, RunningEstimate
from lambda_hat_cli.experiment.rows import RunRow

time_limit_option = click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="When the process is ended from outside: runs save what they have some time before.",
)


@contextmanager
def progress_of(run: RunRow, file: Path | None) -> Iterator[tuple[ProgressLog, Callable[..., None]]]:
    """Within, a run's progress: its log in `file`, and what takes a line (and an estimate) for it and for stderr."""
    log = ProgressLog(file, run.id, run.folder)

    def say(line: str, estimate: RunningEstimate | None = None, /) -> None:
        click.echo(f"{run.folder}: {line}", err=True)
        log.write("running", line, estimate)

    with log.ends():
        log.write("running", "started")
        yield log, say
