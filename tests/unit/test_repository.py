"""What must hold for the files of the repository as they lie there."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lambda_hat_cli.experiment.load import load_experiment

PROJECT = Path(__file__).resolve().parents[2]
STAGES = ("analyze", "build", "sample", "cuda")
COMMANDS = ("plan", "build_target", "sample", "analyze", "report", "lambda_hat", "watch")
SOURCES = sorted(path for folder in ("python", "bin") for path in (PROJECT / folder).rglob("*") if path.is_file())


@cache
def tracked_files() -> tuple[Path, ...]:
    """The files under version control; of an unpacked archive, all that are not ignored by name."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [PROJECT / name for name in listed.stdout.split("\0") if name]
    else:
        made = {"work", "results", "__pycache__"}
        paths = [
            path
            for path in PROJECT.rglob("*")
            if not any(part.startswith(".") or part in made for part in path.relative_to(PROJECT).parts)
        ]
    return tuple(path for path in paths if path.is_file())


def read_text(path: Path) -> str | None:
    """The text of a file, or None where it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def python_sources() -> list[Path]:
    return [path for path in SOURCES if path.suffix == ".py"]


@cache
def metadata() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lines: list[str]) -> dict[str, set[str]]:
    """{name: versions} of requirement lines that name one exact version each (one more for another Python)."""
    found: dict[str, set[str]] = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        found.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return found


def locked(stage: str) -> list[str]:
    lines = (PROJECT / "envs" / f"{stage}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# Environments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [*STAGES, "test"])
def test_locked_versions_are_those_of_pyproject(stage: str) -> None:
    extras = metadata()["optional-dependencies"]
    asked = [*metadata()["dependencies"], *extras[stage]]
    if stage == "test":
        asked += [line for extra in ("analyze", "build", "sample") for line in extras[extra]]
    own = canonicalize_name(metadata()["name"])
    direct = pins([line for line in asked if canonicalize_name(Requirement(line).name) != own])
    found = pins(locked(stage))
    assert {name: found.get(name) for name in direct} == direct
    assert own not in found


@pytest.mark.parametrize("stage", STAGES)
def test_conda_file_has_the_locked_versions(stage: str) -> None:
    conda = yaml.safe_load((PROJECT / "envs" / f"{stage}.yml").read_text(encoding="utf-8"))
    (pip_lines,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    assert pip_lines == locked(stage)


@pytest.mark.parametrize("stage", ["analyze", "build", "sample"])
def test_stages_agree_on_versions(stage: str) -> None:
    tested = pins(locked("test"))
    assert {name: tested.get(name) for name in pins(locked(stage))} == pins(locked(stage))


def test_on_a_gpu_samplers_have_the_same_versions_and_cuda_besides() -> None:
    sample, cuda = pins(locked("sample")), pins(locked("cuda"))
    assert {name: cuda.get(name) for name in sample} == sample
    assert cuda.keys() - sample.keys() >= {"jax-cuda12-pjrt", "jax-cuda12-plugin", "nvidia-cublas-cu12"}
    assert all(name.startswith(("jax-cuda12-", "nvidia-")) for name in cuda.keys() - sample.keys())


def test_analyze_has_no_jax() -> None:
    assert not {"jax", "jaxlib", "equinox", "optax"} & pins(locked("analyze")).keys()


def test_versions_agree() -> None:
    version = metadata()["version"]
    config = (PROJECT / "nextflow.config").read_text(encoding="utf-8")
    manifest = re.search(r"manifest\s*\{.*?^\s*version\s*=\s*'([^']+)'", config, re.DOTALL | re.MULTILINE)
    newest = re.search(r"^## \[([^\]]+)\]", (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert manifest is not None
    assert newest is not None
    assert (manifest[1], newest[1]) == (version, version)


# Sources ----------------------------------------------------------------------------------------


def test_nothing_switches_precision_at_run_time() -> None:
    for path in SOURCES:
        for line in (read_text(path) or "").splitlines():
            other = r'config\.update\((?!"jax_(compilation|persistent)_cache_)'
            assert not re.search(rf"jax_enable_x64|enable_x64\(|{other}", line), (path, line)


def test_nothing_pickles() -> None:
    for path in python_sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal"}, path


def test_modules_say_why_they_exist() -> None:
    for path in python_sources():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_only_handle_arguments(command: str) -> None:
    lines = (PROJECT / "python" / "lambda_hat_cli" / "commands" / f"{command}.py").read_text(encoding="utf-8")
    assert len(lines.splitlines()) <= 60


# A machine's own folders, and package indexes and mirrors that only some places reach.
LOCAL = re.compile(
    r"(?<![\w.$}*-])/(?:home|Users|root|workspace|work|mnt|data|scratch)/[\w.-]+"
    r"|\b(?:pypi\.org|pythonhosted\.org|repo\.?1?\.maven\.|conda\.anaconda\.org|docker\.io|ghcr\.io|quay\.io)\b"
    r"|--(?:extra-)?index-url|--trusted-host"
)


def test_no_place_of_one_machine_is_written_down() -> None:
    for path in tracked_files():
        text = read_text(path)
        if text is None or path == Path(__file__).resolve():
            continue
        for line in text.splitlines():
            assert not LOCAL.search(line), (path, line)


# Documents and experiments ----------------------------------------------------------------------


def headings(text: str) -> set[str]:
    """The anchors that a page's headings have where Markdown is shown with links to them."""
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in tracked_files():
        if page.suffix != ".md":
            continue
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), (page, link)
            if anchor and file.suffix == ".md":
                assert anchor in headings(file.read_text(encoding="utf-8")), (page, link)


@pytest.mark.parametrize("file", sorted((PROJECT / "conf" / "experiments").glob("*.yml")), ids=lambda path: path.stem)
def test_ready_experiments_are_valid(file: Path) -> None:
    load_experiment(file)
