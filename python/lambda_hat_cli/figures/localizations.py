"""λ̂ against γ for one target, a line for each sampler and β; and λ̂ over γ × β as a map for each sampler."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lambda_hat_cli.figures.marks import Mark, Minimum, draw_mark, legend_of, looks_of
from lambda_hat_cli.figures.scales import llc_axis, side_by_side, value_axis, view_of
from lambda_hat_cli.figures.style import FAINT, legend_below, message, new_figure, save, style


@dataclass(frozen=True)
class Place:
    """λ̂ of one sampler at one β and γ, the mean of its replicates that have a number.

    Attributes:
        reliable: all of them are. minimum: above one if any is, at one if all are, None where that is not known.
    """

    sampler: str
    beta: float
    gamma: float
    llc: float
    low: float
    high: float
    reliable: bool
    minimum: Minimum | None


@dataclass(frozen=True)
class LocalizationPanel:
    """One target; `limit` is λ or None."""

    title: str
    places: tuple[Place, ...]
    limit: float | None


def draw_localizations(panel: LocalizationPanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG; `samplers` fixes the colours by its order. With several β each sampler has a map as well.

    In the map runs that are not all reliable, or not known to be at a minimum, are in brackets.
    """
    betas = sorted({place.beta for place in panel.places})
    mapped = [name for name in samplers if any(place.sampler == name for place in panel.places)]
    maps = len(mapped) if len(betas) > 1 else 0
    with style():
        figure = new_figure(7.6, 4.2 + 2.8 * maps)
        axes = figure.subplots(1 + maps, 1, squeeze=False, height_ratios=[4.2] + maps * [2.8])[:, 0]
        handles = _draw_curves(axes[0], panel, betas, samplers)
        for each, name in zip(axes[1:], mapped, strict=False):
            _draw_map(each, [place for place in panel.places if place.sampler == name], name)
        legend_below(figure, handles)
        save(figure, path)


def _draw_curves(axes: Axes, panel: LocalizationPanel, betas: Sequence[float], samplers: Sequence[str]) -> list[Line2D]:
    """λ̂ against γ; returns the legend's handles."""
    axes.set_title(panel.title)
    if not panel.places:
        message(axes, "no run has a number")
        return []
    handles = []
    llc_axis(
        axes,
        [(place.llc, place.low, place.high) for place in panel.places],
        [] if panel.limit is None else [panel.limit],
    )
    if panel.limit is not None:
        axes.axhline(panel.limit, color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)))
        handles.append(Line2D([], [], color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)), label="limit λ"))
    gammas = sorted({place.gamma for place in panel.places})
    where = value_axis(axes, "localization γ", gammas)
    lines: dict[tuple[str, float], list[Place]] = defaultdict(list)
    for place in sorted(panel.places, key=lambda each: (samplers.index(each.sampler), each.beta, each.gamma)):
        lines[place.sampler, place.beta].append(place)
    words = [(sampler, f"β = {beta:.4g}" if len(betas) > 1 else "") for sampler, beta in lines]
    looks = looks_of(words, samplers)
    beside = side_by_side([gammas.index(place.gamma) for places in lines.values() for place in places], where)
    for places, names, look in zip(lines.values(), words, looks, strict=True):
        at = [next(beside) for _ in places]
        axes.plot(at, [place.llc for place in places], color=look.color, linewidth=1.0, linestyle=look.line, alpha=0.7)
        for x, place in zip(at, places, strict=True):
            draw_mark(axes, x, _mark(place), look)
        label = ", ".join(filter(None, names))
        handles.append(
            Line2D([], [], color=look.color, linestyle=look.line, marker=look.marker, markersize=4.5, label=label)
        )
    return handles + legend_of(map(_mark, panel.places))


def _mark(place: Place) -> Mark:
    return Mark((place.llc, place.low, place.high), place.reliable, place.minimum)


def _draw_map(axes: Axes, places: Sequence[Place], sampler: str) -> None:
    gammas, betas = sorted({place.gamma for place in places}), sorted({place.beta for place in places})
    values: Float[np.ndarray, "betas gammas"] = np.full((len(betas), len(gammas)), np.nan)
    for place in places:
        values[betas.index(place.beta), gammas.index(place.gamma)] = place.llc
    low, high, ends = _colour_limits(places)
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="cividis", vmin=low, vmax=high)
    for place in places:
        text = f"{place.llc:.4g}\n± {(place.high - place.low) / 2:.2g}"
        text = text if place.reliable and place.minimum == "at_minimum" else f"({text})"
        color = "white" if place.llc < (low + high) / 2 else "black"
        column, row = gammas.index(place.gamma), betas.index(place.beta)
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(gammas)), [f"{gamma:.4g}" for gamma in gammas])
    axes.set_yticks(range(len(betas)), [f"{beta:.4g}" for beta in betas])
    axes.set_xlabel("localization γ")
    axes.set_ylabel("inverse temperature β")
    axes.set_title(f"{sampler}: λ̂ ± half width of its 95 % interval; in brackets: not reliable, or w* at no minimum")
    axes.figure.colorbar(image, ax=axes, label="λ̂, nats", extend=ends)


def _colour_limits(places: Sequence[Place]) -> tuple[float, float, Literal["neither", "both"]]:
    """The range of colours, and whether it has ends that mean beyond: one far λ̂ does not make all others alike."""
    values = [place.llc for place in places]
    view = view_of([(place.llc, place.low, place.high) for place in places])
    near = [value for value in values if view is None or view.low <= value <= view.high]
    return min(near), max(near), "neither" if len(near) == len(values) else "both"
