"""What is left of a quadratic when only some of its coordinates are free."""

from collections.abc import Sequence

from lambda_hat_cli.experiment.restriction import free_parts
from lambda_hat_cli.experiment.schema import QuadraticModel


def free_curvatures(model: QuadraticModel, restrict: Sequence[str] | None) -> tuple[float, ...] | None:
    """The eigenvalues of the Hessian's block of the free coordinates; None for a part of a rotated quadratic.

    Raises:
        UserError: when `restrict` does not fit the model's one array, w.
    """
    part = free_parts({"w": len(model.curvatures)}, restrict)["w"]
    if len(part) == len(model.curvatures):
        return model.curvatures
    return None if model.rotation else model.curvatures[part.start : part.stop]
