"""The words that a run's figures share: its title, its result in one line, the exact values."""

from matplotlib.axes import Axes

from lambda_hat_cli.artifacts.analysis import AnalysisRecord
from lambda_hat_cli.estimate.analysis import limit_of
from lambda_hat_cli.figures.style import INK

LLC = "λ̂"


def title_of(record: AnalysisRecord) -> str:
    """Target, sampler and the settings that λ̂ is a function of."""
    replicate = f", replicate {record.replicate}" if record.replicate else ""
    return (
        f"{record.target} · {record.sampler}{replicate}   "
        f"(n = {record.n}, d = {record.d}, β = {record.beta:.4g}, γ = {record.gamma:.4g})"
    )


def result_of(record: AnalysisRecord) -> str:
    """The estimate and its verdict, with the first reason where it is not reliable."""
    if record.llc is None or record.llc_low is None or record.llc_high is None:
        return f"no number to use: {record.reasons[0] if record.reasons else record.verdict}"
    value = f"{LLC} = {record.llc:.4g}, 95 % interval {record.llc_low:.4g} to {record.llc_high:.4g}, {record.verdict}"
    return f"{value}: {record.reasons[0]}" if record.reasons else value


def exact_values(record: AnalysisRecord) -> list[tuple[str, float, str]]:
    """(label, value, line style) of the exact E[tK] and of the limit λ, where known."""
    found = []
    if record.finite_t.value is not None:
        word = "exact" if record.finite_t.kind == "exact" else "reference"
        found.append((f"{word} at this n, β, γ: {record.finite_t.value:.4g}", record.finite_t.value, "-"))
    limit = limit_of(record.truth)
    if limit is not None:
        found.append((f"limit λ: {record.truth.coefficient}", limit, "--"))
    return found


def draw_exact_values(axes: Axes, record: AnalysisRecord) -> None:
    """The exact values as horizontal lines."""
    for label, value, line in exact_values(record):
        axes.axhline(value, color=INK, linestyle=line, linewidth=1.2, label=label, zorder=5)
