"""The one look of every figure, whatever matplotlibrc, backend or TeX the machine has."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten, wrap
from typing import Any, Literal

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's palette, distinguishable with every common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#8C564B")
LineStyle = Literal["-"] | tuple[float, tuple[float, ...]]
LINES: tuple[LineStyle, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (4, 1, 1, 1)))
INK = "#222222"
FAINT = "#888888"
ALARM = "#B00020"
DPI = 110

# Any: the stubs type each key of rcParams by name.
_PARAMETERS: Any = {
    "text.usetex": False,
    "mathtext.default": "regular",
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
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


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


def short_count(value: float) -> str:
    """1500 → "1.5k", 2e6 → "2M"."""
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


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
