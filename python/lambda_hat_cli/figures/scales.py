"""Where values stand on the axes of pictures that compare runs: linear, or in decades that reach through zero."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, SymmetricalLogLocator

from lambda_hat_cli.figures.style import shortened, shown_number

Interval = tuple[float, float, float]
"""λ̂, low, high."""

_DECADES_FROM = 20.0
_LEAST_SHARE = 0.2
_NEAR = 3.0
_LEAST_DECADES = 0.15
_MARGIN = 0.06
_CHARACTERS = 80.0
"""Characters of a tick label that stand side by side along an x axis."""
_LONGEST_LABEL = 28
_CHARACTER_INCHES = 0.08


def symlog(values: Sequence[float], unit: float) -> Float[np.ndarray, " values"]:
    """Linear up to ±`unit`, which is at ±1, and beyond it one for each decade."""
    x = np.asarray(values, np.float64)
    size = np.abs(x) / unit
    return np.where(size < 1.0, x / unit, np.sign(x) * (1.0 + np.log10(np.maximum(size, 1.0))))


def _symlog_inverse(place: float, unit: float) -> float:
    return place * unit if abs(place) < 1.0 else math.copysign(unit * 10.0 ** (abs(place) - 1.0), place)


@dataclass(frozen=True)
class Places:
    """Where the values of an x axis stand, (values,), and what to say of a scale that is not linear."""

    where: tuple[float, ...]
    note: str


def places_of(values: Sequence[float]) -> Places:
    """Linear, or in decades about zero where the values stand more evenly so."""
    known = sorted(set(values))
    sizes = [abs(value) for value in known if value != 0.0]
    if len(known) > 2 and _evenness(symlog(known, min(sizes))) > _evenness(known):
        note = "logarithmic" if known[0] > 0 else f"logarithmic beyond {shown_number(min(sizes))}"
        return Places(tuple(symlog(values, min(sizes)).tolist()), note)
    return Places(tuple(map(float, values)), "")


def _evenness(increasing: Sequence[float] | Float[np.ndarray, " values"]) -> float:
    """The least distance of neighbours as a share of all."""
    return float(np.min(np.diff(increasing)) / (increasing[-1] - increasing[0]))


def value_axis(axes: Axes, name: str, values: Sequence[float] | Sequence[str]) -> tuple[float, ...]:
    """Label the x axis with the values, as many as there is room for, and say where each stands.

    Text stands side by side in its order, on end where it is too long to be read from left to right: then the figure
    grows by its length.
    """
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) == len(values):
        places = places_of(numbers)
        labels = [shown_number(number) for number in numbers]
        if len(set(labels)) < len(set(numbers)):
            labels = [f"{number:.10g}" for number in numbers]
    else:
        places = Places(tuple(map(float, range(len(values)))), "")
        labels = [shortened(str(value), _LONGEST_LABEL) for value in values]
    on_end = len(numbers) < len(values) and len(with_room(places.where, list(map(len, labels)))) < len(values)
    shown = with_room(places.where, [1 if on_end else len(label) for label in labels])
    axes.set_xticks([places.where[index] for index in shown], [labels[index] for index in shown])
    if on_end:
        axes.tick_params(axis="x", labelrotation=90)
        figure = axes.figure
        assert isinstance(figure, Figure)
        figure.set_figheight(figure.get_figheight() + _CHARACTER_INCHES * max(map(len, labels)))
    axes.set_xlabel(f"{name} ({places.note})" if places.note else name)
    return places.where


def with_room(where: Sequence[float], widths: Sequence[int]) -> list[int]:
    """Which labels, of these widths in characters, can stand there without touching: from left to right, if they can.

    Of several at one place the first.
    """
    character = (max(where) - min(where)) / _CHARACTERS
    kept: list[int] = []
    for index in np.argsort(where, kind="stable").tolist():
        if not kept or where[index] - where[kept[-1]] > character * ((widths[index] + widths[kept[-1]]) / 2 + 1):
            kept.append(index)
    return kept


def side_by_side(places: Sequence[int], where: Sequence[float]) -> Iterator[float]:
    """Where each run stands among all at its place, so that no interval covers another.

    Args:
        places: for each run an index into `where`.
    """
    every, before = Counter(places), Counter[int]()
    distinct = np.unique(where)
    gap = float(np.min(np.diff(distinct))) if len(distinct) > 1 else 1.0
    spread = gap * min(0.7, 0.05 * max(every.values(), default=1))
    for place in places:
        yield where[place] + spread * ((before[place] + 0.5) / every[place] - 0.5)
        before[place] += 1


@dataclass(frozen=True)
class View:
    """The part of the λ̂ axis that is shown; `unit` is where its decades begin, None for a linear one."""

    low: float
    high: float
    unit: float | None


def view_of(estimates: Sequence[Interval], known: Sequence[float] = ()) -> View | None:
    """All of the runs and the known values, less the few runs that would squeeze all others into a fifth of the axis.

    The axis has decades where sizes differ by more than a factor 20; a λ̂ within its error of zero has its error's size.
    A run is far where it lies three times as far from the middle half of the runs, in decades, as that half is wide.

    Returns:
        None where there is no run.
    """
    if not estimates:
        return None
    every = _view(estimates, known)
    # Of three runs no one is far from the others.
    if len(estimates) < 4:
        return every
    unit = 10.0 ** math.floor(math.log10(min(_sizes(estimates, known), default=1.0)))
    at = symlog([llc for llc, _, _ in estimates], unit)
    order = np.sort(at)
    last = len(order) - 1
    middle_low, middle_high = order[math.ceil(last / 4)], order[math.floor(3 * last / 4)]
    reach = _NEAR * max(middle_high - middle_low, _LEAST_DECADES)
    near = [
        each for each, place in zip(estimates, at, strict=True) if middle_low - reach <= place <= middle_high + reach
    ]
    bulk = _view(near, known)
    return bulk if _height(bulk, every.unit) < _LEAST_SHARE * _height(every, every.unit) else every


def _sizes(estimates: Sequence[Interval], known: Sequence[float]) -> list[float]:
    sizes = [max(abs(llc), (high - low) / 2) for llc, low, high in estimates] + [abs(value) for value in known]
    return [size for size in sizes if size > 0.0]


def _view(estimates: Sequence[Interval], known: Sequence[float]) -> View:
    """Room for these λ̂ and known values, and for their intervals unless one is far longer than most."""
    values = [llc for llc, _, _ in estimates] + list(known)
    low, high = min(values), max(values)
    reach = 2 * (high - low) + 2 * float(np.median([above - below for _, below, above in estimates]))
    low = max(low - reach, min([low, *(below for _, below, _ in estimates)]))
    high = min(high + reach, max([high, *(above for _, _, above in estimates)]))
    sizes = _sizes(estimates, known)
    if sizes and max(sizes) > _DECADES_FROM * min(sizes):
        unit = 10.0 ** math.floor(math.log10(min(sizes)))
        bottom, top = symlog((low, high), unit).tolist()
        margin = _MARGIN * (top - bottom)
        return View(_symlog_inverse(bottom - margin, unit), _symlog_inverse(top + margin, unit), unit)
    margin = _MARGIN * (high - low) or 0.1 * abs(high) or 1.0
    return View(low - margin, high + margin, None)


def _height(view: View, unit: float | None) -> float:
    low, high = (view.low, view.high) if unit is None else symlog((view.low, view.high), unit)
    return float(high - low)


def llc_axis(axes: Axes, estimates: Sequence[Interval], known: Sequence[float] = ()) -> None:
    """Set the y axis before anything is drawn: a mark outside it is drawn as an arrow with its value."""
    axes.set_ylabel("λ̂, nats")
    view = view_of(estimates, known)
    if view is None:
        return
    if view.unit is not None:
        axes.set_yscale("symlog", linthresh=view.unit)
        many = _height(view, view.unit) > 4
        axes.yaxis.set_major_locator(
            SymmetricalLogLocator(base=10, linthresh=view.unit, subs=(1.0,) if many else (1.0, 2.0, 5.0))
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(view.low, view.high)
