"""Every picture of one run under its fixed file name."""

from pathlib import Path

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.artifacts.run import Trace
from lambda_hat_cli.estimate.convergence import Convergence
from lambda_hat_cli.figures.convergence import draw_convergence
from lambda_hat_cli.figures.extra import draw_autocorrelation, draw_running_rhat
from lambda_hat_cli.figures.rank_energy import draw_rank_energy
from lambda_hat_cli.figures.trace import draw_trace


def draw_figures(trace: Trace | None, record: AnalysisRecord, curve: Convergence, folder: Path, full: bool) -> None:
    """Write trace, rank_energy and llc_convergence; `full` adds autocorrelation and running_rhat (each .png)."""
    draw_trace(trace, record, folder / "trace.png")
    draw_rank_energy(trace, record, folder / "rank_energy.png")
    draw_convergence(curve, record, folder / "llc_convergence.png")
    if full:
        draw_autocorrelation(trace, record, folder / "autocorrelation.png")
        draw_running_rhat(trace, record, folder / "running_rhat.png")
