"""What the validation claims of the samplers: each claim's reach, what was found, and whether it holds."""

from collections.abc import Iterable
from dataclasses import dataclass

from judge import wrong_among
from summary import Group, Kind, Summary
from tables import percent

BROKEN = ("broken-targets", "broken-samplers", "broken-networks", "broken-families", "faults")

VI_ERROR = 0.005
LEAST_REJECTED, LEAST_BROKEN, LEAST_KINDS = 0.99, 1000, 12
LEAST_RELIABLE, MOST_INVALID = 0.90, 0.01
LEAST_ORDER = 0.99
LEAST_RUNS, LEAST_COVERED_RUNS, LEAST_FAMILIES = 20, 200, 6
LEAST_GOOD_RUNS = 20
LEAST_ON_QUADRATICS, LEAST_FITS = 50, 200


@dataclass(frozen=True)
class Claim:
    """One line of the first table; `holds` is None where too little was run to say."""

    what: str
    reach: str
    found: str
    holds: bool | None


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


def groups_of(summaries: dict[str, Summary], name: str, sampler: str | None = None) -> list[Group]:
    """The groups of an experiment, of one sampler or all; none where it was not run."""
    if name not in summaries:
        return []
    return [group for group in summaries[name].groups if sampler in (None, group.sampler)]


def _mean_claim(summaries: dict[str, Summary], sampler: str) -> Claim:
    groups = groups_of(summaries, "oracles", sampler)
    failing = [group.target for group in groups if not mean_told(group) or not (group.mean and group.mean.within)]
    return Claim(
        f"{sampler}: mean over seeds, every family",
        f"≤ max(1 %, 3 s.e.), ≥ {LEAST_RUNS} numbers",
        f"{len(groups) - len(failing)} of {len(groups)} families" + _named(failing),
        not failing if groups else None,
    )


def mean_told(group: Group) -> bool:
    """Whether enough runs gave a number, and there is a reference to compare their mean with."""
    return group.mean is not None and group.mean.runs >= LEAST_RUNS


def _wrong_claim(summaries: dict[str, Summary], sampler: str) -> Claim:
    groups = groups_of(summaries, "unadjusted", sampler)
    share = wrong_among(sum(g.wrong.hits for g in groups), sum(g.wrong.runs for g in groups))
    quadratics = sum(g.wrong.runs for g in groups if g.target.startswith("quadratic"))
    return Claim(
        f"{sampler.rsplit('-', 1)[0]} at tolerance {sampler.rsplit('-', 1)[1]} %: reliable beyond tolerance",
        f"≤ 5 % (p < .01 rejects), ≥ {LEAST_ON_QUADRATICS} reliable on quadratics",
        f"{share.hits} of {share.runs} (p = {share.p:.2g}); {quadratics} on quadratics" + _named(_rejected(groups)),
        (not share.rejected and quadratics >= LEAST_ON_QUADRATICS) if groups else None,
    )


def _vi_quadratics(summaries: dict[str, Summary]) -> Claim:
    groups = [g for g in groups_of(summaries, "variational") if g.target.startswith("quadratic")]
    worst = max((abs(g.mean.error) for g in groups if g.mean is not None), default=None)
    failing = [g for g in groups if not mean_told(g) or not (g.mean and abs(g.mean.error) <= VI_ERROR)]
    return Claim(
        "vi on quadratics, rotated ones too: mean over seeds, every family",
        f"≤ {percent(VI_ERROR)}, ≥ {LEAST_RUNS} numbers",
        f"worst family {percent(worst)}" + _named(place(group) for group in failing),
        not failing if groups else None,
    )


def _vi_elsewhere(summaries: dict[str, Summary]) -> Claim:
    groups = [g for g in groups_of(summaries, "variational") if not g.target.startswith("quadratic")]
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
    return [place(group) for group in groups if group.wrong.rejected]


def _coverage_claim(summaries: dict[str, Summary]) -> Claim:
    groups = groups_of(summaries, "coverage")
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
    groups = [group for group in groups_of(summaries, "good") if group.planned > group.above_minimum]
    failing = [group.target for group in groups if not good(group)]
    return Claim(
        "good hmc runs at a minimum, problems not used for tuning",
        f"every family ≥ 90 % reliable, ≤ 1 % invalid or failed, of ≥ {LEAST_GOOD_RUNS} runs",
        f"{len(groups) - len(failing)} of {len(groups)} families" + _named(failing),
        not failing if groups else None,
    )


def good(group: Group) -> bool:
    """Whether enough of the runs at a minimum are reliable, and few enough give no number."""
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


def place(group: Group) -> str:
    """Target and sampler in words."""
    return f"{group.target} × {group.sampler}"


def _named(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f" (not: {listed})" if listed else ""
