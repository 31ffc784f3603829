"""The networks that several cases sample, planned and built as the pipeline does."""

from pathlib import Path

import yaml
from stages import PROJECT, Planned, prepare

SHORT = {"warmup": 60}
"""A warm-up that leaves most of a small budget to the draws, where only their rate is asked for."""


def network(name: str, precision: str, sampler: dict[str, object], **runs: object) -> str:
    """The committed experiment `name` (mlp1k, mlp10k) with HMC alone in one precision, as YAML.

    `sampler` and `runs` are settings of HMC and of the runs that differ from the experiment's.
    """
    text = (PROJECT / "conf" / "experiments" / f"{name}.yml").read_text(encoding="utf-8")
    experiment = yaml.safe_load(text)
    experiment["samplers"] = [{"kind": "hmc", "precision": precision, **sampler}]
    experiment["runs"] |= runs
    return yaml.safe_dump(experiment)


def planned_network(name: str, precision: str, folder: Path, sampler: dict[str, object], **runs: object) -> Planned:
    """`network`, planned and built in `folder`."""
    folder.mkdir()
    return prepare(network(name, precision, sampler, **runs), folder)
