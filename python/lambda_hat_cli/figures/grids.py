"""λ̂ against a value that a grid varies: a line for each sampler and choice of the grid's other values."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lambda_hat_cli.figures.marks import Mark, draw_mark, legend_of
from lambda_hat_cli.figures.style import (
    INK,
    LineStyle,
    message,
    new_figure,
    nth_colour,
    nth_line,
    save,
    short_count,
    style,
)

SPREAD = 0.2
"""The share of the room between two values that the runs at one of them take."""


@dataclass(frozen=True)
class GridPoint:
    """One run; `place` counts the panel's values, `exact` is what a perfect sampler would give, None if unknown."""

    place: int
    mark: Mark
    exact: float | None


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
    """

    title: str
    subtitle: str
    key: str
    values: tuple[float, ...] | tuple[str, ...]
    series: tuple[GridSeries, ...]


class Look(NamedTuple):
    """How a series is drawn."""

    color: str
    line: LineStyle


def draw_grid(panel: GridPanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG. Lines go through the means at each value; a short bar is the exact value of a run's target.

    Args:
        samplers: their order fixes the colours; of one sampler alone each choice of the other values has a colour.
    """
    others = list(dict.fromkeys(series.others for series in panel.series))
    with style():
        figure = new_figure(7.6, 4.4)
        axes = figure.subplots()
        axes.set_title(f"{panel.title}\n{panel.subtitle}")
        if not any(point.mark.estimate is not None for series in panel.series for point in series.points):
            message(axes, "no run has a number")
        where = _axis(axes, panel)
        beside = _beside([point.place for series in panel.series for point in series.points])
        alone = len({series.sampler for series in panel.series}) == 1
        looks = [
            Look(
                nth_colour(others.index(series.others) if alone else samplers.index(series.sampler)),
                nth_line(others.index(series.others)),
            )
            for series in panel.series
        ]
        for series, look in zip(panel.series, looks, strict=True):
            at = [where[point.place] + SPREAD * _gap(where) * next(beside) for point in series.points]
            _draw_series(axes, series, at, look)
        axes.set_ylabel("λ̂, nats")
        figure.legend(handles=_legend(panel, looks), loc="outside lower center", ncols=3, handlelength=3)
        save(figure, path)


def _axis(axes: Axes, panel: GridPanel) -> list[float]:
    """Where the values stand: in decades where they span one, side by side where they are no numbers."""
    axes.set_xlabel(panel.key)
    numbers = [value for value in panel.values if not isinstance(value, str)]
    if len(numbers) < len(panel.values):
        axes.set_xticks(range(len(panel.values)), [str(value) for value in panel.values])
        return [float(place) for place in range(len(panel.values))]
    decades = min(numbers) > 0 and max(numbers) >= 10 * min(numbers)
    where = [float(np.log10(number)) if decades else float(number) for number in numbers]
    axes.set_xticks(where, [short_count(number) for number in numbers])
    if decades:
        axes.set_xlabel(f"{panel.key} (logarithmic)")
    return where


def _beside(places: Sequence[int]) -> Iterator[float]:
    """For each run where it stands among all at its place, from −½ to ½, so that no interval covers another."""
    every, before = Counter(places), Counter[int]()
    for place in places:
        yield (before[place] + 0.5) / every[place] - 0.5
        before[place] += 1


def _gap(where: Sequence[float]) -> float:
    """The least distance of two values, 1 where there is one alone."""
    return float(np.min(np.diff(np.sort(where)))) if len(where) > 1 else 1.0


def _draw_series(axes: Axes, series: GridSeries, at: Sequence[float], look: Look) -> None:
    """The runs, at `at`, and a line through the means at each value."""
    by_place: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for point, x in zip(series.points, at, strict=True):
        if point.mark.estimate is not None:
            by_place[point.place].append((x, point.mark.estimate[0]))
    means = sorted(tuple(np.mean(pairs, axis=0)) for pairs in by_place.values())
    if means:
        axes.plot(*zip(*means, strict=True), color=look.color, linewidth=0.9, linestyle=look.line, alpha=0.7)
    for point, x in zip(series.points, at, strict=True):
        draw_mark(axes, x, point.mark, look.color)
        if point.exact is not None:
            axes.plot(x, point.exact, "_", color=INK, markersize=9, markeredgewidth=1.4, zorder=4)


def _legend(panel: GridPanel, looks: Sequence[Look]) -> list[Line2D]:
    marks = [
        Line2D(
            [], [],
            color=look.color,
            linestyle=look.line,
            marker="o",
            markersize=4.5,
            label=", ".join(part for part in (series.sampler, series.others) if part),
        )
        for series, look in zip(panel.series, looks, strict=True)
    ]  # fmt: skip
    points = [point for series in panel.series for point in series.points]
    if any(point.exact is not None for point in points):
        marks.append(Line2D([], [], color=INK, marker="_", linestyle="", markersize=11, label="exact, or a reference"))
    return marks + legend_of(point.mark for point in points)
