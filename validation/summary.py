"""One experiment's results as a small committed record: what was run, and every number that the page shows.

    python validation/summary.py RESULTS NAME

reads the results folder of an experiment and writes validation/summaries/NAME.json.
"""

import csv
import datetime
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from judge import Claims, MeanError, Order, Outcome, Share, claims, coverage, mean_error, order, wrong_share
from kinds import kind_of
from outcomes import Family, read_families, read_outcomes
from pydantic import BaseModel, ConfigDict

from lambda_hat_cli.artifacts.store import write_record

HERE = Path(__file__).resolve().parent
SUMMARIES = HERE / "summaries"
# Everything that a run's numbers and their judgement depend on, from the project's folder.
SOURCES = ("python", "validation", "envs", "main.nf", "modules", "lib", "conf", "bin")
# What the validation itself writes into its folder is no changed source.
WRITTEN = (":!summaries", ":!sections", ":!results")
SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Key = TypeVar("Key", bound=str | tuple[str, ...])


class Record(BaseModel):
    """Frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(Record):
    """Where and when the runs were made.

    Attributes:
        commit: of the sources, "+" where SOURCES differed from it. cpu_hours: of all tasks, cached ones included.
    """

    date: str
    commit: str
    machine: str
    cores: int
    tasks: int
    cpu_hours: float


class Group(Record):
    """The runs of one sampler on one target.

    Attributes:
        verdicts: how many runs have each verdict; `failed` where there is none. above_minimum: how many say so.
        at_minimum: the verdicts of the runs at a minimum, and of those that failed before that was known.
        completed: runs that stopped by themselves at their tolerance.
        average: mean λ̂ of the runs that give one. gradients: the median run's full-data gradient equivalents.
        worst: the largest relative error of a reliable run.
    """

    target: str
    sampler: str
    planned: int
    verdicts: dict[str, int]
    above_minimum: int
    at_minimum: dict[str, int]
    completed: int
    reference: float | None
    reference_se: float
    limit: float | None
    tolerance: float | None
    gradients: float | None
    average: float | None
    mean: MeanError | None
    wrong: Share
    worst: float | None
    coverage: Share
    claims: Claims


class Kind(Record):
    """The runs of one kind of fault.

    Attributes:
        accepted: runs that are reliable and at a minimum. compared: accepted runs whose true value is known, of which
            `wrong` are beyond tolerance.
        off: median relative distance of λ̂ from the reference over runs that give a number; None where none has both.
    """

    name: str
    planned: int
    verdicts: dict[str, int]
    above_minimum: int
    accepted: int
    compared: int
    wrong: int
    off: float | None


class Summary(Record):
    """validation/summaries/<experiment>.json.

    Attributes:
        families: the design of every target that was built, by its name.
        groups: of runs that should be right. kinds: of runs that are broken. An experiment has either.
    """

    experiment: str
    provenance: Provenance
    families: dict[str, Family]
    groups: tuple[Group, ...]
    kinds: tuple[Kind, ...]
    order: Order

    @property
    def planned(self) -> int:
        """How many runs there are."""
        return sum(g.planned for g in self.groups) + sum(k.planned for k in self.kinds)

    @property
    def failed(self) -> int:
        """How many of them have no verdict."""
        return sum(g.verdicts["failed"] for g in self.groups) + sum(k.verdicts["failed"] for k in self.kinds)


def summarise(experiment: str, outcomes: Sequence[Outcome], families: dict[str, Family], where: Provenance) -> Summary:
    """Every statistic of an experiment's runs."""
    groups, kinds = [], []
    if experiment.startswith("broken") or experiment == "faults":
        kinds = [kind(name, runs) for name, runs in _grouped(outcomes, kind_of).items()]
    else:
        by_group = _grouped(outcomes, lambda o: (o.target, o.sampler))
        groups = [group_of(target, sampler, runs) for (target, sampler), runs in by_group.items()]
    return Summary(
        experiment=experiment,
        provenance=where,
        families={name: families[name] for name in dict.fromkeys(o.target for o in outcomes) if name in families},
        groups=tuple(groups),
        kinds=tuple(kinds),
        order=order(outcomes),
    )


def group_of(target: str, sampler: str, runs: Sequence[Outcome]) -> Group:
    """The statistics of one sampler on one target."""
    made = [run for run in runs if run.verdict is not None]
    reference = next((run.reference for run in made), None)
    reference_se = next((run.reference_se for run in made), 0.0)
    values = [run.llc for run in made if run.llc is not None]
    errors = [abs(run.error) for run in made if run.verdict == "reliable" and run.error is not None]
    return Group(
        target=target,
        sampler=sampler,
        planned=len(runs),
        verdicts=_verdicts(runs),
        above_minimum=sum(run.minimum == "above_minimum" for run in made),
        at_minimum=_verdicts([run for run in runs if run.minimum == "at_minimum" or run.verdict is None]),
        completed=sum(run.status == "completed" for run in made),
        reference=reference,
        reference_se=reference_se,
        limit=next((run.limit for run in made), None),
        tolerance=next((run.tolerance for run in made), None),
        gradients=_median([run.gradients for run in made]),
        average=statistics.fmean(values) if values else None,
        mean=None if reference is None else mean_error(values, reference, reference_se),
        wrong=wrong_share(runs),
        worst=max(errors, default=None),
        coverage=coverage(runs),
        claims=claims(runs),
    )


def kind(name: str, runs: Sequence[Outcome]) -> Kind:
    """How one kind of broken runs was labelled."""
    accepted = [run for run in runs if run.accepted]
    return Kind(
        name=name,
        planned=len(runs),
        verdicts=_verdicts(runs),
        above_minimum=sum(run.minimum == "above_minimum" for run in runs),
        accepted=len(accepted),
        compared=sum(run.wrong is not None for run in accepted),
        wrong=sum(run.wrong is True for run in accepted),
        off=_median([abs(run.error) if run.error is not None else None for run in runs]),
    )


def provenance(results: Path) -> Provenance:
    """The machine and commit, the date of the results, and the tasks that Nextflow's trace lists."""
    table = results / "summary" / "results.csv"
    with (results / "pipeline_info" / "trace.txt").open(encoding="utf-8", newline="") as trace:
        tasks = list(csv.DictReader(trace, delimiter="\t"))
    return here_and_now(
        datetime.date.fromtimestamp(table.stat().st_mtime),
        len(tasks),
        sum(duration(task["realtime"]) * _share(task["%cpu"]) for task in tasks) / 3600,
    )


def here_and_now(date: datetime.date, tasks: int, cpu_hours: float) -> Provenance:
    """The machine and commit that the caller is on."""
    return Provenance(
        date=date.isoformat(),
        commit=_commit(),
        machine=_processor(),
        cores=len(os.sched_getaffinity(0)),
        tasks=tasks,
        cpu_hours=round(cpu_hours, 3),
    )


def duration(text: str) -> float:
    """Seconds of a time in Nextflow's words, such as "1m 12s"; 0 for "-", which it writes where it knows none."""
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)\s*(ms|s|m|h|d)", text))


def _share(percent: str) -> float:
    return float(percent.rstrip("%")) / 100 if percent not in ("", "-") else 1.0


def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return name[1] if name else platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", *(f"../{source}" for source in SOURCES), *WRITTEN)
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def _grouped(outcomes: Sequence[Outcome], key: Callable[[Outcome], Key]) -> dict[Key, list[Outcome]]:
    found: dict[Key, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(key(outcome), []).append(outcome)
    return found


def _verdicts(runs: Sequence[Outcome]) -> dict[str, int]:
    names: tuple[Literal["reliable", "uncertain", "invalid"] | None, ...] = ("reliable", "uncertain", "invalid", None)
    return {name or "failed": sum(run.verdict == name for run in runs) for name in names}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def main(results: Path, name: str) -> None:
    """Read a results folder and write the summary."""
    summary = summarise(name, list(read_outcomes(results)), read_families(results), provenance(results))
    SUMMARIES.mkdir(exist_ok=True)
    write_record(SUMMARIES / f"{name}.json", summary)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
