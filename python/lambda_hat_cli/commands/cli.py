"""What every command shares: how errors leave, how rows are read, how the sources are checked."""

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import click

from lambda_hat_cli.artifacts.failure import FailureNote, Stage
from lambda_hat_cli.artifacts.store import Record, read_record, write_record
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.provenance import verify_imported

PathArgument = click.Path(path_type=Path)
"""A path whose existence the command checks itself, so that the message is the project's own."""

failure_option = click.option(
    "--failure",
    type=PathArgument,
    metavar="FILE",
    help="Where to note input that cannot be worked with; the command then leaves with status 0.",
)


def stage_command(stage: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the project's exit statuses: 2 for bad input, 1 for an internal error, each with one message.

    Stands below the click decorators. A `failure` argument (from `failure_option`) is consumed here: with it, bad input
    becomes a FailureNote in that file and status 0. The note's id is the id in the file given as `row`.
    LAMBDA_HAT_DEBUG=1 adds the traceback of an internal error.

    Args:
        stage: the stage's name with an underscore, such as `build_target`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapper(*, failure: Path | None = None, **arguments: Any) -> None:
            command = stage.replace("_", "-")
            try:
                function(**arguments)
            except UserError as error:
                message = f"{command}: {error}"
                noted = False
                if failure is not None:
                    try:
                        _note(failure, cast(Stage, stage), arguments.get("row"), str(error))
                        noted = True
                    except OSError as trouble:
                        message += f" (nor can the note {failure} be written: {trouble.strerror})"
                click.echo(message, err=True)
                sys.exit(0 if noted else 2)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception as error:
                if os.environ.get("LAMBDA_HAT_DEBUG") == "1":
                    traceback.print_exc()
                reason = f"internal error: {type(error).__name__}: {error} (LAMBDA_HAT_DEBUG=1 shows where)"
                click.echo(f"{command}: {reason}", err=True)
                sys.exit(1)

        return wrapper

    return decorate


def read_row(path: Path, model: type[Record]) -> Record:
    """The plan's row in a JSON file.

    Raises:
        UserError: when the file is missing or not of the model's form.
    """
    return read_record(path, model)


def read_stages(path: Path, stage: str) -> dict[str, str]:
    """The sources of one stage, sha256 by module, from the plan's stages.json.

    Raises:
        UserError: when the file is missing, no JSON, or knows no such stage.
    """
    try:
        stages = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the stages.json that plan wrote") from error
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error}); give the stages.json that plan wrote") from error
    if not isinstance(stages, dict) or not isinstance(stages.get(stage), dict):
        raise UserError(f'{path}: has no entry "{stage}"; give the stages.json that plan wrote')
    return stages[stage]


def check_code(code: Mapping[str, str]) -> None:
    """Refuse to run sources other than those that were planned.

    Raises:
        UserError: naming the file that differs.
    """
    verify_imported(code)


def _note(file: Path, stage: Stage, row: Path | None, message: str) -> None:
    """Write the failure note; the id is None where the row itself is the trouble."""
    try:
        identity = json.loads(row.read_bytes())["id"] if row is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        identity = None
    write_record(file, FailureNote(stage=stage, id=identity if isinstance(identity, str) else None, message=message))
