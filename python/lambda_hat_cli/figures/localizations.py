"""λ̂ against γ for one target, a line for each sampler and β; and λ̂ over γ × β as a map for each sampler."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from lambda_hat_cli.figures.marks import Mark, draw_mark
from lambda_hat_cli.figures.style import FAINT, message, new_figure, nth_colour, nth_line, save, style

_SHIFT = 1.02


@dataclass(frozen=True)
class Place:
    """λ̂ of one sampler at one β and γ, the mean of its replicates that have a number."""

    sampler: str
    beta: float
    gamma: float
    llc: float
    low: float
    high: float
    reliable: bool
    at_minimum: bool


@dataclass(frozen=True)
class LocalizationPanel:
    """One target; `limit` is λ or None."""

    title: str
    places: tuple[Place, ...]
    limit: float | None


def draw_localizations(panel: LocalizationPanel, samplers: Sequence[str], path: Path) -> None:
    """Write the PNG; `samplers` fixes the colours by its order. With several β each sampler has a map as well.

    A filled marker stands for a minimum of the local potential, an open one for a w* above it, a pale one for runs that
    are not all reliable; in the map the latter two are in brackets.
    """
    betas = sorted({place.beta for place in panel.places})
    mapped = [name for name in samplers if any(place.sampler == name for place in panel.places)]
    maps = len(mapped) if len(betas) > 1 else 0
    with style():
        figure = new_figure(7.6, 4.2 + 2.8 * maps)
        axes = figure.subplots(1 + maps, 1, squeeze=False, height_ratios=[4.2] + maps * [2.8])[:, 0]
        _draw_curves(axes[0], panel, betas, samplers)
        for each, name in zip(axes[1:], mapped, strict=False):
            _draw_map(each, [place for place in panel.places if place.sampler == name], name)
        if panel.places:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(figure, path)


def _draw_curves(axes: Axes, panel: LocalizationPanel, betas: Sequence[float], samplers: Sequence[str]) -> None:
    axes.set_title(panel.title)
    if not panel.places:
        message(axes, "no run has a number")
        return
    if panel.limit is not None:
        axes.axhline(panel.limit, color=FAINT, linewidth=1.2, linestyle=(0, (5, 3)), label="limit λ")
    lines = sorted({(samplers.index(place.sampler), betas.index(place.beta)) for place in panel.places})
    positive = all(place.gamma > 0 for place in panel.places)
    for number, (sampler, beta) in enumerate(lines):
        found = sorted(
            (p for p in panel.places if p.sampler == samplers[sampler] and p.beta == betas[beta]), key=lambda p: p.gamma
        )
        # Side by side, so that no interval covers another.
        shift = _SHIFT ** (number - (len(lines) - 1) / 2) if positive else 1.0
        gammas, color = [place.gamma * shift for place in found], nth_colour(sampler)
        name = samplers[sampler] + (f", β = {betas[beta]:.4g}" if len(betas) > 1 else "")
        values = [place.llc for place in found]
        axes.plot(gammas, values, color=color, linewidth=1.0, label=name, linestyle=nth_line(beta))
        for gamma, place in zip(gammas, found, strict=True):
            mark = Mark((place.llc, place.low, place.high), place.reliable, place.at_minimum)
            draw_mark(axes, gamma, mark, color)
    if positive:
        axes.set_xscale("log")
    axes.set_xlabel("localization γ")
    axes.set_ylabel("λ̂, nats")


def _draw_map(axes: Axes, places: Sequence[Place], sampler: str) -> None:
    gammas, betas = sorted({place.gamma for place in places}), sorted({place.beta for place in places})
    values: Float[np.ndarray, "betas gammas"] = np.full((len(betas), len(gammas)), np.nan)
    for place in places:
        values[betas.index(place.beta), gammas.index(place.gamma)] = place.llc
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="cividis")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for place in places:
        text = f"{place.llc:.3g}\n± {(place.high - place.low) / 2:.2g}"
        text = text if place.reliable and place.at_minimum else f"({text})"
        color = "white" if place.llc < middle else "black"
        column, row = gammas.index(place.gamma), betas.index(place.beta)
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(gammas)), [f"{gamma:.4g}" for gamma in gammas])
    axes.set_yticks(range(len(betas)), [f"{beta:.4g}" for beta in betas])
    axes.set_xlabel("localization γ")
    axes.set_ylabel("inverse temperature β")
    axes.set_title(f"{sampler}: λ̂ ± half width of its 95 % interval; in brackets not reliable, or w* above a minimum")
    axes.figure.colorbar(image, ax=axes, label="λ̂, nats")
