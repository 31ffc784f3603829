"""The code that runs is the code that was hashed: a stage's sources are found statically and checked in the process.

Standard library only: the plan hashes the sampling stages' sources where JAX is not installed.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lambda_hat_cli.errors import UserError

PACKAGE = "lambda_hat_cli"
_ROOT = Path(__file__).resolve().parent
_ADVICE = "start the pipeline again, so that it plans with the sources that it runs"


def import_closure(module: str) -> dict[str, str]:
    """The sha256 of every source file that `module` may come to use, itself included.

    Imports are followed wherever they stand (also inside functions), with the packages they pass through. Files beside
    the sources of a package, such as page templates, count as sources under their path within the package.

    Args:
        module: full name, such as `lambda_hat_cli.commands.sample`.

    Returns:
        sha256 in hexadecimal by module name, or by `lambda_hat_cli/…` path for files that are no modules; sorted.

    Raises:
        ModuleNotFoundError: when the package has no such module.
    """
    if _file_of(module) is None:
        raise ModuleNotFoundError(f"no module named {module}", name=module)
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if file is None or name in found:
            continue
        source = file.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        is_package = file.name == "__init__.py"
        if is_package:
            found |= {_path_key(resource): _digest(resource) for resource in _resources(file.parent)}
        waiting += _ancestors(name)
        waiting += _imported(ast.parse(source, filename=str(file)), name if is_package else name.rpartition(".")[0])
    return dict(sorted(found.items()))


def stage_code(stage: str) -> dict[str, str]:
    """The sources of a stage, named by its command's module: plan, build_target, sample, analyze or report."""
    return import_closure(f"{PACKAGE}.commands.{stage}")


def verify_imported(code: Mapping[str, str]) -> None:
    """Refuse to go on unless the package's files are those that were hashed into `code`.

    Every module of the package that this process has imported must be in `code`, and every entry of `code` must equal
    its file, so that imports that come later are covered too.

    Raises:
        UserError: naming the first file that differs, is missing, or was not hashed.
    """
    for name in sorted(_imported_modules()):
        if name not in code:
            raise UserError(f"{name}: imported here but not among the sources that were planned; {_ADVICE}")
    for name, digest in sorted(code.items()):
        file = _ROOT.parent / name if "/" in name else _file_of(name)
        if file is None or not file.is_file():
            raise UserError(f"{name}: planned, but its source file is missing under {_ROOT}; {_ADVICE}")
        if _digest(file) != digest:
            raise UserError(f"{file}: changed since the run was planned; {_ADVICE}")


def _file_of(module: str) -> Path | None:
    """The source file of one of the package's modules, or None where there is no such module."""
    if module != PACKAGE and not module.startswith(f"{PACKAGE}."):
        return None
    base = _ROOT.parent.joinpath(*module.split("."))
    return next((file for file in (base / "__init__.py", base.with_name(f"{base.name}.py")) if file.is_file()), None)


def _ancestors(module: str) -> Iterator[str]:
    """The packages that Python imports before `module`."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts)))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names of what the source's import statements may import; some are no modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from … import` names, with leading dots resolved against `package`."""
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _resources(folder: Path) -> Iterator[Path]:
    """Files of a package that are no Python sources, in it and in its folders that are no packages."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__pycache__")) or entry.name == "py.typed":
            continue
        if entry.is_dir():
            if not (entry / "__init__.py").exists():
                yield from _resources(entry)
        elif entry.suffix not in (".py", ".pyc"):
            yield entry


def _path_key(file: Path) -> str:
    return file.relative_to(_ROOT.parent).as_posix()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _imported_modules() -> set[str]:
    """The package's modules in this process, with the one that runs as the program under its real name."""
    program = getattr(sys.modules.get("__main__"), "__spec__", None)
    names = {name for name, module in sys.modules.items() if module is not None}
    names |= {program.name} if program else set()
    return {name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")}
