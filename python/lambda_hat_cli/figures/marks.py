"""How an estimate is marked in pictures that compare runs: interval, trust, minimum, or that there is none."""

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lambda_hat_cli.figures.style import INK

_PALE = 0.4


@dataclass(frozen=True)
class Mark:
    """One run; `estimate` is (λ̂, low, high), None where it has no number."""

    estimate: tuple[float, float, float] | None
    reliable: bool
    at_minimum: bool


def draw_mark(axes: Axes, x: float, mark: Mark, color: str) -> None:
    """Filled at a minimum of the local potential, open above it; pale if not reliable; a cross at the foot for none."""
    if mark.estimate is None:
        axes.plot(x, 0.02, "x", color=color, transform=axes.get_xaxis_transform(), clip_on=False)
        return
    llc, low, high = mark.estimate
    pale = 1.0 if mark.reliable else _PALE
    axes.plot([x, x], [low, high], "_-", color=color, linewidth=1.2, markersize=6, alpha=pale)
    face = color if mark.at_minimum else "white"
    axes.plot(x, llc, "o", color=color, markerfacecolor=face, markersize=4.5, alpha=pale)


def legend_of(marks: Iterable[Mark]) -> list[Line2D]:
    """What the marks that occur mean."""
    known = list(marks)
    there = [mark for mark in known if mark.estimate is not None]
    lines = []
    if not all(mark.at_minimum for mark in there):
        lines.append(
            Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="", label="w* above a minimum")
        )
    if not all(mark.reliable for mark in there):
        lines.append(Line2D([], [], color=INK, marker="_", alpha=_PALE, linestyle="-", label="not reliable"))
    if len(there) < len(known):
        lines.append(Line2D([], [], color=INK, marker="x", linestyle="", label="no number"))
    return lines
