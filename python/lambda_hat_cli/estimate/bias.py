"""How far a sampler's own step size moves λ̂: the part of the interval that more draws do not shrink."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from lambda_hat_cli.estimate.diagnostics import mcse_mean
from lambda_hat_cli.experiment.schema import HmcSettings, MclmcSettings, SamplerSettings, SgldSettings

Draws = Float[np.ndarray, "chains draws"]

# Error at step ε over the difference to step ε/2: 4/3 where the integrator errs by O(ε²), 2 where the gradient noise of
# mini-batches makes it O(ε) (Richardson 1911).
SECOND_ORDER = 4.0 / 3.0
FIRST_ORDER = 2.0
# |error of λ̂|/λ̂ of unadjusted leapfrog MCLMC against the cube root of the energy-error variance per dimension was at
# most .27 on quadratics, linear networks and a tanh network; the bound leaves half as much again.
MCLMC_FACTOR = 0.4


@dataclass(frozen=True)
class Bias:
    """A bound on the discretisation error of λ̂.

    Attributes:
        value: the bound in units of λ̂, ≥ 0; None where nothing measures it.
        se: standard error of the bound; 0 where it is none of sampling.
        source: what the bound rests on, a phrase for a person.
    """

    value: float | None
    se: float
    source: str


def discretisation_bias(
    settings: SamplerSettings,
    tuned: Mapping[str, float | None],
    stats: Mapping[str, Shaped[np.ndarray, "chains draws"]],
    llc: Draws,
) -> Bias:
    """The bound for a run of Markov chains with recorded `llc` and sampler statistics `stats`.

    Coupled chains at half the step, `llc_half_step`, measure it. Without them a Metropolis test removes it (HMC), the
    realised energy error bounds it (MCLMC: `energy_error` among the statistics or in `tuned`, E[ΔE²]/d of a step),
    or it is unknown (SGLD).
    """
    if "llc_half_step" in stats:
        first_order = isinstance(settings, SgldSettings) and settings.batch_size != "full"
        return half_step_bias(llc, stats["llc_half_step"], FIRST_ORDER if first_order else SECOND_ORDER)
    if isinstance(settings, HmcSettings):
        return Bias(0.0, 0.0, "none: every step is Metropolis-adjusted")
    if isinstance(settings, MclmcSettings):
        error = float(np.mean(stats["energy_error"])) if "energy_error" in stats else tuned.get("energy_error")
        if error is not None and np.isfinite(error) and error >= 0:
            bound = MCLMC_FACTOR * float(np.cbrt(error)) * abs(float(np.mean(llc)))
            return Bias(
                bound, 0.0, f"{MCLMC_FACTOR}·(energy error {error:.2g} a dimension)^(1/3)·λ̂, an empirical bound"
            )
    return Bias(None, 0.0, "not measured")


def half_step_bias(llc: Draws, llc_half_step: Draws, factor: float) -> Bias:
    """`factor` times the mean difference between coupled chains at steps ε and ε/2."""
    difference = llc_half_step - llc
    return Bias(
        abs(float(np.mean(difference))) * factor,
        mcse_mean(difference) * factor,
        f"{factor:.2g} × the difference to coupled chains at half the step",
    )
