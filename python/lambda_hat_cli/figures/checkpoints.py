"""λ̂ against training step for the checkpoints of one network, above the loss at the same steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from lambda_hat_cli.figures.marks import Look, Mark, draw_mark, legend_of
from lambda_hat_cli.figures.scales import llc_axis
from lambda_hat_cli.figures.style import (
    FAINT,
    INK,
    legend_below,
    loss_axis,
    message,
    new_figure,
    nth_colour,
    save,
    short_count,
    style,
)

_SHIFT = 0.07
_ROWS = 3


@dataclass(frozen=True)
class CheckpointPoint:
    """One run."""

    steps: int
    mark: Mark


@dataclass(frozen=True)
class CheckpointSeries:
    """The runs of one sampler and replicate, by steps; `sampler` fixes the colour."""

    label: str
    sampler: str
    points: tuple[CheckpointPoint, ...]


@dataclass(frozen=True)
class CheckpointPanel:
    """One entry at one β and γ.

    Attributes:
        losses: (steps, loss at w*) of each checkpoint. curve: (steps, loss) all along the longest training.
        held_out_losses, held_out_curve: the same over rows that were held out, a NaN breaks the curve; empty where
            there are none.
    """

    title: str
    subtitle: str
    series: tuple[CheckpointSeries, ...]
    losses: tuple[tuple[int, float], ...]
    curve: tuple[tuple[int, float], ...]
    held_out_losses: tuple[tuple[int, float], ...] = ()
    held_out_curve: tuple[tuple[int, float], ...] = ()


def draw_checkpoints(panel: CheckpointPanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG; `samplers` fixes the colours by its order.

    The samplers' points stand side by side, so that no interval covers another.
    """
    with style():
        figure = new_figure(7.6, 5.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        estimates = [point.mark.estimate for series in panel.series for point in series.points]
        if not any(estimates):
            message(above, "no run has a number")
        llc_axis(above, [estimate for estimate in estimates if estimate is not None])
        above.axhline(0.0, color=FAINT, linewidth=0.8)
        for number, series in enumerate(panel.series):
            look = Look(nth_colour(samplers.index(series.sampler)), "-", "o")
            _draw_series(above, series, look, number, number - (len(panel.series) - 1) / 2)
        above.set_title(f"{panel.title}\n{panel.subtitle}")
        _draw_losses(below, panel.losses, panel.curve, "o")
        _draw_losses(below, panel.held_out_losses, panel.held_out_curve, "s")
        if panel.held_out_losses or panel.held_out_curve:
            marks = [
                Line2D([], [], color=INK, marker="o", markersize=4, linestyle="", label="the data, n rows"),
                Line2D([], [], color=INK, marker="s", markersize=4, markerfacecolor="white", label="held out", ls=""),
            ]
            # The layout would make room for it beside the axes.
            below.legend(handles=marks, loc="lower left").set_in_layout(False)
        every = (*panel.losses, *panel.curve, *panel.held_out_losses, *panel.held_out_curve)
        loss_axis(below, [loss for _, loss in every])
        below.set_ylabel("loss at w*, nats per datum")
        below.set_xlabel("optimizer steps")
        below.set_xscale("symlog", linthresh=1.0, linscale=0.5)
        last = max([steps for steps, _ in panel.losses] + [p.steps for each in panel.series for p in each.points])
        below.set_xlim(-0.2, 1.4 * max(last, 1))
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        legend_below(figure, _legend(panel, samplers))
        save(figure, path)


def _draw_series(axes: Axes, series: CheckpointSeries, look: Look, number: int, place: float) -> None:
    """The runs, shifted by `place` to stand beside the other series', and a line, broken at a run without a number."""
    steps = [point.steps * (1.0 + _SHIFT * place) if point.steps else _SHIFT * place for point in series.points]
    llc = [math.nan if point.mark.estimate is None else point.mark.estimate[0] for point in series.points]
    axes.plot(steps, llc, "-", color=look.color, linewidth=0.8, alpha=0.6)
    for x, point in zip(steps, series.points, strict=True):
        draw_mark(axes, x, point.mark, look, row=number % _ROWS)


def _draw_losses(
    axes: Axes, points: Sequence[tuple[int, float]], curve: Sequence[tuple[int, float]], marker: str
) -> None:
    """Losses at the checkpoints, over the whole training's; squares, for held-out rows, are open."""
    if curve:
        axes.plot(*zip(*curve, strict=True), color=FAINT, linewidth=1.2)
    if points:
        face = "white" if marker == "s" else INK
        axes.plot(*zip(*points, strict=True), marker, color=INK, markerfacecolor=face, markersize=4)


def _legend(panel: CheckpointPanel, samplers: Sequence[str]) -> list[Line2D]:
    colors = {series.sampler: nth_colour(samplers.index(series.sampler)) for series in panel.series}
    marks = [Line2D([], [], color=color, marker="o", markersize=4.5, label=name) for name, color in colors.items()]
    return marks + legend_of(point.mark for series in panel.series for point in series.points)
