"""The estimates of all samplers of one (target, β, γ) in one picture, and all of these together as an overview."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes

from lambda_hat_cli.figures.marks import PALE
from lambda_hat_cli.figures.style import FAINT, INK, log_count_axis, message, new_figure, nth_colour, save, style

LLC = "λ̂"
_PANEL_INCHES = (4.6, 3.9)
_LARGEST_PIXELS = 12_000
_DPI = 130
_LEAST_RATIO = 4.0


@dataclass(frozen=True)
class Curve:
    """How one run's estimate came about.

    Attributes:
        sampler: fixes the colour; label: the sampler and its replicate.
        outcome: reliable, uncertain, invalid, failed or missing; said in the legend unless reliable.
        gradients: full-data gradient equivalents spent, (points,); llc, low, high: λ̂ and its 95 % interval there,
            NaN where there is none.
        final: the run's λ̂ and interval, None where there is no number to use.
    """

    sampler: str
    label: str
    outcome: str
    gradients: Float[np.ndarray, " points"]
    llc: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    final: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Panel:
    """One (target, β, γ): its runs and, where known, the value at this t and the limit λ."""

    title: str
    subtitle: str
    curves: tuple[Curve, ...]
    finite_t: float | None
    finite_t_kind: str | None
    limit: float | None


def draw_overview(panels: Sequence[Panel], samplers: Sequence[str], path: Path) -> None:
    """Write a PNG with a small panel for each (target, β, γ); `samplers` fixes the colours by its order."""
    columns = min(len(panels), 2 if len(panels) == 4 else 3) if len(panels) <= 12 else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    width, height = columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]
    with style():
        figure = new_figure(width, height)
        figure.set_layout_engine("constrained", h_pad=0.12, w_pad=0.08)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw(axes, panel, samplers, legend_drop=0.2)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        save(figure, path, dpi=min(_DPI, _LARGEST_PIXELS / max(width, height)))


def draw_panel(panel: Panel, samplers: Sequence[str], path: Path) -> None:
    """Write a PNG of one (target, β, γ)."""
    with style():
        figure = new_figure(8.5, 5.6 if _vertical_limits(panel) else 2.4)
        _draw(figure.subplots(), panel, samplers, legend_drop=0.13)
        save(figure, path, dpi=_DPI)


def _draw(axes: Axes, panel: Panel, samplers: Sequence[str], legend_drop: float) -> None:
    """Fill the axes; the legend stands `legend_drop` axes heights below them, under the axis label."""
    limits = _vertical_limits(panel)
    if panel.finite_t is not None:
        kind = "exact" if panel.finite_t_kind == "exact" else "reference"
        axes.axhline(panel.finite_t, color=INK, linewidth=1.2, label=f"{kind} at this n, β, γ", zorder=1)
    if panel.limit is not None:
        axes.axhline(panel.limit, color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)), label="limit λ", zorder=1)
    for curve in panel.curves:
        _draw_curve(axes, curve, nth_colour(samplers.index(curve.sampler)), limits)
    if limits is None:
        message(axes, "no run has a number")
    else:
        axes.set_ylabel(LLC, rotation=0, labelpad=10)
        axes.set_ylim(*limits)
        axes.set_xlim(*_horizontal_limits(panel))
        log_count_axis(axes)
        axes.set_xlabel("gradients (full-data equivalents, all chains)")
    axes.set_title(f"{_clipped(panel.title, 48)}\n{panel.subtitle}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -legend_drop), ncols=2)


def _draw_curve(axes: Axes, curve: Curve, color: str, limits: tuple[float, float] | None) -> None:
    """A run's curve with its band; an invalid one dotted and without; one that drew nothing only named."""
    usable = curve.final[0] is not None
    line: dict[str, Any] = {"color": color, "linestyle": "-" if usable else ":"}
    # Pale as in every picture; an open mark would say that w* is above a minimum.
    mark: dict[str, Any] = {"marker": "o" if usable else "x", "alpha": 1.0 if curve.outcome == "reliable" else PALE}
    axes.plot([], [], label=_legend(curve, limits), **line, **mark)
    shown = _shown(curve)
    if not shown.any():
        return
    gradients, llc, low, high = (values[shown] for values in (curve.gradients, curve.llc, curve.low, curve.high))
    axes.plot(gradients[-1:], llc[-1:], color=color, markersize=6, zorder=5, **mark)
    if usable:
        axes.plot(
            gradients[[-1, -1]],
            [low[-1], high[-1]],
            "_-",
            color=color,
            linewidth=1.2,
            markersize=7,
            alpha=mark["alpha"],
            zorder=4,
        )
    # Independent draws come after the fit and cost hardly a gradient: of such a curve only the end says something.
    if gradients[-1] > 1.5 * gradients[0]:
        axes.plot(gradients, llc, linewidth=1.6, zorder=3, **line)
        if usable:
            axes.fill_between(gradients, low, high, color=color, alpha=0.12, linewidth=0, zorder=2)


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _legend(curve: Curve, limits: tuple[float, float] | None) -> str:
    """The run's name with what must not be overlooked: its outcome, no number, or a number outside the picture."""
    label = curve.label if curve.outcome == "reliable" else f"{curve.label} ({curve.outcome})"
    llc = curve.final[0]
    if llc is None:
        return f"{label}: no number"
    if limits and not limits[0] <= llc <= limits[1]:
        return f"{label}: {llc:.3g}, outside"
    return label


def _shown(curve: Curve) -> Bool[np.ndarray, " points"]:
    return np.isfinite(curve.llc) & (curve.gradients > 0)


def _vertical_limits(panel: Panel) -> tuple[float, float] | None:
    """Limits that a wild start or a wild run cannot stretch: the known values, the reliable runs and what is near them.

    Returns:
        None where no run has a curve.
    """
    drawn = [curve for curve in panel.curves if _shown(curve).any()]
    if not drawn:
        return None
    usable = [curve for curve in drawn if curve.final[0] is not None]
    trusted = [curve for curve in usable if curve.outcome == "reliable"] or usable or drawn
    values = [value for value in (panel.finite_t, panel.limit) if value is not None]
    values += [value for curve in trusted for value in _late(curve)]
    low, high = min(values), max(values)
    reach = 2 * max(high - low, 0.2 * abs(low + high) / 2)
    near = [value for curve in usable for value in _late(curve) if low - reach <= value <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _horizontal_limits(panel: Panel) -> tuple[float, float]:
    """All curves with a little room, and wide enough for a few labels."""
    gradients = np.concatenate([curve.gradients[_shown(curve)] for curve in panel.curves])
    low, high = float(gradients.min()), float(gradients.max())
    room = max(1.25, math.sqrt(_LEAST_RATIO * low / high))
    return low / room, high * room


def _late(curve: Curve) -> list[float]:
    """λ̂ and its interval over the second half of the curve, where they are numbers."""
    shown = _shown(curve)
    values = np.concatenate([column[shown][shown.sum() // 2 :] for column in (curve.llc, curve.low, curve.high)])
    return values[np.isfinite(values)].tolist()
