"""The table of estimates as plain text, for the end of a run on a terminal."""

import textwrap
from collections import Counter
from collections.abc import Iterable

from lambda_hat_cli.report import numbers
from lambda_hat_cli.report.collect import OUTCOMES, Collection, PlannedRun
from lambda_hat_cli.report.groups import groups, run_label
from lambda_hat_cli.report.parts import part_of
from lambda_hat_cli.report.plain import WIDTH, aligned, clipped, columns_of
from lambda_hat_cli.report.replicates import Together, shown, together
from lambda_hat_cli.report.results import ResultRow, result_row

_HEADERS = ("", "λ̂ ± half width", "exact at t", "limit λ", "verdict", "minimum", "gradients", "seconds")
_FIRST_COLUMN = 32
_RIGHT = frozenset({6, 7})
_EXPLAINED = 20


def table(collection: Collection) -> str:
    """The estimates, one block for each target with its n, d, β and γ, and below them why runs are not reliable.

    Of many replicates the first few are lines of their own, and one line says what all of them say together.

    Returns:
        Lines of at most 120 columns, ending in a newline.
    """
    name = collection.plan.experiment.name
    blocks = [
        (
            _heading(result_row(name, group.runs[0]), part_of(group.target.row.spec)),
            [_cells(run, result_row(name, run)) for run in shown(group.runs)],
            [(_cells_together(each), each.outcomes) for each in together(group.runs)],
        )
        for group in groups(collection)
    ]
    rows = [cells for _, members, _ in blocks for cells in members]
    estimates = [(*cells, *rows[0][2:]) for _, _, replicates in blocks for cells, _ in replicates]
    widths = [max(map(columns_of, column)) for column in zip(_HEADERS, *rows, *estimates, strict=True)]
    lines = [aligned(_HEADERS, widths, _RIGHT), "─" * min(WIDTH, sum(widths) + 2 * (len(widths) - 1))]
    for heading, members, replicates in blocks:
        lines += [*heading, *(aligned(cells, widths, _RIGHT) for cells in members)]
        lines += [f"{aligned(cells, widths[:2], _RIGHT)}  {outcomes}" for cells, outcomes in replicates]
    lines += ["", summary(collection), *_explanations(collection)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def summary(collection: Collection) -> str:
    """`12 runs: 8 reliable, 2 uncertain, 1 invalid, 1 failed, 0 missing`."""
    counts = ", ".join(f"{collection.count(outcome)} {outcome}" for outcome in OUTCOMES)
    total = len(collection.runs)
    return f"{total} run{'' if total == 1 else 's'}: {counts}"


def _heading(result: ResultRow, part: str | None) -> list[str]:
    """The target and what λ̂ is a function of, and where it is of a part of the target, of which."""
    settings = ", ".join(
        f"{symbol} = {numbers.significant(value)}"
        for symbol, value in (("n", result.n), ("d", result.d), ("β", result.beta), ("γ", result.gamma))
    )
    heading = f"{clipped(result.target, WIDTH - 60)} ({result.target_kind}; {settings})"
    return [heading] if part is None else [heading, clipped(f"  [{part}]", WIDTH)]


def _cells(run: PlannedRun, result: ResultRow) -> tuple[str, ...]:
    return (
        "  " + clipped(run_label(run), _FIRST_COLUMN - 2),
        numbers.estimate(result.llc, result.llc_low, result.llc_high),
        numbers.with_error(result.finite_t_value, result.finite_t_se),
        numbers.significant(result.truth),
        run.outcome,
        _minimum(result),
        numbers.count(result.gradients),
        numbers.seconds(result.seconds_total),
    )


def _cells_together(replicates: Together) -> tuple[str, str]:
    estimate = numbers.estimate(replicates.llc, replicates.low, replicates.high)
    return "  " + clipped(replicates.label, _FIRST_COLUMN - 2), estimate


def _minimum(result: ResultRow) -> str:
    if result.minimum is None:
        return numbers.UNKNOWN
    return "at" if result.minimum == "at_minimum" else f"above, δ {numbers.significant(result.delta, 2)}"


def _explanations(collection: Collection) -> Iterable[str]:
    """The first reasons why runs have no number, or a reservation, wrapped to the width; nothing of reliable runs."""
    lost = [run for run in collection.runs if run.outcome not in ("reliable", "uncertain")]
    concerned = lost + [run for run in collection.runs if run.outcome == "uncertain"]
    several = Counter(group.target.row.id for group in groups(collection))
    for run in concerned[:_EXPLAINED]:
        reason = " ".join(run.reasons[0].split())
        setting = f" at {_posterior(run)}" if several[run.row.target_id] > 1 else ""
        text = f"{run.row.target}{setting} / {run_label(run)}: {run.outcome}: {reason}"
        yield textwrap.fill(textwrap.shorten(text, 4 * WIDTH, placeholder=" …"), WIDTH, subsequent_indent="    ")
    if len(concerned) > _EXPLAINED:
        yield f"{len(concerned) - _EXPLAINED:,} more that are not reliable: see results.csv"


def _posterior(run: PlannedRun) -> str:
    """β and γ, which tell runs of one target and sampler apart where an experiment lists several."""
    temperature, localization = run.row.posterior.inverse_temperature, run.row.posterior.localization
    beta = temperature if isinstance(temperature, str) else numbers.significant(temperature)
    return f"β = {beta}, γ = {numbers.significant(localization)}"
