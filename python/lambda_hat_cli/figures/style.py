"""The one look of every figure, whatever matplotlibrc, backend or TeX the machine has."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten, wrap
from typing import Any, Literal

import matplotlib
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's palette, distinguishable with every common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C564B")
LineStyle = Literal["-"] | tuple[float, tuple[float, ...]]
LINES: tuple[LineStyle, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (4, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "p")
INK = "#222222"
FAINT = "#888888"
ALARM = "#B00020"
DPI = 110

# Any: the stubs type each key of rcParams by name.
_PARAMETERS: Any = {
    "text.usetex": False,
    # A person's names and values may hold a $.
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "path.simplify": True,
    "agg.path.chunksize": 10_000,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and the project's parameters; the person's matplotlibrc has no say inside."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PARAMETERS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches on the Agg canvas: no pyplot, so that no backend is ever chosen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Write a PNG of at most 256 colours, which a line plot does not miss; equal figures give equal bytes."""
    from PIL import Image

    figure.set_dpi(dpi)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    width, height = canvas.get_width_height()
    image = Image.frombuffer("RGBA", (width, height), canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
    image = image.quantize(colors=256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    image.save(path, format="PNG", optimize=True, dpi=(dpi, dpi))


def loss_axis(axes: Axes, losses: Sequence[float]) -> None:
    """Make the y axis logarithmic where the loss is positive and falls by more than half; NaNs are passed over."""
    known = [loss for loss in losses if not math.isnan(loss)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if low > 0 and high > 2 * low:
        axes.set_yscale("log")
        plain_decades(axes.yaxis, low, high)


def plain_decades(axis: Axis, low: float, high: float) -> None:
    """Label a logarithmic axis from `low` to `high` with plain numbers: matplotlib's own labels are mathtext."""
    axis.set_major_locator(LogLocator(base=10, subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_count_axis(axes: Axes) -> None:
    """A logarithmic x axis of counts, labelled 1k, 10k, 1M: plain text, no mathtext."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def nth_colour(number: int) -> str:
    """The palette's colours, again from the first where they end."""
    return PALETTE[number % len(PALETTE)]


def nth_line(number: int) -> LineStyle:
    """The line styles, likewise."""
    return LINES[number % len(LINES)]


def nth_marker(number: int) -> str:
    """The marker shapes, likewise."""
    return MARKERS[number % len(MARKERS)]


def short_count(value: float) -> str:
    """1500 → "1.5k", 2e6 → "2M"."""
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def shown_number(value: float) -> str:
    """A value of an axis: counts of a thousand and more shortened."""
    return short_count(value) if abs(value) >= 1e3 else f"{value:.4g}"


def shortened(text: str, length: int) -> str:
    """The text, or its beginning and its end where it is longer."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[head + 1 - length :]}"


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend under the axes, in as many columns as its longest label lets stand side by side.

    The figure grows by the rows beyond the third, so that the axes keep their height.
    """
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = max(1, min(4, int(figure.get_figwidth() * 13 / (longest + 8))))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0, rows - 3))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3)


def headline(figure: Figure, title: str, note: str, alarming: bool) -> None:
    """A title and below it one note of at most two lines, red where it is an alarm."""
    columns = int(figure.get_figwidth() * 13)
    lines = wrap(shorten(note, 2 * columns - 10, placeholder=" …"), columns)
    figure.suptitle("\n".join([title, *lines]), fontsize=10, color=ALARM if alarming else INK)


def message(axes: Axes, text: str) -> None:
    """An empty panel that says why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, "\n".join(wrap(text, 60)), ha="center", va="center", color=FAINT, transform=axes.transAxes)


def chain_colours(count: int) -> list[str]:
    """One colour a chain; the palette repeats beyond its length."""
    return [nth_colour(index) for index in range(count)]
