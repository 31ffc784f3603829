"""The networks that several cases sample, planned and built as the pipeline does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from stages import PROJECT, Planned, prepare

SHORT = {"warmup": 60}
"""A warm-up that leaves most of a small budget to the draws, where only their rate is asked for."""


def with_samplers(name: str, samplers: Sequence[Mapping[str, object]], **runs: object) -> str:
    """The committed experiment `name` with these samplers, and settings of the runs that differ, as YAML."""
    text = (PROJECT / "conf" / "experiments" / f"{name}.yml").read_text(encoding="utf-8")
    experiment = yaml.safe_load(text)
    experiment["samplers"] = [dict(sampler) for sampler in samplers]
    experiment["runs"] |= runs
    return yaml.safe_dump(experiment)


def network(name: str, precision: str, sampler: Mapping[str, object], **runs: object) -> str:
    """The committed experiment `name` with HMC alone in one precision, and with settings of its own, as YAML."""
    return with_samplers(name, [{"kind": "hmc", "precision": precision, **sampler}], **runs)


def planned_network(name: str, precision: str, folder: Path, sampler: Mapping[str, object], **runs: object) -> Planned:
    """`network`, planned and built in `folder`."""
    folder.mkdir()
    return prepare(network(name, precision, sampler, **runs), folder)
