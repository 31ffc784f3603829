"""The cluster that the tests start: what befalls one does not befall another beside it."""

import subprocess
import time
from collections.abc import Mapping

import pytest

from cluster.slurm_run import squeue
from cluster.throwaway_slurm import fail_node, throwaway_slurm

pytestmark = [pytest.mark.slurm, pytest.mark.waiting]

PATIENCE = 60.0  # seconds for a state to be reached; a second or two is usual
LONGER_THAN_A_DEATH = 10.0  # seconds in which a process that was struck would have been seen to end


def submit(cluster: Mapping[str, str]) -> str:
    """A job that has a node to itself and waits; its id."""
    command = ["sbatch", "--parsable", "--exclusive", "--output=/dev/null", "--wrap", "sleep 300"]
    return subprocess.run(command, env=dict(cluster), capture_output=True, text=True, check=True).stdout.strip()


def wait_for(cluster: Mapping[str, str], states: dict[str, str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while dict(squeue(cluster, "%A|%T", "--states=all")) != states:
        assert time.monotonic() < deadline, (states, squeue(cluster, "%A|%T", "--states=all"))
        time.sleep(0.2)


def test_clusters_beside_each_other_share_no_job() -> None:
    """Both count their jobs from 1; the host has one tree of control groups and one of processes."""
    with throwaway_slurm() as struck, throwaway_slurm() as spared:
        for cluster in (struck, spared):
            assert [submit(cluster) for _ in range(2)] == ["1", "2"]
            wait_for(cluster, {"1": "RUNNING", "2": "RUNNING"})
        nodes = dict(squeue(struck, "%A|%N"))
        subprocess.run(["scancel", "1"], env=dict(struck), check=True)
        fail_node(struck, nodes["2"])
        time.sleep(LONGER_THAN_A_DEATH)
        assert dict(squeue(struck, "%A|%T", "--states=all"))["1"] == "CANCELLED"
        wait_for(spared, {"1": "RUNNING", "2": "RUNNING"})
