"""A run's draws, its target and its row become one record: estimate, verdict, minimum, error budget and truths."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from lambda_hat_cli.artifacts.analysis import AnalysisRecord, ErrorTerm, FiniteT
from lambda_hat_cli.artifacts.run import BASELINE, RunRecord, Trace
from lambda_hat_cli.artifacts.target import TargetRecord, Truth
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.estimate.bias import discretisation_bias, is_adjusted
from lambda_hat_cli.estimate.checks import known
from lambda_hat_cli.estimate.diagnostics import virial_mean
from lambda_hat_cli.estimate.interval import (
    MIN_DRAWS,
    WIDTH,
    UnusableTrace,
    check_usable,
    estimate_markov,
    estimate_weighted,
)
from lambda_hat_cli.estimate.second import NOTHING, SecondEstimate, second_of_chains, second_of_weighted
from lambda_hat_cli.estimate.verdict import (
    Verdict,
    ended_badly,
    markov_checks,
    minimum_of,
    minimum_reason,
    unusable,
    verdict_of,
    weighted_checks,
    weighted_verdict,
)
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.experiment.schema import HmcSettings
from lambda_hat_cli.truth.finite_t import finite_t_for

Draws = Float[np.ndarray, "chains draws"]


@dataclass(frozen=True)
class Numbers:
    """What the draws say; a number that they do not give is None.

    Attributes:
        llc, se, low, high: as computed, also where the verdict then withholds them.
        terms: the error budget's lines that come from the draws.
    """

    llc: float | None
    se: float | None
    low: float | None
    high: float | None
    ess_mean: float | None
    ess_bulk: float | None
    ess_tail: float | None
    rhat: float | None
    second: SecondEstimate
    verdict: Verdict
    terms: tuple[ErrorTerm, ...]


def check_belongs(row: RunRow, run: RunRecord, target: TargetRecord) -> None:
    """Refuse folders that are not those of the row.

    Raises:
        UserError: when an id differs, or the run's process had another precision than the row asks for.
    """
    if run.id != row.id:
        raise UserError(f"the run folder holds run {run.id}, the row is run {row.id}; give the folder of that run")
    for holder, identity in (("run folder was drawn from", run.target_id), ("target folder holds", target.id)):
        if identity != row.target_id:
            raise UserError(
                f"the {holder} target {identity}, the row's target is {row.target_id}; give the folders of one run"
            )
    for holder, precision in (("run", run.precision), ("run's process", run.environment.precision)):
        if precision != row.precision:
            raise UserError(
                f"the {holder} had precision {precision}, the row asks for {row.precision}; run the sampler again "
                f"in the {row.precision} lane"
            )


def analyse(row: RunRow, run: RunRecord, target: TargetRecord, trace: Trace | None) -> AnalysisRecord:
    """Everything that analysis.json says about a run.

    Raises:
        UserError: when run and target are not those of the row.
    """
    check_belongs(row, run, target)
    finite_t = finite_t_for(target.spec, target.seed, run.nbeta, run.localization)
    return conclude(row, run, trace, target.truth, finite_t)


def conclude(row: RunRow, run: RunRecord, trace: Trace | None, truth: Truth, finite_t: FiniteT) -> AnalysisRecord:
    """The record of a run that is the row's, with what is known exactly of its target."""
    delta = _delta(run, trace)
    # Judged in units of λ̂ + Δ of the descent: a low draw may be an error, and must not make the units larger.
    numbers = _numbers(run, trace, 0.0 if run.descent is None else run.descent.fall(run.localization))
    usable = numbers.verdict.label != "invalid"
    llc = numbers.llc if usable else None
    minimum = minimum_of(delta, llc + (delta or 0.0)) if llc is not None else None
    second = numbers.second if usable else NOTHING
    return AnalysisRecord(
        run_id=run.id,
        target=row.target,
        target_id=row.target_id,
        target_kind=row.target_kind,
        sampler=row.sampler,
        folder=row.folder,
        replicate=row.replicate,
        llc=llc,
        llc_se=numbers.se if usable else None,
        llc_low=numbers.low if usable else None,
        llc_high=numbers.high if usable else None,
        ess_mean=numbers.ess_mean,
        ess_bulk=numbers.ess_bulk,
        ess_tail=numbers.ess_tail,
        rhat=numbers.rhat,
        llc_variance=second.variance,
        llc_variance_se=second.variance_se,
        llc_slope=second.slope,
        llc_slope_se=second.slope_se,
        verdict=numbers.verdict.label,
        reasons=numbers.verdict.reasons,
        checks=numbers.verdict.checks,
        minimum=minimum,
        minimum_reason=minimum_reason(minimum, delta),
        delta=delta,
        error_budget=(*numbers.terms, _finite_t_term(finite_t, truth)),
        stated_error=_total(numbers.terms),
        truth=truth,
        finite_t=finite_t,
        relative_error=_relative(llc, finite_t.value),
        relative_error_limit=_relative(llc, limit_of(truth)),
        n=run.n,
        d=run.d,
        beta=run.inverse_temperature,
        gamma=run.localization,
        nbeta=run.nbeta,
        run=run,
    )


def limit_of(truth: Truth) -> float | None:
    """The truth's λ as a number."""
    return None if truth.coefficient is None else float(Fraction(truth.coefficient))


def _numbers(run: RunRecord, trace: Trace | None, fall: float) -> Numbers:
    bad_end = ended_badly(run)
    if bad_end is not None:
        return _nothing(bad_end)
    try:
        if trace is None or "llc" not in trace.posterior:
            raise UnusableTrace("no draws were recorded; raise the budget")
        llc = np.asarray(trace.posterior["llc"], dtype=np.float64)
        if llc.shape[-1] < MIN_DRAWS and run.reason is not None:
            raise UnusableTrace(run.reason)
        if trace.draw_kind == "weighted_iid":
            return _weighted_numbers(llc, trace, run, fall)
        return _markov_numbers(llc, trace, run, fall)
    except UnusableTrace as trouble:
        return _nothing(unusable(str(trouble)))


def _nothing(verdict: Verdict) -> Numbers:
    return Numbers(None, None, None, None, None, None, None, None, NOTHING, verdict, ())


def _markov_numbers(llc: Draws, trace: Trace, run: RunRecord, fall: float) -> Numbers:
    check_usable(llc)
    bias = discretisation_bias(run.settings, run.tuned, trace.sample_stats, llc)
    estimate = estimate_markov(llc, bias.value or 0.0)
    second = second_of_chains(llc, trace.sample_stats, points=is_adjusted(run.settings))
    checks = markov_checks(llc, trace.sample_stats, estimate, bias, second.variance, run, fall)
    return Numbers(
        llc=estimate.llc,
        se=estimate.se,
        low=estimate.low,
        high=estimate.high,
        ess_mean=known(estimate.ess_mean),
        ess_bulk=known(estimate.ess_bulk),
        ess_tail=known(estimate.ess_tail),
        rhat=known(estimate.rhat),
        second=second,
        verdict=verdict_of(checks, would_have_been=estimate.llc),
        terms=(
            ErrorTerm(name="Monte Carlo", value=WIDTH * estimate.se, note="2.1 standard errors of the mean"),
            ErrorTerm(name="discretisation", value=bias.value, note=bias.source),
            _equilibration_term(trace, estimate.llc),
            _baseline_term(run),
        ),
    )


def _weighted_numbers(llc: Draws, trace: Trace, run: RunRecord, fall: float) -> Numbers:
    if "log_weight" not in trace.sample_stats:
        raise UnusableTrace("the draws carry no importance weights; run the sampler again")
    estimate = estimate_weighted(llc, np.asarray(trace.sample_stats["log_weight"], dtype=np.float64))
    checks = weighted_checks(estimate, run, fall)
    return Numbers(
        llc=estimate.llc,
        se=estimate.se,
        low=estimate.low,
        high=estimate.high,
        ess_mean=known(estimate.ess),
        ess_bulk=None,
        ess_tail=None,
        rhat=None,
        second=second_of_weighted(estimate),
        verdict=weighted_verdict(estimate, checks),
        terms=(
            ErrorTerm(name="Monte Carlo", value=WIDTH * estimate.se, note="2.1 standard errors of the weighted mean"),
            ErrorTerm(name="discretisation", value=0.0, note="none: the draws are independent"),
            ErrorTerm(
                name="importance weights",
                value=abs(estimate.plain - estimate.llc),
                note="how far the weights moved the plain average",
            ),
            _baseline_term(run),
        ),
    )


def _delta(run: RunRecord, trace: Trace | None) -> float | None:
    """δ of the descent, or more where a draw lies lower than the descent came."""
    if run.descent is None:
        return None
    potential = None if trace is None else _potential(run, trace)
    lowest = np.nan if potential is None else float(np.min(potential, initial=0.0))
    return max(run.descent.delta, -lowest) if np.isfinite(lowest) else run.descent.delta


def _potential(run: RunRecord, trace: Trace) -> Draws | None:
    """U where the sampler was, or means of it over steps, none of which is below min U.

    Not from `llc` where that is extrapolated to step size 0. HMC's energy is the Hamiltonian, but its `llc` is exact.
    """
    stats = trace.sample_stats
    if not isinstance(run.settings, HmcSettings):
        return stats.get("energy")
    if "distance_squared" not in stats:
        return None
    return trace.posterior["llc"] + 0.5 * run.localization * stats["distance_squared"]


def _equilibration_term(trace: Trace, llc: float) -> ErrorTerm:
    name = "not yet equilibrated"
    if "virial" not in trace.sample_stats:
        return ErrorTerm(name=name, value=None, note="the virial was not recorded")
    mean, se = virial_mean(trace.sample_stats["virial"])
    note = (
        f"|1 − v|·λ̂ with v = {mean:.3g} ± {se:.1g}, 1 in equilibrium; an alarm, not a bound, and outside the interval"
    )
    return ErrorTerm(name=name, value=known(abs(1.0 - mean) * abs(llc)), note=note)


def _baseline_term(run: RunRecord) -> ErrorTerm:
    error = run.tuned.get(BASELINE)
    if error is None:
        return ErrorTerm(name="baseline", value=None, note="rounding of tK: not measured")
    note = "rounding of tK: its values at the last draws against the integral of the gradient; outside the interval"
    return ErrorTerm(name="baseline", value=error, note=note)


def _total(terms: tuple[ErrorTerm, ...]) -> float | None:
    values = [abs(term.value) for term in terms if term.value is not None]
    return sum(values) if values and len(values) == len(terms) else None


def _finite_t_term(finite_t: FiniteT, truth: Truth) -> ErrorTerm:
    """What separates a perfect sampler's answer from λ."""
    name, limit = "finite t and localization", limit_of(truth)
    if finite_t.value is None or limit is None:
        return ErrorTerm(name=name, value=None, note="unknown: needs the exact values at finite t and in the limit")
    return ErrorTerm(
        name=name, value=finite_t.value - limit, note="E[tK] at this (n, β, γ) less λ; outside the interval"
    )


def _relative(llc: float | None, value: float | None) -> float | None:
    return None if llc is None or not value else (llc - value) / value
