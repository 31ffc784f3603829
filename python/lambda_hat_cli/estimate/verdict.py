"""Whether a run's number can be used: every check that bears on the sampling, the label they give and the reasons.

Thresholds were set on chains and fits with exact answers, good and deliberately broken (docs/verdicts.md). Nothing here
asks whether w* is a minimum: that is `minimum`, beside the verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import stdtr

from lambda_hat_cli.artifacts.analysis import Check, VerdictLabel
from lambda_hat_cli.artifacts.run import RunRecord
from lambda_hat_cli.estimate.bias import Bias
from lambda_hat_cli.estimate.checks import at_least, at_most, known, reasons, stated, worst
from lambda_hat_cli.estimate.diagnostics import batch_means_se, mcse_mean
from lambda_hat_cli.estimate.interval import WIDTH, Estimate, FitEstimate, WeightedEstimate
from lambda_hat_cli.experiment.schema import HmcSettings

Draws = Float[np.ndarray, "chains draws"]
Stats = Mapping[str, Shaped[np.ndarray, "chains draws"]]

AT_MINIMUM = 0.02
DRIFT_P = 1e-3
DRIFT_SHARE = 0.25
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
    advice = {
        "diverged": "take a smaller step, a larger localization or float64",
        "failed": "see the run's log",
    }[run.status]
    reason = f"the run {run.status}: {run.reason or 'no reason was recorded'}; {advice}"
    return verdict_of((stated("status", "invalid", "completed", "budget_exhausted", reason),))


def minimum_of(delta: float | None, scale: float) -> Literal["at_minimum", "above_minimum"] | None:
    """Whether w* is a minimum of U: δ at most 2 % of `scale` = λ̂ + δ; None where δ is unknown."""
    if delta is None:
        return None
    return "at_minimum" if delta <= AT_MINIMUM * scale else "above_minimum"


# Markov chains ----------------------------------------------------------------------------------


def markov_checks(
    llc: Draws, stats: Stats, estimate: Estimate, bias: Bias, run: RunRecord, scale: float
) -> tuple[Check, ...]:
    """Every check of a run of Markov chains.

    `llc` is tK in float64; `stats` what the sampler recorded, and a check whose statistic is absent is left out; `bias`
    the bound that `estimate` includes; `scale` = λ̂ + δ, in whose units errors are judged.
    """
    adjusted = isinstance(run.settings, HmcSettings)
    tolerance = run.runs.tolerance
    checks = [
        _positive(scale, estimate.se),
        at_least(
            "least chain spread",
            _least_spread(llc),
            0.3,
            0.02,
            "a chain hardly moves, the others leave it behind; give a longer warm-up or a smaller step",
        ),
        at_most(
            "R-hat",
            estimate.rhat,
            1.02,
            1.1,
            "the chains have not mixed; give a longer warm-up, more gradients or a larger localization",
        ),
        at_least(
            "effective sample size",
            float(np.min([estimate.ess_mean, estimate.ess_bulk, estimate.ess_tail])),
            400,
            50,
            "give the run more gradients",
        ),
        _tolerance(estimate.half_width, scale, tolerance),
        _drift(llc, scale, tolerance),
        at_most(
            "variance of the draws/(λ̂ + δ)",
            _ratio(float(np.var(llc, ddof=1)), scale),
            1.3,
            2.0,
            "tK is spread wider than its mean allows; the step is too large or the chains are not in equilibrium",
        ),
    ]
    if not adjusted:
        checks.append(_discretisation(bias, scale, tolerance))
    if "virial" in stats:
        checks.append(_virial(stats["virial"], adjusted))
    if adjusted and "acceptance_rate" in stats:
        checks += _acceptance(stats["acceptance_rate"])
    if run.biased is not None:
        checks.append(_other_law(run.biased))
    return tuple(checks)


def virial_mean(virial: Draws) -> tuple[float, float]:
    """Mean of (w−w*)·∇U/d, 1 in equilibrium for every sampler, and its standard error."""
    return float(np.mean(virial)), float(np.max([mcse_mean(virial), batch_means_se(virial)]))


def _positive(scale: float, se: float) -> Check:
    """A positive mean that the noise does not hide: else no relative error means anything."""
    return at_least(
        "(λ̂ + δ)/standard error",
        _ratio(scale, se),
        2.0,
        -np.inf,
        "the estimate is lost in its noise; give the run more gradients, and see whether w* is a minimum",
    )


def _tolerance(half_width: float, scale: float, tolerance: float) -> Check:
    return at_most(
        "half width/(λ̂ + δ)",
        _ratio(half_width, scale),
        tolerance,
        2.1 * 0.5,
        "the interval is wider than the tolerance; give the run more gradients or accept a larger tolerance",
    )


def _least_spread(llc: Draws) -> float:
    """Smallest standard deviation of a chain over that of all draws."""
    return float(np.min(np.std(llc, axis=1, ddof=1)) / np.std(llc, ddof=1))


def _drift(llc: Draws, scale: float, tolerance: float) -> Check:
    """Second against first half, paired over chains: p > .001, or a change that does not matter."""
    half = llc.shape[1] // 2
    change = llc[:, -half:].mean(axis=1) - llc[:, :half].mean(axis=1)
    spread = float(np.std(change, ddof=1)) / np.sqrt(change.size) if change.size > 1 else np.nan
    mean = float(np.mean(change))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * float(stdtr(change.size - 1, -abs(np.float64(mean) / spread)))
    small = abs(mean) < DRIFT_SHARE * tolerance * scale
    check = at_least(
        "drift p-value",
        p,
        DRIFT_P,
        -np.inf,
        f"tK moved by {mean:.2g} from the first to the second half; give a longer warm-up",
    )
    return _with_outcome(check, "reliable", "") if small else check


def _virial(virial: Draws, adjusted: bool) -> Check:
    """A Metropolis-adjusted chain may leave flat directions unfilled without harm; an unadjusted one errs by it."""
    mean, se = virial_mean(virial)
    reliable, uncertain = (0.3, 0.6) if adjusted else (0.05, 0.3)
    return at_most(
        "virial, |v − 1| beyond 2 s.e.",
        max(0.0, abs(mean - 1.0) - 2.0 * se),
        reliable,
        uncertain,
        f"(w−w*)·∇U/d averages {mean:.3g} instead of 1, flat directions are not filled; "
        "give a longer warm-up, more gradients or a larger localization",
    )


def _acceptance(acceptance: Draws) -> list[Check]:
    by_chain = acceptance.mean(axis=1)
    advice = "most proposals are refused; raise target_acceptance or give a longer warm-up"
    return [
        at_least("mean acceptance", float(by_chain.mean()), 0.5, 0.1, advice),
        at_least("worst chain's acceptance", float(by_chain.min()), 0.2, 0.02, advice),
    ]


def _discretisation(bias: Bias, scale: float, tolerance: float) -> Check:
    """Beyond a tenth the expansion in the step size that the bound rests on is not to be trusted."""
    if bias.value is None or bias.step_effect is None:
        reason = (
            "the step size's own error was not measured; compare with hmc or a sampler run at half the step before "
            "relying on this number"
        )
        return stated("discretisation error", "uncertain", "measured", "not measured", reason)
    check = at_most(
        "effect of the step size/(λ̂ + δ)",
        _ratio(bias.step_effect, scale),
        0.1,
        0.5,
        "the step is too large for this target; take a smaller step or hmc",
    )
    unclear = WIDTH * bias.se > tolerance * scale
    if check.outcome == "reliable" and unclear:
        reason = "the step size's own error is not measured to the tolerance; give the run more gradients or take hmc"
        return _with_outcome(check, "uncertain", reason)
    return check


def _other_law(biased: str) -> Check:
    return stated("stationary law", "uncertain", "the posterior", "another", biased)


# Weighted draws ---------------------------------------------------------------------------------


def weighted_checks(estimate: WeightedEstimate, run: RunRecord, scale: float) -> tuple[Check, ...]:
    """Every check of importance-weighted draws from independent fits; errors are judged in units of scale = λ̂ + δ."""
    tolerance = run.runs.tolerance
    advice = "the fitted family does not cover the posterior; take hmc or mclmc for this target"
    checks = [
        at_most("k̂", estimate.k_hat, 0.5, 0.7, advice),
        at_most("gap in nats", estimate.gap, 0.5, 1.0, advice),
        at_least("importance sample size", estimate.ess, 400, 50, f"few draws carry the weight; {advice}"),
        at_most(
            "half width/(λ̂ + δ)",
            _ratio(estimate.half_width, scale),
            tolerance,
            2 * tolerance,
            "the interval is wider than the tolerance; take more draws, or hmc",
        ),
        _positive(scale, estimate.se),
        _agreement(estimate.fits, scale, tolerance),
    ]
    checks = [_strict(check) for check in checks]
    if run.biased is not None:
        checks.append(_other_law(run.biased))
    return tuple(checks)


def weighted_verdict(estimate: WeightedEstimate, checks: tuple[Check, ...]) -> Verdict:
    """As `verdict_of`; an invalid fit's first reason states k̂, gap and what the plain average would have been."""
    verdict = verdict_of(checks)
    if verdict.label != "invalid":
        return verdict
    summary = (
        f"k̂ = {estimate.k_hat:.2f}, gap = {estimate.gap:.2f} nats; "
        f"the plain average would have been {estimate.plain:.4g}"
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


def _ratio(value: float, scale: float) -> float | None:
    """`value`/`scale`, or None where the scale is not positive."""
    return known(value / scale) if scale > 0 else None


def _with_outcome(check: Check, outcome: VerdictLabel, reason: str) -> Check:
    """The same measurement with another outcome."""
    return check.model_copy(update={"outcome": outcome, "reason": reason})
