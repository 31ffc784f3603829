"""λ̂ against t of one (target, γ): each sampler's intervals, Var[tK] beside them, the exact values and the limit."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_hat_cli.figures.style import FAINT, INK, log_count_axis, message, new_figure, nth_colour, save, style

_SHIFT = 1.03


@dataclass(frozen=True)
class Series:
    """One sampler's runs in order of t.

    Attributes:
        llc: (t, λ̂, low, high) of each run with a number. variance: (t, Var[tK]) where it is known.
    """

    sampler: str
    llc: tuple[tuple[float, float, float, float], ...]
    variance: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TemperaturePanel:
    """One (target, γ); `exact` holds (t, E[tK]) where known, `limit` λ or None."""

    title: str
    subtitle: str
    series: tuple[Series, ...]
    exact: tuple[tuple[float, float], ...]
    limit: float | None


def _replicates(t: Sequence[float]) -> int:
    """The most runs at one t."""
    return max(Counter(t).values(), default=1)


def _side_by_side(t: Sequence[float], shift: float) -> list[float]:
    """Where runs stand on the axis: those at one t beside each other, so that no interval covers another."""
    number, seen = Counter(t), Counter[float]()
    places = []
    for value in t:
        places.append(value * shift * _SHIFT ** (seen[value] - (number[value] - 1) / 2))
        seen[value] += 1
    return places


def draw_temperatures(panel: TemperaturePanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG; `samplers` fixes the colours by its order."""
    with style():
        figure = new_figure(7.6, 4.6)
        axes = figure.subplots()
        if not any(series.llc for series in panel.series):
            message(axes, "no run has a number")
            save(figure, path)
            return
        if panel.exact:
            axes.plot(*zip(*panel.exact, strict=True), color=INK, linewidth=1.2, label="exact or reference at this t")
        if panel.limit is not None:
            axes.axhline(panel.limit, color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)), label="limit λ")
        most = max(_replicates([point[0] for point in series.llc]) for series in panel.series)
        for place, series in enumerate(panel.series):
            color = nth_colour(samplers.index(series.sampler))
            shift = _SHIFT ** ((place - (len(panel.series) - 1) / 2) * most)
            t = _side_by_side([point[0] for point in series.llc], shift)
            for place_t, (_, _, low, high) in zip(t, series.llc, strict=True):
                axes.plot([place_t, place_t], [low, high], "_-", color=color, linewidth=1.2, markersize=7)
            values = [point[1] for point in series.llc]
            # A line through replicates would join one of them at each t, whichever comes first.
            mark = "o-" if most == 1 else "o"
            axes.plot(t, values, mark, color=color, linewidth=1.0, markersize=4, label=f"{series.sampler}: λ̂")
            if series.variance:
                t, values = _side_by_side([p[0] for p in series.variance], shift), [p[1] for p in series.variance]
                axes.plot(t, values, "x", color=color, markersize=6, label=f"{series.sampler}: Var[tK]")
        log_count_axis(axes)
        axes.set_xlabel("t = nβ")
        axes.set_ylabel("nats")
        axes.set_title(f"{panel.title}\n{panel.subtitle}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(figure, path)
