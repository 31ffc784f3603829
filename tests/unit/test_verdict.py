"""Verdicts: good runs pass, every known way to be wrong is named and lowers the label."""

import numpy as np
import pytest

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.artifacts.run import Descent, Trace
from lambda_hat_cli.estimate.analysis import analyse
from lambda_hat_cli.estimate.checks import at_most
from lambda_hat_cli.estimate.verdict import minimum_of
from lambda_hat_cli.experiment.schema import MclmcSettings
from synthetic_runs import Case, autoregressive, markov_trace, run_record, run_row, target_record, weighted_trace

GOOD = autoregressive(8, 800, 0.4, 9.93, 3.1, 0)
SHAPE = GOOD.shape
VIRIAL = "virial, |v − 1|"
SPREAD = "Var[tK] less its slope/(λ̂ + Δ)"


def verdict(case: Case) -> AnalysisRecord:
    return analyse(run_row(case), run_record(case), target_record(case), case.trace)


def lowering(record: AnalysisRecord) -> dict[str, str]:
    return {check.name: check.outcome for check in record.checks if check.outcome != "reliable"}


def test_a_good_run_is_reliable_and_near_the_exact_value() -> None:
    record = verdict(Case(trace=markov_trace(GOOD), run={"tuned": {"baseline_error": 1e-9}}))
    assert (record.verdict, record.reasons) == ("reliable", ())
    assert record.llc_low < record.finite_t.value < record.llc_high
    assert record.truth.coefficient == "10"
    assert record.relative_error == pytest.approx(record.llc / record.finite_t.value - 1)
    assert record.relative_error_limit == pytest.approx(record.llc / 10 - 1)
    terms = {term.name: term.value for term in record.error_budget}
    assert terms["Monte Carlo"] == pytest.approx(record.llc_high - record.llc)
    assert terms["discretisation"] == 0.0
    assert terms["baseline"] == 1e-9
    assert record.stated_error == pytest.approx(sum(abs(terms[name]) for name in list(terms)[:4]))
    assert abs(record.llc - record.finite_t.value) < record.stated_error
    assert terms["finite t and localization"] == pytest.approx(record.finite_t.value - 10)


@pytest.mark.parametrize("seed", range(12))
def test_other_good_runs_are_reliable_too(seed: int) -> None:
    assert (
        verdict(Case(trace=markov_trace(autoregressive(8, 800, 0.4, 9.93, 3.1, 50 + seed), seed))).verdict == "reliable"
    )


def stuck(sd: float) -> np.ndarray:
    llc = GOOD.copy()
    llc[3] = 9.93 + sd * np.random.default_rng(0).normal(size=SHAPE[1])
    return llc


def stopped_half_way() -> np.ndarray:
    llc = GOOD.copy()
    llc[3, SHAPE[1] // 2 + 10 :] = llc[3, SHAPE[1] // 2 + 10]
    return llc


def copied() -> np.ndarray:
    llc = GOOD.copy()
    llc[5] = llc[2]
    return llc


def drifting() -> np.ndarray:
    return GOOD + np.linspace(-3, 0, SHAPE[1])


def apart() -> np.ndarray:
    return GOOD + 4.0 * (np.arange(SHAPE[0]) % 2)[:, None]


@pytest.mark.parametrize(
    ("trace", "run", "check", "label"),
    [
        (markov_trace(stuck(0.5)), {}, "least chain spread", "uncertain"),
        (markov_trace(stuck(0.01)), {}, "least chain spread", "invalid"),
        (markov_trace(stopped_half_way()), {}, "longest standstill in draws", "uncertain"),
        (markov_trace(copied()), {}, "different chains", "invalid"),
        (markov_trace(drifting()), {}, "drift p-value", "uncertain"),
        (markov_trace(apart()), {}, "R-hat", "invalid"),
        (markov_trace(GOOD[:, :80]), {}, "effective sample size", "uncertain"),
        (markov_trace(autoregressive(4, 120, 0.97, 9.93, 3.1, 0)), {}, "effective sample size", "invalid"),
        (markov_trace(9.93 + 2.0 * (GOOD - 9.93)), {}, SPREAD, "invalid"),
        (markov_trace(GOOD, virial=0.6 + 0.01 * (GOOD - 9.93)), {}, VIRIAL, "uncertain"),
        (markov_trace(GOOD, virial=0.2 + 0.01 * (GOOD - 9.93)), {}, VIRIAL, "invalid"),
        (markov_trace(GOOD, acceptance_rate=np.full(SHAPE, 0.3)), {}, "mean acceptance", "uncertain"),
        (markov_trace(GOOD, acceptance_rate=np.full(SHAPE, 0.01)), {}, "mean acceptance", "invalid"),
        (markov_trace(GOOD), {"biased": "the preconditioner keeps moving"}, "stationary law", "uncertain"),
    ],
)  # fmt: skip
def test_each_fault_is_named(trace: Trace, run: dict[str, object], check: str, label: str) -> None:
    record = verdict(Case(trace=trace, run=run))
    assert lowering(record)[check] == label
    assert record.verdict in ("uncertain", "invalid")
    assert (record.llc is None) == (record.verdict == "invalid")
    assert record.reasons
    if record.verdict == "invalid":
        assert "would have been" in record.reasons[0]


@pytest.mark.parametrize(
    ("value", "text"), [(1.3, "1.3"), (1.0204, "1.0204"), (1.021, "1.021"), (1.0200001, "1.0200001")]
)
def test_a_missed_threshold_does_not_read_like_the_value(value: float, text: str) -> None:
    check = at_most("R-hat", value, 1.02, 1.1, "wait")
    assert check.reason == f"R-hat is {text}, ≤ 1.02 is wanted: wait"


def test_a_wide_interval_is_no_reliable_one() -> None:
    record = verdict(
        Case(
            trace=markov_trace(GOOD[:, :30]),
            run={"status": "budget_exhausted", "reason": "2000 gradients"},
        )
    )
    assert record.llc is not None
    assert lowering(record)["half width/(λ̂ + Δ)"] == "uncertain"
    assert "gradients" in " ".join(record.reasons)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_that_ended_badly_has_no_number(status: str) -> None:
    record = verdict(Case(trace=markov_trace(GOOD), run={"status": status, "reason": "the step blew up"}))
    assert (record.verdict, record.llc, record.llc_se, record.llc_low, record.llc_high) == (
        "invalid",
        None,
        None,
        None,
        None,
    )
    assert "the step blew up" in record.reasons[0]


def test_a_run_without_draws_says_what_ended_it() -> None:
    trace = Trace(draw_kind="markov", posterior={"llc": np.zeros((8, 0))}, sample_stats={})
    spent = "the budget of 100 gradients was used up during warmup: give runs.budget.gradients more"
    record = verdict(Case(trace=trace, run={"status": "budget_exhausted", "reason": spent}))
    assert (record.verdict, record.reasons) == ("invalid", (spent,))


@pytest.mark.parametrize("draws", [np.full(SHAPE, 3.0), np.zeros((8, 0)), np.where(GOOD > 18, np.nan, GOOD)])
def test_unusable_draws_are_invalid_with_a_reason(draws: np.ndarray) -> None:
    trace = Trace(draw_kind="markov", posterior={"llc": draws}, sample_stats={})
    record = verdict(Case(trace=trace, run={"status": "budget_exhausted"}))
    assert (record.verdict, record.llc, record.rhat) == ("invalid", None, None)
    assert record.reasons[0]


def test_sgld_needs_its_step_measured() -> None:
    noise = np.random.default_rng(1).normal(size=SHAPE)
    unmeasured = verdict(Case(sampler="sgld", trace=markov_trace(GOOD)))
    assert lowering(unmeasured) == {"discretisation error": "uncertain"}
    small = verdict(Case(sampler="sgld", trace=markov_trace(GOOD, llc_half_step=GOOD - 0.05 + 0.01 * noise)))
    assert small.verdict == "reliable"
    assert {term.name: term.value for term in small.error_budget}["discretisation"] == pytest.approx(0.05, abs=0.002)
    large = verdict(Case(sampler="sgld", trace=markov_trace(GOOD, llc_half_step=GOOD - 1.5 + 0.01 * noise)))
    assert large.verdict == "uncertain"
    unclear = verdict(Case(sampler="sgld", trace=markov_trace(GOOD, llc_half_step=GOOD + 30 * noise)))
    assert unclear.verdict != "reliable"


def coupled(**more: object) -> Case:
    """A healthy run of plain MCLMC: two coupled levels that agree."""
    return Case(sampler="mclmc", trace=markov_trace(GOOD, llc_half_step=GOOD, llc_square=GOOD**2), **more)


def test_an_unadjusted_sampler_meets_the_strict_virial() -> None:
    """1 ± .001 passes, .9 or a virial not known to the tolerance of 5 % does not; after a Metropolis test both do."""
    rng = np.random.default_rng(1)
    for virial, found in (
        (1 + 0.03 * rng.normal(size=SHAPE), {}),
        (0.9 + 0.03 * rng.normal(size=SHAPE), {VIRIAL: "uncertain"}),
        (1 + 6.0 * (rng.normal(size=SHAPE) - rng.normal(size=SHAPE).mean()), {"virial's standard error": "uncertain"}),
    ):
        trace = markov_trace(GOOD, virial=virial, llc_half_step=GOOD)
        assert set(found.items()) <= set(lowering(verdict(Case(sampler="mclmc", trace=trace))).items())
        assert verdict(Case(sampler="hmc", trace=trace)).verdict == "reliable"
    assert verdict(coupled()).verdict == "reliable"


def test_a_metropolis_test_makes_mclmc_exact() -> None:
    settings = MclmcSettings(kind="mclmc", adjusted=True)
    virial = 0.9 + 0.03 * np.random.default_rng(1).normal(size=SHAPE)
    record = verdict(
        Case(sampler="mclmc", trace=markov_trace(GOOD, virial=virial), run={"settings": settings, "tuned": {}})
    )
    assert record.verdict == "reliable"
    assert {term.name: term.value for term in record.error_budget}["discretisation"] == 0.0
    refused = markov_trace(GOOD, acceptance_rate=np.full(SHAPE, 0.3))
    record = verdict(Case(sampler="mclmc", trace=refused, run={"settings": settings, "tuned": {}}))
    assert lowering(record)["mean acceptance"] == "uncertain"


@pytest.mark.parametrize(
    ("sampler", "tuned", "check"),
    [
        ("sgld", {"step_times_curvature": 0.7}, "step size × curvature"),
        ("sgld", {"step_times_curvature": None}, "step size × curvature"),
        ("sgld", {"curvature_growth": 1.2}, "curvature, end/start of recording"),
        ("mclmc", {"realised_energy_error_ratio": 12.0}, "energy error while recording/tuned"),
        ("hmc", {"baseline_error": 0.1}, "rounding of tK/(λ̂ + Δ)"),
        ("sgld", {"baseline_error": None}, "rounding of tK/(λ̂ + Δ)"),
    ],
)
def test_what_only_the_sampler_saw_is_judged(sampler: str, tuned: dict[str, float | None], check: str) -> None:
    trace = markov_trace(GOOD, llc_half_step=GOOD, virial=1 + 0.03 * np.random.default_rng(1).normal(size=SHAPE))
    run = {"tuned": {"extrapolation": 1 / 3, **tuned}}
    assert lowering(verdict(Case(sampler=sampler, trace=trace, run=run))) == {check: "uncertain"}
    swamped = verdict(Case(trace=markov_trace(GOOD), run={"tuned": {"baseline_error": 8.0}}))
    assert (swamped.verdict, swamped.llc) == ("invalid", None)
    assert "float64" in swamped.reasons[0]


def test_kinks_that_hide_the_rounding_of_float64_gate_nothing() -> None:
    record = verdict(Case(trace=markov_trace(GOOD), run={"tuned": {"baseline_error": None}}))
    assert record.verdict == "reliable"


def test_crossings_ring_the_energy_error_without_harm() -> None:
    run = {"tuned": {"extrapolation": 1 / 3, "realised_energy_error_ratio": 180.0}}
    case = coupled(d=2, run=run)
    assert "energy error while recording/tuned" not in {check.name for check in verdict(case).checks}


def test_the_distance_is_shown_and_never_gates() -> None:
    """Chains that stand apart in flat directions, and whose distance doubles: λ̂ of good runs survives both."""
    growing = np.linspace(1, 3, SHAPE[1]) * np.linspace(1, 9, SHAPE[0])[:, None]
    record = verdict(Case(trace=markov_trace(GOOD, distance_squared=growing)))
    shown = {check.name: check.value for check in record.checks}
    assert record.verdict == "reliable"
    assert shown["R-hat of ‖w−w*‖²"] > 2
    assert shown["‖w−w*‖², second half/first half"] == pytest.approx(2.5 / 1.5, rel=0.01)


def test_without_a_positive_unit_one_reason_says_what_is_the_matter() -> None:
    descent = Descent(delta=130.0, gradient_norm=900.0, iterations=60, distance=1.0)
    record = verdict(Case(trace=markov_trace(GOOD - 231), run={"descent": descent}))
    assert (record.verdict, record.minimum) == ("uncertain", "above_minimum")
    assert len(record.reasons) == 1
    assert "lower than where the descent from w* ended" in record.reasons[0]
    assert "train longer" in record.minimum_reason
    noisy = verdict(Case(trace=markov_trace(GOOD - np.mean(GOOD) - 0.001)))
    assert "zero within its standard error" in " ".join(noisy.reasons)


def test_delta_sets_the_minimum_and_never_the_verdict() -> None:
    descent = Descent(delta=30.0, gradient_norm=9.0, iterations=20, distance=1.0)
    record = verdict(Case(trace=markov_trace(GOOD - 25.0), run={"descent": descent}))
    assert (record.verdict, record.minimum, record.delta) == ("reliable", "above_minimum", 30.0)
    assert record.llc < 0
    assert record.minimum_reason == (
        "w* is 30 nats above a minimum: train longer, or read λ̂ as a number of this checkpoint alone"
    )
    assert minimum_of(0.2, 10.0) == "at_minimum"
    assert minimum_of(0.21, 10.0) == "above_minimum"
    assert minimum_of(None, 10.0) is None


def around_a_displaced_minimum(shift: float, heat: float) -> AnalysisRecord:
    """Exact draws of tK = ½t(‖w − a‖² − ‖a‖²), a = `shift` in all d directions, their spread times `heat`."""
    d, t, gamma = 10, 30.0, 10.0
    end = np.full(d, shift) * t / (t + gamma)
    draws = end + heat * np.random.default_rng(d).normal(size=(8, 800, d)) / np.sqrt(t + gamma)
    fall = 0.5 * t * (np.sum((draws - shift) ** 2, axis=-1) - d * shift**2)
    distance = float(np.linalg.norm(end))
    delta = 0.5 * t * d * shift**2 * t / (t + gamma)
    descent = Descent(delta=delta, gradient_norm=t * shift * d**0.5, iterations=3, distance=distance)
    trace = markov_trace(fall, distance_squared=np.sum(draws**2, axis=-1))
    return verdict(Case(trace=trace, d=d, run={"descent": descent, "nbeta": t, "localization": gamma}))


@pytest.mark.parametrize("shift", [0.05, 0.1, 0.2, 0.3, 1.0])
def test_exact_draws_above_a_minimum_are_reliable(shift: float) -> None:
    """The localizer holds the posterior on a slope of tK, so that λ̂ is negative and Var[tK] exceeds all units of it."""
    record = around_a_displaced_minimum(shift, heat=1.0)
    assert (record.verdict, record.minimum) == ("reliable", "above_minimum")
    assert record.llc_low < 0.5 * 10 * 0.75 + 0.5 * 30 * 10 * shift**2 * (0.25**2 - 1) < record.llc_high


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.2, 0.3, 1.0])
def test_too_hot_chains_are_named_wherever_w_star_is(shift: float) -> None:
    assert SPREAD in lowering(around_a_displaced_minimum(shift, heat=1.4))


def test_a_draw_below_the_descents_end_raises_delta() -> None:
    """U at a draw lies at least as high as min U, so a lower draw proves the descent stopped early."""
    llc = GOOD.copy()
    llc[0, 0] = -2.0
    record = verdict(Case(trace=markov_trace(llc, distance_squared=np.full(SHAPE, 1.0))))
    assert (record.delta, record.minimum) == (1.5, "above_minimum")


def test_an_extrapolated_draw_is_no_point_and_raises_no_delta() -> None:
    """K₁ + D/3 may be lower than tK is anywhere; what the chain visited is in the recorded potential."""
    llc, energy = GOOD.copy(), np.abs(GOOD)
    llc[0, 0] = -9.0
    stats = {"llc_half_step": llc + 0.01, "distance_squared": np.full(SHAPE, 1.0)}
    assert verdict(Case(sampler="sgld", trace=markov_trace(llc, energy=energy, **stats))).delta == 0.0
    energy[0, 0] = -1.5
    assert verdict(Case(sampler="sgld", trace=markov_trace(llc, energy=energy, **stats))).delta == 1.5


def test_a_good_fit_is_reliable() -> None:
    record = verdict(Case(sampler="vi", d=5, trace=weighted_trace(1.05)))
    assert (record.verdict, record.reasons) == ("reliable", ())
    assert abs(record.llc - 2.5) <= 4 * record.llc_se
    assert (record.rhat, record.ess_bulk) == (None, None)


def test_a_bad_fit_is_invalid_and_says_what_it_would_have_been() -> None:
    record = verdict(Case(sampler="vi", d=50, trace=weighted_trace(1.5, d=50)))
    assert (record.verdict, record.llc) == ("invalid", None)
    assert "k̂ = " in record.reasons[0]
    assert "nats; the plain average would have been 5" in record.reasons[0]
    assert "take hmc" in record.reasons[0]


def test_fits_must_agree_and_one_alone_is_not_enough() -> None:
    trace = weighted_trace(1.05)
    one = Trace(
        "weighted_iid", {"llc": trace.posterior["llc"][:1]}, {"log_weight": trace.sample_stats["log_weight"][:1]}
    )
    assert verdict(Case(sampler="vi", d=5, trace=one)).verdict == "uncertain"
    llc = trace.posterior["llc"] * np.array([[1.0], [1.3]])
    apart = Trace("weighted_iid", {"llc": llc}, trace.sample_stats)
    assert verdict(Case(sampler="vi", d=5, trace=apart)).verdict == "invalid"
