"""The analyze command: a run folder and its target folder in, the analysis folder out."""

from pathlib import Path

import click

from lambda_hat_cli.artifacts.run import RunFolder
from lambda_hat_cli.artifacts.store import new_folder, write_record, write_text
from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.commands.cli import PathArgument, check_code, failure_option, read_row, read_stages, stage_command
from lambda_hat_cli.estimate.analysis import analyse
from lambda_hat_cli.estimate.convergence import convergence, to_csv
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.figures.run import draw_figures


@click.command(name="analyze", help="Estimate λ with its interval and verdict from a run, and draw its pictures.")
@click.option("--row", required=True, type=PathArgument, metavar="FILE", help="The run's row of the plan, as JSON.")
@click.option("--run", required=True, type=PathArgument, metavar="DIR", help="The folder that sample wrote.")
@click.option("--target", required=True, type=PathArgument, metavar="DIR", help="The folder that build-target wrote.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="The analysis folder; must be new.")
@click.option("--stages", required=True, type=PathArgument, metavar="FILE", help="stages.json of the plan.")
@click.option("--diagnostics", type=click.Choice(["light", "full"]), default="light", help="full draws more pictures.")
@failure_option
@stage_command("analyze")
def main(row: Path, run: Path, target: Path, out: Path, stages: Path, diagnostics: str) -> None:
    """Analyse one run; an invalid verdict is a result, with status 0."""
    check_code(read_stages(stages, "analyze"))
    run_folder = RunFolder(run)
    trace = run_folder.trace()
    record = analyse(read_row(row, RunRow), run_folder.record, TargetFolder(target).record, trace)
    curve = convergence(trace, run_folder.record)
    with new_folder(out) as draft:
        write_record(draft / "analysis.json", record)
        write_text(draft / "convergence.csv", to_csv(curve))
        draw_figures(trace, record, curve, draft, full=diagnostics == "full")


if __name__ == "__main__":
    main(prog_name="analyze")
