"""The run folder: run.json and trace.nc."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.artifacts.target import ArtifactRecord
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.schema import PosteriorSettings, Precision, RunSettings, SamplerSettings

RUN_SCHEMA_VERSION = 1
RunStatus = Literal["completed", "budget_exhausted", "diverged", "failed"]
BASELINE = "baseline_error"
"""What rounding may shift λ̂ by, nats: a name in run.json's `tuned`."""
Draws = Shaped[np.ndarray, "chains draws"]


class Environment(ArtifactRecord):
    """What the process ran in, as JAX and the machine reported it, not as it was asked for."""

    precision: Precision
    prng_implementation: str
    platform: str
    device: str
    threads: int
    python: str
    versions: dict[str, str]


class Descent(ArtifactRecord):
    """A short L-BFGS descent on U from w*.

    Attributes:
        delta: δ = U(w*) − min U found, nats, ≥ 0.
        gradient_norm: ‖∇U(w*)‖₂.
        iterations: steps taken.
        distance: ‖w_min − w*‖₂.
    """

    delta: float
    gradient_norm: float
    iterations: int
    distance: float

    def fall(self, localization: float) -> float:
        """Δ = tK(w*) − tK(w_min) in nats, for γ = `localization`: how far tK falls along the descent."""
        return self.delta + 0.5 * localization * self.distance**2


class RunRecord(ArtifactRecord):
    """run.json.

    Attributes:
        status: how the run ended; reason says why when it is not `completed`.
        inverse_temperature, localization, nbeta: β, γ and t = nβ as used.
        tuned: what the sampler chose by itself: step sizes, lengths, curvature, k̂, gap and the like; None is unknown.
        biased: why the sampler's stationary law is not the posterior, or None where it is (in the small-step limit).
        gradients: full-data gradient equivalents by phase, summed over chains; gradient_evaluations the plain count.
        seconds: wall time by phase, and `total` of the run. draws: recorded draws per chain; chains: chains.
        peak_memory_bytes: of the process until the run ended.
    """

    schema_version: int = RUN_SCHEMA_VERSION
    id: str
    target_id: str
    sampler: str
    settings: SamplerSettings
    posterior: PosteriorSettings
    runs: RunSettings
    replicate: int
    seed: int
    precision: Precision
    status: RunStatus
    reason: str | None
    n: int
    d: int
    inverse_temperature: float
    localization: float
    nbeta: float
    chains: int
    draws: int
    tuned: dict[str, float | None]
    biased: str | None
    descent: Descent | None
    gradients: dict[str, float]
    gradient_evaluations: dict[str, int]
    seconds: dict[str, float]
    peak_memory_bytes: int
    environment: Environment
    code: dict[str, str]


@dataclass(frozen=True)
class Trace:
    """The scalars of a run, per chain and draw.

    Attributes:
        draw_kind: markov (chains are Markov chains) or weighted_iid (rows are independent fits, draws are independent
            and carry sample_stats["log_weight"]).
        posterior: `llc` = tK in nats, `loss` = L_n in nats per datum; each (chains, draws), float64.
        sample_stats: what the sampler measured, each (chains, draws); a quantity not measured is absent.
        warmup_posterior, warmup_sample_stats: the same before recording began; may be empty.
        positions: (chains, draws, d) when asked for, else None.
    """

    draw_kind: Literal["markov", "weighted_iid"]
    posterior: dict[str, Draws]
    sample_stats: dict[str, Draws]
    warmup_posterior: dict[str, Draws] = field(default_factory=dict)
    warmup_sample_stats: dict[str, Draws] = field(default_factory=dict)
    positions: Shaped[np.ndarray, "chains draws d"] | None = None


def write_trace(path: Path, trace: Trace, attributes: dict[str, str | int | float]) -> None:
    """Write an ArviZ-readable InferenceData NetCDF file (one group a dictionary, dimensions chain and draw)."""
    import netCDF4

    groups: dict[str, dict[str, Any]] = {
        "posterior": dict(trace.posterior),
        "sample_stats": trace.sample_stats,
        "warmup_posterior": trace.warmup_posterior,
        "warmup_sample_stats": trace.warmup_sample_stats,
    }
    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.draw_kind = trace.draw_kind
        for name, value in sorted(attributes.items()):
            file.setncattr(name, value)
        for group_name, variables in groups.items():
            if not variables:
                continue
            group = file.createGroup(group_name)
            chains, draws = next(iter(variables.values())).shape
            group.createDimension("chain", chains)
            group.createDimension("draw", draws)
            for dimension, size in (("chain", chains), ("draw", draws)):
                group.createVariable(dimension, "i8", (dimension,))[:] = np.arange(size)
            for name, values in variables.items():
                stored = values.astype("i1") if values.dtype == bool else values
                variable = group.createVariable(name, stored.dtype, ("chain", "draw"), zlib=True)
                if values.dtype == bool:
                    variable.dtype_of_origin = "bool"
                variable[:] = stored
            if group_name == "posterior" and trace.positions is not None:
                group.createDimension("parameter", trace.positions.shape[2])
                dimensions = ("chain", "draw", "parameter")
                group.createVariable("w", trace.positions.dtype, dimensions, zlib=True)[:] = trace.positions


def read_trace(path: Path) -> Trace:
    """Read a trace written by write_trace.

    Raises:
        UserError: when the file is missing or no trace.
    """
    import netCDF4

    if not path.is_file():
        raise UserError(f"{path}: missing; run the sampler again")
    try:
        with netCDF4.Dataset(path, "r") as file:
            file.set_auto_mask(False)
            groups: dict[str, dict[str, np.ndarray]] = {}
            positions = None
            for group_name in ("posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats"):
                groups[group_name] = {}
                if group_name not in file.groups:
                    continue
                for name, variable in file.groups[group_name].variables.items():
                    if name in ("chain", "draw"):
                        continue
                    values = np.asarray(variable[:])
                    if values.ndim == 3:
                        positions = values
                    else:
                        is_bool = "dtype_of_origin" in variable.ncattrs()
                        groups[group_name][name] = values.astype(bool) if is_bool else values
            return Trace(draw_kind=file.getncattr("draw_kind"), positions=positions, **groups)
    except (OSError, AttributeError, KeyError) as error:
        raise UserError(f"{path}: not a readable trace ({error}); run the sampler again") from error


class RunFolder:
    """A run on disk.

    Attributes:
        path: the folder.
        record: run.json.
    """

    def __init__(self, path: Path):
        """Open `path`.

        Raises:
            UserError: when it is no run folder or its version is another.
        """
        if not path.is_dir():
            raise UserError(f"{path}: no run folder there; give the folder that sample wrote")
        self.path = path
        self.record = read_record(path / "run.json", RunRecord)
        if self.record.schema_version != RUN_SCHEMA_VERSION:
            raise UserError(
                f"{path / 'run.json'}: schema_version is {self.record.schema_version}, "
                f"this program reads {RUN_SCHEMA_VERSION}; run the sampler again"
            )

    def trace(self) -> Trace | None:
        """The trace, or None for a run that failed before it drew anything."""
        file = self.path / "trace.nc"
        if self.record.status == "failed" and not file.exists():
            return None
        return read_trace(file)
