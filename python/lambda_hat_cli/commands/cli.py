"""What every command shares: how errors leave, how failures are noted, how rows are read, how sources are checked."""

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from pydantic import BaseModel

from lambda_hat_cli.artifacts.failure import FailureNote, Stage
from lambda_hat_cli.artifacts.store import read_records, write_record
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.provenance import verify_imported

Row = TypeVar("Row", bound=BaseModel)

PathArgument = click.Path(path_type=Path)
"""A path whose existence the command checks itself, so that the message is the project's own."""

OUT_OF_MEMORY = 137
"""The exit status of a process that the system killed for its memory; the pipeline tries again with more."""

rows_option = click.option(
    "--rows", required=True, type=PathArgument, metavar="FILE", help="Rows of the plan, one JSON object a line."
)
failures_option = click.option(
    "--failures",
    type=PathArgument,
    metavar="DIR",
    help="Where to note the rows that fail; the command then does the others and leaves with status 0.",
)

compiled_option = click.option(
    "--compiled",
    type=PathArgument,
    metavar="DIR",
    help="Holds compiled programs, which processes share; made where it is missing.",
)


def stage_command(stage: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the project's exit statuses, each with one message.

    They are 2 for bad input, 1 for an internal error and 137 for want of memory.

    Stands below the click decorators. LAMBDA_HAT_DEBUG=1 adds the traceback of an internal error.

    Args:
        stage: the stage's name with an underscore, such as `build_target`.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapper(**arguments: Any) -> None:
            try:
                function(**arguments)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception as error:
                _tell(stage, message_of(error))
                sys.exit(OUT_OF_MEMORY if out_of_memory(error) else 2 if isinstance(error, UserError) else 1)

        return wrapper

    return decorate


def run_and_leave(command: click.Command, name: str) -> NoReturn:
    """Run a command whose files are all closed, and leave without taking JAX's programs apart, which takes .3 s."""
    status = 1
    try:
        command(prog_name=name)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed from the start
            with suppress(OSError):  # whoever read the messages may be gone
                stream.flush()
    os._exit(status)


def out_of_memory(error: Exception) -> bool:
    """Whether more memory would help: what the pipeline tries again with more, as after the system's own kill."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def message_of(error: Exception) -> str:
    """What a person is told: a UserError's own text, and of any other error that it is internal."""
    if isinstance(error, UserError):
        return str(error)
    if os.environ.get("LAMBDA_HAT_DEBUG") == "1":
        traceback.print_exception(error)
    return f"internal error: {type(error).__name__}: {error} (LAMBDA_HAT_DEBUG=1 shows where)"


@contextmanager
def noted(stage: Stage, identity: str, failures: Path | None) -> Iterator[None]:
    """Within, an error becomes the FailureNote `<stage>-<id>.json` in a folder and a message on stderr.

    Without a folder it goes its way. So does want of memory in any case: noted, it would count as done and never be
    tried with more.

    Args:
        stage: what failed. identity: the id of the target or run that it failed for.
        failures: the folder for the note; it is made.

    Raises:
        UserError: when the note cannot be written.
    """
    try:
        yield
    except Exception as error:
        if failures is None or out_of_memory(error):
            raise
        message = message_of(error)
        note = failures / f"{stage}-{identity}.json"
        try:
            failures.mkdir(parents=True, exist_ok=True)
            write_record(note, FailureNote(stage=stage, id=identity, message=message))
        except OSError as trouble:
            raise UserError(f"{message} (nor can the note {note} be written: {trouble.strerror})") from error
        _tell(stage, message)


def each_run(stage: Stage, rows: Path, failures: Path | None, work: Callable[[RunRow], None]) -> None:
    """Do `work` for every run in the file, one after the other.

    Args:
        rows: rows of the plan, one JSON object a line.
        failures: a folder for the notes of those that fail, so that the others go on; None stops at the first one.

    Raises:
        UserError: when the rows cannot be read or hold none, or a note cannot be written.
    """
    for run in read_rows(rows, RunRow):
        with noted(stage, run.id, failures):
            work(run)


def read_rows(path: Path, model: type[Row]) -> list[Row]:
    """The rows in a file of JSON lines.

    Raises:
        UserError: when they cannot be read or there is none.
    """
    rows = read_records(path, model)
    if not rows:
        raise UserError(f"{path}: holds no row; give lines of the plan's rows")
    return rows


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


def _tell(stage: str, message: str) -> None:
    click.echo(f"{stage.replace('_', '-')}: {message}", err=True)
