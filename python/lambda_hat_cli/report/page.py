"""The page a person reads: one HTML file with every planned run, its number, its verdict and why."""

import base64
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lambda_hat_cli.report import numbers
from lambda_hat_cli.report.checkpoints import TrainingGroup
from lambda_hat_cli.report.collect import OUTCOMES, Collection, Outcome, PlannedRun, PlannedTarget
from lambda_hat_cli.report.console import summary
from lambda_hat_cli.report.grids import GridGroup
from lambda_hat_cli.report.groups import Group, groups, planned_words, run_label
from lambda_hat_cli.report.layout import (
    CHECKPOINTS,
    CONVERGENCE,
    GRIDS,
    LOCALIZATIONS,
    OVERVIEW,
    TEMPERATURES,
    TRAINING,
)
from lambda_hat_cli.report.parts import part_of
from lambda_hat_cli.report.replicates import Together, shown, together
from lambda_hat_cli.report.requests import LISTED, RequestRow
from lambda_hat_cli.report.results import ResultRow, result_row
from lambda_hat_cli.report.sweeps import Sweeps
from lambda_hat_cli.report.temperatures import (
    TemperatureGroup,
    free_energy_words,
    multiplicity_words,
    regression_words,
    trend_words,
)

EMBED_UP_TO_RUNS = 60
"""Beyond this many runs the page links its pictures, because it would grow to tens of megabytes."""

_TEMPLATES = Path(__file__).parent / "templates"
_NETWORKS = ("mlp", "deep_linear")
_MEANINGS: dict[Outcome, str] = {
    "reliable": "converged to tolerance with every check passed",
    "uncertain": "a number with a stated reservation",
    "invalid": "a result without a number to use",
    "failed": "stopped with an error",
    "missing": "left nothing",
}
_CAPTIONS = {
    "trace": "trace of tK by chain",
    "rank_energy": "rank and energy plots",
    "llc_convergence": "λ̂ and its interval over gradients",
}


@dataclass(frozen=True)
class Picture:
    """An image of the page: `source` is a data URI or a relative link."""

    source: str
    alt: str


@dataclass(frozen=True)
class RunView:
    """A run as the template shows it."""

    run: PlannedRun
    label: str
    result: ResultRow
    pictures: tuple[Picture, ...]
    note: str | None


@dataclass(frozen=True)
class GroupView:
    """The runs of one (target, β, γ), of many replicates the first few and what all of them say together.

    `first` carries what they share, `picture` is None where nothing was drawn.
    """

    first: ResultRow
    finite_t: ResultRow | None
    runs: tuple[RunView, ...]
    together: tuple[Together, ...]
    picture: Picture | None


@dataclass(frozen=True)
class TemperatureView:
    """One (target, γ) over its temperatures: a row a run, and what each sampler's runs say together."""

    group: TemperatureGroup
    rows: tuple[ResultRow, ...]
    picture: Picture


@dataclass(frozen=True)
class CheckpointView:
    """The checkpoints of one training at one β and γ; `rows` has each run's target, label, outcome and result.

    `held_out` tells whether there are losses over held-out rows.
    """

    group: TrainingGroup
    rows: tuple[tuple[PlannedTarget, str, str, ResultRow], ...]
    held_out: bool
    picture: Picture


@dataclass(frozen=True)
class GridView:
    """The combinations of one grid at one β and γ, which `setting` tells in words; `parts` of which parts they are."""

    group: GridGroup
    setting: str
    parts: tuple[str, ...]
    picture: Picture


@dataclass(frozen=True)
class TargetView:
    """A target, its specification as YAML, its training curve where it was trained, its groups and temperatures."""

    target: PlannedTarget
    spec: str
    training: Picture | None
    groups: tuple[GroupView, ...]
    temperatures: tuple[TemperatureView, ...]
    localizations: Picture | None


def page(collection: Collection, sweeps: Sweeps, requests: Sequence[RequestRow], folder: Path) -> str:
    """The page as HTML text.

    Args:
        collection: every planned target and run.
        sweeps: of the same runs. requests: of their tasks; empty where they are not known.
        folder: the summary folder, which has the pictures and will have the page.
    """
    embed = len(collection.runs) <= EMBED_UP_TO_RUNS
    name = collection.plan.experiment.name
    by_target: dict[str, list[GroupView]] = defaultdict(list)
    for group in groups(collection):
        by_target[group.target.row.id].append(_group_view(name, group, folder / CONVERGENCE, embed))
    over_t: dict[str, list[TemperatureView]] = defaultdict(list)
    for found in sweeps.temperatures:
        over_t[found.target.row.id].append(_temperature_view(name, found, folder / TEMPERATURES, embed))
    over_gamma = {
        group.target.row.id: _picture(
            folder / LOCALIZATIONS / group.picture,
            f"{LOCALIZATIONS}/{group.picture}",
            f"λ̂ against γ of all samplers on {group.target.row.name}",
            embed,
        )
        for group in sweeps.localizations
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "significant": numbers.significant,
        "percent": numbers.percent,
        "count": numbers.count,
        "seconds": numbers.seconds,
        "share": numbers.share,
        "mebibytes": numbers.mebibytes,
        "with_width": numbers.with_width,
        "multiplicity": multiplicity_words,
        "regression": regression_words,
        "trend": trend_words,
        "free_energy": free_energy_words,
        "part": part_of,
    }
    return environment.get_template("report.html.j2").render(
        numbers=numbers,
        name=name,
        source=collection.plan.source,
        changes=collection.plan.set,
        summary=summary(collection),
        outcomes=[(outcome, collection.count(outcome), _MEANINGS[outcome]) for outcome in OUTCOMES],
        overview=_picture(folder / OVERVIEW, OVERVIEW, f"λ̂ over gradients for all targets of {name}", embed=True),
        targets=[
            TargetView(
                target,
                _as_yaml(target.row.spec.model_dump(mode="json", exclude_none=True)),
                _training_picture(target, folder / TRAINING, embed),
                tuple(by_target[target.row.id]),
                tuple(over_t[target.row.id]),
                over_gamma.get(target.row.id),
            )
            for target in collection.targets
        ],
        over_grids=[_grid_view(group, folder / GRIDS, embed) for group in sweeps.grids],
        through_training=[_checkpoint_view(name, group, folder / CHECKPOINTS, embed) for group in sweeps.trainings],
        requests=requests,
        requests_listed=LISTED,
        stray=collection.stray,
        versions=_versions(collection),
        machines=_machines(collection.runs),
    )


def _group_view(experiment: str, group: Group, pictures: Path, embed: bool) -> GroupView:
    runs = tuple(_run_view(experiment, run, embed) for run in shown(group.runs))
    first = runs[0].result
    analysed = any(run.analysis for run in group.runs)
    alt = f"λ̂ over gradients of all samplers on {first.target}"
    return GroupView(
        first=first,
        finite_t=next((view.result for view in runs if view.result.finite_t_value is not None), None),
        runs=runs,
        together=together(group.runs),
        picture=_picture(pictures / group.picture, f"{pictures.name}/{group.picture}", alt, embed)
        if analysed
        else None,
    )


def _temperature_view(experiment: str, group: TemperatureGroup, folder: Path, embed: bool) -> TemperatureView:
    alt = f"λ̂ against t of all samplers on {group.target.row.name}"
    return TemperatureView(
        group=group,
        rows=tuple(result_row(experiment, run) for series in group.series for run in series.runs),
        picture=_picture(folder / group.picture, f"{folder.name}/{group.picture}", alt, embed),
    )


def _checkpoint_view(experiment: str, group: TrainingGroup, folder: Path, embed: bool) -> CheckpointView:
    alt = f"λ̂ and the loss of {group.name} against training step"
    return CheckpointView(
        group=group,
        rows=tuple((run.target, run_label(run), run.outcome, result_row(experiment, run)) for run in group.runs),
        held_out=any(each.record is not None and each.record.held_out_loss is not None for each in group.targets),
        picture=_picture(folder / group.picture, f"{folder.name}/{group.picture}", alt, embed),
    )


def _grid_view(group: GridGroup, folder: Path, embed: bool) -> GridView:
    alt = f"λ̂ of {group.name} against {group.against}"
    return GridView(
        group=group,
        setting=planned_words(group.runs[0].row.posterior),
        parts=tuple(dict.fromkeys(filter(None, (part_of(run.target.row.spec) for run in group.runs)))),
        picture=_picture(folder / group.picture, f"{folder.name}/{group.picture}", alt, embed),
    )


def _training_picture(target: PlannedTarget, folder: Path, embed: bool) -> Picture | None:
    if target.training is None:
        return None
    name = f"{target.row.folder}.png"
    return _picture(folder / name, f"{folder.name}/{name}", f"loss of {target.row.name} while it was trained", embed)


def _run_view(experiment: str, run: PlannedRun, embed: bool) -> RunView:
    return RunView(
        run=run,
        label=run_label(run),
        result=result_row(experiment, run),
        pictures=tuple(_run_pictures(run, embed)),
        note=_note(run),
    )


def _run_pictures(run: PlannedRun, embed: bool) -> Iterable[Picture]:
    """The run's pictures, the three of every analysis first."""
    if run.analysis is None:
        return
    order = list(_CAPTIONS)
    found = {file.stem: file for file in run.analysis.path.glob("*.png")}
    for stem in sorted(found, key=lambda stem: (order.index(stem) if stem in order else len(order), stem)):
        caption = _CAPTIONS.get(stem, stem.replace("_", " "))
        link = f"../runs/{run.row.folder}/{stem}.png"
        yield _picture(found[stem], link, f"{run.row.target}, {run_label(run)}: {caption}", embed)


def _note(run: PlannedRun) -> str | None:
    """What to think of a verdict that is the usual one."""
    if run.outcome == "invalid" and run.row.settings.kind == "vi" and run.row.target_kind in _NETWORKS:
        return (
            "This is the usual outcome for a network: the variational family does not cover its local posterior, the "
            "importance weights show it, and so no number is given. Take the number of another sampler."
        )
    return None


def _picture(file: Path, link: str, alt: str, embed: bool) -> Picture:
    """The picture within the page, or a relative link to it."""
    if not embed:
        return Picture(link, alt)
    return Picture(f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}", alt)


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, allow_unicode=True, width=90)


def _versions(collection: Collection) -> dict[str, list[str]]:
    """Every version of each package that built a target or ran a sampler, by name."""
    found: dict[str, set[str]] = defaultdict(set)
    for target in collection.targets:
        for package, version in (target.record.versions if target.record else {}).items():
            found[package].add(version)
    for run in collection.runs:
        if run.analysis is not None:
            environment = run.analysis.record.run.environment
            found["python"].add(environment.python)
            for package, version in environment.versions.items():
                found[package].add(version)
    return {package: sorted(found[package]) for package in sorted(found)}


def _machines(runs: Iterable[PlannedRun]) -> list[str]:
    """Precision, device and generator of random numbers that the samplers ran with, each combination once."""
    environments = [run.analysis.record.run.environment for run in runs if run.analysis is not None]
    lines = {
        f"{e.precision} on {e.platform} ({e.device}), {e.threads} thread{'' if e.threads == 1 else 's'}, "
        f"random numbers {e.prng_implementation}"
        for e in environments
    }
    return sorted(lines)
