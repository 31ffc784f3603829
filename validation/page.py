"""docs/validation.md from the committed summaries: what was run, what was found, and plainly what fails.

    python validation/page.py

The sections that other programs leave in validation/sections/*.md are added as they are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from claims import BROKEN, LEAST_COVERED_RUNS, claims, good, groups_of, mean_told
from judge import MeanError
from kinds import MEANING
from summary import SUMMARIES, Group, Kind, Summary
from tables import number, percent, table, thousands, verdict_words

from lambda_hat_cli.artifacts.store import read_record, write_text

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "validation.md"
SECTIONS = HERE / "sections"
SUMMARISED = ("coverage", "oracles", *BROKEN, "good", "unadjusted", "pairs", "variational")
ORDER = (*SUMMARISED, "leaderboard")

INTRODUCTION = """# Validation

Every sampler against exact answers, with the runs that failed. This page is written by `make validate` from
`validation/summaries/`; nobody edits it.

- `make validate` runs every experiment of `validation/experiments/` through the pipeline itself, writes the summaries
  and this page. It goes on where it was stopped. `make validate ONLY=coverage` runs one experiment, `ONLY='good pairs'`
  two.
- The truth of a run is E[tK] at its own n, β and γ, what a perfect sampler returns: exact, by quadrature, or a
  reference that another method made, with its standard error ([how](targets.md)). λ stands beside it as the limit.
- An error is relative to that value. A run is *accepted* when its verdict is `reliable` and w\\* is `at_minimum`.
- Shares and coverage are judged by exact binomial tests. The mean over seeds is judged by a rule instead: it may be off
  by 1 % or three standard errors of both sides, whichever is more.
- A claim counts every family that was planned: one with too few runs that tell, or without a reference, does not hold.
- Seeds are those of the experiment files; none was chosen. Thresholds were set on the problems of
  `oracles` and `coverage` and others like them; no threshold was set on the families of `good` and `pairs`. Two checks
  were made and one was sharpened because of broken runs: that of a chain that stands still, that of chains that repeat
  each other and that of a drift, after the faults `half-stuck-chain`, `copied-chain` and `drift` were seen to pass. On
  these three kinds the share below is no independent evidence.
"""


def main() -> None:
    """Read every summary and write the page."""
    summaries = {name: read_record(SUMMARIES / f"{name}.json", Summary) for name in SUMMARISED if _exists(name)}
    sections = [path.read_text(encoding="utf-8") for path in sorted(SECTIONS.glob("*.md"))]
    write_text(PAGE, page(summaries, sections))


def page(summaries: dict[str, Summary], sections: Sequence[str]) -> str:
    """The whole page as Markdown."""
    parts = [INTRODUCTION, *_in_short(summaries), *_what_was_run(summaries, sections), *_failures(summaries)]
    for name, section in RENDER.items():
        if name in summaries:
            parts += section(summaries[name])
    if any(name in summaries for name in BROKEN):
        parts += _broken(summaries)
    parts += sections
    return "\n\n".join(part.strip() for part in parts) + "\n"


# Sections ---------------------------------------------------------------------------------------


def _in_short(summaries: dict[str, Summary]) -> list[str]:
    words = {True: "yes", False: "**no**", None: "not run"}
    rows = [(c.what, c.reach, c.found if c.holds is not None else "–", words[c.holds]) for c in claims(summaries)]
    return ["## In short", table(("claim", "reach", "found", "holds"), rows)]


def _what_was_run(summaries: dict[str, Summary], sections: Sequence[str]) -> list[str]:
    own = [name for name in ORDER if any(section.startswith(f"## {name.capitalize()}\n") for section in sections)]
    rows = []
    for name in ORDER:
        command = f"`make validate ONLY={name}`"
        if name not in summaries:
            rows.append((command, "–", "see its section" if name in own else "not run", "–", "–", "–", "–"))
            continue
        summary, where = summaries[name], summaries[name].provenance
        run = (str(summary.planned), where.date, where.commit, where.machine, str(where.cores))
        rows.append((command, *run, f"{where.cpu_hours:.2f}"))
    heads = ("command", "runs", "date", "commit", "machine", "cores", "CPU hours")
    note = "A commit with + had changed sources. CPU hours are those of all tasks, analysis included."
    return ["## What was run", table(heads, rows), note]


def _failures(summaries: dict[str, Summary]) -> list[str]:
    """Every family that leaves its band, with the size."""
    lines = []
    for group in groups_of(summaries, "oracles"):
        if group.mean is not None and not group.mean.within:
            off, allowed = percent(group.mean.error), percent(group.mean.allowed)
            mean = f"the mean of {group.mean.runs} runs is off by {off}"
            lines.append(f"- {group.sampler} on {group.target}: {mean} ({allowed} allowed)")
        if group.reference is None:
            lines.append(f"- {group.sampler} on {group.target}: no reference to compare with")
        elif not mean_told(group):
            numbers = group.mean.runs if group.mean else "fewer than two"
            lines.append(f"- {group.sampler} on {group.target}: {numbers} of {group.planned} runs gave a number")
    for name in ("oracles", "unadjusted", "variational"):
        for group in groups_of(summaries, name):
            if group.wrong.rejected:
                lines.append(
                    f"- {group.sampler} on {group.target}: {group.wrong.hits} of {group.wrong.runs} reliable runs are "
                    f"beyond tolerance (p = {group.wrong.p:.2g})"
                )
    for group in groups_of(summaries, "coverage"):
        if group.coverage.runs < LEAST_COVERED_RUNS:
            lines.append(
                f"- {group.sampler} on {group.target}: {group.coverage.runs} of {group.planned} runs gave an interval "
                f"that can be judged, {LEAST_COVERED_RUNS} are asked for"
            )
        if group.coverage.rejected:
            share = percent(group.coverage.value)
            lines.append(
                f"- intervals of {group.sampler} on {group.target} hold the value in {share} of "
                f"{group.coverage.runs} runs (p = {group.coverage.p:.2g})"
            )
    for group in groups_of(summaries, "good"):
        if group.planned > group.above_minimum and not good(group):
            verdicts = verdict_words(group.at_minimum)
            lines.append(f"- good runs of {group.sampler} on {group.target}, those at a minimum: {verdicts}")
    for name in BROKEN:
        for kind in summaries[name].kinds if name in summaries else ():
            if kind.accepted:
                lines.append(
                    f"- broken runs of kind {kind.name}: {kind.accepted} of {kind.planned} accepted, "
                    f"{kind.wrong} of {kind.compared} with a known value beyond tolerance"
                )
    for name, summary in summaries.items():
        if summary.failed:
            lines.append(f"- {name}: {summary.failed} runs failed or are missing")
    return ["## What fails", "\n".join(lines) or "Nothing that was run."]


# What a table shows of a group, by its head.
Columns = dict[str, Callable[[Group], str]]

PLACE: Columns = {"target": lambda group: group.target, "sampler": lambda group: group.sampler}
TRUTH: Columns = {"E[tK]": lambda group: number(group.reference), "λ": lambda group: number(group.limit)}
COST: Columns = {
    "verdicts": lambda group: verdict_words(group.verdicts),
    "gradients a run": lambda group: thousands(group.gradients),
}


def _of_mean(words: Callable[[MeanError], str]) -> Callable[[Group], str]:
    """What to say of a group's mean, where enough runs give a number and it can be compared."""
    return lambda group: "–" if group.mean is None else words(group.mean)


def _group_table(summary: Summary, columns: Columns) -> str:
    return table(tuple(columns), ([cell(group) for cell in columns.values()] for group in summary.groups))


def _mean_section(summary: Summary) -> list[str]:
    columns = {
        **PLACE,
        **TRUTH,
        "mean λ̂": _of_mean(lambda mean: number(mean.mean)),
        "s.e.": _of_mean(lambda mean: number(mean.se)),
        "error": _of_mean(lambda mean: percent(mean.error)),
        "allowed": _of_mean(lambda mean: percent(mean.allowed)),
        "within": _of_mean(lambda mean: "yes" if mean.within else "**no**"),
        **COST,
    }
    return [
        "## Error of the mean",
        "Metropolis-adjusted samplers. Every run that gives a number counts; the gradients are the median run's.",
        _group_table(summary, columns),
        *_claimed(summary),
        *_designs(summary),
    ]


def _wrong_section(summary: Summary) -> list[str]:
    columns = {
        **PLACE,
        **TRUTH,
        "tolerance": lambda group: percent(group.tolerance),
        "verdicts": COST["verdicts"],
        "reliable beyond it": lambda group: f"{group.wrong.hits} of {group.wrong.runs}",
        "worst reliable": lambda group: percent(group.worst),
        "mean error": _of_mean(lambda mean: percent(mean.error)),
        "gradients a run": COST["gradients a run"],
    }
    titles = {"unadjusted": "Samplers without a Metropolis step", "variational": "Variational inference"}
    return [
        f"## {titles[summary.experiment]}",
        _group_table(summary, columns),
        *_claimed(summary),
        *_designs(summary),
    ]


def _coverage_section(summary: Summary) -> list[str]:
    columns = {
        **PLACE,
        **TRUTH,
        "its s.e.": lambda group: number(group.reference_se),
        "intervals that hold it": lambda group: f"{group.coverage.hits} of {group.coverage.runs}",
        "share": lambda group: percent(group.coverage.value),
        "p": lambda group: f"{group.coverage.p:.2g}",
        "95 %": lambda group: "**no**" if group.coverage.rejected else "yes",
        **COST,
    }
    completed = sum(group.completed for group in summary.groups)
    note = (
        "All runs that give an interval count, whatever their verdict. "
        f"{completed:,} of {summary.planned:,} runs stopped by themselves at their tolerance."
    )
    return [
        "## Coverage of the 95 % interval",
        note,
        _group_table(summary, columns),
        *_claimed(summary),
        *_designs(summary),
    ]


def _good_section(summary: Summary) -> list[str]:
    columns = {
        **PLACE,
        "verdicts": COST["verdicts"],
        "above a minimum": lambda group: str(group.above_minimum),
        "verdicts at a minimum": lambda group: verdict_words(group.at_minimum),
        "reliable": lambda group: percent(_reliable_share(group)),
        "reliable beyond tolerance": lambda group: (
            f"{group.wrong.hits} of {group.wrong.runs}" if group.reference is not None else "–"
        ),
        "gradients a run": COST["gradients a run"],
    }
    note = (
        "Judged are the runs at a minimum, with those that failed before that was known. Families all of whose runs "
        "are above a minimum say nothing about good runs and are judged by none."
    )
    return ["## Good runs", note, _group_table(summary, columns), *_designs(summary)]


def _reliable_share(group: Group) -> float | None:
    runs = sum(group.at_minimum.values())
    return group.at_minimum["reliable"] / runs if runs else None


def _order_section(summary: Summary) -> list[str]:
    found = summary.order
    rows = [
        (
            group.target,
            number(group.limit),
            number(group.average),
            verdict_words(group.verdicts),
        )
        for group in sorted(summary.groups, key=lambda group: group.limit or 0.0)
    ]
    text = (
        f"{len(summary.groups)} nets of different exact λ: of all pairs of runs {found.overlapping:,} have intervals "
        f"that overlap; of the others {found.preserved:,} are in the order of λ and {found.reversed:,} are not."
    )
    return ["## Order", text, table(("target", "λ", "λ̂", "verdicts"), rows), *_designs(summary)]


def _broken(summaries: dict[str, Summary]) -> list[str]:
    rows = []
    for name in BROKEN:
        for kind in summaries[name].kinds if name in summaries else ():
            rows.append(_kind_row(kind))
    heads = (
        "kind",
        "what makes it broken",
        "runs",
        "verdicts",
        "above a minimum",
        "accepted",
        "accepted and beyond tolerance",
        "median error",
    )
    note = (
        "Each must end other than both `reliable` and `at_minimum`. The error is that of the runs "
        "that give a number, against the value that a perfect sampler returns on the target, where that is known."
    )
    designs = [line for name in BROKEN if name in summaries for line in _designs(summaries[name])]
    return ["## Broken runs", note, table(heads, rows), *designs]


def _kind_row(kind: Kind) -> tuple[str, ...]:
    return (
        kind.name,
        MEANING[kind.name],
        str(kind.planned),
        verdict_words(kind.verdicts),
        str(kind.above_minimum),
        str(kind.accepted),
        f"{kind.wrong} of {kind.compared}" if kind.compared else "–",
        percent(kind.off),
    )


def _claimed(summary: Summary) -> list[str]:
    """Error claimed against error made, a line for each sampler."""
    rows = []
    for sampler in dict.fromkeys(group.sampler for group in summary.groups):
        for group in summary.groups:
            if group.sampler == sampler and group.claims.runs:
                held = f"{group.claims.held} of {group.claims.runs}"
                rows.append((group.target, sampler, percent(group.claims.claimed), percent(group.claims.made), held))
    if not rows:
        return []
    heads = ("target", "sampler", "median claimed", "median made", "runs within their claim")
    return [
        f"### {summary.experiment}: error claimed against error made",
        "The error that each run states beside |λ̂ − E[tK]|; runs whose stated error is unknown are left out.",
        table(heads, rows),
    ]


def _designs(summary: Summary) -> list[str]:
    rows = [(name, f.design, str(f.n), str(f.d), str(f.seed)) for name, f in summary.families.items()]
    title = f"### {summary.experiment}: designs"
    return [title, table(("target", "what it is", "n", "d", "seed"), rows)] if rows else []


RENDER: dict[str, Callable[[Summary], list[str]]] = {
    "oracles": _mean_section,
    "coverage": _coverage_section,
    "good": _good_section,
    "unadjusted": _wrong_section,
    "pairs": _order_section,
    "variational": _wrong_section,
}


def _exists(name: str) -> bool:
    return (SUMMARIES / f"{name}.json").is_file()


if __name__ == "__main__":
    main()
