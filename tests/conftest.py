"""One precision and one set of thread limits, set before JAX is imported; what tests of real programs need.

A test that is marked nextflow, slurm or container is skipped where that program cannot run, with the reason. With CI
set in the environment it fails instead: a skipped test must not pass for a tested one.
"""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

os.environ.update(
    JAX_ENABLE_X64="1",
    JAX_PLATFORMS="cpu",
    JAX_DEFAULT_PRNG_IMPL="threefry2x32",
    NPROC="1",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    MPLBACKEND="Agg",
)


def absent(*programs: str) -> list[str]:
    return [name for name in programs if shutil.which(name) is None]


@cache
def why_no_nextflow() -> str | None:
    """Why the real Nextflow cannot run here; None where it can."""
    if absent("java"):
        return "java is not installed"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        return f"Java 17 or newer is needed; java -version says: {said.strip()}"
    if len(absent("nextflow", "mvn", "curl")) == 3:
        return "there is none of nextflow, mvn and curl to get it with"
    return None


@cache
def why_no_slurm() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    missing = absent("slurmctld", "slurmd", "sbatch", "munged")
    if missing:
        return f"not installed: {', '.join(missing)} (packages slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "starting SLURM's daemons needs root"


@cache
def why_no_container() -> str | None:
    """Why no container engine can be used here; None where one can."""
    base = [] if "LAMBDA_HAT_BASE_IMAGE" in os.environ else ["debootstrap"]
    missing = absent("podman", "ch-run", *base)
    return f"not installed: {', '.join(missing)} (packages podman, charliecloud, debootstrap)" if missing else None


NEEDS = {"nextflow": why_no_nextflow, "slurm": why_no_slurm, "container": why_no_container}


@cache
def make_environments() -> None:
    """The stages' environments, where they are missing: every run of the pipeline needs them."""
    script = Path(__file__).resolve().parents[1] / "scripts" / "environments"
    subprocess.run([script], stdout=subprocess.DEVNULL, check=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, why_not in NEEDS.items():
        reason = why_not() if item.get_closest_marker(name) else None
        if reason and os.environ.get("CI"):
            pytest.fail(f"{name} cannot run here, and in CI nothing may be skipped: {reason}", pytrace=False)
        if reason:
            pytest.skip(reason)
    if item.get_closest_marker("nextflow"):
        make_environments()
