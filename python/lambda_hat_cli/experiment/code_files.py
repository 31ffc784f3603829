"""A user's own Python file and the modules beside it, as they are hashed and copied."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.problems import refuse
from lambda_hat_cli.experiment.schema import Experiment, PythonModel

MAX_FILES = 200
MAX_BYTES = 5_000_000


def experiment_code(experiment_file: Path, experiment: Experiment) -> dict[str, dict[str, Path]]:
    """Each python target's files by path relative to the experiment file's real folder, by target name.

    Raises:
        UserError: listing every target whose file cannot be used.
    """
    folder = experiment_file.resolve().parent
    found: dict[str, dict[str, Path]] = {}
    lines = []
    for position, target in enumerate(experiment.targets):
        if isinstance(target.spec.model, PythonModel):
            try:
                found[target.name] = code_files(folder, target.spec.model.file)
            except UserError as error:
                lines.append(f'targets[{position}] "{target.name}" {error}')
    if lines:
        raise refuse(str(experiment_file), lines)
    return found


def code_files(folder: Path, file: str) -> dict[str, Path]:
    """The file, its sibling modules and the packages beside it, by path relative to `folder`.

    Packages are folders with an `__init__.py`. Hidden folders and anything but `*.py` are left out.

    Args:
        folder: the experiment file's folder.
        file: path of the user's file, relative to `folder`.

    Raises:
        UserError: when the file is missing, outside `folder`, or has too much Python beside it.
    """
    relative = PurePosixPath(file)
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f'model.file "{file}" must lie in the folder of the experiment file or below, without ".."')
    main = folder / relative
    if main.suffix != ".py" or not main.is_file():
        reason = "is no file" if main.suffix == ".py" else 'does not end in ".py"'
        raise UserError(f'model.file "{file}" {reason}; give a Python file relative to {folder}')
    found: dict[str, Path] = {}
    size = 0
    for path in _sources(main.parent):
        found[path.relative_to(folder).as_posix()] = path
        size += path.stat().st_size
        if len(found) > MAX_FILES or size > MAX_BYTES:
            raise UserError(
                f'model.file "{file}" has more than {MAX_FILES} Python files or {MAX_BYTES // 1_000_000} MB of them '
                "beside it, all of which would be hashed and copied; put it in a folder of its own"
            )
    return dict(sorted(found.items()))


def hash_files(files: dict[str, Path]) -> dict[str, str]:
    """The sha256 of each file's bytes, in hexadecimal.

    Raises:
        UserError: when a file cannot be read.
    """
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _sources(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file() and entry.suffix == ".py":
            yield entry
        elif entry.is_dir() and not entry.is_symlink() and (entry / "__init__.py").is_file():
            yield from _sources(entry)
