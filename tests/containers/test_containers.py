"""The test experiment in real containers, and what is in the images."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cluster.slurm_run import run_on_slurm, squeue
from cluster.throwaway_slurm import throwaway_slurm
from containers.conftest import Images
from containers.images import SECRET
from pipeline.nextflow_run import Run, run_pipeline

pytestmark = [pytest.mark.container, pytest.mark.nextflow]


def lanes(run: Run) -> set[tuple[str, str, str, int]]:
    """What Python saw in the tasks: (precision that was asked for, seen precision, PRNG, threads)."""
    seen = [(record["precision"], record["environment"]) for record in run.records("runs/*/run.json")]
    return {(asked, found["precision"], found["prng_implementation"], found["threads"]) for asked, found in seen}


def compiled(run: Run) -> set[str]:
    """The names of the programs that building and sampling tasks left in the work folder."""
    entries = (run.outdir.parent / "work" / "compiled").glob("*/*-cache")
    return {entry.name.rsplit("-", 2)[0] for entry in entries}


# Prints what the dynamic linker says of each library that it cannot load.
LOAD_ALL = """
import ctypes, glob, os
libraries = glob.glob('/opt/environment/lib/**/*.so*', recursive=True)
assert libraries
for library in libraries:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        print(error, flush=True)
os._exit(0)
"""


def index_addresses() -> list[str]:
    """The addresses of package indexes that this machine's pip was told."""
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
    return [address for name in names for address in os.environ.get(name, "").split()]


LANES = {("float64", "float64", "threefry2x32", 1), ("float32", "float32", "threefry2x32", 1)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = run_pipeline(tmp_path_factory.mktemp("local"), profile="test,local")
    assert lanes(run) == LANES
    assert compiled(run)
    return run


@pytest.fixture(scope="module")
def local(alone: Run) -> list[dict[str, str]]:
    return alone.estimates()


def test_podman_agrees_with_local_to_the_last_digit(
    images: Images, alone: Run, local: list[dict[str, str]], tmp_path: Path
) -> None:
    run = run_pipeline(tmp_path, *images.podman.settings(tmp_path), profile="test,podman", seconds=600)
    assert run.estimates() == local
    assert compiled(run) == compiled(alone)
    assert lanes(run) == LANES


def test_charliecloud_agrees_with_local_to_the_last_digit(
    unpacked: str, alone: Run, local: list[dict[str, str]], tmp_path: Path
) -> None:
    run = run_pipeline(tmp_path, "--container_image", unpacked, profile="test,charliecloud", seconds=600)
    assert run.estimates() == local
    assert compiled(run) == compiled(alone)
    assert lanes(run) == LANES


@pytest.mark.slurm
def test_podman_on_slurm_agrees_with_local_to_the_last_digit(
    images: Images, local: list[dict[str, str]], tmp_path: Path
) -> None:
    with throwaway_slurm() as cluster:
        run = run_on_slurm(tmp_path, cluster, *images.podman.settings(tmp_path), profile="test,slurm,podman")
        finished = [name for name, state in squeue(cluster, "%j|%T", "--states=all") if state == "COMPLETED"]
    assert run.estimates() == local
    assert lanes(run) == LANES
    assert sum("SAMPLE" in name for name in finished) == len(local)


@pytest.mark.parametrize("stage", ["analyze", "build", "sample"])
def test_an_image_has_its_environment_and_nothing_else(images: Images, stage: str) -> None:
    name, podman = images.names[stage], images.podman
    assert podman.output(name, "id", "-un").strip() == "lambda-hat"
    assert podman.output(name, "bash", "-c", "command -v python3 ps").split() == [
        "/opt/environment/bin/python3",
        "/usr/bin/ps",
    ]
    for absent in ("gcc", "cc", "pip", "pip3", "make"):
        assert not podman.output(name, "bash", "-c", f"command -v {absent} || true"), absent
    has_jax = podman.output(name, "python3", "-c", "import importlib.util as u; print(u.find_spec('jax') is not None)")
    assert has_jax.strip() == str(stage != "analyze")
    # Every library of the environment finds what it needs; several in one process cannot end it in order.
    assert podman.output(name, "python3", "-c", LOAD_ALL).splitlines() == []
    # What pip was told about the index and certificates of the machine that built the image.
    told = " ".join(f"-e {word}" for word in (SECRET, *index_addresses()))
    search = f"grep -rls --exclude-dir=proc --exclude-dir=sys {told} / || true"
    assert podman.output(name, "bash", "-c", search, user="0").splitlines() == []
    (facts,) = json.loads(subprocess.run(["podman", "image", "inspect", name], capture_output=True, check=True).stdout)
    assert facts["Labels"]["org.opencontainers.image.version"] == name.rsplit(":", 1)[1]
    assert facts["Labels"]["org.opencontainers.image.title"] == f"lambda-hat {stage}"
    assert not any(word in line for line in facts["Config"]["Env"] for word in ("PIP_INDEX", "CERT", "proxy"))
