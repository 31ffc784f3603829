"""The cluster that the tests of this folder share."""

from collections.abc import Iterator

import pytest

from cluster.throwaway_slurm import throwaway_slurm


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands reach a cluster of three nodes."""
    with throwaway_slurm() as environment:
        yield environment
