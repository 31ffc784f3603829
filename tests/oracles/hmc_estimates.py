"""HMC's estimate on a loaded target, for tests that compare it with exact values or with another estimate."""

import time

import jax

from lambda_hat_cli.estimate.interval import Estimate, estimate_markov
from lambda_hat_cli.experiment.schema import Budget, HmcSettings, RunSettings
from lambda_hat_cli.posterior.local import local_posterior
from lambda_hat_cli.samplers.base import Deadline, GradientLedger
from lambda_hat_cli.samplers.driver import Stopwatch, run_markov
from lambda_hat_cli.samplers.hmc import HmcSampler
from lambda_hat_cli.targets.load import LoadedTarget
from oracles.silence import silent

# Two-sided 1e-4 is 3.9 standard errors; these are estimated.
BEYOND_CHANCE = 4.5
_HMC = HmcSampler(HmcSettings(kind="hmc", warmup=120))


def hmc_estimate(
    target: LoadedTarget, nbeta: float, localization: float, seed: int, tolerance: float = 0.03
) -> Estimate:
    """The estimate of a run that reached its tolerance, from a million gradients at most."""
    posterior = local_posterior(target, nbeta / target.n, localization)
    ledger = GradientLedger(1_000_000, deadline=Deadline(time.monotonic() + 300))
    runs = RunSettings(tolerance=tolerance, budget=Budget(gradients=1_000_000))
    outcome = run_markov(_HMC, posterior, jax.random.key(seed), runs, ledger, Stopwatch(), 0.0, silent)
    assert outcome.status == "completed", outcome.reason
    return estimate_markov(outcome.trace.posterior["llc"])
