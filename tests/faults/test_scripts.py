"""The environments' maker and Nextflow's launcher, with stand-ins for the programs that they fetch things by."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = ("awk", "basename", "bash", "cat", "dirname", "env", "grep", "head", "hostname", "ln", "mkdir", "mktemp", "mv")
TOOLS += ("realpath", "rm", "sed", "sleep", "tail", "touch")
# A uv that makes a folder with a Python and takes its time over the requirements.
SLOW_UV = f"""
case "$1 $2" in
  "venv --help") echo "--relocatable" ;;
  "venv "*) for last; do :; done; mkdir -p "$last/bin"; ln -s "{sys.executable}" "$last/bin/python3" ;;
  "pip install") echo install >> "$CALLS"; sleep "$SECONDS_TO_INSTALL" ;;
esac
"""


def program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the scripts and one requirement list, in a path with a space."""
    copy = tmp_path / "a project"
    shutil.copytree(PROJECT / "scripts", copy / "scripts")
    (copy / "envs").mkdir()
    (copy / "envs" / "analyze.txt").write_text("nothing==1.0\n")
    return copy


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH of nothing but the usual small programs: no flock, Java, Maven, curl, uv or Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


Start = Callable[[float], subprocess.Popen[str]]


@pytest.fixture
def start(project: Path, tools: Path) -> Iterator[Start]:
    """Starts the maker, with so many seconds to install; each in a session of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def environments(seconds: float) -> subprocess.Popen[str]:
        settings = {
            "HOME": str(project),
            "PATH": str(tools),
            "PIP_NO_INDEX": "1",
            "CALLS": str(project / "calls"),
            "SECONDS_TO_INSTALL": str(seconds),
        }
        started.append(
            subprocess.Popen(
                [str(project / "scripts" / "environments"), "analyze"],
                env=settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield environments
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def made(project: Path) -> Path:
    digest = sha256((project / "envs" / "analyze.txt").read_bytes()).hexdigest()
    return project / ".environments" / f"analyze-{digest[:12]}"


def with_python(tools: Path) -> Path:
    (tools / "python3").symlink_to(sys.executable)
    program(tools, "uv", SLOW_UV)
    return tools


@pytest.mark.parametrize("flock", [True, False], ids=["flock", "no-flock"])
def test_a_half_made_environment_is_never_used(project: Path, tools: Path, start: Start, flock: bool) -> None:
    with_python(tools)
    if flock:
        found = shutil.which("flock")
        if found is None:
            pytest.skip("flock is not installed")
        (tools / "flock").symlink_to(found)
    killed = start(60)
    deadline = time.monotonic() + 30
    while not (project / "calls").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert (project / "calls").exists()
    assert not made(project).exists()
    said, _ = start(0).communicate(timeout=60)
    assert said.splitlines() == [str(made(project))]
    assert (made(project) / "ok").exists()


@pytest.mark.parametrize("flock", [True, False], ids=["flock", "no-flock"])
def test_two_at_once_make_it_once(project: Path, tools: Path, start: Start, flock: bool) -> None:
    with_python(tools)
    if flock and (found := shutil.which("flock")):
        (tools / "flock").symlink_to(found)
    both = [start(1) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert said == [[str(made(project))]] * 2
    assert (project / "calls").read_text().splitlines() == ["install"]


def test_without_a_python_there_is_one_message(tools: Path, start: Start) -> None:
    program(tools, "python3", "exit 1")
    process = start(0)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("environments: Python 3.11 or newer is needed")
    assert len(said.splitlines()) == 1


def launch(project: Path, folders: list[Path], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(project / "scripts" / "nextflow"), *arguments],
        env={"HOME": str(project), "PATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("version", ["24.10.0.5928", "25.04.6", "26.1.0-edge"])
def test_a_new_enough_nextflow_of_the_person_is_used(project: Path, tools: Path, version: str) -> None:
    program(tools, "nextflow", f'[ "$1" = -v ] && echo "nextflow version {version}" || {{ echo "$@"; exit 7; }}')
    done = launch(project, [project / "scripts", tools], "run", "a b", "-resume")
    assert (done.returncode, done.stdout, done.stderr) == (7, "run a b -resume\n", "")


def test_an_old_nextflow_is_passed_over(project: Path, tools: Path) -> None:
    program(tools, "nextflow", 'echo "nextflow version 23.10.1.5891"')
    done = launch(project, [tools], "run", "main.nf")
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert "is older than 24.10" in first
    assert "Java 17 or newer is needed" in second


def test_an_old_java_is_refused(project: Path, tools: Path) -> None:
    program(tools, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    done = launch(project, [tools], "run", "main.nf")
    assert done.returncode == 2
    assert done.stderr == (
        "nextflow: Java 17 or newer is needed, and 'java' is version 11. Install it, or set JAVA_HOME.\n"
    )


def test_without_maven_and_without_a_network_there_is_one_message(project: Path, tools: Path) -> None:
    program(tools, "java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2")
    program(tools, "curl", "exit 6")
    done = launch(project, [tools], "run", "main.nf")
    assert done.returncode == 2
    assert "no Maven (mvn) to fetch one" in done.stderr.splitlines()[-1]
    assert not list((project / ".environments").glob("nextflow-*"))


def test_a_failed_fetch_by_maven_leaves_nothing(project: Path, tools: Path) -> None:
    program(tools, "java", "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2")
    program(tools, "mvn", "echo 'host not found' >&2; exit 1")
    done = launch(project, [tools], "run", "main.nf")
    assert done.returncode == 2
    assert "host not found" in done.stderr
    assert not (project / ".environments" / "nextflow-24.10.0").exists()
