"""The user's own files that targets are made of, as they are checked, hashed and copied: code, data, weights."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.data_files import file_data
from lambda_hat_cli.experiment.problems import refuse
from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    Experiment,
    FileData,
    MlpModel,
    PythonModel,
    TargetSpec,
    missing_rows,
)

MAX_CODE_FILES = 200
MAX_CODE_BYTES = 5_000_000
MAX_BYTES = 4_000_000_000
"""The most that one file of data or weights may have: it is copied into the plan and read into memory."""


@dataclass(frozen=True)
class OwnFiles:
    """The user's files that one target is made of.

    Attributes:
        paths: by path relative to the experiment file's real folder.
        digests: the sha256 of each file's bytes, in hexadecimal, by the same paths.
        n: rows of the data that are taken of them; None where they hold no data that the plan reads.
    """

    paths: dict[str, Path]
    digests: dict[str, str]
    n: int | None


def experiment_files(experiment_file: Path, experiment: Experiment) -> dict[str, OwnFiles]:
    """Each target's own files, by target name; data are read as when the target is built.

    Raises:
        UserError: listing every file that cannot be used.
    """
    folder = experiment_file.resolve().parent
    entries = list(dict.fromkeys(target.group or target.name for target in experiment.targets))
    found: dict[str, OwnFiles] = {}
    lines = []
    for target in experiment.targets:
        try:
            paths = target_files(folder, target.spec)
            if paths:
                digests = {name: _digest(path) for name, path in paths.items()}
                found[target.name] = OwnFiles(paths, digests, _data_points(folder, target.spec))
        except UserError as error:
            entry = target.group or target.name
            lines.append(f'targets[{entries.index(entry)}] "{entry}" {error}')
    if lines:
        raise refuse(str(experiment_file), lines)
    return found


def target_files(folder: Path, spec: TargetSpec) -> dict[str, Path]:
    """The files that one target is made of, by path relative to `folder`.

    Args:
        folder: the experiment file's folder.
        spec: the target.

    Raises:
        UserError: when one is missing, outside `folder` or too large.
    """
    found: dict[str, Path] = {}
    if isinstance(spec.model, PythonModel):
        found |= code_files(folder, spec.model.file)
    if isinstance(spec.data, FileData):
        found |= _one_file(folder, "data.path", spec.data.path)
    if spec.weights is not None:
        found |= _one_file(folder, "weights.file", spec.weights.file)
    return dict(sorted(found.items()))


def code_files(folder: Path, file: str) -> dict[str, Path]:
    """A python model's file, its sibling modules and the packages beside it, by path relative to `folder`.

    Packages are folders with an `__init__.py`. Hidden folders and anything but `*.py` are left out.

    Args:
        folder: the experiment file's folder.
        file: path of the user's file, relative to `folder`.

    Raises:
        UserError: when the file is missing, outside `folder`, or has too much Python beside it.
    """
    main = _within(folder, "model.file", file)
    if main.suffix != ".py":
        raise UserError(f'model.file "{file}" does not end in ".py"; give a Python file relative to {folder}')
    _require_file(main, "model.file", file, folder)
    found: dict[str, Path] = {}
    size = 0
    for path in _sources(main.parent):
        found[path.relative_to(folder).as_posix()] = path
        size += path.stat().st_size
        if len(found) > MAX_CODE_FILES or size > MAX_CODE_BYTES:
            raise UserError(
                f'model.file "{file}" has more than {MAX_CODE_FILES} Python files or '
                f"{MAX_CODE_BYTES // 1_000_000} MB of them beside it, all of which would be hashed and copied; "
                "put it in a folder of its own"
            )
    return found


def _data_points(folder: Path, spec: TargetSpec) -> int | None:
    """How many rows a target takes of its file of data; None where it has none.

    Raises:
        UserError: when they are not as they must be.
    """
    if not isinstance(spec.data, FileData) or not isinstance(spec.model, MlpModel | DeepLinearModel):
        return None
    there = _rows_of(folder / spec.data.path, spec.data, spec.model.widths[0], spec.model.widths[-1])
    if isinstance(there, UserError):
        raise UserError(f"data.path {there}")
    if spec.rows is None:
        return there
    if trouble := missing_rows(spec.rows, there):
        raise UserError(trouble)
    return spec.rows[1] - spec.rows[0]


@functools.cache
def _rows_of(file: Path, data: FileData, inputs: int, outputs: int) -> int | UserError:
    """The number of rows, or why they cannot be used; once for all targets of a plan that take the same of a file."""
    try:
        return len(file_data(file, data, inputs, outputs)["x"])
    except UserError as error:
        return error


@functools.cache
def _digest(path: Path) -> str:
    """Once for all targets of a plan that are made of the file."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _one_file(folder: Path, key: str, name: str) -> dict[str, Path]:
    path = _within(folder, key, name)
    _require_file(path, key, name, folder)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f'{key} "{name}" has {size / 1e9:.1f} GB; give a file of at most {MAX_BYTES / 1e9:.0f} GB')
    return {path.relative_to(folder).as_posix(): path}


def _within(folder: Path, key: str, name: str) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f'{key} "{name}" must lie in the folder of the experiment file or below, without ".."')
    return folder / relative


def _require_file(path: Path, key: str, name: str, folder: Path) -> None:
    if not path.is_file():
        raise UserError(f'{key} "{name}" is no file; give the path of one relative to {folder}')


def _sources(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file() and entry.suffix == ".py":
            yield entry
        elif entry.is_dir() and not entry.is_symlink() and (entry / "__init__.py").is_file():
            yield from _sources(entry)
