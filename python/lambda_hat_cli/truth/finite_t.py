"""E[tK] of the local posterior, what a perfect sampler returns at finite t: by an integral or a committed reference."""

from collections.abc import Sequence

import numpy as np

from lambda_hat_cli.artifacts.analysis import FiniteT
from lambda_hat_cli.experiment.schema import NormalCrossingModel, QuadraticModel, TargetSpec
from lambda_hat_cli.truth.references import find_reference
from lambda_hat_cli.truth.restricted import free_curvatures

# Trapezoid in u = log|w|: the integrand is analytic for |Im u| < π/(4k), so a step of .2/k leaves a relative error of
# exp(−2π·π/(4k)/(.2/k)) < 1e-10; below u = −30 lies a share of e^−30 of the Gaussian, above 2.4 less than e^−60.
_STEP = 0.2
_RANGE = (-30.0, 2.4)
_BLOCK = 256


def finite_t_for(spec: TargetSpec, seed: int, nbeta: float, localization: float) -> FiniteT:
    """The exact E[tK] at t = nβ and γ, else a reference with its error, else kind `none` with the reason.

    Args:
        spec, seed: the target as its record names it: its data and w* follow from them.
        nbeta: t > 0. localization: γ ≥ 0.
    """
    model = spec.model
    if isinstance(model, QuadraticModel) and (free := free_curvatures(model, spec.restrict)) is not None:
        value = quadratic_mean(free, nbeta, localization)
        return FiniteT(value=value, se=0.0, kind="exact", source="½ Σ t·h/(t·h + γ), Gaussian integral")
    if not isinstance(model, NormalCrossingModel) or spec.restrict is not None:
        reference = find_reference(spec, seed, nbeta, localization)
        if reference is None:
            return _none("neither an exact value nor a reference is known for this target at this t and γ")
        source = f"{reference.method}; {reference.command}"
        return FiniteT(value=reference.value, se=reference.se, kind="reference", source=source)
    exponents = [k for k in model.exponents if k > 0]
    if len(exponents) > 2:
        return _none(f"quadrature covers two coordinates of positive exponent, this model has {len(exponents)}")
    if localization == 0:
        return _none("the posterior is improper: a normal crossing needs localization γ > 0")
    value = normal_crossing_mean(exponents, nbeta, localization)
    return FiniteT(value=value, se=0.0, kind="exact", source="quadrature over ℝ with the Gaussian localizer")


def quadratic_mean(curvatures: Sequence[float], nbeta: float, localization: float) -> float:
    """E[tK] = ½ Σ t·h_i/(t·h_i + γ) for K = ½ Σ h_i w_i²; a flat direction adds nothing."""
    return 0.5 * sum(nbeta * h / (nbeta * h + localization) for h in curvatures if h > 0)


def normal_crossing_mean(exponents: Sequence[int], nbeta: float, localization: float) -> float:
    """E[tK] for K = Π w_j^(2k_j) over one or two coordinates, w ~ N(0, 1/γ)·exp(−tK), to about ten digits.

    Raises:
        ValueError: for another number of coordinates, an exponent below 1 or γ = 0.
    """
    if not 1 <= len(exponents) <= 2 or min(exponents) < 1 or localization <= 0:
        raise ValueError(f"needs one or two exponents ≥ 1 and γ > 0, got {list(exponents)} and {localization}")
    u = np.arange(*_RANGE, _STEP / max(exponents))
    log_weight = u - 0.5 * np.exp(2.0 * u)
    # w = e^u/√γ gives a unit Gaussian and K the factor γ^(−Σk).
    log_t = np.log(nbeta) - sum(exponents) * np.log(localization)
    if len(exponents) == 1:
        inner, inner_weight = np.zeros(1), np.zeros(1)
    else:
        inner, inner_weight = 2 * exponents[1] * u, log_weight
    outer = log_t + 2 * exponents[0] * u
    normalizer = moment = 0.0
    for start in range(0, outer.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        energy = np.exp(outer[block, None] + inner[None, :])
        density = np.exp(log_weight[block, None] + inner_weight[None, :] - energy)
        normalizer += float(density.sum())
        moment += float((energy * density).sum())
    return moment / normalizer


def _none(reason: str) -> FiniteT:
    return FiniteT(value=None, se=None, kind="none", source=reason)
