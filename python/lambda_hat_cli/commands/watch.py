"""The watch command: a pipeline's runs in flight on a terminal."""

import shutil
import sys
import time
from pathlib import Path

import click

from lambda_hat_cli.commands.cli import PathArgument, stage_command
from lambda_hat_cli.report.watch import Watch, table

_MANY = 100
_OTHER_LINES = 6
_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN, _CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


@click.command(name="watch")
@click.argument("results", type=PathArgument, default=Path("results"))
@click.option("--work", type=PathArgument, metavar="DIR", help="The work folder, where it is mounted at another place.")
@click.option("--once", is_flag=True, help="Print one table and leave, as also where the output is no terminal.")
@click.option("--every", type=click.FloatRange(min=0.2), default=3.0, metavar="SECONDS", help="How often to look (3).")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Runs to list; by default what the terminal holds."
)
@stage_command("watch")
def main(results: Path, work: Path | None, once: bool, every: float, limit: int | None) -> None:
    """Show the runs of a pipeline with --outdir RESULTS: how far those in flight are, and how the last ones ended."""
    watch = Watch(results, work)
    terminal = sys.stdout.isatty()
    if once or not terminal:
        columns = shutil.get_terminal_size().columns if terminal else None
        click.echo(table(watch.look(), limit or _MANY, time.time(), columns), nl=False)
        return
    click.echo(_CLEAR, nl=False)
    try:
        while True:
            survey = watch.look()
            width, height = shutil.get_terminal_size()
            rows = max(1, height - _OTHER_LINES)
            text = table(survey, min(limit or rows, rows), time.time(), width)
            click.echo(_HOME + text.replace("\n", f"{_TO_END_OF_LINE}\n") + _TO_END_OF_SCREEN, nl=False)
            if survey.ended:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return
