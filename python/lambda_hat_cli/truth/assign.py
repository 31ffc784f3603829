"""Which exact learning coefficient, if any, belongs to a target's w*."""

from typing import Literal

from lambda_hat_cli.artifacts.target import Truth
from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    NormalCrossingModel,
    PythonModel,
    QuadraticModel,
    Stratum,
    SuperpositionModel,
    TargetSpec,
    TeacherData,
)
from lambda_hat_cli.truth import coefficients
from lambda_hat_cli.truth.restricted import free_curvatures


def truth_for(spec: TargetSpec) -> Truth:
    """The truth of a target that is built as `spec` says.

    A deep linear target at its truth sits at the most singular point of its level set, where the local coefficient is
    the model's; at given ranks its two layers lie on a known stratum. A trained w* lies on an unknown one.

    Raises:
        UserError: when `restrict` does not fit a quadratic.
    """
    model = spec.model
    if spec.weights is not None:
        return _none("w* comes from a file of weights: the stratum it lies on is unknown, so no exact value applies")
    if isinstance(model, QuadraticModel) and (free := free_curvatures(model, spec.restrict)) is not None:
        positive = sum(curvature > 0 for curvature in free)
        return _exact(coefficients.quadratic(positive), "exact_global" if spec.restrict is None else "exact_local")
    if spec.restrict is not None:
        return _none("no exact value is known for a part of the parameters of this model")
    if spec.rows is not None:
        return _none("no exact value is known for a part of the data")
    if isinstance(model, PythonModel):
        return _none("no exact value is known for a user's own model")
    if isinstance(model, SuperpositionModel):
        return _none("the polygons' coefficients are not proved; docs/targets.md has the published ones")
    if isinstance(model, NormalCrossingModel):
        return _exact(coefficients.normal_crossing(model.exponents), "exact_global")
    if spec.at == "trained":
        return _none("w* is trained: the stratum it lies on is unknown, so no exact value applies")
    if isinstance(model, DeepLinearModel) and isinstance(spec.data, TeacherData) and spec.data.rank is not None:
        if isinstance(spec.at, Stratum):
            inputs, hidden, outputs = model.widths
            stratum = coefficients.reduced_rank_stratum(outputs, inputs, hidden, spec.data.rank, *spec.at.ranks)
            return _exact(stratum, "exact_local")
        return _exact(coefficients.deep_linear(model.widths, spec.data.rank), "exact_global")
    return _none(f"no exact value is known for {model.kind} networks")


def _exact(coefficient: coefficients.Coefficient, kind: Literal["exact_global", "exact_local"]) -> Truth:
    return Truth(
        coefficient=str(coefficient.value),
        multiplicity=coefficient.multiplicity,
        kind=kind,
        source=coefficient.source,
    )


def _none(reason: str) -> Truth:
    return Truth(coefficient=None, multiplicity=None, kind="none", source=reason)
