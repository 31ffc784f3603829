"""The build-target command: rows of targets become target folders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from lambda_hat_cli.commands.cli import (
    PathArgument,
    check_code,
    compiled_option,
    failures_option,
    noted,
    read_rows,
    rows_option,
    stage_command,
)
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.targets.build import build_targets
from lambda_hat_cli.targets.compiled import shared_programs


@click.command()
@rows_option
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="Gets a folder a target, named by its id.")
@click.option("--files", type=PathArgument, metavar="DIR", help="The user's files, as the plan's folder has them.")
@compiled_option
@failures_option
@stage_command("build_target")
def main(rows: Path, out: Path, files: Path | None, compiled: Path | None, failures: Path | None) -> None:
    """Make the data and w* of targets; those that differ in train.steps alone come from one training."""
    with shared_programs(compiled, out.parent, partial(click.echo, err=True)) as share:

        def attempt(target: TargetRow, work: Callable[[], None]) -> None:
            with noted("build_target", target.id, failures):
                check_code(target.code)
                work()
            share()

        build_targets(read_rows(rows, TargetRow), out, files, attempt)


if __name__ == "__main__":
    main(prog_name="build-target")
