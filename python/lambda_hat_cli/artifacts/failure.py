"""The note a stage leaves when its inputs do not let it go on, so that the rest of a pipeline can."""

from typing import Literal

from lambda_hat_cli.artifacts.target import ArtifactRecord

Stage = Literal["build_target", "sample", "analyze"]


class FailureNote(ArtifactRecord):
    """Why one target or run has no result.

    Attributes:
        stage: the stage that stopped.
        id: the target's or run's id.
        message: what a person reads, the same text that the command would print.
    """

    stage: Stage
    id: str
    message: str
