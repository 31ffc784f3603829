"""λ̂ against a value that a grid varies: a line for each sampler and choice of the grid's other values."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lambda_hat_cli.figures.marks import Look, Mark, draw_mark, legend_of, looks_of
from lambda_hat_cli.figures.scales import llc_axis, side_by_side, value_axis
from lambda_hat_cli.figures.style import FAINT, INK, legend_below, message, new_figure, save, shortened, style

_LONGEST_LABEL = 80


@dataclass(frozen=True)
class GridPoint:
    """One run.

    Attributes:
        place: counts the panel's values. exact: what a perfect sampler would give. limit: λ; None where not known.
    """

    place: int
    mark: Mark
    exact: float | None
    limit: float | None


@dataclass(frozen=True)
class GridSeries:
    """The runs of one sampler that differ in the value, its seed and its replicate; `others` tells the other values."""

    sampler: str
    others: str
    points: tuple[GridPoint, ...]


@dataclass(frozen=True)
class GridPanel:
    """One entry at one β and γ.

    Attributes:
        key: what the x axis is. values: of it, in the file's order; numbers or their labels.
        joined: whether a line says something: not where the values are names or seeds.
        undrawn: how many series there are besides those shown.
    """

    title: str
    subtitle: str
    key: str
    values: tuple[float, ...] | tuple[str, ...]
    joined: bool
    series: tuple[GridSeries, ...]
    undrawn: int


def draw_grid(panel: GridPanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG. Lines go through the means at each value; short bars are what is known of a run's target.

    Args:
        samplers: their order fixes the colours; of one sampler alone each choice of the other values has a colour.
    """
    points = [point for series in panel.series for point in series.points]
    looks = looks_of([(series.sampler, series.others) for series in panel.series], samplers)
    with style():
        figure = new_figure(7.6, 4.6)
        axes = figure.subplots()
        undrawn = [f"{panel.undrawn} more lines are not drawn: grids.csv has all"] if panel.undrawn else []
        axes.set_title("\n".join([panel.title, panel.subtitle, *undrawn]))
        estimates = [point.mark.estimate for point in points if point.mark.estimate is not None]
        if not estimates:
            message(axes, "no run has a number")
        where = value_axis(axes, panel.key, panel.values)
        known = [value for point in points for value in (point.exact, point.limit) if value is not None]
        llc_axis(axes, estimates, known)
        limit = _common_limit(points)
        if limit is not None:
            axes.axhline(limit, color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
        beside = side_by_side([point.place for point in points], where)
        for series, look in zip(panel.series, looks, strict=True):
            at = [next(beside) for _ in series.points]
            _draw_known(axes, series, at, limit is None)
            _draw_series(axes, series, at, look, panel.joined)
        legend_below(figure, _legend(panel, looks))
        save(figure, path)


def _common_limit(points: Sequence[GridPoint]) -> float | None:
    """λ where all targets have the same one."""
    limits = {point.limit for point in points}
    return limits.pop() if len(limits) == 1 else None


def _draw_series(axes: Axes, series: GridSeries, at: Sequence[float], look: Look, joined: bool) -> None:
    """The runs, at `at`, and a line through the means at each value, broken where no run has a number."""
    by_place: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for point, x in zip(series.points, at, strict=True):
        by_place[point.place].append((x, math.nan if point.mark.estimate is None else point.mark.estimate[0]))
    if joined:
        means = sorted(_mean_place(pairs) for pairs in by_place.values())
        axes.plot(*zip(*means, strict=True), color=look.color, linewidth=0.9, linestyle=look.line, alpha=0.7)
    for point, x in zip(series.points, at, strict=True):
        draw_mark(axes, x, point.mark, look)


def _draw_known(axes: Axes, series: GridSeries, at: Sequence[float], limits: bool) -> None:
    """A short bar at each run for the exact value of its target, and if asked for, for its limit λ."""
    for point, x in zip(series.points, at, strict=True):
        if point.exact is not None:
            axes.plot(x, point.exact, "_", color=INK, markersize=9, markeredgewidth=1.4, zorder=2)
        if limits and point.limit is not None:
            axes.plot(x, point.limit, "_", color=FAINT, markersize=9, markeredgewidth=1.4, zorder=1)


def _mean_place(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean x, and the mean of the numbers there are; NaN where there is none."""
    known = [llc for _, llc in pairs if not math.isnan(llc)]
    return float(np.mean([x for x, _ in pairs])), float(np.mean(known)) if known else math.nan


def _legend(panel: GridPanel, looks: Sequence[Look]) -> list[Line2D]:
    marks = [
        Line2D(
            [], [],
            color=look.color,
            linestyle=look.line if panel.joined else "",
            marker=look.marker,
            markersize=4.5,
            label=shortened(", ".join(part for part in (series.sampler, series.others) if part), _LONGEST_LABEL),
        )
        for series, look in zip(panel.series, looks, strict=True)
    ]  # fmt: skip
    points = [point for series in panel.series for point in series.points]
    if any(point.exact is not None for point in points):
        marks.append(Line2D([], [], color=INK, marker="_", linestyle="", markersize=11, label="exact, or a reference"))
    if _common_limit(points) is not None:
        marks.append(Line2D([], [], color=FAINT, linestyle=(0, (5, 3)), label="limit λ"))
    elif any(point.limit is not None for point in points):
        marks.append(Line2D([], [], color=FAINT, marker="_", linestyle="", markersize=11, label="limit λ"))
    return marks + legend_of(point.mark for point in points)
