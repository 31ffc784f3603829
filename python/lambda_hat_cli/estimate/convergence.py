"""How λ̂ and its interval came about: the estimate from growing prefixes of the recorded draws."""

import csv
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lambda_hat_cli.artifacts.run import RunRecord, Trace
from lambda_hat_cli.estimate.bias import discretisation_bias
from lambda_hat_cli.estimate.interval import (
    Estimate,
    UnusableTrace,
    WeightedEstimate,
    estimate_markov,
    estimate_weighted,
)

COLUMNS = ("gradients", "seconds", "draws", "llc", "low", "high")
_POINTS = 30
_FIRST = 10


@dataclass(frozen=True)
class Convergence:
    """Points of the curve, in order of draws.

    Attributes:
        gradients: full-data equivalents spent by all chains until then, warm-up included. seconds: wall time.
        draws: recorded draws a chain. llc, low, high: λ̂ and its 95 % interval, NaN where the draws gave none.
    """

    gradients: Float[np.ndarray, " points"]
    seconds: Float[np.ndarray, " points"]
    draws: Int[np.ndarray, " points"]
    llc: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


def convergence(trace: Trace | None, run: RunRecord) -> Convergence:
    """About 30 points, evenly spaced in the logarithm of the draws; none where nothing was drawn."""
    total = 0 if trace is None or "llc" not in trace.posterior else trace.posterior["llc"].shape[1]
    if trace is None or total == 0:
        empty = np.zeros(0)
        return Convergence(empty, empty, np.zeros(0, dtype=np.int64), empty, empty, empty)
    draws = np.unique(np.geomspace(min(_FIRST, total), total, _POINTS).round().astype(np.int64))
    estimates = [_prefix(trace, run, int(count)) for count in draws]
    low, middle, high = (
        np.array([np.nan if found is None else getattr(found, name) for found in estimates])
        for name in ("low", "llc", "high")
    )
    return Convergence(_gradients(trace, run, draws), _seconds(run, draws, total), draws, middle, low, high)


def to_csv(curve: Convergence) -> str:
    """The curve as CSV text with a header; an unknown number is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in zip(*(getattr(curve, name).tolist() for name in COLUMNS), strict=True):
        writer.writerow("" if value != value else repr(value) for value in row)
    return text.getvalue()


def _prefix(trace: Trace, run: RunRecord, draws: int) -> Estimate | WeightedEstimate | None:
    llc = np.asarray(trace.posterior["llc"][:, :draws], dtype=np.float64)
    stats = {name: values[:, :draws] for name, values in trace.sample_stats.items()}
    try:
        if trace.draw_kind == "weighted_iid":
            return estimate_weighted(llc, np.asarray(stats["log_weight"], dtype=np.float64))
        return estimate_markov(llc, discretisation_bias(run.settings, run.tuned, stats, llc).value or 0.0)
    except UnusableTrace:
        return None


def _gradients(trace: Trace, run: RunRecord, draws: Int[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """The run's total less what was spent after each prefix; spread evenly over the draws where it was not recorded."""
    total = sum(run.gradients.values())
    if "gradients" in trace.sample_stats:
        spent = np.cumsum(np.asarray(trace.sample_stats["gradients"], dtype=np.float64).sum(axis=0))
    else:
        recorded = trace.posterior["llc"].shape[1]
        spent = run.gradients.get("sampling", 0.0) * np.arange(1, recorded + 1) / recorded
    return total - spent[-1] + spent[draws - 1]


def _seconds(run: RunRecord, draws: Int[np.ndarray, " points"], total: int) -> Float[np.ndarray, " points"]:
    """Wall time of the process until each prefix, the sampling phase's spread evenly over its draws."""
    return run.seconds["total"] - run.seconds["sampling"] * (1.0 - draws / total)
