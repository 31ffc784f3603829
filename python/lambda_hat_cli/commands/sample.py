"""The sample command: run rows and a target folder become run folders."""

from functools import partial
from pathlib import Path

import click

from lambda_hat_cli.commands.cli import (
    PathArgument,
    check_code,
    compiled_option,
    each_run,
    failures_option,
    rows_option,
    run_and_leave,
    stage_command,
)
from lambda_hat_cli.commands.sampling import progress_of, time_limit_option
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.samplers.base import leave_by
from lambda_hat_cli.samplers.run import sample
from lambda_hat_cli.targets.compiled import shared_programs


@click.command()
@rows_option
@click.option("--target", required=True, type=PathArgument, metavar="DIR", help="The folder that build-target wrote.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="Gets a folder a run, named by its id.")
@click.option("--progress", type=PathArgument, metavar="FILE", help="Gets the progress as JSON lines, to be watched.")
@time_limit_option
@compiled_option
@failures_option
@stage_command("sample")
def main(
    rows: Path,
    target: Path,
    out: Path,
    progress: Path | None,
    time_limit: float | None,
    compiled: Path | None,
    failures: Path | None,
) -> None:
    """Draw from the local posterior of one target, run after run; progress goes to stderr."""
    end = leave_by(time_limit)
    with shared_programs(compiled, out.parent, partial(click.echo, err=True)) as share:

        def work(run: RunRow) -> None:
            try:
                with progress_of(run, progress) as (log, say):
                    check_code(run.code)
                    record = sample(run, target, out / run.id, say, end)
                    log.write(record.status, record.reason or "done")
            finally:
                share()

        each_run("sample", rows, failures, work)


if __name__ == "__main__":
    run_and_leave(main, "sample")
