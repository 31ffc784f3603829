"""docs/validation.md from the committed summaries: what was run, what was found, and plainly what fails.

    python validation/page.py

The sections that other programs leave in validation/sections/*.md are added as they are.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from judge import wrong_among
from kinds import MEANING
from summary import SUMMARIES, Group, Kind, Summary

from lambda_hat_cli.artifacts.store import read_record, write_text

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "validation.md"
SECTIONS = HERE / "sections"
BROKEN = ("broken-targets", "broken-samplers", "broken-networks", "broken-families", "faults")
SUMMARISED = ("coverage", "oracles", *BROKEN, "good", "unadjusted", "pairs", "variational")
ORDER = (*SUMMARISED, "leaderboard")

VI_ERROR = 0.005
LEAST_REJECTED, LEAST_BROKEN, LEAST_KINDS = 0.99, 1000, 12
LEAST_RELIABLE, MOST_INVALID = 0.90, 0.01
LEAST_ORDER = 0.99
LEAST_RUNS, LEAST_COVERED_RUNS, LEAST_FAMILIES = 20, 200, 6
LEAST_GOOD_RUNS = 20
LEAST_ON_QUADRATICS, LEAST_FITS = 50, 200

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


@dataclass(frozen=True)
class Claim:
    """One line of the first table; `holds` is None where too little was run to say."""

    what: str
    reach: str
    found: str
    holds: bool | None


Table = Sequence[Sequence[str]]


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


# The claims -------------------------------------------------------------------------------------


def claims(summaries: dict[str, Summary]) -> list[Claim]:
    """Every claim with what was found; one whose experiment was not run is open."""
    return [
        *(_mean_claim(summaries, sampler) for sampler in ("hmc", "adjusted-mclmc")),
        *(_wrong_claim(summaries, sampler) for sampler in ("mclmc-5", "mclmc-2", "sgld-5", "sgld-2")),
        _vi_quadratics(summaries),
        _vi_elsewhere(summaries),
        _coverage_claim(summaries),
        _broken_claim(summaries),
        _good_claim(summaries),
        _order_claim(summaries),
    ]


def _groups(summaries: dict[str, Summary], name: str, sampler: str | None = None) -> list[Group]:
    if name not in summaries:
        return []
    return [group for group in summaries[name].groups if sampler in (None, group.sampler)]


def _mean_claim(summaries: dict[str, Summary], sampler: str) -> Claim:
    groups = _groups(summaries, "oracles", sampler)
    failing = [group.target for group in groups if not _mean_told(group) or not (group.mean and group.mean.within)]
    return Claim(
        f"{sampler}: mean over seeds, every family",
        f"≤ max(1 %, 3 s.e.), ≥ {LEAST_RUNS} numbers",
        f"{len(groups) - len(failing)} of {len(groups)} families" + _named(failing),
        not failing if groups else None,
    )


def _mean_told(group: Group) -> bool:
    """Whether enough runs gave a number, and there is a reference to compare their mean with."""
    return group.mean is not None and group.mean.runs >= LEAST_RUNS


def _wrong_claim(summaries: dict[str, Summary], sampler: str) -> Claim:
    groups = _groups(summaries, "unadjusted", sampler)
    share = wrong_among(sum(g.wrong.hits for g in groups), sum(g.wrong.runs for g in groups))
    quadratics = sum(g.wrong.runs for g in groups if g.target.startswith("quadratic"))
    return Claim(
        f"{sampler.rsplit('-', 1)[0]} at tolerance {sampler.rsplit('-', 1)[1]} %: reliable beyond tolerance",
        f"≤ 5 % (p < .01 rejects), ≥ {LEAST_ON_QUADRATICS} reliable on quadratics",
        f"{share.hits} of {share.runs} (p = {share.p:.2g}); {quadratics} on quadratics" + _named(_rejected(groups)),
        (not share.rejected and quadratics >= LEAST_ON_QUADRATICS) if groups else None,
    )


def _vi_quadratics(summaries: dict[str, Summary]) -> Claim:
    groups = [g for g in _groups(summaries, "variational") if g.target.startswith("quadratic")]
    worst = max((abs(g.mean.error) for g in groups if g.mean is not None), default=None)
    failing = [g for g in groups if not _mean_told(g) or not (g.mean and abs(g.mean.error) <= VI_ERROR)]
    return Claim(
        "vi on quadratics, rotated ones too: mean over seeds, every family",
        f"≤ {percent(VI_ERROR)}, ≥ {LEAST_RUNS} numbers",
        f"worst family {percent(worst)}" + _named(" × ".join(_place(group)) for group in failing),
        not failing if groups else None,
    )


def _vi_elsewhere(summaries: dict[str, Summary]) -> Claim:
    groups = [g for g in _groups(summaries, "variational") if not g.target.startswith("quadratic")]
    share = wrong_among(sum(g.wrong.hits for g in groups), sum(g.wrong.runs for g in groups))
    fits = sum(g.planned - g.verdicts["failed"] for g in groups)
    return Claim(
        "vi elsewhere: reliable beyond tolerance",
        f"≤ 5 % (p < .01 rejects), ≥ {LEAST_FITS} fits",
        f"{share.hits} of {share.runs} reliable (p = {share.p:.2g}) in {fits} fits" + _named(_rejected(groups)),
        (not share.rejected and fits >= LEAST_FITS) if groups else None,
    )


def _rejected(groups: Iterable[Group]) -> list[str]:
    """The families that the same test rejects alone."""
    return [" × ".join(_place(group)) for group in groups if group.wrong.rejected]


def _coverage_claim(summaries: dict[str, Summary]) -> Claim:
    groups = _groups(summaries, "coverage")
    failing = [group.target for group in groups if group.coverage.rejected or not group.coverage.runs]
    large = sum(group.coverage.runs >= LEAST_COVERED_RUNS for group in groups)
    return Claim(
        "hmc: 95 % intervals, early stopping included",
        f"no family rejected at p < .001; ≥ {LEAST_FAMILIES} families × {LEAST_COVERED_RUNS} intervals",
        f"{len(groups) - len(failing)} of {len(groups)} families, {large} with {LEAST_COVERED_RUNS} intervals"
        + _named(failing),
        (not failing and large >= LEAST_FAMILIES) if groups else None,
    )


def _broken_claim(summaries: dict[str, Summary]) -> Claim:
    kinds = [kind for name in BROKEN if name in summaries for kind in summaries[name].kinds]
    judged = [kind for kind in kinds if _judged(kind)]
    runs, accepted = sum(_judged(kind) for kind in judged), sum(kind.accepted for kind in judged)
    unjudged = sum(kind.planned for kind in kinds) - runs
    enough = runs >= LEAST_BROKEN and len({kind.name for kind in judged}) >= LEAST_KINDS
    return Claim(
        "broken runs: not both reliable and at_minimum",
        f"≥ 99 % of ≥ {LEAST_BROKEN:,} runs with a verdict, of ≥ {LEAST_KINDS} kinds",
        f"{percent((runs - accepted) / runs if runs else None)} of {runs:,} runs of {len(judged)} kinds; "
        f"{unjudged:,} more have no verdict" + _named(kind.name for kind in judged if kind.accepted),
        (enough and 1 - accepted / runs >= LEAST_REJECTED) if kinds else None,
    )


def _judged(kind: Kind) -> int:
    """Runs with a verdict: one that failed was not caught by anything."""
    return kind.planned - kind.verdicts["failed"]


def _good_claim(summaries: dict[str, Summary]) -> Claim:
    groups = [group for group in _groups(summaries, "good") if group.planned > group.above_minimum]
    failing = [group.target for group in groups if not _good(group)]
    return Claim(
        "good hmc runs at a minimum, problems not used for tuning",
        f"every family ≥ 90 % reliable, ≤ 1 % invalid or failed, of ≥ {LEAST_GOOD_RUNS} runs",
        f"{len(groups) - len(failing)} of {len(groups)} families" + _named(failing),
        not failing if groups else None,
    )


def _good(group: Group) -> bool:
    verdicts = group.at_minimum
    runs = sum(verdicts.values())
    return (
        runs >= LEAST_GOOD_RUNS
        and verdicts["reliable"] >= LEAST_RELIABLE * runs
        and verdicts["invalid"] + verdicts["failed"] <= MOST_INVALID * runs
    )


def _order_claim(summaries: dict[str, Summary]) -> Claim:
    found = summaries["pairs"].order if "pairs" in summaries else None
    share = found.share if found else None
    return Claim(
        "hmc: order of deep linear nets whose intervals do not overlap",
        "≥ 99 % preserved",
        f"{percent(share)} of {found.disjoint:,}" if found else "–",
        None if share is None else share >= LEAST_ORDER,
    )


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
        runs = str(sum(group.planned for group in summary.groups))
        rows.append(
            (command, runs, where.date, where.commit, where.machine, str(where.cores), f"{where.cpu_hours:.2f}")
        )
    heads = ("command", "runs", "date", "commit", "machine", "cores", "CPU hours")
    note = "A commit with + had changed sources. CPU hours are those of all tasks, analysis included."
    return ["## What was run", table(heads, rows), note]


def _failures(summaries: dict[str, Summary]) -> list[str]:
    """Every family that leaves its band, with the size."""
    lines = []
    for group in _groups(summaries, "oracles"):
        if group.mean is not None and not group.mean.within:
            off, allowed = percent(group.mean.error), percent(group.mean.allowed)
            mean = f"the mean of {group.mean.runs} runs is off by {off}"
            lines.append(f"- {group.sampler} on {group.target}: {mean} ({allowed} allowed)")
        if group.reference is None:
            lines.append(f"- {group.sampler} on {group.target}: no reference to compare with")
        elif not _mean_told(group):
            numbers = group.mean.runs if group.mean else "fewer than two"
            lines.append(f"- {group.sampler} on {group.target}: {numbers} of {group.planned} runs gave a number")
    for name in ("oracles", "unadjusted", "variational"):
        for group in _groups(summaries, name):
            if group.wrong.rejected:
                lines.append(
                    f"- {group.sampler} on {group.target}: {group.wrong.hits} of {group.wrong.runs} reliable runs are "
                    f"beyond tolerance (p = {group.wrong.p:.2g})"
                )
    for group in _groups(summaries, "coverage"):
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
    for group in _groups(summaries, "good"):
        if group.planned > group.above_minimum and not _good(group):
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
        failed = sum(group.verdicts["failed"] for group in summary.groups)
        if failed:
            lines.append(f"- {name}: {failed} runs failed or are missing")
    return ["## What fails", "\n".join(lines) or "Nothing that was run."]


def _mean_section(summary: Summary) -> list[str]:
    rows = [
        (
            *_place(group),
            *_truth(group),
            number(group.mean.mean) if group.mean else "–",
            number(group.mean.se) if group.mean else "–",
            percent(group.mean.error) if group.mean else "–",
            percent(group.mean.allowed) if group.mean else "–",
            ("yes" if group.mean.within else "**no**") if group.mean else "–",
            verdict_words(group.verdicts),
            thousands(group.gradients),
        )
        for group in summary.groups
    ]
    heads = (
        "target",
        "sampler",
        "E[tK]",
        "λ",
        "mean λ̂",
        "s.e.",
        "error",
        "allowed",
        "within",
        "verdicts",
        "gradients a run",
    )
    return [
        "## Error of the mean",
        "Metropolis-adjusted samplers. Every run that gives a number counts; the gradients are the median run's.",
        table(heads, rows),
        *_claimed(summary),
        *_designs(summary),
    ]


def _wrong_section(summary: Summary) -> list[str]:
    rows = [
        (
            *_place(group),
            *_truth(group),
            percent(group.tolerance),
            verdict_words(group.verdicts),
            f"{group.wrong.hits} of {group.wrong.runs}",
            percent(group.worst),
            percent(group.mean.error) if group.mean else "–",
            thousands(group.gradients),
        )
        for group in summary.groups
    ]
    heads = (
        "target",
        "sampler",
        "E[tK]",
        "λ",
        "tolerance",
        "verdicts",
        "reliable beyond it",
        "worst reliable",
        "mean error",
        "gradients a run",
    )
    titles = {"unadjusted": "Samplers without a Metropolis step", "variational": "Variational inference"}
    return [f"## {titles[summary.experiment]}", table(heads, rows), *_claimed(summary), *_designs(summary)]


def _coverage_section(summary: Summary) -> list[str]:
    rows = [
        (
            *_place(group),
            *_truth(group),
            number(group.reference_se),
            f"{group.coverage.hits} of {group.coverage.runs}",
            percent(group.coverage.value),
            f"{group.coverage.p:.2g}",
            "**no**" if group.coverage.rejected else "yes",
            verdict_words(group.verdicts),
            thousands(group.gradients),
        )
        for group in summary.groups
    ]
    heads = (
        "target",
        "sampler",
        "E[tK]",
        "λ",
        "its s.e.",
        "intervals that hold it",
        "share",
        "p",
        "95 %",
        "verdicts",
        "gradients a run",
    )
    completed, planned = sum(g.completed for g in summary.groups), sum(g.planned for g in summary.groups)
    note = (
        "All runs that give an interval count, whatever their verdict. "
        f"{completed:,} of {planned:,} runs stopped by themselves at their tolerance."
    )
    return ["## Coverage of the 95 % interval", note, table(heads, rows), *_claimed(summary), *_designs(summary)]


def _good_section(summary: Summary) -> list[str]:
    rows = [
        (
            *_place(group),
            verdict_words(group.verdicts),
            str(group.above_minimum),
            verdict_words(group.at_minimum),
            percent(_reliable_share(group)),
            f"{group.wrong.hits} of {group.wrong.runs}" if group.reference is not None else "–",
            thousands(group.gradients),
        )
        for group in summary.groups
    ]
    heads = (
        "target",
        "sampler",
        "verdicts",
        "above a minimum",
        "verdicts at a minimum",
        "reliable",
        "reliable beyond tolerance",
        "gradients a run",
    )
    note = (
        "Judged are the runs at a minimum, with those that failed before that was known. Families all of whose runs "
        "are above a minimum say nothing about good runs and are judged by none."
    )
    return ["## Good runs", note, table(heads, rows), *_designs(summary)]


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
    families = {group.target: group.family for group in summary.groups if group.family is not None}
    rows = [(name, family.design, str(family.n), str(family.d), str(family.seed)) for name, family in families.items()]
    return (
        [f"### {summary.experiment}: designs", table(("target", "what it is", "n", "d", "seed"), rows)] if rows else []
    )


RENDER: dict[str, Callable[[Summary], list[str]]] = {
    "oracles": _mean_section,
    "coverage": _coverage_section,
    "good": _good_section,
    "unadjusted": _wrong_section,
    "pairs": _order_section,
    "variational": _wrong_section,
}


# Words and numbers ------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}"


def thousands(value: float | None) -> str:
    """A count of gradients, to three digits."""
    return "–" if value is None else f"{float(f'{value:.3g}'):,.0f}"


def percent(value: float | None) -> str:
    """A share or a relative error."""
    return "–" if value is None else f"{100 * value:.3g} %"


def verdict_words(verdicts: dict[str, int]) -> str:
    """The verdicts that occur, with their counts."""
    return ", ".join(f"{count} {name}" for name, count in verdicts.items() if count) or "–"


def _named(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f" (not: {listed})" if listed else ""


def _place(group: Group) -> tuple[str, str]:
    return group.target, group.sampler


def _truth(group: Group) -> tuple[str, str]:
    return number(group.reference), number(group.limit)


def _exists(name: str) -> bool:
    return (SUMMARIES / f"{name}.json").is_file()


if __name__ == "__main__":
    main()
