"""The build-target command: a target row becomes a target folder."""

from pathlib import Path

import click

from lambda_hat_cli.commands.cli import PathArgument, check_code, failure_option, read_row, stage_command
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.targets.threads import hold_compiler_threads


@click.command()
@click.option("--row", required=True, type=PathArgument, metavar="ROW.json", help="The plan's row of this target.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="New folder for the target.")
@click.option("--code", "files", type=PathArgument, metavar="DIR", help="The files of a python target.")
@failure_option
@stage_command("build_target")
def main(row: Path, out: Path, files: Path | None) -> None:
    """Make the data and w* of one target."""
    target = read_row(row, TargetRow)
    check_code(target.code)
    hold_compiler_threads()
    build_target(target, out, files)


if __name__ == "__main__":
    main(prog_name="build-target")
