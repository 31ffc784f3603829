"""How a target was trained: the loss over all rows, and over those held out, against the optimizer's steps."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter

from lambda_hat_cli.artifacts.target import TrainingRecord
from lambda_hat_cli.figures.style import PALETTE, loss_axis, new_figure, save, short_count, style


def draw_training(record: TrainingRecord, path: Path) -> None:
    """Write the PNG."""
    with style():
        figure = new_figure(7.6, 2.8)
        axes = figure.subplots()
        axes.plot(record.recorded_steps, record.losses, color=PALETTE[0], linewidth=1.6, label="the data, n rows")
        # None becomes NaN, where the line breaks.
        held_out = np.array(record.held_out_losses or (), np.float64)
        if held_out.size:
            label = "held out, where finite" if np.isnan(held_out).any() else "held out"
            axes.plot(record.recorded_steps, held_out, color=PALETTE[1], linewidth=1.6, label=label)
            axes.legend()
        loss_axis(axes, (*record.losses, *held_out.tolist()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes.margins(x=0.01)
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("loss, nats per datum")
        save(figure, path)
