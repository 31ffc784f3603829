"""Which exact learning coefficient, if any, belongs to a target's w*."""

from lambda_hat_cli.artifacts.target import Truth
from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    NormalCrossingModel,
    PythonModel,
    QuadraticModel,
    TargetSpec,
    TeacherData,
)
from lambda_hat_cli.truth import coefficients


def truth_for(spec: TargetSpec) -> Truth:
    """The truth of a target that is built as `spec` says.

    A deep linear target at its truth sits at the most singular point of its level set, where the local coefficient is
    the model's. A trained w* lies on an unknown stratum.
    """
    model = spec.model
    if isinstance(model, PythonModel):
        return _none("no exact value is known for a user's own model")
    if isinstance(model, QuadraticModel):
        return _exact(coefficients.quadratic(sum(curvature > 0 for curvature in model.curvatures)))
    if isinstance(model, NormalCrossingModel):
        return _exact(coefficients.normal_crossing(model.exponents))
    if spec.at != "truth":
        return _none("w* is trained: the stratum it lies on is unknown, so no exact value applies")
    if isinstance(model, DeepLinearModel) and isinstance(spec.data, TeacherData) and spec.data.rank is not None:
        return _exact(coefficients.deep_linear(model.widths, spec.data.rank))
    return _none(f"no exact value is known for {model.kind} networks")


def _exact(coefficient: coefficients.Coefficient) -> Truth:
    return Truth(
        coefficient=str(coefficient.value),
        multiplicity=coefficient.multiplicity,
        kind="exact_global",
        source=coefficient.source,
    )


def _none(reason: str) -> Truth:
    return Truth(coefficient=None, multiplicity=None, kind="none", source=reason)
