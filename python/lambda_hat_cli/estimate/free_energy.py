"""The local free energy by thermodynamic integration: λ̂ over log t, from the runs at a list of temperatures."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lambda_hat_cli.estimate.interval import WIDTH
from lambda_hat_cli.estimate.temperatures import Temperature, mean_error


@dataclass(frozen=True)
class FreeEnergy:
    """By how much F(t) − t·L_n(w*) grows from the least to the greatest t.

    F(t) = −log ∫ exp(−t·L_n(w) − (γ/2)‖w−w*‖²) dw.

    Attributes:
        low_nbeta, high_nbeta: the ends.
        difference: ∫ λ̂ d log t between them, nats. se: its Monte-Carlo standard error.
        quadrature: bound on the error of the rule; None where a slope is not known.
        low, high: difference ∓ (2.1·se + the samplers' biases + quadrature); None without `quadrature`.
    """

    low_nbeta: float
    high_nbeta: float
    difference: float
    se: float
    quadrature: float | None
    low: float | None
    high: float | None


def free_energy(runs: Sequence[Temperature]) -> FreeEnergy | None:
    """Integrate λ̂ over u = log t; None with fewer than two temperatures.

    dF/dt = E[L_n], so F − tL_n(w*) grows by ∫ E[K] dt = ∫ E[tK] d log t: thermodynamic integration (Kirkwood 1935,
    Journal of Chemical Physics 3:300). Where dλ̂/d log t is known everywhere, the rule is the trapezoid with its end
    correction, h(f₀+f₁)/2 + h²(f₀′−f₁′)/12, exact for cubics, and all corrections together bound its error. Without
    slopes it is the trapezoid, and nothing bounds its error. Replicates are averaged.
    """
    by_t: dict[float, list[Temperature]] = defaultdict(list)
    for run in runs:
        by_t[run.nbeta].append(run)
    if len(by_t) < 2:
        return None
    places = sorted(by_t)
    h = np.diff(np.log(places))
    weight = (np.append(h, 0.0) + np.append(0.0, h)) / 2
    llc = np.array([np.mean([run.llc for run in by_t[t]]) for t in places])
    se = np.array([mean_error([run.se for run in by_t[t]]) for t in places])
    bias = np.array([np.mean([run.bias for run in by_t[t]]) for t in places])
    difference, quadrature = float(weight @ llc), None
    slopes = [(run.llc - run.variance, run.slope_se) for run in runs if run.variance is not None]
    if len(slopes) == len(runs) and all(slope_se is not None for _, slope_se in slopes):
        slope = np.array([np.mean([run.llc - (run.variance or 0.0) for run in by_t[t]]) for t in places])
        slope_se = np.array([mean_error([run.slope_se or 0.0 for run in by_t[t]]) for t in places])
        correcting = (np.append(h**2, 0.0) - np.append(0.0, h**2)) / 12
        difference += float(correcting @ slope)
        quadrature = float(np.sum(np.abs(h**2 * np.diff(slope)))) / 12
        # λ̂ and its slope come from the same draws: their errors are taken to add.
        se_of_node = weight * se + np.abs(correcting) * slope_se
    else:
        se_of_node = weight * se
    error = float(np.linalg.norm(se_of_node))
    half_width = None if quadrature is None else WIDTH * error + float(weight @ bias) + quadrature
    return FreeEnergy(
        low_nbeta=places[0],
        high_nbeta=places[-1],
        difference=difference,
        se=error,
        quadrature=quadrature,
        low=None if half_width is None else difference - half_width,
        high=None if half_width is None else difference + half_width,
    )
