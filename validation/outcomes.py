"""A results folder of the pipeline as outcomes that the claims judge, with the design that each family has."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from judge import Outcome

from lambda_hat_cli.artifacts.analysis import AnalysisFolder, AnalysisRecord
from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.artifacts.target import TargetRecord
from lambda_hat_cli.experiment.schema import (
    DeepLinearModel,
    MlpModel,
    NormalCrossingModel,
    PythonModel,
    QuadraticModel,
    TeacherData,
)


@dataclass(frozen=True)
class Family:
    """What a table says of a target beside its name."""

    design: str
    n: int | None
    d: int | None
    seed: int | None


def read_table(results: Path) -> list[dict[str, str]]:
    """The lines of results.csv: every run that was planned."""
    return read_rows(results / "summary" / "results.csv")


def read_rows(file: Path) -> list[dict[str, str]]:
    """The lines of a CSV file by its heads."""
    with file.open(encoding="utf-8", newline="") as cells:
        return list(csv.DictReader(cells))


def read_outcomes(results: Path) -> Iterator[Outcome]:
    """Every run that was planned, in the order of results.csv.

    The table says which runs have a verdict: an analysis in a folder that was used before may be of an earlier start.
    """
    for row in read_table(results):
        if row["verdict"]:
            yield outcome_of(AnalysisFolder(results / "runs" / row["folder"]).record)
        else:
            yield missing(row["target"], row["sampler"])


def outcome_of(record: AnalysisRecord) -> Outcome:
    """What the claims need of one analysis.json."""
    limit = record.truth.coefficient
    return Outcome(
        target=record.target,
        sampler=record.sampler,
        verdict=record.verdict,
        status=record.run.status,
        minimum=record.minimum,
        llc=record.llc,
        low=record.llc_low,
        high=record.llc_high,
        reference=record.finite_t.value,
        reference_se=record.finite_t.se or 0.0,
        limit=None if limit is None else float(Fraction(limit)),
        tolerance=record.run.runs.tolerance,
        claimed=record.stated_error,
        gradients=sum(record.run.gradients.values()),
    )


def missing(target: str, sampler: str) -> Outcome:
    """A planned run that failed, or was never made."""
    return Outcome(target, sampler)


def read_families(results: Path) -> dict[str, Family]:
    """The design of every target of results.csv that was built, by its name there."""
    names = {row["target_id"]: row["target"] for row in read_table(results)}
    records = [read_record(path, TargetRecord) for path in sorted(results.glob("targets/*/target.json"))]
    return {
        names[record.id]: Family(design_of(record), record.n, record.d, record.seed)
        for record in records
        if record.id in names
    }


def design_of(record: TargetRecord) -> str:
    """Model, data and w* in a few words."""
    model, data = record.spec.model, record.spec.data
    if isinstance(model, PythonModel):
        return f"{model.function}({', '.join(f'{key}={value}' for key, value in model.arguments.items())})"
    words = [str(model.kind).replace("_", " ")]
    if isinstance(model, MlpModel | DeepLinearModel):
        words.append(str(list(model.widths)))
    if isinstance(model, NormalCrossingModel):
        words.append(str(list(model.exponents)))
    if isinstance(model, QuadraticModel):
        words.append(f"curvatures {min(model.curvatures):g} to {max(model.curvatures):g}")
        words += ["rotated"] if model.rotation else []
    if isinstance(model, MlpModel):
        words.append(model.activation)
    if isinstance(data, TeacherData):
        rank = "" if data.rank is None else f"rank {data.rank}, "
        words.append(f"{rank}inputs {data.inputs.kind}, noise {data.noise.kind}, σ {data.noise.scale:g}")
    if record.spec.train is not None:
        words.append(f"trained {record.spec.train.steps} steps")
    return " ".join(words)
