"""How an estimate is marked in pictures that compare runs: interval, trust, minimum, or that there is none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lambda_hat_cli.figures.scales import Interval
from lambda_hat_cli.figures.style import INK, LineStyle, nth_colour, nth_line, nth_marker

Minimum = Literal["at_minimum", "above_minimum"]
PALE = 0.4
_ROW_POINTS = 26


@dataclass(frozen=True)
class Mark:
    """One run.

    Attributes:
        estimate: (λ̂, low, high), None where it has no number.
        minimum: whether w* is a minimum of the local potential, None where that is not known.
    """

    estimate: Interval | None
    reliable: bool
    minimum: Minimum | None


class Look(NamedTuple):
    """How a series is drawn."""

    color: str
    line: LineStyle
    marker: str


def looks_of(series: Sequence[tuple[str, str]], samplers: Sequence[str]) -> list[Look]:
    """A look for each series, told by its sampler and whatever else tells it from the others.

    Of several samplers each has the colour of its place in `samplers`, as in every picture, and the rest is told by
    line and marker. Of one sampler alone the rest has the colours too.
    """
    rest = list(dict.fromkeys(words for _, words in series))
    alone = len(rest) > 1 and len({sampler for sampler, _ in series}) == 1
    return [
        Look(
            nth_colour(rest.index(words) if alone else samplers.index(sampler)),
            nth_line(rest.index(words)),
            nth_marker(rest.index(words)),
        )
        for sampler, words in series
    ]


def pale(mark: Mark) -> float:
    """How strongly the run's number is drawn."""
    return 1.0 if mark.reliable else PALE


def draw_mark(axes: Axes, x: float, mark: Mark, look: Look, row: int = 0) -> None:
    """Filled at a minimum of the local potential, open above it, half where that is not known; pale if not reliable.

    A cross at the foot is a run without a number, an arrow with its value one outside the λ̂ axis, which must be set.
    Values of runs that stand close together do not touch where their `row` differs.
    """
    if mark.estimate is None:
        axes.plot(x, 0.02, "x", color=look.color, transform=axes.get_xaxis_transform(), clip_on=False, zorder=4)
        return
    llc, low, high = mark.estimate
    strength = pale(mark)
    axes.plot([x, x], [low, high], "_-", color=look.color, linewidth=1.2, markersize=6, alpha=strength)
    bottom, top = axes.get_ylim()
    if bottom <= llc <= top:
        axes.plot(x, llc, look.marker, markersize=4.5, alpha=strength, zorder=3, **_face(mark.minimum, look.color))
        return
    foot, arrow, side = (0.02, "v", "bottom") if llc < bottom else (0.98, "^", "top")
    lift = 7 + _ROW_POINTS * row
    across = axes.get_xaxis_transform()
    axes.plot(
        x, foot, arrow, markersize=6, alpha=strength, transform=across, zorder=4, **_face(mark.minimum, look.color)
    )
    axes.annotate(
        f"{llc:.4g}",
        (x, foot),
        xycoords=across,
        xytext=(6, lift if side == "bottom" else -lift),
        textcoords="offset points",
        ha="center",
        va=side,
        rotation=90,
        fontsize=7.5,
        color=look.color,
    )


def _face(minimum: Minimum | None, color: str) -> dict[str, Any]:
    if minimum is None:
        return {"color": color, "fillstyle": "left", "markerfacecoloralt": "white"}
    return {"color": color, "markerfacecolor": color if minimum == "at_minimum" else "white"}


def legend_of(marks: Iterable[Mark]) -> list[Line2D]:
    """What the marks that occur mean."""
    known = list(marks)
    there = [mark for mark in known if mark.estimate is not None]
    lines = []
    meanings: tuple[tuple[Minimum | None, str], ...] = (
        ("above_minimum", "w* above a minimum"),
        (None, "minimum or not: unknown"),
    )
    for minimum, label in meanings:
        if any(mark.minimum == minimum for mark in there):
            lines.append(Line2D([], [], marker="o", markersize=4.5, linestyle="", label=label, **_face(minimum, INK)))
    if not all(mark.reliable for mark in there):
        lines.append(Line2D([], [], color=INK, marker="_", alpha=PALE, linestyle="-", label="pale: not reliable"))
    if len(there) < len(known):
        lines.append(Line2D([], [], color=INK, marker="x", linestyle="", label="no number"))
    return lines
