"""The plan command: an experiment file becomes rows."""

from pathlib import Path

import click

from lambda_hat_cli.artifacts.plan import write_plan
from lambda_hat_cli.commands.cli import PathArgument, stage_command
from lambda_hat_cli.experiment.expand import expand
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.rows import PlanRecord
from lambda_hat_cli.experiment.user_files import experiment_files
from lambda_hat_cli.provenance import stage_code


@click.command()
@click.argument("experiment_file", metavar="EXPERIMENT", type=PathArgument)
@click.option("--out", required=True, type=PathArgument, metavar="DIR", help="New folder for the rows.")
@click.option("--set", "assignments", default="", metavar="'a.b=1; c=2'", help="Keys of the experiment to change.")
@stage_command("plan")
def main(experiment_file: Path, out: Path, assignments: str) -> None:
    """Turn the EXPERIMENT file into a row for every target and run, or say everything that is wrong with it."""
    experiment = load_experiment(experiment_file, assignments)
    files = experiment_files(experiment_file, experiment)
    rows = expand(
        experiment,
        where=str(experiment_file),
        files=files,
        build_code=stage_code("build_target"),
        sample_code=stage_code("sample"),
    )
    record = PlanRecord(source=experiment_file.name, set=assignments, experiment=experiment)
    write_plan(out, record, rows, {stage: stage_code(stage) for stage in ("analyze", "report")}, files)


if __name__ == "__main__":
    main(prog_name="plan")
