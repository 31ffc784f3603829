"""rank_energy.png: do the chains agree, does the energy move freely; for weighted draws, who carries the weight."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.artifacts.run import Trace
from lambda_hat_cli.estimate.diagnostics import average_ranks, ess_bulk
from lambda_hat_cli.estimate.psis import psis_smooth
from lambda_hat_cli.figures.style import (
    ALARM,
    FAINT,
    INK,
    PALETTE,
    chain_colours,
    headline,
    log_count_axis,
    message,
    new_figure,
    nth_colour,
    plain_decades,
    save,
    style,
)
from lambda_hat_cli.figures.words import result_of, title_of

Draws = Float[np.ndarray, "chains draws"]

_RANK_BINS = 20
_ROWS = 8
_BINS = 50
_ENERGY_OF = {
    "mclmc": "potential energy U\n(a momentum of fixed length carries none)",
    "sgld": "potential energy U\n(this sampler has no momentum)",
}


def draw_rank_energy(trace: Trace | None, record: AnalysisRecord, path: Path) -> None:
    """Write the PNG; without finite draws it says so instead."""
    with style():
        figure = new_figure(9.6, 4.4)
        headline(figure, title_of(record), result_of(record), record.llc is None)
        llc = None if trace is None else trace.posterior.get("llc")
        if trace is None or llc is None or llc.shape[1] < 4 or not np.isfinite(llc).all():
            message(figure.subplots(), "no finite draws to rank")
        elif trace.draw_kind == "weighted_iid":
            left, right = figure.subplots(1, 2)
            _weights(left, right, trace.sample_stats.get("log_weight"))
        else:
            left, right = figure.subplots(1, 2)
            _ranks(left, llc)
            _energy(right, trace, record)
        save(figure, path)


def _ranks(axes: Axes, llc: Draws) -> None:
    """One row of bars a chain: the share of its draws in each twentieth of all ranks, against one twentieth."""
    chains, draws = llc.shape
    ranks = average_ranks(llc)
    edges = np.linspace(0.5, llc.size + 0.5, _RANK_BINS + 1)
    counts = np.array([np.histogram(row, bins=edges)[0] for row in ranks])
    expected = draws / _RANK_BINS
    shown = np.sort(np.argsort(-np.abs(counts - expected).max(axis=1), kind="stable")[:_ROWS])
    height = 0.42 / max(2.0, float(counts[shown].max()) / expected)
    centres = np.arange(_RANK_BINS)
    for row, chain in enumerate(shown):
        base = len(shown) - 1 - row
        low, high = _band(llc[chain : chain + 1], top=0.42 / height)
        axes.bar(
            centres,
            2 * height * counts[chain] / expected,
            bottom=base,
            width=0.9,
            color=nth_colour(chain),
            alpha=0.75,
        )
        axes.plot([-0.5, _RANK_BINS - 0.5], [base + 2 * height] * 2, color=INK, linewidth=0.8)
        axes.fill_between(
            [-0.5, _RANK_BINS - 0.5],
            base + 2 * height * low,
            base + 2 * height * high,
            color=FAINT,
            alpha=0.25,
            linewidth=0,
        )
    axes.set_yticks(np.arange(len(shown)) + 0.42, [f"chain {chain + 1}" for chain in shown[::-1]])
    axes.set_xticks([-0.5, (_RANK_BINS - 1) / 2, _RANK_BINS - 0.5], ["0", "½", "1"])
    axes.set_xlim(-0.5, _RANK_BINS - 0.5)
    axes.set_ylim(-0.08, len(shown))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("rank of tK among all draws")
    some = f", the {_ROWS} least even of {chains}" if chains > _ROWS else ""
    axes.set_title(f"ranks of tK by chain{some}\n(line: even; grey: 95 % at the chain's effective sample size)")


def _band(chain: Draws, top: float) -> tuple[float, float]:
    """Where 95 % of the bars of a well-mixed chain end, in units of the even share; cut at `top`, the row's height."""
    effective = min(float(chain.size), ess_bulk(chain))
    if not effective > 0:
        return 0.0, top
    reach = 1.96 * np.sqrt((_RANK_BINS - 1) / effective)
    return max(0.0, 1.0 - reach), min(top, 1.0 + reach)


def _energy(axes: Axes, trace: Trace, record: AnalysisRecord) -> None:
    """Energy about its mean against its change from draw to draw: alike where energies are visited freely."""
    kind = record.run.settings.kind
    energy = trace.sample_stats.get("energy")
    if energy is None or not np.isfinite(energy).all() or np.ptp(energy) == 0:
        message(axes, "the energy was not recorded" if energy is None else "the energy has no spread to show")
        return
    centred = energy - energy.mean(axis=1, keepdims=True)
    change = np.diff(energy, axis=1)
    limit = float(np.quantile(np.abs(np.concatenate([centred, change], axis=1)), 0.998))
    edges = np.linspace(-limit, limit, _BINS + 1)
    for values, colour, label in ((centred, PALETTE[0], "energy − mean"), (change, PALETTE[1], "change between draws")):
        counts, _ = np.histogram(values, bins=edges)
        axes.stairs(counts / values.size, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(counts / values.size, edges, color=colour, linewidth=1.2, label=label)
    axes.set_xlabel("nats")
    axes.set_ylabel("share of draws")
    axes.set_ylim(bottom=0)
    axes.margins(y=0.25)
    if kind == "hmc":
        fraction = float(np.sum(change**2) / np.sum(centred**2))
        axes.set_title(f"energy with momentum\nsquared change/squared spread (BFMI) = {fraction:.2g}")
    else:
        axes.set_title(_ENERGY_OF[kind])
    axes.legend(loc="upper right")


def _weights(left: Axes, right: Axes, log_weight: Draws | None) -> None:
    if log_weight is None or not np.isfinite(log_weight).any():
        message(left, "no importance weights")
        message(right, "")
        return
    draws = log_weight.shape[1]
    for index, (row, colour) in enumerate(zip(log_weight, chain_colours(len(log_weight)), strict=True)):
        finite = row[np.isfinite(row)]
        smoothed, k_hat = psis_smooth(finite)
        raw = np.sort(np.exp(finite - finite.max()) / np.exp(finite - finite.max()).sum())[::-1]
        share = np.cumsum(np.sort(np.exp(smoothed))[::-1])
        rank = np.arange(1, finite.size + 1)
        left.plot(rank, raw * draws, color=colour, linewidth=1.4, label=f"fit {index + 1}: k̂ = {k_hat:.2f}")
        right.plot(rank, share, color=colour, linewidth=1.4, label=f"fit {index + 1}")
    left.axhline(1.0, color=FAINT, linestyle=":", label="equal weights")
    left.set_ylim(bottom=max(1e-6, left.get_ylim()[0]))
    left.set_yscale("log")
    plain_decades(left.yaxis, *left.get_ylim())
    right.axhline(0.5, color=ALARM, linestyle=":", linewidth=1.0, label="half of the weight")
    right.set_ylim(0, 1.02)
    for axes, label in ((left, "weight × number of draws"), (right, "share of the weight")):
        axes.set_xlim(1, draws)
        log_count_axis(axes)
        axes.set_xlabel("draws, heaviest first")
        axes.set_ylabel(label)
        axes.legend(loc="best")
    left.set_title("weights (independent draws: no chains to rank)")
    right.set_title("who carries the weight (no energy: no dynamics)")
