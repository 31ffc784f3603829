"""trace.png: every draw of tK, and how it is distributed chain by chain or fit by fit."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.artifacts.run import Trace
from lambda_hat_cli.figures.style import FAINT, INK, chain_colours, headline, message, new_figure, save, style
from lambda_hat_cli.figures.words import draw_exact_values, result_of, title_of

Draws = Float[np.ndarray, "chains draws"]

_SHOWN_DRAWS = 400
_SHOWN_CHAINS = 8
_BINS = 40


def draw_trace(trace: Trace | None, record: AnalysisRecord, path: Path) -> None:
    """Write the PNG; without finite draws it says so instead."""
    with style():
        figure = new_figure(9.6, 4.4)
        headline(figure, title_of(record), result_of(record), record.llc is None)
        llc = None if trace is None else trace.posterior.get("llc")
        if trace is None or llc is None or not np.isfinite(llc).any():
            message(figure.subplots(), "no draws to show")
        else:
            left, right = figure.subplots(1, 2, width_ratios=(3, 1))
            if trace.draw_kind == "weighted_iid":
                _fits(left, llc, record)
                _log_weights(right, trace.sample_stats.get("log_weight"))
            else:
                _chains(left, llc, trace.warmup_posterior.get("llc"), record)
                _distributions(right, llc, left.get_ylim())
            figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
        save(figure, path)


def _chains(axes: Axes, llc: Draws, warmup: Draws | None, record: AnalysisRecord) -> None:
    chains, draws = llc.shape
    for chain, colour in zip(llc[:_SHOWN_CHAINS], chain_colours(_SHOWN_CHAINS), strict=False):
        shown = _spread(draws)
        axes.plot(shown + 1, chain[shown], color=colour, linewidth=0.5, alpha=0.55)
    if warmup is not None and warmup.shape[1] > 0:
        length = warmup.shape[1]
        # Warm-up gets a fixed share of the axis, however long it was.
        width = 0.15 * draws
        for chain, colour in zip(warmup[:_SHOWN_CHAINS], chain_colours(_SHOWN_CHAINS), strict=False):
            shown = _spread(length)
            axes.plot((shown / length - 1.0) * width, chain[shown], color=colour, linewidth=0.5, alpha=0.55)
        axes.axvspan(-width, 0, color=FAINT, alpha=0.15, linewidth=0, label=f"warm-up ({length} draws, compressed)")
    mean = np.cumsum(llc.mean(axis=0)) / np.arange(1, draws + 1)
    axes.plot(np.arange(1, draws + 1), mean, color=INK, linewidth=1.6, label="running mean of all chains")
    draw_exact_values(axes, record)
    axes.set_ylim(*_limits(llc, record))
    axes.margins(x=0.01)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= draws])
    axes.set_xlabel("draw")
    axes.set_ylabel("tK in nats")
    shown_chains = f"{_SHOWN_CHAINS} of {chains} chains" if chains > _SHOWN_CHAINS else f"{chains} chains"
    axes.set_title(f"{shown_chains} × {draws} draws")


def _distributions(axes: Axes, llc: Draws, limits: tuple[float, float]) -> None:
    edges = np.linspace(*limits, _BINS + 1)
    for chain, colour in zip(llc[:_SHOWN_CHAINS], chain_colours(_SHOWN_CHAINS), strict=False):
        counts, _ = np.histogram(chain[np.isfinite(chain)], bins=edges)
        axes.stairs(counts / chain.size, edges, orientation="horizontal", color=colour, linewidth=1.0)
    axes.set_ylim(*limits)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of draws")
    axes.set_title("each chain")


def _fits(axes: Axes, llc: Draws, record: AnalysisRecord) -> None:
    fits, draws = llc.shape
    for index, (fit, colour) in enumerate(zip(llc, chain_colours(fits), strict=True)):
        shown = _spread(draws)
        axes.plot(
            shown + 1, fit[shown], ".", color=colour, markersize=2.5, alpha=0.6, label=f"draws of fit {index + 1}"
        )
    axes.axhline(
        float(np.mean(llc[np.isfinite(llc)])), color=FAINT, linestyle=":", linewidth=1.4, label="plain average"
    )
    if record.llc is not None:
        axes.axhline(record.llc, color=INK, linestyle="-.", linewidth=1.4, label="importance-weighted")
    draw_exact_values(axes, record)
    axes.set_ylim(*_limits(llc, record))
    axes.set_xlabel("independent draw")
    axes.set_ylabel("tK in nats")
    axes.set_title(f"{fits} independent fits × {draws} draws")


def _log_weights(axes: Axes, log_weight: Draws | None) -> None:
    if log_weight is None or not np.isfinite(log_weight).any():
        message(axes, "no importance weights")
        return
    relative = log_weight - np.max(log_weight, axis=1, keepdims=True, initial=-np.inf, where=np.isfinite(log_weight))
    finite = np.isfinite(relative)
    edges = np.linspace(float(np.quantile(relative[finite], 0.001)), 0.0, _BINS + 1)
    for row, kept, colour in zip(relative, finite, chain_colours(len(relative)), strict=True):
        counts, _ = np.histogram(row[kept], bins=edges)
        axes.stairs(counts / row.size, edges, color=colour, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("log weight, largest = 0")
    axes.set_ylabel("share of draws")
    axes.set_title("weights of each fit")


def _spread(draws: int) -> np.ndarray:
    """At most _SHOWN_DRAWS indices, evenly spaced: more ink would only hide the chains."""
    return np.unique(np.linspace(0, draws - 1, min(draws, _SHOWN_DRAWS)).astype(int))


def _limits(llc: Draws, record: AnalysisRecord) -> tuple[float, float]:
    """All but the most extreme draws in a thousand, and the exact values."""
    low, high = np.quantile(llc[np.isfinite(llc)], (0.001, 0.999))
    marks = [value for value in (record.finite_t.value, record.llc) if value is not None]
    low, high = min([low, *marks]), max([high, *marks])
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)
