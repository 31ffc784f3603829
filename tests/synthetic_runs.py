"""Run and target folders with draws of known law, as sample and build-target would have written them."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lambda_hat_cli.artifacts.run import Descent, Environment, RunRecord, Trace, write_trace
from lambda_hat_cli.artifacts.store import write_record
from lambda_hat_cli.artifacts.target import TargetRecord
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.experiment.schema import (
    HmcSettings,
    MclmcSettings,
    PosteriorSettings,
    RunSettings,
    SamplerSettings,
    SgldSettings,
    TargetSpec,
    ViSettings,
)
from lambda_hat_cli.truth.assign import truth_for

SETTINGS: dict[str, SamplerSettings] = {
    "hmc": HmcSettings(kind="hmc"),
    "mclmc": MclmcSettings(kind="mclmc"),
    "sgld": SgldSettings(kind="sgld"),
    "vi": ViSettings(kind="vi"),
}
NBETA = 1000 / np.log(1000)
QUADRATIC = TargetSpec.model_validate({"model": {"kind": "quadratic", "curvatures": [1.0] * 20}})


def autoregressive(chains: int, draws: int, rho: float, mean: float, sd: float, seed: int) -> np.ndarray:
    """Stationary AR(1) chains of exactly known mean and standard deviation, (chains, draws)."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, draws))
    x[:, 0] = rng.normal(size=chains)
    noise = np.sqrt(1 - rho**2) * rng.normal(size=(chains, draws))
    for draw in range(1, draws):
        x[:, draw] = rho * x[:, draw - 1] + noise[:, draw]
    return mean + sd * x


def markov_trace(llc: np.ndarray, seed: int = 0, d: int = 20, **stats: np.ndarray) -> Trace:
    """A trace around the given tK with the statistics of a healthy HMC run; `stats` replaces or adds."""
    rng = np.random.default_rng(seed)
    shape = llc.shape
    healthy = {
        "energy": llc + 0.5 * rng.chisquare(d, shape),
        "acceptance_rate": np.clip(rng.normal(0.9, 0.05, shape), 0, 1),
        "step_size": np.full(shape, 0.01),
        "diverging": np.zeros(shape, dtype=bool),
        "gradients": np.full(shape, 10.0),
        "virial": 1 + rng.normal(size=shape) * np.sqrt(2 / d),
        "distance_squared": rng.chisquare(d, shape) / 145,
    }
    warmup = np.linspace(0, 1, llc[:, :60].shape[1]) * llc[:, :60]
    return Trace(
        draw_kind="markov",
        posterior={"llc": llc, "loss": llc / NBETA},
        sample_stats={**healthy, **stats},
        warmup_posterior={"llc": warmup},
    )


def weighted_trace(scale: float, draws: int = 2000, d: int = 5, seed: int = 0) -> Trace:
    """Two fits of a d-dimensional unit Gaussian posterior with U = tK = ‖z‖²/2 by a Gaussian of another scale."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(2, draws, d))
    llc = 0.5 * np.sum(z**2, axis=2)
    log_weight = -llc + 0.5 * np.sum((z / scale) ** 2, axis=2) + d * np.log(scale)
    return Trace(
        draw_kind="weighted_iid", posterior={"llc": llc, "loss": llc / NBETA}, sample_stats={"log_weight": log_weight}
    )


@dataclass
class Case:
    """One run to be written; the ids fit together unless replaced."""

    sampler: str = "hmc"
    spec: TargetSpec = QUADRATIC
    d: int = 20
    trace: Trace | None = None
    run: dict[str, object] = field(default_factory=dict)
    row: dict[str, object] = field(default_factory=dict)


def run_record(case: Case) -> RunRecord:
    settings = SETTINGS[case.sampler]
    chains, draws = (0, 0) if case.trace is None else case.trace.posterior["llc"].shape
    recorded = 0.0
    if case.trace is not None and "gradients" in case.trace.sample_stats:
        recorded = float(case.trace.sample_stats["gradients"].sum())
    facts: dict[str, object] = {
        "id": "0123456789abcdef",
        "target_id": "fedcba9876543210",
        "sampler": case.sampler,
        "settings": settings,
        "posterior": PosteriorSettings(),
        "runs": RunSettings(),
        "replicate": 0,
        "seed": 1,
        "precision": settings.precision,
        "status": "completed",
        "reason": None,
        "n": 1000,
        "d": case.d,
        "inverse_temperature": 1 / np.log(1000),
        "localization": 1.0,
        "nbeta": NBETA,
        "chains": chains,
        "draws": draws,
        "tuned": {"extrapolation": 1 / 3} if case.sampler in ("sgld", "mclmc") else {},
        "biased": None,
        "descent": Descent(delta=0.0, gradient_norm=0.0, iterations=1, distance=0.0),
        "gradients": {"descent": 20.0, "warmup": 4000.0, "sampling": recorded},
        "gradient_evaluations": {"warmup": 4000, "sampling": int(recorded)},
        "seconds": {"load": 0.5, "warmup": 1.0, "sampling": 4.0, "total": 6.0},
        "peak_memory_bytes": 10**8,
        "environment": Environment(
            precision=settings.precision,
            prng_implementation="threefry2x32",
            platform="cpu",
            device="cpu",
            threads=1,
            python="3.11",
            versions={},
        ),
        "code": {},
    }
    return RunRecord(**{**facts, **case.run})


def target_record(case: Case) -> TargetRecord:
    return TargetRecord(
        id="fedcba9876543210",
        name="toy",
        spec=case.spec,
        seed=0,
        likelihood="own",
        scale=None,
        n=1000,
        d=case.d,
        loss_at_w_star=0.0,
        gradient_norm=0.0,
        held_out_loss=None,
        training=None,
        truth=truth_for(case.spec),
        versions={},
        code={},
        checksums={},
    )


def run_row(case: Case) -> RunRow:
    settings = SETTINGS[case.sampler]
    facts: dict[str, object] = {
        "id": "0123456789abcdef",
        "folder": f"toy-{case.sampler}-01234567",
        "target": "toy",
        "target_id": "fedcba9876543210",
        "target_kind": case.spec.model.kind,
        "sampler": case.sampler,
        "settings": settings,
        "posterior": PosteriorSettings(),
        "runs": RunSettings(),
        "replicate": 0,
        "seed": 1,
        "precision": settings.precision,
        "d": case.d,
        "n": 1000,
        "code": {},
        "pack": "00112233445566aa",
    }
    return RunRow(**{**facts, **case.row})


def write_case(folder: Path, case: Case, code: dict[str, str]) -> list[str]:
    """Write runs, target, rows.jsonl and stages.json under `folder`; the arguments of analyze, less --out."""
    row = run_row(case)
    run, target = folder / "runs" / row.id, folder / "target"
    run.mkdir(parents=True)
    target.mkdir()
    write_record(run / "run.json", run_record(case))
    if case.trace is not None:
        write_trace(run / "trace.nc", case.trace, {})
    data = target / "data.npz"
    np.savez(data)
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    write_record(target / "target.json", target_record(case).model_copy(update={"checksums": {"data.npz": digest}}))
    (folder / "rows.jsonl").write_text(row.model_dump_json() + "\n")
    (folder / "stages.json").write_text(json.dumps({"analyze": code}))
    return [
        *("--rows", str(folder / "rows.jsonl")),
        *("--runs", str(folder / "runs")),
        *("--target", str(target)),
        *("--stages", str(folder / "stages.json")),
    ]
