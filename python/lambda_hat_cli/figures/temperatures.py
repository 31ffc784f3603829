"""λ̂ against t of one (target, γ): each sampler's intervals, Var[tK] beside them, the exact values and the limit."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lambda_hat_cli.figures.marks import Look, Mark, draw_mark, legend_of, pale
from lambda_hat_cli.figures.scales import llc_axis, side_by_side
from lambda_hat_cli.figures.style import (
    FAINT,
    INK,
    legend_below,
    log_count_axis,
    message,
    new_figure,
    nth_colour,
    save,
    style,
)


@dataclass(frozen=True)
class TemperaturePoint:
    """One run; `variance` is Var[tK], None where it has no number."""

    t: float
    mark: Mark
    variance: float | None


@dataclass(frozen=True)
class Series:
    """One sampler's runs in order of t."""

    sampler: str
    points: tuple[TemperaturePoint, ...]


@dataclass(frozen=True)
class TemperaturePanel:
    """One (target, γ); `exact` holds (t, E[tK]) where known, `limit` λ or None."""

    title: str
    subtitle: str
    series: tuple[Series, ...]
    exact: tuple[tuple[float, float], ...]
    limit: float | None


def draw_temperatures(panel: TemperaturePanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG; `samplers` fixes the colours by its order."""
    points = [point for series in panel.series for point in series.points]
    estimates = [point.mark.estimate for point in points if point.mark.estimate is not None]
    looks = [Look(nth_colour(samplers.index(series.sampler)), "-", "o") for series in panel.series]
    with style():
        figure = new_figure(7.6, 4.6)
        axes = figure.subplots()
        axes.set_title(f"{panel.title}\n{panel.subtitle}")
        if not estimates:
            message(axes, "no run has a number")
            save(figure, path)
            return
        limit = [] if panel.limit is None else [panel.limit]
        llc_axis(axes, estimates, [*(value for _, value in panel.exact), *limit])
        axes.set_ylabel("nats")
        if panel.exact:
            axes.plot(*zip(*panel.exact, strict=True), color=INK, linewidth=1.2)
        for value in limit:
            axes.axhline(value, color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)))
        every = sorted({point.t for point in points})
        places = [every.index(point.t) for point in points]
        beside = side_by_side(places, [math.log(t) for t in every])
        for series, look in zip(panel.series, looks, strict=True):
            _draw_series(axes, series, [math.exp(next(beside)) for _ in series.points], look)
        log_count_axis(axes)
        axes.set_xlabel("t = nβ")
        legend_below(figure, _legend(panel, looks))
        save(figure, path)


def _draw_series(axes: Axes, series: Series, at: Sequence[float], look: Look) -> None:
    """The runs, at `at`, each Var[tK] at its run."""
    # A line through replicates would join one of them at each t, whichever comes first.
    if max(Counter(point.t for point in series.points).values(), default=0) == 1:
        llc = [math.nan if point.mark.estimate is None else point.mark.estimate[0] for point in series.points]
        axes.plot(at, llc, "-", color=look.color, linewidth=1.0)
    for x, point in zip(at, series.points, strict=True):
        draw_mark(axes, x, point.mark, look)
        if point.variance is not None:
            axes.plot(x, point.variance, "+", color=look.color, markersize=7, alpha=pale(point.mark))


def _legend(panel: TemperaturePanel, looks: Sequence[Look]) -> list[Line2D]:
    handles = []
    if panel.exact:
        handles.append(Line2D([], [], color=INK, linewidth=1.2, label="exact or reference at this t"))
    if panel.limit is not None:
        handles.append(Line2D([], [], color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)), label="limit λ"))
    for series, look in zip(panel.series, looks, strict=True):
        handles.append(Line2D([], [], color=look.color, marker="o", markersize=4.5, label=f"{series.sampler}: λ̂"))
        if any(point.variance is not None for point in series.points):
            label = f"{series.sampler}: Var[tK]"
            handles.append(Line2D([], [], color=look.color, marker="+", markersize=7, linestyle="", label=label))
    return handles + legend_of(point.mark for series in panel.series for point in series.points)
