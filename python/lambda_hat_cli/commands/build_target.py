"""The build-target command: a target row becomes a target folder."""

import json
from pathlib import Path

import click

from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.commands.cli import PathArgument, check_code, noted, stage_command
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.targets.threads import hold_compiler_threads


@click.command()
@click.option("--row", required=True, type=PathArgument, metavar="ROW.json", help="The plan's row of this target.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="New folder for the target.")
@click.option("--code", "files", type=PathArgument, metavar="DIR", help="The files of a python target.")
@click.option(
    "--failure", type=PathArgument, metavar="FILE", help="Where to note why it failed; then leave with status 0."
)
@stage_command("build_target")
def main(row: Path, out: Path, files: Path | None, failure: Path | None) -> None:
    """Make the data and w* of one target."""
    with noted("build_target", _id_in(row), failure):
        target = read_record(row, TargetRow)
        check_code(target.code)
        hold_compiler_threads()
        build_target(target, out, files)


def _id_in(row: Path) -> str | None:
    """The id in a row that may not be valid as a whole; None where there is none."""
    try:
        identity = json.loads(row.read_bytes())["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity if isinstance(identity, str) else None


if __name__ == "__main__":
    main(prog_name="build-target")
