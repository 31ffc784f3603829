"""The analyze command: run folders and their target folder in, analysis folders out."""

import functools
from pathlib import Path

import click

from lambda_hat_cli.artifacts.run import RunFolder
from lambda_hat_cli.artifacts.store import new_folder, write_record, write_text
from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.commands.cli import (
    PathArgument,
    check_code,
    each_run,
    failures_option,
    read_stages,
    rows_option,
    stage_command,
)
from lambda_hat_cli.estimate.analysis import analyse
from lambda_hat_cli.estimate.convergence import convergence, to_csv
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.figures.run import draw_figures


@click.command(name="analyze", help="Estimate λ with its interval and verdict from each run, and draw its pictures.")
@rows_option
@click.option("--runs", required=True, type=PathArgument, metavar="DIR", help="Holds the folders that sample wrote.")
@click.option("--target", required=True, type=PathArgument, metavar="DIR", help="The folder that build-target wrote.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="Gets a folder a run, named by its id.")
@click.option("--stages", required=True, type=PathArgument, metavar="FILE", help="stages.json of the plan.")
@click.option("--diagnostics", type=click.Choice(["none", "light", "full"]), default="light", help="Pictures to draw.")
@failures_option
@stage_command("analyze")
def main(
    rows: Path, runs: Path, target: Path, out: Path, stages: Path, diagnostics: str, failures: Path | None
) -> None:
    """Analyse run after run; an invalid verdict is a result, with status 0."""
    checked = functools.cache(lambda: check_code(read_stages(stages, "analyze")))
    built = functools.cache(lambda: TargetFolder(target).record)

    def work(row: RunRow) -> None:
        checked()
        run = RunFolder(runs / row.id)
        trace = run.trace()
        record = analyse(row, run.record, built(), trace)
        curve = convergence(trace, run.record)
        with new_folder(out / row.id) as draft:
            write_record(draft / "analysis.json", record)
            write_text(draft / "convergence.csv", to_csv(curve))
            if diagnostics != "none":
                draw_figures(trace, record, curve, draft, full=diagnostics == "full")

    each_run("analyze", rows, failures, work)


if __name__ == "__main__":
    main(prog_name="analyze")
