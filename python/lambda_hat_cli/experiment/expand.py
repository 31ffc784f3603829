"""An experiment's targets × posteriors × samplers × replicates as rows, with overrides applied."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from lambda_hat_cli.experiment.identity import derive_seed, pack_id, run_id, target_id
from lambda_hat_cli.experiment.packs import packed_runs, packed_targets
from lambda_hat_cli.experiment.problems import Problem, hint_and_allowed, join_path, problems_of, refuse
from lambda_hat_cli.experiment.rows import RunRow, TargetRow
from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    Experiment,
    FileData,
    MlpModel,
    Model,
    Override,
    PosteriorGrid,
    PosteriorSettings,
    PythonModel,
    RunSettings,
    RunsSection,
    SamplerEntry,
    SamplerSettings,
    Strict,
    SuperpositionModel,
    TargetEntry,
    TargetSpec,
)
from lambda_hat_cli.experiment.user_files import OwnFiles

_NO_FILES = OwnFiles(paths={}, digests={}, n=None)


class RunPlan(Strict):
    """What one sampler does on one target once the overrides are applied."""

    settings: SamplerSettings
    posterior: PosteriorGrid
    runs: RunsSection


@dataclass(frozen=True)
class Rows:
    """The plan's rows."""

    targets: tuple[TargetRow, ...]
    runs: tuple[RunRow, ...]


def expand(
    experiment: Experiment,
    *,
    where: str,
    files: Mapping[str, OwnFiles],
    build_code: Mapping[str, str],
    sample_code: Mapping[str, str],
) -> Rows:
    """All rows of an experiment, targets and runs in the order of the file.

    Args:
        experiment: the validated file.
        where: the file's name, for messages.
        files: the user's files that each target is made of, by target name; those without have no item.
        build_code: the sources of the building stage, sha256 by module.
        sample_code: the sources of the sampling stage, sha256 by module.

    Raises:
        UserError: when an override fits nothing or sets what cannot be set, or two rows have the same content.
    """
    targets = packed_targets(
        [
            row
            for entry in experiment.targets
            for row in _target_rows(entry, experiment.seed, files.get(entry.name, _NO_FILES), build_code)
        ]
    )
    lines = _same_content([(row.id, f'targets "{row.name}"') for row in targets]) + _same_names(targets)
    lines += [
        line
        for position, override in enumerate(experiment.overrides)
        for line in _misfits(position, override, targets, experiment.samplers)
    ]
    if lines:
        raise refuse(where, lines)
    runs: list[RunRow] = []
    sizes: list[int] = []
    labels: list[tuple[str, str]] = []
    for target in targets:
        for sampler in experiment.samplers:
            try:
                plan = plan_run(experiment, target, sampler)
            except OverrideError as problems:
                lines += problems.lines
                continue
            for row in _run_rows(plan, target, sampler, experiment.seed, sample_code):
                runs.append(row)
                sizes.append(plan.runs.pack)
                labels.append((row.id, _label(row)))
    lines += _same_content(labels)
    if lines:
        # The checkpoints of a training are told the same.
        raise refuse(where, list(dict.fromkeys(lines)))
    return Rows(targets, packed_runs(runs, sizes))


class OverrideError(Exception):
    """The overrides of one target and sampler do not validate; `lines` say why."""

    def __init__(self, lines: list[str]):
        super().__init__("; ".join(lines))
        self.lines = lines


def plan_run(experiment: Experiment, target: TargetRow, sampler: SamplerEntry) -> RunPlan:
    """What `sampler` does on `target`: the file's settings with the matching overrides applied in order, later wins.

    Raises:
        OverrideError: when an override sets a key that does not exist here, or a value that is not allowed.
    """
    raw = {
        "settings": sampler.settings.model_dump(),
        "posterior": experiment.posterior.model_dump(),
        "runs": experiment.runs.model_dump(),
    }
    origin: dict[tuple[str | int, ...], tuple[int, str]] = {}
    lines = []
    for position, override in enumerate(experiment.overrides):
        if not _fits(override, target, sampler):
            continue
        for key, value in override.set.items():
            path = _setting_path(key)
            complaint = _cannot_set(path, sampler)
            if complaint:
                lines.append(f"overrides[{position}] set: {complaint}")
                continue
            section: Any = raw
            for part in path[:-1]:
                section = section[part]
            section[path[-1]] = value
            origin[path] = (position, key)
    if lines:
        raise OverrideError(lines)
    try:
        return RunPlan.model_validate(raw)
    except ValidationError as error:
        found = problems_of(error, RunPlan, raw)
        raise OverrideError([_override_line(problem, origin, target, sampler) for problem in found]) from None


def parameter_count(model: Model) -> int | None:
    """The number of parameters d, or None where only the built target knows it. Layer normalisation has none."""
    if isinstance(model, MlpModel | DeepLinearModel):
        bias = isinstance(model, MlpModel) and model.bias
        return sum((inputs + bias) * outputs for inputs, outputs in itertools.pairwise(model.widths))
    if isinstance(model, PythonModel):
        return None
    if isinstance(model, SuperpositionModel):
        return 3 * model.inputs
    return len(model.curvatures if model.kind == "quadratic" else model.exponents)


def _data_points(spec: TargetSpec, own: OwnFiles) -> int | None:
    """The number of data points, or None where only the built target knows it."""
    if spec.rows is not None:
        return spec.rows[1] - spec.rows[0]
    return own.n if spec.data is None or isinstance(spec.data, FileData) else spec.data.n


def _target_rows(entry: TargetEntry, seed: int, own: OwnFiles, code: Mapping[str, str]) -> Iterable[TargetRow]:
    row_seed = derive_seed(seed if entry.seed is None else entry.seed, "targets")
    for spec in entry.spec.each():
        identity = target_id(spec, row_seed, own.digests)
        name, step = entry.name, entry.step
        if entry.spec.train is not None and entry.spec.train.checkpoints is not None and spec.train is not None:
            name, step = f"{entry.name}-step-{spec.train.steps}", spec.train.steps
        yield TargetRow(
            id=identity,
            name=name,
            entry=entry.group or entry.name,
            step=step,
            varied=entry.varied,
            folder=f"{name}-{identity[:8]}",
            spec=spec,
            seed=row_seed,
            files=own.digests,
            d=parameter_count(spec.model) if spec.restrict is None else None,
            n=_data_points(spec, own),
            code=dict(code),
            pack=pack_id([identity]),
        )


def _run_rows(
    plan: RunPlan, target: TargetRow, sampler: SamplerEntry, seed: int, code: Mapping[str, str]
) -> Iterable[RunRow]:
    runs = RunSettings.model_validate(plan.runs.model_dump(include=set(RunSettings.model_fields)))
    temperatures, localizations = _values(plan.posterior.inverse_temperature), _values(plan.posterior.localization)
    for temperature, localization in itertools.product(temperatures, localizations):
        posterior = PosteriorSettings(inverse_temperature=temperature, localization=localization)
        for replicate in range(plan.runs.replicates):
            identity = run_id(target.id, plan.settings, posterior, runs, replicate, seed)
            yield RunRow(
                id=identity,
                folder=f"{target.name}-{sampler.name}-{identity[:8]}",
                target=target.name,
                target_id=target.id,
                target_kind=target.spec.model.kind,
                sampler=sampler.name,
                settings=plan.settings,
                posterior=posterior,
                runs=runs,
                replicate=replicate,
                seed=derive_seed(seed, "run", identity),
                precision=plan.settings.precision,
                d=target.d,
                n=target.n,
                device=plan.runs.device,
                code=dict(code),
                pack=pack_id([identity]),
            )


def _values(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _label(row: RunRow) -> str:
    posterior = f"β {row.posterior.inverse_temperature}, γ {row.posterior.localization:g}"
    return f'runs "{row.target}" × "{row.sampler}" ({posterior}, replicate {row.replicate})'


def _same_content(labelled: Iterable[tuple[str, str]]) -> list[str]:
    first: dict[str, str] = {}
    lines = []
    for identity, label in labelled:
        if identity in first:
            lines.append(f"{first[identity]} and {label.split(' ', 1)[1]} have identical content; remove one of them")
        first.setdefault(identity, label)
    return lines


def _same_names(targets: Sequence[TargetRow]) -> list[str]:
    """Where a checkpoint's name is that of another target. Entries of one name are refused before."""
    entry_of: dict[str, str] = {}
    lines = []
    for target in targets:
        other = entry_of.setdefault(target.name, target.entry)
        if other != target.entry:
            lines.append(
                f'targets "{other}" and "{target.entry}" both have a target "{target.name}"; rename one of them'
            )
    return lines


def _fits(override: Override, target: TargetRow, sampler: SamplerEntry) -> bool:
    match = override.match
    return (
        match.target in (None, target.entry, target.name)
        and match.target_kind in (None, target.spec.model.kind)
        and match.sampler in (None, sampler.name)
    )


def _misfits(
    position: int, override: Override, targets: Sequence[TargetRow], samplers: Sequence[SamplerEntry]
) -> list[str]:
    """Why an override matches nothing, if it does not."""
    names: dict[str, list[str]] = {
        "target": list(dict.fromkeys(name for target in targets for name in (target.entry, target.name))),
        "target_kind": list(dict.fromkeys(str(target.spec.model.kind) for target in targets)),
        "sampler": [sampler.name for sampler in samplers],
    }
    wanted = {key: value for key, value in override.match.model_dump().items() if value is not None}
    lines = [
        f'overrides[{position}] match.{key}: "{value}" matches nothing here{hint_and_allowed(value, names[key])}'
        for key, value in wanted.items()
        if value not in names[key]
    ]
    if not lines and not any(_fits(override, t, s) for t in targets for s in samplers):
        lines.append(
            f'overrides[{position}] match: target "{override.match.target}" is not of kind '
            f'"{override.match.target_kind}", so nothing matches; leave one of them out'
        )
    return lines


def _setting_path(key: str) -> tuple[str, ...]:
    parts = tuple(key.split("."))
    return parts if parts[0] in ("posterior", "runs") else ("settings", *parts)


def _cannot_set(path: tuple[str, ...], sampler: SamplerEntry) -> str | None:
    """Why no override can set this path, or None."""
    section, *keys = path
    if not keys:
        example = "posterior.localization" if section == "posterior" else "runs.tolerance"
        return f'"{section}" is a section; set its keys, such as {example}'
    model: Any = {"settings": type(sampler.settings), "posterior": PosteriorGrid, "runs": RunsSection}[section]
    if section == "settings" and keys[0] in ("kind", "name"):
        return f'"{keys[0]}" cannot be set; list another sampler instead'
    for depth, key in enumerate(keys):
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        allowed = [name for name in fields if name != "kind"]
        if key not in allowed:
            kind = f'sampler "{sampler.name}" (kind {sampler.settings.kind})'
            owner = kind if section == "settings" else join_path(path[: depth + 1])
            missing = join_path(keys[: depth + 1]) if section == "settings" else key
            return f'{owner} has no key "{missing}"{hint_and_allowed(key, allowed) if allowed else ""}'
        model = fields[key].annotation
    return None


def _override_line(
    problem: Problem,
    origin: Mapping[tuple[str | int, ...], tuple[int, str]],
    target: TargetRow,
    sampler: SamplerEntry,
) -> str:
    """A validation problem told in terms of the override that brought it."""
    path = problem.path[1:] if problem.path[:1] == ("settings",) else problem.path
    for length in range(len(problem.path), 0, -1):
        if problem.path[:length] in origin:
            position, key = origin[problem.path[:length]]
            rest = join_path(problem.path[length:])
            return f"overrides[{position}] set.{key}{'.' if rest and rest[0] != '[' else ''}{rest}: {problem.text}"
    positions = sorted({position for position, _ in origin.values()})
    which = " and ".join(f"overrides[{position}]" for position in positions)
    place = f"{join_path(path)}: " if path else ""
    return f'{which} on target "{target.entry}", sampler "{sampler.name}": {place}{problem.text}'
