"""The sample command: run rows and a target folder become run folders."""

from pathlib import Path

import click

from lambda_hat_cli.commands.cli import (
    PathArgument,
    check_code,
    each_run,
    failures_option,
    rows_option,
    stage_command,
)
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.samplers.run import sample
from lambda_hat_cli.targets.threads import hold_compiler_threads


@click.command()
@rows_option
@click.option("--target", required=True, type=PathArgument, metavar="DIR", help="The folder that build-target wrote.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="Gets a folder a run, named by its id.")
@failures_option
@stage_command("sample")
def main(rows: Path, target: Path, out: Path, failures: Path | None) -> None:
    """Draw from the local posterior of one target, run after run; progress goes to stderr."""
    hold_compiler_threads()

    def work(run: RunRow) -> None:
        check_code(run.code)
        sample(run, target, out / run.id, lambda line: click.echo(f"{run.folder}: {line}", err=True))

    each_run("sample", rows, failures, work)


if __name__ == "__main__":
    main(prog_name="sample")
