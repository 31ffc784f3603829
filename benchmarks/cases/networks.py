"""The networks that several cases sample, planned and built as the pipeline does."""

from pathlib import Path

import yaml
from stages import PROJECT, Planned, prepare


def planned_network(name: str, precision: str, folder: Path, **runs: object) -> Planned:
    """The committed experiment `name` (mlp1k, mlp10k) with HMC alone in one precision; `runs` are settings of runs."""
    text = (PROJECT / "conf" / "experiments" / f"{name}.yml").read_text(encoding="utf-8")
    experiment = yaml.safe_load(text)
    experiment["samplers"] = [{"kind": "hmc", "precision": precision}]
    experiment["runs"] |= runs
    folder.mkdir()
    return prepare(yaml.safe_dump(experiment), folder)
