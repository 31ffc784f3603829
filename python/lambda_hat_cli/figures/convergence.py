"""llc_convergence.png: λ̂ and its interval against the gradients spent."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.estimate.convergence import Convergence
from lambda_hat_cli.figures.style import (
    FAINT,
    PALETTE,
    headline,
    log_count_axis,
    message,
    new_figure,
    save,
    style,
)
from lambda_hat_cli.figures.words import LLC, draw_exact_values, exact_values, result_of, title_of


def draw_convergence(curve: Convergence, record: AnalysisRecord, path: Path) -> None:
    """Write the PNG; without an estimate it says so instead."""
    with style():
        figure = new_figure(7.6, 4.8)
        headline(figure, title_of(record), result_of(record), record.llc is None)
        axes = figure.subplots()
        known = np.isfinite(curve.llc)
        if not known.any():
            message(axes, "no estimate at any point of the run")
        else:
            # Independent draws are made after the fit: their number tells more than gradients that hardly differ.
            weighted = record.run.settings.kind == "vi"
            x = curve.draws if weighted else curve.gradients
            axes.fill_between(x, curve.low, curve.high, color=PALETTE[0], alpha=0.2, linewidth=0, label="95 % interval")
            axes.plot(x, curve.llc, color=PALETTE[0], linewidth=1.6, marker=".", label=LLC)
            _tolerance_band(axes, record)
            draw_exact_values(axes, record)
            axes.set_ylim(*_limits(curve, record))
            log_count_axis(axes)
            axes.set_xlabel(
                "independent draws of each fit"
                if weighted
                else "gradients (full-data equivalents, all chains, warm-up included)"
            )
            axes.set_ylabel(f"{LLC} in nats")
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save(figure, path)


def _tolerance_band(axes: Axes, record: AnalysisRecord) -> None:
    if record.llc is None:
        return
    descent = record.run.descent
    fall = 0.0 if descent is None else descent.fall(record.gamma)
    reach = record.run.runs.tolerance * (record.llc + fall)
    share = f"{100 * record.run.runs.tolerance:.3g} %" + (f" of {LLC} + Δ" if record.minimum == "above_minimum" else "")
    label = f"tolerance ±{share} about the last estimate"
    for value, text in ((record.llc - reach, label), (record.llc + reach, None)):
        axes.axhline(value, color=FAINT, linestyle=":", linewidth=1.2, label=text)


def _limits(curve: Convergence, record: AnalysisRecord) -> tuple[float, float]:
    """The exact values, and the interval from the first tenth of the points on: the earliest is too wide to show."""
    kept = slice(len(curve.llc) // 10, None)
    values = [*curve.low[kept], *curve.high[kept], *(value for _, value, _ in exact_values(record))]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
