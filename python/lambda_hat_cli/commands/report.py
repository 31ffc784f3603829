"""The report command: all analyses and the planned runs in, tables, combined pictures and the page out."""

from pathlib import Path

import click

from lambda_hat_cli.artifacts.store import new_folder
from lambda_hat_cli.commands.cli import PathArgument, check_code, read_stages, stage_command
from lambda_hat_cli.report.collect import collect
from lambda_hat_cli.report.requests import read_requests, task_rows
from lambda_hat_cli.report.summary import write_summary


@click.command(name="report", help="Write the tables, combined pictures and the page of an experiment.")
@click.option("--plan", required=True, type=PathArgument, metavar="DIR", help="The folder that plan wrote.")
@click.option("--analyses", required=True, type=PathArgument, metavar="DIR", help="Holds one analysis folder a run.")
@click.option("--targets", required=True, type=PathArgument, metavar="DIR", help="Holds one folder a built target.")
@click.option("--failures", required=True, type=PathArgument, metavar="DIR", help="Holds the failure notes, *.json.")
@click.option("--requests", type=PathArgument, metavar="DIR", help="Holds a file for each sampling task's request.")
@click.option("--stages", required=True, type=PathArgument, metavar="FILE", help="stages.json of the plan.")
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="The summary folder; must be new.")
@stage_command("report")
def main(
    plan: Path, analyses: Path, targets: Path, failures: Path, requests: Path | None, stages: Path, out: Path
) -> None:
    """Report every planned run; failed and missing ones too, with status 0."""
    check_code(read_stages(stages, "report"))
    collection = collect(plan, analyses, targets, failures)
    tasks = task_rows(read_requests(requests), collection.runs) if requests else ()
    with new_folder(out) as draft:
        write_summary(draft, collection, tasks)


if __name__ == "__main__":
    main(prog_name="report")
