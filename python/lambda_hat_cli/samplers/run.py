"""One run from row and target to draws and record: posterior, descent, sampler; from folder to folder or in memory."""

import math
import os
import platform
import resource
import sys
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from lambda_hat_cli.artifacts.run import Descent, Environment, RunRecord, Trace, write_trace
from lambda_hat_cli.artifacts.store import new_folder, write_record
from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.experiment.schema import HmcSettings, MclmcSettings, Precision, ViSettings
from lambda_hat_cli.posterior.local import LocalPosterior, local_posterior, resolve_inverse_temperature
from lambda_hat_cli.samplers.adjusted import AdjustedMclmcSampler
from lambda_hat_cli.samplers.base import AbstractMarkovSampler, Deadline, GradientLedger, Say
from lambda_hat_cli.samplers.descent import descend
from lambda_hat_cli.samplers.driver import MarkovRun, Stopwatch, run_markov
from lambda_hat_cli.samplers.hmc import HmcSampler
from lambda_hat_cli.samplers.mclmc import MclmcSampler
from lambda_hat_cli.samplers.sgld import SgldSampler
from lambda_hat_cli.targets.load import LoadedTarget, load_target

PACKAGES = ("equinox", "jax", "jaxlib", "netCDF4", "numpy", "optax", "scipy")


def sample(row: RunRow, target: Path, out: Path, say: Say, leave_by: float = math.inf) -> RunRecord:
    """Run the sampler of `row` on the target in folder `target` and write the run folder `out`.

    A run that diverges or runs out of budget is a result: its status and reason are in run.json. Of several runs in one
    process each has its own seconds; the first one's hold what they share, loading and compiling.

    Args:
        leave_by: when the process must end, as a value of time.monotonic().

    Returns:
        What run.json says.

    Raises:
        UserError: when `out` exists, the target folder is damaged or another one, the process has not the row's
            precision or device, or it must end before the run has begun.
    """
    began = time.monotonic()
    _check_precision(row)
    _check_device(row)
    if began >= leave_by:
        raise UserError(
            f"run {row.id} ({row.folder}) was not begun: the task's time limit left it no time. Let fewer runs "
            "share a process (runs.pack), or give --max_time more, where that bounds it, and start without -resume"
        )
    with new_folder(out) as draft:
        stopwatch = Stopwatch()
        with stopwatch.phase("load"):
            loaded = _open(row, target)
        record, trace = sample_loaded(row, loaded, began, stopwatch, say, leave_by)
        write_trace(draft / "trace.nc", trace, {"run_id": row.id})
        write_record(draft / "run.json", record)
    say(f"{record.status}{f': {record.reason}' if record.reason else ''}")
    return record


def sample_loaded(
    row: RunRow, loaded: LoadedTarget, began: float, stopwatch: Stopwatch, say: Say, leave_by: float = math.inf
) -> tuple[RunRecord, Trace]:
    """Run the sampler of `row` on a target in memory, whose arrays have the row's precision.

    Args:
        began: when the run's budget of seconds and its total began, as a value of time.monotonic().
        stopwatch: takes the seconds of each phase.
        leave_by: when the process must end, as a value of time.monotonic().

    Returns:
        The record and the draws that a run folder holds.
    """
    deadline = Deadline(began + row.runs.budget.seconds)
    if leave_by < deadline.at:
        remedy = "give --max_time more and start without -resume, which keeps what ended so"
        deadline = Deadline(leave_by, "the task's time limit", remedy)
    ledger = GradientLedger(row.runs.budget.gradients, deadline=deadline)
    with stopwatch.phase("load"):
        beta = resolve_inverse_temperature(row.posterior.inverse_temperature, loaded.n)
        posterior = local_posterior(loaded, beta, row.posterior.localization)
    ledger.add("descent", 1)
    with stopwatch.phase("descent"):
        descent = descend(posterior, ledger)
    outcome = _draw(row, posterior, descent, ledger, stopwatch, say)
    stopwatch.seconds["total"] = time.monotonic() - began
    return _record(row, posterior, beta, descent, outcome, ledger, stopwatch), outcome.trace


def run_key(seed: int) -> PRNGKeyArray:
    """The run's key, the same in both precisions: JAX takes 32 bits of a seed at a time where x64 is off."""
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    return jax.random.fold_in(jax.random.key(low, impl="threefry2x32"), high)


def seen_precision() -> Precision:
    """The default floating-point precision that JAX has in this process."""
    return "float64" if jnp.zeros(()).dtype == np.float64 else "float32"


def _check_precision(row: RunRow) -> None:
    seen = seen_precision()
    if row.precision != seen:
        raise UserError(
            f"run {row.id} ({row.folder}) asks for precision {row.precision}, but this lane runs JAX in {seen}; "
            f"start it in the {row.precision} lane (JAX_ENABLE_X64={int(row.precision == 'float64')})"
        )


def _check_device(row: RunRow) -> None:
    seen = jax.devices()[0].platform
    if row.device not in ("auto", seen):
        raise UserError(
            f'run {row.id} ({row.folder}) asks for runs.device "{row.device}", but JAX runs on the {seen} here: '
            "-profile gpu gives runs a GPU, and leaves those that ask for the cpu there"
        )


@lru_cache(maxsize=1)
def _loaded(target: Path, precision: Precision) -> tuple[str, LoadedTarget]:
    """A target's id and the target itself: one object for all runs of a process, so that compiled functions fit."""
    folder = TargetFolder(target)
    return folder.record.id, load_target(folder, precision)


def _open(row: RunRow, target: Path) -> LoadedTarget:
    identity, loaded = _loaded(target, row.precision)
    if identity != row.target_id:
        raise UserError(
            f"{target}: holds target {identity}, but run {row.id} is planned for {row.target_id}; "
            "give the folder of that target"
        )
    return loaded


def _draw(
    row: RunRow,
    posterior: LocalPosterior,
    descent: Descent | None,
    ledger: GradientLedger,
    stopwatch: Stopwatch,
    say: Say,
) -> MarkovRun:
    key = run_key(row.seed)
    fall = 0.0 if descent is None else descent.fall(row.posterior.localization)
    if isinstance(row.settings, ViSettings):
        with stopwatch.phase("load"):
            from lambda_hat_cli.samplers.vi import fit_and_draw  # other samplers need not wait for Optax
        with stopwatch.phase("sampling"):
            fitted = fit_and_draw(posterior, row.settings, key, row.runs, ledger, fall, say)
        return MarkovRun(fitted.trace, fitted.tuned, None, fitted.status, fitted.reason)
    sampler: AbstractMarkovSampler
    if isinstance(row.settings, HmcSettings):
        sampler = HmcSampler(row.settings)
    elif isinstance(row.settings, MclmcSettings):
        sampler = AdjustedMclmcSampler(row.settings) if row.settings.adjusted else MclmcSampler(row.settings)
    else:
        sampler = SgldSampler(row.settings)
    return run_markov(sampler, posterior, key, row.runs, ledger, stopwatch, fall, say)


def _record(
    row: RunRow,
    posterior: LocalPosterior,
    beta: float,
    descent: Descent | None,
    outcome: MarkovRun,
    ledger: GradientLedger,
    stopwatch: Stopwatch,
) -> RunRecord:
    chains, draws = outcome.trace.posterior["llc"].shape
    return RunRecord(
        id=row.id,
        target_id=row.target_id,
        sampler=row.sampler,
        settings=row.settings,
        posterior=row.posterior,
        runs=row.runs,
        replicate=row.replicate,
        seed=row.seed,
        precision=row.precision,
        status=outcome.status,
        reason=outcome.reason,
        n=posterior.n,
        d=posterior.d,
        inverse_temperature=beta,
        localization=row.posterior.localization,
        nbeta=posterior.n * beta,
        chains=chains,
        draws=draws,
        tuned={
            name: value if value is not None and math.isfinite(value) else None for name, value in outcome.tuned.items()
        },
        biased=outcome.biased,
        descent=descent,
        gradients=dict(ledger.equivalents),
        gradient_evaluations=dict(ledger.evaluations),
        seconds=stopwatch.seconds,
        # Kilobytes on Linux, bytes on macOS.
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        environment=_environment(),
        code=row.code,
    )


def _environment() -> Environment:
    device = jax.devices()[0]
    return Environment(
        precision=seen_precision(),
        prng_implementation=str(jax.config.values["jax_default_prng_impl"]),
        platform=device.platform,
        device=device.device_kind,
        threads=int(os.environ.get("NPROC") or len(os.sched_getaffinity(0))),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
    )
