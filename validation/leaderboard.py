"""The leaderboard: every sampler, and devinterp's SGLD, on the same targets at the same gradient budgets.

    python validation/leaderboard.py RESULTS

reads the results folder of the experiment `leaderboard`, with devinterp.csv in it where devinterp was run, and writes
validation/sections/leaderboard.md.
"""

import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from judge import Order, Outcome, coverage, order
from outcomes import missing, read_rows, read_table
from page import SECTIONS
from scipy import stats
from summary import provenance
from tables import number, percent, table, thousands, verdict_words

from lambda_hat_cli.artifacts.store import write_text

NETS = "deep_linear"
DEVINTERP = "devinterp.csv"

INTRODUCTION = """## Leaderboard

The same gradient budget for every sampler, in full-data gradients over all chains and phases, warm-up and tuning
included. A Markov run stops by itself when its interval is within 2 %, and so may use less than its budget; a
variational fit stops when its steps are done and its draws are enough. *Stopped* counts these runs; the others used
their budget up, and *gradients* are those used. *No number* counts runs that failed or are `invalid`. Errors are
relative to E[tK], over the runs that give a number: a sampler that refuses what it cannot do has fewer runs to be wrong
on, and one that sampled fewer targets is compared on those alone (second table). Rows are sorted by rms error. Seconds
are the median run's, warm-up included; eight runs share a process, and compiling counts in the first one alone, so that
it is in no median.

devinterp 1.3.2's SGLD has the same posterior, chains and full batch, half of its steps as burn-in, and three learning
rates: its default of .01, and 1e-4 and 1e-5 chosen by hand from the targets' curvature. It gives a standard deviation
over chains and no interval; the interval here is Student's from that. It fails where the loss becomes NaN, and always
uses its whole budget."""


@dataclass(frozen=True)
class Entry:
    """One run on the leaderboard.

    Attributes:
        outcome: the run as it is judged; `sampler` is the row's name in the tables.
        kind: the target's model kind.
        budget: full-data gradients that it was given.
        seconds: wall time of the run with warm-up, compilation in a process's first run alone; None where unknown.
    """

    outcome: Outcome
    kind: str
    budget: float
    seconds: float | None


@dataclass(frozen=True)
class Score:
    """How a sampler did on some runs; None where no run tells.

    Attributes:
        stopped: runs that ended by themselves, not by their budget.
        error, error_se: mean relative error and its standard error. rms: root mean square of it.
        held, intervals: intervals that hold E[tK], and those that could be judged.
        width: median half width of the intervals, relative to λ̂.
        verdicts: how many runs have each; empty where the sampler gives none.
        gradients, seconds: of the median run.
    """

    sampler: str
    runs: int
    silent: int
    stopped: int | None
    error: float | None
    error_se: float | None
    rms: float | None
    held: int
    intervals: int
    width: float | None
    verdicts: dict[str, int]
    gradients: float | None
    seconds: float | None


# What was run -----------------------------------------------------------------------------------


def read_entries(results: Path) -> list[Entry]:
    """Every planned run of a results folder, then devinterp's where its table is there.

    Raises:
        ValueError: where devinterp sampled another posterior than the pipeline, or a target that it does not have.
    """
    with (results / "pipeline_info" / "plan" / "runs.jsonl").open(encoding="utf-8") as lines:
        plan = {row["id"]: row["runs"] for row in map(json.loads, lines)}
    rows = read_table(results)
    entries = [entry_of(row, plan[row["run_id"]]) for row in rows]
    if (results / DEVINTERP).is_file():
        judged = {row["target"]: row for row in rows if row["verdict"]}
        entries += [devinterp_entry(line, judged) for line in read_rows(results / DEVINTERP)]
    return entries


def entry_of(row: Mapping[str, str], runs: Mapping[str, Any]) -> Entry:
    """A line of results.csv with the `runs` section that it was planned with."""
    budget = float(runs["budget"]["gradients"])
    outcome = Outcome(
        target=row["target"],
        sampler=row["sampler"].removesuffix(f"-{short(budget)}"),
        verdict=cast(Any, row["verdict"] or None),
        status=row["status"] if row["verdict"] else None,
        minimum=cast(Any, row["minimum"] or None),
        llc=_value(row["llc"]),
        low=_value(row["llc_low"]),
        high=_value(row["llc_high"]),
        reference=_value(row["finite_t_value"]),
        reference_se=_value(row["finite_t_se"]) or 0.0,
        limit=_value(row["truth"]),
        tolerance=float(runs["tolerance"]),
        claimed=_value(row["stated_error"]),
        gradients=_value(row["gradients"]),
    )
    return Entry(outcome, row["target_kind"], budget, _value(row["seconds_total"]))


def devinterp_entry(line: Mapping[str, str], judged: Mapping[str, Mapping[str, str]]) -> Entry:
    """A line of devinterp's table; `judged` has a line of results.csv for every target.

    Raises:
        ValueError: where there is none, or its posterior is another.
    """
    row = judged.get(line["target"])
    if row is None:
        raise ValueError(f"{DEVINTERP}: the pipeline has no result on {line['target']}")
    if row["target_id"] != line["target_id"]:
        raise ValueError(
            f"{DEVINTERP}: {line['target']} is the target {line['target_id']}, the pipeline's {row['target_id']}: "
            "run devinterp anew"
        )
    for ours, theirs in (("nbeta", "nbeta"), ("gamma", "localization")):
        if not math.isclose(float(row[ours]), float(line[theirs]), rel_tol=1e-6):
            raise ValueError(f"{DEVINTERP}: on {line['target']} {theirs} is {line[theirs]}, the pipeline's {row[ours]}")
    llc, low, high = _value(line["llc"]), None, None
    if llc is not None:
        chains = int(line["chains"])
        half = float(stats.t.isf(0.025, chains - 1)) * float(line["llc_std"]) / math.sqrt(chains)
        low, high = llc - half, llc + half
    outcome = replace(
        missing(line["target"], f"devinterp, lr {short(float(line['lr']))}"),
        llc=llc,
        low=low,
        high=high,
        reference=_value(row["finite_t_value"]),
        reference_se=_value(row["finite_t_se"]) or 0.0,
        limit=_value(row["truth"]),
        gradients=_value(line["gradients"]),
    )
    return Entry(outcome, row["target_kind"], float(line["budget"]), _value(line["seconds"]))


def _value(cell: str) -> float | None:
    return float(cell) if cell else None


# How they did -----------------------------------------------------------------------------------


def score(sampler: str, entries: Sequence[Entry]) -> Score:
    """How one sampler did on these runs."""
    outcomes = [entry.outcome for entry in entries]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    widths = [(o.high - o.low) / 2 / abs(o.llc) for o in outcomes if o.llc and o.low is not None and o.high is not None]
    held = coverage(outcomes)
    ended = {outcome.status for outcome in outcomes}
    return Score(
        sampler=sampler,
        runs=len(entries),
        silent=sum(outcome.llc is None for outcome in outcomes),
        stopped=None if ended == {None} else sum(outcome.status == "completed" for outcome in outcomes),
        error=statistics.fmean(errors) if errors else None,
        error_se=statistics.stdev(errors) / math.sqrt(len(errors)) if len(errors) > 1 else None,
        rms=math.sqrt(statistics.fmean(error**2 for error in errors)) if errors else None,
        held=held.hits,
        intervals=held.runs,
        width=_median(widths),
        verdicts=dict(Counter(outcome.verdict for outcome in outcomes if outcome.verdict)),
        gradients=_median([outcome.gradients for outcome in outcomes if outcome.gradients is not None]),
        seconds=_median([entry.seconds for entry in entries if entry.seconds is not None]),
    )


def ordering(entries: Iterable[Entry]) -> Order:
    """Every pair of one sampler's runs on deep linear nets whose λ differ."""
    return order(entry.outcome for entry in entries if entry.kind == NETS)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


# The section ------------------------------------------------------------------------------------


def section(results: Path) -> str:
    """The leaderboard of a results folder as Markdown."""
    entries = read_entries(results)
    where = provenance(results)
    run = (
        f"Run on {where.date} at {where.commit}: {where.machine}, {where.cores} cores, {where.cpu_hours:.2f} CPU hours."
    )
    parts = [INTRODUCTION, HOW_TO_RUN, run]
    for budget in sorted({entry.budget for entry in entries}):
        parts += _budget(budget, [entry for entry in entries if entry.budget == budget])
    return "\n\n".join(parts) + "\n"


def _budget(budget: float, entries: Sequence[Entry]) -> list[str]:
    """The tables of one budget: over all targets, and by target."""
    by_target = {
        target: _ranked([entry for entry in entries if entry.outcome.target == target])
        for target in dict.fromkeys(entry.outcome.target for entry in entries)
    }
    overall = [
        (
            found.sampler,
            str(len({entry.outcome.target for entry in entries if entry.outcome.sampler == found.sampler})),
            _of(found.silent, found.runs),
            percent(found.rms),
            _of(found.held, found.intervals),
            *_order_cells(ordering(entry for entry in entries if entry.outcome.sampler == found.sampler)),
        )
        for found in _ranked(entries)
    ]
    each = [
        (target, _truth(entries, target), *_score_cells(found))
        for target, scores in by_target.items()
        for found in scores
    ]
    return [f"### {thousands(budget)} gradients", table(OVERALL, overall), table(EACH, each)]


OVERALL = (
    "sampler",
    "targets",
    "no number",
    "rms error",
    "intervals that hold E[tK]",
    "pairs of nets in order",
    "of those with disjoint intervals",
    "pairs without a number",
)
EACH = (
    "target",
    "E[tK]",
    "sampler",
    "no number",
    "mean error",
    "rms error",
    "intervals that hold E[tK]",
    "claimed ±",
    "stopped",
    "verdicts",
    "gradients a run",
    "seconds a run",
)
HOW_TO_RUN = """```bash
make validate ONLY=leaderboard
results=validation/results/leaderboard
python=$(scripts/environments validation/devinterp/requirements.txt)/bin/python3     # PyTorch: about 6 GB
$python validation/devinterp/run.py $results/targets --out $results/devinterp.csv \\
    --only quadratic-20 rrr-3-2-3-rank-1 rrr-5-3-5-rank-1 linear-10-10-10-10-rank-3
make validate ONLY=leaderboard     # again: nothing is sampled anew, the table takes devinterp in
```"""


def _ranked(entries: Sequence[Entry]) -> list[Score]:
    """The scores of every sampler in these runs, the smallest rms error first, those without one last."""
    samplers = dict.fromkeys(entry.outcome.sampler for entry in entries)
    scores = [score(name, [entry for entry in entries if entry.outcome.sampler == name]) for name in samplers]
    return sorted(scores, key=lambda found: math.inf if found.rms is None else found.rms)


def _score_cells(found: Score) -> tuple[str, ...]:
    spread = "" if found.error_se is None else f" ± {percent(found.error_se)}"
    return (
        found.sampler,
        _of(found.silent, found.runs),
        percent(found.error) + spread,
        percent(found.rms),
        _of(found.held, found.intervals),
        percent(found.width),
        "–" if found.stopped is None else _of(found.stopped, found.runs),
        verdict_words(found.verdicts),
        thousands(found.gradients),
        number(found.seconds),
    )


def _order_cells(found: Order) -> tuple[str, str, str]:
    return _of(found.right, found.judged), _of(found.preserved, found.disjoint), str(found.silent)


def _truth(entries: Iterable[Entry], target: str) -> str:
    known = (entry.outcome for entry in entries if entry.outcome.target == target)
    outcome = next((outcome for outcome in known if outcome.reference is not None), None)
    if outcome is None:
        return "–"
    return number(outcome.reference) + (f" ± {number(outcome.reference_se)}" if outcome.reference_se else "")


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "–"


def short(value: float) -> str:
    """A power of ten as people write it: 1e5, 1e-4; other numbers as they are."""
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


if __name__ == "__main__":
    SECTIONS.mkdir(exist_ok=True)
    write_text(SECTIONS / "leaderboard.md", section(Path(sys.argv[1])))
