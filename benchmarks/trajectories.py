"""Moves a chain by HMC and keeps trajectories with their energy errors; in another process says what these should be.

python trajectories.py TARGET FILE.npz STEP SHARE    moves, in the lane of this process, and writes the file; STEP is
                                                     HMC's with stiff directions slowed, STEP·SHARE fits without that
python trajectories.py TARGET FILE.npz               in the float64 lane: what rounding did to the file's numbers
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.posterior.local import LocalPosterior, evaluate, local_posterior, resolve_inverse_temperature
from lambda_hat_cli.samplers.base import Place
from lambda_hat_cli.samplers.hmc import (
    SLOWED_DIRECTIONS,
    default_steps,
    energy_error,
    kinetic_energy,
    trajectory,
)
from lambda_hat_cli.samplers.metric import Metric, identity, stiffest
from lambda_hat_cli.samplers.run import seen_precision
from lambda_hat_cli.targets.load import load_target

LOCALIZATION = 100.0
MOVES, KEPT = 200, 32


def posterior_of(folder: Path) -> LocalPosterior:
    """The local posterior at β = 1/log n and γ = 100, in the precision of this process."""
    target = load_target(TargetFolder(folder), np.dtype(seen_precision()))
    return local_posterior(target, resolve_inverse_temperature("auto", target.n), LOCALIZATION)


def move(posterior: LocalPosterior, step_size: float, share: float) -> dict[str, np.ndarray]:
    """The last KEPT of MOVES trajectories, one after the other, each accepted or not, with stiff directions slowed.

    As many before them, from w*, show what is stiff.
    """
    steps = default_steps(posterior.d)

    @jax.jit
    def along(
        metric: Metric, longest: float, start: Place, key: jax.Array
    ) -> tuple[Place, jax.Array, jax.Array, jax.Array]:
        momentum = metric.momentum(jax.random.normal(key, (posterior.d,), start.w.dtype))
        size = longest * jax.random.uniform(jax.random.fold_in(key, 1), (), start.w.dtype, 0.5, 1.2)
        end, last = trajectory(posterior, metric, start, momentum, size, steps)
        return end, momentum, last, energy_error(posterior, metric, start, end, momentum, last)

    random = np.random.default_rng(0)
    at = Place(posterior.w_star, *evaluate(posterior, posterior.w_star))
    metric, longest = identity(posterior.d, SLOWED_DIRECTIONS, posterior.w_star.dtype), step_size * share
    gradients: list[np.ndarray] = []
    kept: dict[str, list[np.ndarray]] = {name: [] for name in ("w", "llc", "momentum", "error")}
    for number in range(2 * MOVES):
        if number == MOVES:
            metric, longest = stiffest(np.stack(gradients[MOVES // 4 :]), SLOWED_DIRECTIONS), step_size
        end, first, last, error = along(metric, longest, at, jax.random.key(number))
        if number >= 2 * MOVES - KEPT:
            kept["w"].append(np.stack([at.w, end.w]))
            kept["llc"].append(np.stack([at.llc, end.llc]))
            kept["momentum"].append(np.stack([first, last]))
            kept["error"].append(np.asarray(error))
        if random.random() < np.exp(-float(error)):
            at = end
        gradients.append(np.asarray(at.gradient))
    return {name: np.stack(values) for name, values in kept.items()} | metric._asdict()


def rounding(posterior: LocalPosterior, kept: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean and standard deviation of what rounding added to tK and to the energy errors, nats."""
    llc = np.array([[float(evaluate(posterior, jnp.asarray(w))[1]) for w in pair] for pair in kept["w"]])
    away = kept["w"].astype(np.float64) - np.asarray(posterior.w_star)
    metric = Metric(kept["directions"].astype(np.float64), kept["shares"].astype(np.float64))
    kinetic = [[float(kinetic_energy(metric, jnp.asarray(p, float))) for p in pair] for pair in kept["momentum"]]
    energy = llc + 0.5 * LOCALIZATION * (away**2).sum(-1) + np.array(kinetic)
    of_llc = kept["llc"] - llc
    of_error = kept["error"] - (energy[:, 1] - energy[:, 0])
    return {
        "llc": float(llc.mean()),
        "llc_mean": float(of_llc.mean()),
        "llc_sd": float(of_llc.std()),
        "error": float(np.abs(energy[:, 1] - energy[:, 0]).mean()),
        "error_mean": float(of_error.mean()),
        "error_sd": float(of_error.std()),
    }


def main() -> None:
    target, file = Path(sys.argv[1]), Path(sys.argv[2])
    posterior = posterior_of(target)
    if len(sys.argv) > 3:
        np.savez(file, allow_pickle=False, **move(posterior, *map(float, sys.argv[3:])))
    else:
        with np.load(file) as stored:
            print(json.dumps(rounding(posterior, dict(stored))))


if __name__ == "__main__":
    main()
