"""From an experiment file and `--set` to a validated Experiment, or one message with everything that is wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lambda_hat_cli.experiment.assignments import assign
from lambda_hat_cli.experiment.document import read_document
from lambda_hat_cli.experiment.entries import expand_entries
from lambda_hat_cli.experiment.problems import Key, Problem, hint_and_allowed, join_path, problems_of, refuse
from lambda_hat_cli.experiment.schema import Experiment, TargetSpec

_ENTRIES = {"targets": "spec", "samplers": "settings"}
_BESIDE = {"targets": ("name", "group", "seed", "step", "varied"), "samplers": ("name",)}
"""What an entry holds beside that: names, and a target's own seed."""


def load_experiment(path: Path, assignments: str = "") -> Experiment:
    """The experiment in `path`, changed by the assignments of `--set`.

    Raises:
        UserError: one message that lists every problem of the file and of the assignments.
    """
    document = read_document(path)
    changed = assign(document, assignments)
    folder = path.resolve().parent
    experiment, lines = _validate(changed, folder)
    if experiment is not None:
        return experiment
    if assignments.strip():
        before = set(_validate(document, folder)[1])
        lines = [line if line in before else f"after --set: {line}" for line in lines]
    raise refuse(str(path), lines)


def _validate(document: dict[str, Any], folder: Path) -> tuple[Experiment | None, list[str]]:
    """The experiment, or None and a sentence for each problem; `folder` is the file's."""
    given = {key: value for key, value in document.items() if value is not None or key in _ENTRIES}
    origin: tuple[int, ...] = ()
    lines: list[str] = []
    if isinstance(targets := document.get("targets"), list):
        expanded = expand_entries(targets, folder)
        given["targets"], origin = list(expanded.entries), expanded.origin
        lines = [f"{_entry('targets', place, targets[place])}: {text}" for place, text in expanded.problems]
    nested = {key: _nest(key, value) for key, value in given.items()}
    try:
        experiment = Experiment.model_validate(nested)
    except ValidationError as error:
        found = [
            f"{place}: {text}" if (place := _place(problem.path, nested, origin)) else text
            for problem in problems_of(error, Experiment, nested)
            for text in [_text(problem, nested)]
            if not (problem.path == ("targets",) and lines)
        ]
        # What came of one entry is told the same.
        return None, lines + list(dict.fromkeys(found))
    lines += _repeated_names(experiment, origin)
    return (None, lines) if lines else (experiment, [])


def _nest(key: str, value: Any) -> Any:
    """Part an entry's name, which is in no identity, from what it names."""
    if key not in _ENTRIES or not isinstance(value, list):
        return value
    return [_nest_entry(key, entry) for entry in value]


def _nest_entry(key: str, entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    apart = _BESIDE[key]
    content = {name: value for name, value in entry.items() if name not in apart}
    nested = {name: entry[name] for name in apart if name in entry}
    if key == "samplers" and "name" not in entry:
        # The kind itself is complained about where it is wrong, so the name only has to be a valid one.
        kind = entry.get("kind")
        nested = {"name": kind if isinstance(kind, str) and kind.isidentifier() and kind.isascii() else "sampler"}
    return nested | {_ENTRIES[key]: content}


def _place(path: tuple[Key, ...], nested: dict[str, Any], origin: Sequence[int]) -> str:
    """A path as a person writes it: `targets[1] "dln" model.widths[0]`; `origin`: the targets' places in the file."""
    if len(path) < 2 or path[0] not in _ENTRIES:
        return join_path(path)
    section, position, *rest = path
    rest = rest[1:] if rest[:1] == [_ENTRIES[str(section)]] else rest
    place = origin[int(position)] if section == "targets" else int(position)
    entry = nested[str(section)][position]
    return f"{_entry(str(section), place, entry if rest != ['name'] else None)} {join_path(rest)}".strip()


def _entry(section: str, position: int, entry: Any) -> str:
    """An entry as a person finds it: its place in the file and its name there."""
    name = (entry.get("group") or entry.get("name")) if isinstance(entry, dict) else None
    return f'{section}[{position}] "{name}"' if isinstance(name, str) else f"{section}[{position}]"


def _text(problem: Problem, nested: dict[str, Any]) -> str:
    """The problem's sentence, where the file's form differs from the models'."""
    match problem.path:
        case ("samplers", int(position)) if not isinstance(nested["samplers"][position], dict):
            return f"{problem.text.split('; give')[0]}; give a section such as {{kind: hmc}}"
        case ("targets", int(position)) if not isinstance(nested["targets"][position], dict):
            return (
                f"{problem.text.split('; give')[0]}; give a section with name, model and, where needed, data, train, at"
            )
        case ("targets", int(), "spec") if problem.text.startswith("unknown key"):
            key = problem.text.split('"')[1]
            return f'unknown key "{key}"{hint_and_allowed(key, ["name", "seed", "grid", *TargetSpec.model_fields])}'
        case ("targets" | "samplers" as section,):
            example = "{name: …, model: {kind: mlp, widths: […]}}" if section == "targets" else "{kind: hmc}"
            return f"{problem.text.split('; give')[0]}; give a list of at least one, such as {example}"
    return problem.text


def _repeated_names(experiment: Experiment, origin: Sequence[int]) -> list[str]:
    """Names that two entries have, as they stand in the file and, of targets, as they are written out."""
    lines = []
    in_file = dict(zip(origin, (entry.group or entry.name for entry in experiment.targets), strict=True))
    names = {
        "targets": [
            *in_file.items(),
            *(
                (position, entry.name)
                for position, entry in zip(origin, experiment.targets, strict=True)
                if entry.group
            ),
        ],
        "samplers": list(enumerate(sampler.name for sampler in experiment.samplers)),
    }
    for section, entries in names.items():
        first: dict[str, int] = {}
        for position, name in entries:
            if name in first:
                advice = "" if section == "targets" else " (a sampler's name is its kind where it has none)"
                lines.append(
                    f'{section}[{position}]: the name "{name}" is that of {section}[{first[name]}] '
                    f"already; give each a name of its own{advice}"
                )
            first.setdefault(name, position)
    return lines
