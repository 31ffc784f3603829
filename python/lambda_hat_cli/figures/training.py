"""How a target was trained: the loss over all rows against the optimizer's steps."""

from pathlib import Path

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lambda_hat_cli.artifacts.target import TrainingRecord
from lambda_hat_cli.figures.style import PALETTE, new_figure, save, short_count, style


def draw_training(record: TrainingRecord, path: Path) -> None:
    """Write the PNG; the loss axis is logarithmic where the loss is positive and falls by more than half."""
    with style():
        figure = new_figure(7.6, 2.8)
        axes = figure.subplots()
        axes.plot(record.recorded_steps, record.losses, color=PALETTE[0], linewidth=1.6)
        low, high = min(record.losses), max(record.losses)
        if low > 0 and high > 2 * low:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.margins(x=0.01)
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("loss, nats per datum")
        save(figure, path)
