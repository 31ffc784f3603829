"""How far a sampler's own step size moves λ̂: the part of the interval that more draws do not shrink."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from lambda_hat_cli.estimate.diagnostics import standard_error
from lambda_hat_cli.experiment.schema import HmcSettings, MclmcSettings, SamplerSettings

Draws = Float[np.ndarray, "chains draws"]


@dataclass(frozen=True)
class Bias:
    """A bound on the discretisation error of λ̂.

    Attributes:
        value: the bound in units of λ̂, ≥ 0; None where nothing measures it.
        se: standard error of the bound; 0 where it is none of sampling.
        step_effect: |K(ε/2) − K(ε)| in units of λ̂; the bound is not to be believed where it is a large part of λ̂.
        source: what the bound rests on, a phrase for a person.
    """

    value: float | None
    se: float
    step_effect: float | None
    source: str


def is_adjusted(settings: SamplerSettings) -> bool:
    """Whether a Metropolis test removes the error of the step: then each recorded tK is a point's, not a mean's."""
    return isinstance(settings, HmcSettings) or (isinstance(settings, MclmcSettings) and settings.adjusted)


def discretisation_bias(
    settings: SamplerSettings,
    tuned: Mapping[str, float | None],
    stats: Mapping[str, Shaped[np.ndarray, "chains draws"]],
    llc: Draws,
) -> Bias:
    """The bound for a run of Markov chains with recorded `llc` and sampler statistics `stats`.

    Coupled chains at half the step, `llc_half_step`, measure it: `llc` is their extrapolation to step 0, and what the
    extrapolation changed bounds what it left. Without them a Metropolis test removes it or it is unknown.
    """
    extrapolation = tuned.get("extrapolation")
    if "llc_half_step" in stats and extrapolation is not None:
        return half_step_bias(llc, stats["llc_half_step"], extrapolation)
    if is_adjusted(settings):
        return Bias(0.0, 0.0, 0.0, "none: every recorded move passes a Metropolis test")
    return Bias(None, 0.0, None, "not measured")


def half_step_bias(llc: Draws, llc_half_step: Draws, extrapolation: float) -> Bias:
    """The mean of llc − K(ε/2) = extrapolation·(K(ε/2) − K(ε)), which Richardson's extrapolation added."""
    change = llc - llc_half_step
    value = abs(float(np.mean(change)))
    source = "what extrapolating from two coupled step sizes changed"
    return Bias(value, standard_error(change), value / extrapolation, source)
