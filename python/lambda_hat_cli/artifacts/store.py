"""Whole or absent: folders and files are written under a temporary name and renamed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lambda_hat_cli.errors import UserError

Record = TypeVar("Record", bound=BaseModel)


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that becomes `path` when the block ends without an error.

    Raises:
        UserError: when `path` exists already or its parent cannot be written.
    """
    if path.exists():
        raise UserError(f"{path}: exists already; give a new folder or remove this one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise UserError(f"{path}: cannot be created ({error.strerror}); give a folder that can be written") from error
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private; containers and other users read results too
        os.replace(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text under a temporary name and rename it to `path`."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as indented JSON; NaN is refused by the models, an unknown value is null."""
    write_text(path, record.model_dump_json(indent=2, by_alias=True) + "\n")


def read_records(path: Path, model: type[Record]) -> list[Record]:
    """Read and validate records, one JSON object a line.

    Raises:
        UserError: when the file is missing, or a line is no JSON or not of the model's form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the rows that plan wrote") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(model.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise UserError(f"{path}: line {number}: {where}: {first['msg']}; make the plan again") from None
    return records


def read_record(path: Path, model: type[Record]) -> Record:
    """Read and validate a JSON record.

    Raises:
        UserError: when the file is missing, no JSON, or not of the model's form.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing; make it again with the stage that writes it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path}: {where}: {first['msg']}; make it again with the stage that writes it") from None
