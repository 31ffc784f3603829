"""The sample command: a run row and a target folder become a run folder."""

from pathlib import Path

import click

from lambda_hat_cli.commands.cli import PathArgument, check_code, failure_option, read_row, stage_command
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.samplers.run import sample
from lambda_hat_cli.targets.threads import hold_compiler_threads


@click.command()
@click.option("--row", required=True, type=PathArgument, metavar="ROW.json", help="The plan's row of this run.")
@click.option("--target", required=True, type=PathArgument, metavar="DIR", help="The folder that build-target wrote.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="New folder for the run.")
@failure_option
@stage_command("sample")
def main(row: Path, target: Path, out: Path) -> None:
    """Draw from the local posterior of one target with one sampler; progress goes to stderr."""
    run = read_row(row, RunRow)
    check_code(run.code)
    hold_compiler_threads()
    sample(run, target, out, lambda line: click.echo(line, err=True))


if __name__ == "__main__":
    main(prog_name="sample")
