"""What a sampling task was given: CPUs, memory and time, for the runs that shared its process."""

from lambda_hat_cli.artifacts.target import ArtifactRecord


class TaskRequest(ArtifactRecord):
    """The request of the attempt that finished.

    Attributes:
        runs: the ids of the task's runs.
        memory: bytes. seconds: the time limit. Each is None where a site's settings ask for none.
        attempt: 1 for the first; later ones ask for more.
    """

    runs: tuple[str, ...]
    cpus: int
    memory: int | None
    seconds: int | None
    attempt: int
