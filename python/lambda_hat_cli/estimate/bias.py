"""How far a sampler's own step size moves λ̂: the part of the interval that more draws do not shrink."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from lambda_hat_cli.estimate.diagnostics import mcse_mean
from lambda_hat_cli.experiment.schema import HmcSettings, MclmcSettings, SamplerSettings

Draws = Float[np.ndarray, "chains draws"]

# |error of λ̂|/λ̂ of unadjusted leapfrog MCLMC against the cube root of the energy-error variance per dimension was at
# most .27 on quadratics, linear networks and a tanh network; the bound leaves half as much again.
MCLMC_FACTOR = 0.4


@dataclass(frozen=True)
class Bias:
    """A bound on the discretisation error of λ̂.

    Attributes:
        value: the bound in units of λ̂, ≥ 0; None where nothing measures it.
        se: standard error of the bound; 0 where it is none of sampling.
        step_effect: |K(ε/2) − K(ε)| in units of λ̂, or `value` where it was not measured; the bound is not to be
            believed where this is a large part of λ̂.
        source: what the bound rests on, a phrase for a person.
    """

    value: float | None
    se: float
    step_effect: float | None
    source: str


def discretisation_bias(
    settings: SamplerSettings,
    tuned: Mapping[str, float | None],
    stats: Mapping[str, Shaped[np.ndarray, "chains draws"]],
    llc: Draws,
) -> Bias:
    """The bound for a run of Markov chains with recorded `llc` and sampler statistics `stats`.

    Coupled chains at half the step, `llc_half_step`, measure it: `llc` is their extrapolation to step 0, and what the
    extrapolation changed bounds what it left. Without them a Metropolis test removes it (HMC), the realised energy
    error bounds it (MCLMC: `energy_error` among the statistics, E[ΔE²]/d of a step), or it is unknown (SGLD).
    """
    if "llc_half_step" in stats:
        return half_step_bias(llc, stats["llc_half_step"], tuned.get("extrapolation") or 1.0)
    if isinstance(settings, HmcSettings):
        return Bias(0.0, 0.0, 0.0, "none: every step is Metropolis-adjusted")
    if isinstance(settings, MclmcSettings) and "energy_error" in stats:
        error = float(np.mean(stats["energy_error"]))
        bound = MCLMC_FACTOR * float(np.cbrt(error)) * abs(float(np.mean(llc)))
        if np.isfinite(bound):
            source = f"{MCLMC_FACTOR}·(energy error {error:.2g} a dimension)^(1/3)·λ̂, an empirical bound"
            return Bias(bound, 0.0, bound, source)
    return Bias(None, 0.0, None, "not measured")


def half_step_bias(llc: Draws, llc_half_step: Draws, extrapolation: float) -> Bias:
    """The mean of llc − K(ε/2) = extrapolation·(K(ε/2) − K(ε)), which Richardson's extrapolation added."""
    change = llc - llc_half_step
    value = abs(float(np.mean(change)))
    return Bias(
        value, mcse_mean(change), value / extrapolation, "what extrapolating from two coupled step sizes changed"
    )
