"""The pictures of the full mode: autocorrelation of tK, and R-hat as the draws came in."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.artifacts.run import Trace
from lambda_hat_cli.estimate.diagnostics import autocovariance, rhat_rank
from lambda_hat_cli.figures.style import (
    FAINT,
    PALETTE,
    chain_colours,
    headline,
    log_count_axis,
    message,
    new_figure,
    save,
    style,
)
from lambda_hat_cli.figures.words import result_of, title_of

Draws = Float[np.ndarray, "chains draws"]

_POINTS = 30
_LAGS = 100


def draw_autocorrelation(trace: Trace | None, record: AnalysisRecord, path: Path) -> None:
    """Write the autocorrelation of tK at small lags, chain by chain."""
    with style():
        figure = new_figure(7.6, 4.2)
        headline(figure, title_of(record), result_of(record), record.llc is None)
        axes = figure.subplots()
        llc = _chains(trace)
        if llc is None:
            message(axes, "no moving, finite chains to correlate")
        else:
            covariance = autocovariance(llc)
            lags = np.arange(min(_LAGS, llc.shape[1] // 2))
            for row, colour in zip(covariance, chain_colours(len(covariance)), strict=True):
                axes.plot(lags, row[lags] / row[0], color=colour, linewidth=0.9, alpha=0.7)
            axes.axhline(0.0, color=FAINT, linewidth=0.8)
            axes.set_xlabel("lag in draws")
            axes.set_ylabel("autocorrelation of tK")
            axes.set_title("each chain")
        save(figure, path)


def draw_running_rhat(trace: Trace | None, record: AnalysisRecord, path: Path) -> None:
    """Write rank-normalised split R-hat of tK, and of ‖w−w*‖² where recorded, from growing prefixes."""
    with style():
        figure = new_figure(7.6, 4.2)
        headline(figure, title_of(record), result_of(record), record.llc is None)
        axes = figure.subplots()
        llc = _chains(trace)
        if trace is None or llc is None:
            message(axes, "no moving, finite chains to compare")
        else:
            draws = np.unique(np.geomspace(8, max(8, llc.shape[1]), _POINTS).astype(int))
            series = {"tK": llc, "‖w−w*‖²": trace.sample_stats.get("distance_squared")}
            for (name, values), colour in zip(series.items(), PALETTE, strict=False):
                if values is not None:
                    axes.plot(draws, [rhat_rank(values[:, :count]) for count in draws], color=colour, label=name)
            axes.axhline(1.02, color=FAINT, linestyle=":", label="1.02")
            log_count_axis(axes)
            axes.set_xlabel("draws a chain")
            axes.set_ylabel("R-hat")
            axes.legend(loc="upper right")
        save(figure, path)


def _chains(trace: Trace | None) -> Draws | None:
    if trace is None or trace.draw_kind != "markov" or "llc" not in trace.posterior:
        return None
    llc = trace.posterior["llc"]
    usable = llc.shape[1] >= 8 and np.isfinite(llc).all() and bool((np.ptp(llc, axis=1) > 0).all())
    return llc if usable else None
