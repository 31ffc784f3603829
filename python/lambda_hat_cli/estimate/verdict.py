"""Whether a run's number can be used: every check that bears on the sampling, the label they give and the reasons.

Thresholds were set on chains and fits with exact answers, good and deliberately broken (docs/verdicts.md). Nothing here
asks whether w* is a minimum: that is `minimum`, beside the verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtr

from lambda_hat_cli.artifacts.analysis import Check, VerdictLabel
from lambda_hat_cli.artifacts.run import BASELINE, RunRecord
from lambda_hat_cli.estimate.bias import Bias, is_adjusted
from lambda_hat_cli.estimate.checks import at_least, at_most, known, reasons, reported, stated, worst
from lambda_hat_cli.estimate.diagnostics import rhat_rank, virial_bound, virial_mean
from lambda_hat_cli.estimate.interval import (
    ESS_TO_STOP,
    GAP_TO_ACCEPT,
    GAP_TO_DRAW_ON,
    K_HAT_TO_ACCEPT,
    K_HAT_TO_DRAW_ON,
    RHAT_TO_STOP,
    WIDTH,
    Estimate,
    FitEstimate,
    WeightedEstimate,
)

Draws = Float[np.ndarray, "chains draws"]
Stats = Mapping[str, Shaped[np.ndarray, "chains draws"]]

AT_MINIMUM = 0.02
DRIFT_P = 0.01
DRIFT_SHARE = 0.25
# A chain whose proposals are refused one time in ten stands still for ten draws once in 1e10.
STANDSTILL_DRAWS, STANDSTILL_SHARE = 10, 0.05
# Outside the interval, so it must be small beside what the interval may be.
BASELINE_SHARE = 0.1
AGREEMENT = "disagreement of the fits in s.e."


@dataclass(frozen=True)
class Verdict:
    """The label, the reasons that lower it (worst first) and all checks."""

    label: VerdictLabel
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


def verdict_of(checks: tuple[Check, ...], would_have_been: float | None = None) -> Verdict:
    """The worst outcome of the checks; an invalid run's first reason also says what the average would have been."""
    label, found = worst(checks), reasons(checks)
    if label == "invalid" and found and would_have_been is not None:
        found = (f"{found[0]}; the average of the draws would have been {would_have_been:.4g}", *found[1:])
    return Verdict(label, found, checks)


def unusable(reason: str) -> Verdict:
    """The verdict of a run that has no draws to estimate from."""
    return verdict_of((stated("draws", "invalid", "finite, moving", "–", reason),))


def ended_badly(run: RunRecord) -> Verdict | None:
    """The verdict of a run that diverged or failed, or None for one that ended well or ran out of budget."""
    if run.status not in ("diverged", "failed"):
        return None
    reason = f"the run {run.status}: {run.reason or 'no reason was recorded'}"
    if run.status == "failed":
        reason += "; see the run's log"
    return verdict_of((stated("status", "invalid", "completed", "budget_exhausted", reason),))


def minimum_of(delta: float | None, scale: float) -> Literal["at_minimum", "above_minimum"] | None:
    """Whether w* is a minimum of U: δ at most 2 % of `scale` = λ̂ + δ; None where δ is unknown."""
    if delta is None:
        return None
    return "at_minimum" if delta <= AT_MINIMUM * scale else "above_minimum"


def minimum_reason(minimum: Literal["at_minimum", "above_minimum"] | None, delta: float | None) -> str | None:
    """What a w* above a minimum means and what to do about it; None at a minimum or where that is not known."""
    if minimum != "above_minimum" or delta is None:
        return None
    return f"w* is {delta:.2g} nats above a minimum: train longer, or read λ̂ as a number of this checkpoint alone"


# Markov chains ----------------------------------------------------------------------------------


def markov_checks(
    llc: Draws,
    stats: Stats,
    estimate: Estimate,
    bias: Bias,
    variance: float | None,
    run: RunRecord,
    fall: float,
) -> tuple[Check, ...]:
    """Every check of a run of Markov chains.

    A check whose quantity the sampler did not record is left out; so are those relative to λ̂ + Δ where that is not
    positive, since then no size is small.

    Args:
        llc: tK in float64. stats: what the sampler recorded.
        bias: the bound that `estimate` includes. variance: Var[tK], None where it is not known.
        fall: Δ = tK(w*) − tK(w_min) along the descent, nats, ≥ 0.
    """
    adjusted = is_adjusted(run.settings)
    scale = estimate.llc + fall
    slope, unmeasured = _slope(llc, stats, run, points=adjusted)
    checks = [
        *_unit(estimate, fall),
        _mixing(estimate),
        _size(estimate),
        at_least(
            "least chain spread",
            _least_spread(llc),
            0.3,
            0.02,
            "a chain hardly moves, the others leave it behind; give a longer warm-up or a smaller step",
        ),
        _standstill(llc),
        _distinct(llc),
        _drift(llc, estimate.se, scale, run.runs.tolerance),
        *_relative(estimate, None if variance is None else variance - slope, scale, unmeasured, run.runs.tolerance),
    ]
    if not adjusted:
        checks += _discretisation(bias, scale, run.runs.tolerance)
        checks += _step(run)
    if "virial" in stats:
        checks += _virial(stats["virial"], None if adjusted else run.runs.tolerance)
    if adjusted and "acceptance_rate" in stats:
        checks += _acceptance(stats["acceptance_rate"])
    checks += _baseline(run, scale)
    if "distance_squared" in stats:
        checks += _distance(stats["distance_squared"])
    if run.biased is not None:
        checks.append(_other_law(run.biased))
    return tuple(checks)


def _unit(estimate: Estimate | WeightedEstimate, fall: float) -> list[Check]:
    """λ̂ + Δ, in whose units errors are judged: positive, and not hidden by the noise.

    It is what λ̂ would be if tK were counted from where the descent ended, w* or not.
    """
    scale = estimate.llc + fall
    if scale > 0:
        advice = "the estimate is lost in its noise; give the run more gradients"
        return [at_least("(λ̂ + Δ)/standard error", known(scale / estimate.se), 2.0, -np.inf, advice)]
    if scale > -2.0 * estimate.se:
        advice = f"it is zero within its standard error of {estimate.se:.2g}; give the run more gradients"
    else:
        advice = (
            f"tK averages {estimate.llc:.4g}, lower than where the descent from w* ended (Δ = {fall:.4g}), so that no "
            "error can be judged relative to λ̂; train longer"
        )
    reason = f"λ̂ + Δ is {scale:.4g} and not positive: {advice}"
    return [
        Check(name="λ̂ + Δ in nats", value=scale, reliable="> 0", uncertain="any", outcome="uncertain", reason=reason)
    ]


def _slope(llc: Draws, stats: Stats, run: RunRecord, points: bool) -> tuple[float, float]:
    """What the slope of tK at the minimum of U adds to Var[tK], in nats: as measured, and at most where it is not.

    Where that minimum lies at a distance D from w*, the localizer holds the posterior on a slope of tK. On a Gaussian
    posterior with tK of curvature tH ≥ 0 and A = tH + γ, λ̂ + Δ is ½tr(tHA⁻¹) and Var[tK] is ½tr((tHA⁻¹)²) + s with
    s = γ²(w_min−w*)ᵀA⁻¹(w_min−w*) ≤ γD². The covariance of tK and the localizer is ½tr(tHA⁻¹·γA⁻¹) − s, so that Var[tK]
    and it add up to λ̂ + Δ, times the square of the temperature where chains are too hot.

    Args:
        points: whether each draw is one point; means over steps do not tell the covariance.
    """
    most = 0.0 if run.descent is None else run.localization * run.descent.distance**2
    if not points or "distance_squared" not in stats:
        return 0.0, most
    localizer = 0.5 * run.localization * stats["distance_squared"]
    covariance = float(np.mean((llc - llc.mean()) * (localizer - localizer.mean())))
    return min(max(-covariance, 0.0), most), 0.0


def _relative(
    estimate: Estimate, variance: float | None, scale: float, unmeasured: float, tolerance: float
) -> list[Check]:
    """The interval's width and the spread of tK.

    Args:
        variance: Var[tK] less what a slope is measured to add. unmeasured: what one may add beyond that.
    """
    if not scale > 0:
        return []
    checks = [
        at_most(
            "half width/(λ̂ + Δ)",
            known(estimate.half_width / scale),
            tolerance,
            WIDTH * 0.5,
            "the interval is wider than the tolerance; give the run more gradients or accept a larger tolerance",
        )
    ]
    if variance is not None:
        advice = (
            "tK is spread wider than its mean allows; the step is too large or the chains are not in equilibrium: "
            "take a smaller step or a longer warm-up"
        )
        share = known(variance / scale)
        checks.append(at_most("Var[tK] less its slope/(λ̂ + Δ)", share, 1.3, 2.0 + unmeasured / scale, advice))
    return checks


def _mixing(estimate: Estimate) -> Check:
    advice = "the chains have not mixed; give a longer warm-up, more gradients or a larger localization"
    return at_most("R-hat", estimate.rhat, RHAT_TO_STOP, 1.1, advice)


def _size(estimate: Estimate) -> Check:
    least = float(np.min([estimate.ess_mean, estimate.ess_bulk, estimate.ess_tail]))
    return at_least("effective sample size", least, ESS_TO_STOP, 50, "give the run more gradients")


def _least_spread(llc: Draws) -> float:
    """Smallest standard deviation of a chain over that of all draws."""
    return float(np.min(np.std(llc, axis=1, ddof=1)) / np.std(llc, ddof=1))


def _standstill(llc: Draws) -> Check:
    """The longest stretch of equal draws of one chain: R-hat and ESS hardly see a chain that stops half-way."""
    draws = llc.shape[1]
    return at_most(
        "longest standstill in draws",
        float(max(_longest_equal_stretch(chain) for chain in llc)),
        max(STANDSTILL_DRAWS, STANDSTILL_SHARE * draws),
        0.5 * draws,
        "a chain stopped moving where its step is too long; raise target_acceptance or give a longer warm-up",
    )


def _longest_equal_stretch(values: Float[np.ndarray, " draws"]) -> int:
    """How many draws in a row repeat the one before them, at most."""
    changes = np.flatnonzero(np.diff(values) != 0.0)
    edges = np.concatenate([[-1], changes, [values.size - 1]])
    return int(np.max(np.diff(edges))) - 1


def _distinct(llc: Draws) -> Check:
    """Copies of a chain add no evidence, and nothing else that looks at the spread between chains is to be believed."""
    different = len(np.unique(llc, axis=0))
    advice = "chains repeat each other draw by draw; report this, it is a fault of the program"
    return at_least("different chains", float(different), float(len(llc)), float(len(llc)), advice)


def _drift(llc: Draws, se: float, scale: float, tolerance: float) -> Check:
    """Second against first half: p > .01, or a change that does not matter.

    The halves of a run whose mean has the standard error `se` differ by 2·se at random.
    """
    half = llc.shape[1] // 2
    change = float(llc[:, -half:].mean() - llc[:, :half].mean())
    check = at_least(
        "drift p-value",
        2.0 * float(ndtr(-abs(change) / (2.0 * se))),
        DRIFT_P,
        -np.inf,
        f"tK moved by {change:.2g} from the first to the second half; give a longer warm-up",
    )
    small = abs(change) < DRIFT_SHARE * tolerance * scale
    return _with_outcome(check, "reliable", "") if small else check


def _virial(virial: Draws, tolerance: float | None) -> list[Check]:
    """Without a tolerance, loose: a Metropolis-adjusted chain may leave flat directions unfilled without harm.

    An unadjusted one errs by them, on a Gaussian by exactly |1 − v|: that, and its error, must fit `virial_bound`.
    """
    mean, se = virial_mean(virial)
    name, off = "virial, |v − 1|", abs(mean - 1.0)
    advice = (
        f"(w−w*)·∇U/d averages {mean:.3g} ± {se:.1g} instead of 1, flat directions are not filled; "
        "give a longer warm-up, more gradients or a larger localization"
    )
    if tolerance is None:
        return [at_most(name, off, 0.3 + 2.0 * se, 0.6 + 2.0 * se, advice)]
    unknown = "it is not known whether flat directions are filled; give the run more gradients or take hmc"
    return [
        at_most(name, off, virial_bound(tolerance), 0.3 + 2.0 * se, advice),
        at_most("virial's standard error", se, virial_bound(tolerance), np.inf, unknown),
    ]


def _acceptance(acceptance: Draws) -> list[Check]:
    by_chain = acceptance.mean(axis=1)
    advice = "most proposals are refused; raise target_acceptance or give a longer warm-up"
    return [
        at_least("mean acceptance", float(by_chain.mean()), 0.5, 0.1, advice),
        at_least("worst chain's acceptance", float(by_chain.min()), 0.2, 0.02, advice),
    ]


def _discretisation(bias: Bias, scale: float, tolerance: float) -> list[Check]:
    """Beyond a tenth the expansion in the step size that the bound rests on is not to be trusted."""
    if bias.value is None or bias.step_effect is None:
        reason = (
            "the step size's own error was not measured: compare with hmc or a sampler run at half the step before "
            "relying on this number"
        )
        return [stated("discretisation error", "uncertain", "measured", "not measured", reason)]
    if not scale > 0:
        return []
    return [
        at_most(
            "effect of the step size/(λ̂ + Δ)",
            known(bias.step_effect / scale),
            0.1,
            0.5,
            "the step is too large for this target; take a smaller step or hmc",
        ),
        at_most(
            "2.1 s.e. of the discretisation error/(λ̂ + Δ)",
            known(WIDTH * bias.se / scale),
            tolerance,
            np.inf,
            "the step size's own error is not measured to the tolerance; give the run more gradients or take hmc",
        ),
    ]


def _step(run: RunRecord) -> list[Check]:
    """Whether the step that was tuned before recording still fitted where the chains went."""
    tuned, checks = run.tuned, []
    if "step_times_curvature" in tuned:
        advice = "the curvature grew away from w*, the step is stale; give a longer warm-up or a smaller step_size"
        checks.append(at_most("step size × curvature", tuned["step_times_curvature"], 0.6, np.inf, advice))
    if "curvature_growth" in tuned:
        advice = "the chains still move to stiffer places; give a longer warm-up or take hmc"
        checks.append(at_most("curvature, end/start of recording", tuned["curvature_growth"], 1.1, np.inf, advice))
    # Heavy-tailed on two-dimensional crossings, where it rings without visible bias.
    if "realised_energy_error_ratio" in tuned and run.d > 2:
        advice = "the step is longer than it was tuned to be; give a longer warm-up or a smaller energy_error"
        value = tuned["realised_energy_error_ratio"]
        checks.append(at_most("energy error while recording/tuned", value, 10.0, np.inf, advice))
    return checks


def _baseline(run: RunRecord, scale: float) -> list[Check]:
    """Rounding of tK, which draws of one run share and no interval contains."""
    if BASELINE not in run.tuned or not scale > 0:
        return []
    error = run.tuned[BASELINE]
    if error is None and run.precision == "float64":
        # Not resolved is then the kinks of the losses: rounding of 1e-16 does not come near what is asked.
        return []
    lane = "run it in float64" if run.precision == "float32" else "make the losses smaller by a constant"
    advice = f"L_n(w) − L_n(w*) is lost in the rounding of {run.precision}; {lane}"
    share = None if error is None else known(error / scale)
    return [at_most("rounding of tK/(λ̂ + Δ)", share, BASELINE_SHARE * run.runs.tolerance, 0.5, advice)]


def _distance(distance_squared: Draws) -> list[Check]:
    """How far the chains agree and stand still in flat directions: good runs differ widely, so nothing is asked."""
    usable = bool(np.isfinite(distance_squared).all()) and np.ptp(distance_squared) > 0
    half = distance_squared.shape[1] // 2
    growth = distance_squared[:, -half:].mean() / distance_squared[:, :half].mean() if usable else np.nan
    return [
        reported("R-hat of ‖w−w*‖²", rhat_rank(distance_squared) if usable else None),
        reported("‖w−w*‖², second half/first half", float(growth)),
    ]


def _other_law(biased: str) -> Check:
    return stated("stationary law", "uncertain", "the posterior", "another", biased)


# Weighted draws ---------------------------------------------------------------------------------


def weighted_checks(estimate: WeightedEstimate, run: RunRecord, fall: float) -> tuple[Check, ...]:
    """Every check of importance-weighted draws from independent fits; errors are judged in units of λ̂ + Δ."""
    tolerance, scale = run.runs.tolerance, estimate.llc + fall
    advice = "the fitted family does not cover the posterior; take hmc or mclmc for this target"
    checks = [
        at_most("k̂", estimate.k_hat, K_HAT_TO_ACCEPT, K_HAT_TO_DRAW_ON, advice),
        at_most("gap in nats", estimate.gap, GAP_TO_ACCEPT, GAP_TO_DRAW_ON, advice),
        at_least("importance sample size", estimate.ess, ESS_TO_STOP, 50, f"few draws carry the weight; {advice}"),
        *_unit(estimate, fall),
        _agreement(estimate.fits, scale, tolerance),
    ]
    if scale > 0:
        advice = "the interval is wider than the tolerance; take more draws, or hmc"
        width = known(estimate.half_width / scale)
        checks.append(at_most("half width/(λ̂ + Δ)", width, tolerance, 2 * tolerance, advice))
    checks = [_strict(check) for check in checks]
    checks += _baseline(run, scale)
    if run.biased is not None:
        checks.append(_other_law(run.biased))
    return tuple(checks)


def weighted_verdict(estimate: WeightedEstimate, checks: tuple[Check, ...]) -> Verdict:
    """As `verdict_of`; an invalid fit's first reason states k̂, gap and what the plain average would have been."""
    verdict = verdict_of(checks)
    if verdict.label != "invalid":
        return verdict
    summary = (
        f"no fit holds this posterior, as is usual on networks (k̂ = {estimate.k_hat:.2f}, "
        f"gap = {estimate.gap:.2f} nats; the plain average would have been {estimate.plain:.4g}): "
        "take hmc or mclmc for this target"
    )
    return replace(verdict, reasons=(summary, *verdict.reasons))


def _strict(check: Check) -> Check:
    """A check of the weights that could not be measured vouches for nothing; one fit alone is only unconfirmed."""
    if check.name == AGREEMENT or check.value is not None or check.outcome != "uncertain":
        return check
    return _with_outcome(check, "invalid", check.reason)


def _agreement(fits: tuple[FitEstimate, ...], scale: float, tolerance: float) -> Check:
    """Two independent fits within 3 standard errors; far apart, neither is to be believed."""
    advice = "independent fits differ; take hmc or mclmc for this target"
    if len(fits) < 2:
        return at_most(AGREEMENT, None, 3.0, np.inf, "only one fit was made")
    pairs = [(a, b) for index, a in enumerate(fits) for b in fits[index + 1 :]]
    scores = [abs(a.llc - b.llc) / max(float(np.hypot(a.se, b.se)), 1e-300) for a, b in pairs]
    check = at_most(AGREEMENT, float(np.max(scores)), 3.0, np.inf, advice)
    apart = max(abs(a.llc - b.llc) for a, b in pairs)
    if check.outcome == "uncertain" and not apart <= 2 * tolerance * scale:
        return _with_outcome(check, "invalid", check.reason)
    return check


def _with_outcome(check: Check, outcome: VerdictLabel, reason: str) -> Check:
    """The same measurement with another outcome."""
    return check.model_copy(update={"outcome": outcome, "reason": reason})
