"""Carries chains that have left w* along the flat directions of the posterior until ‖w−w*‖² stands still."""

import math
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.estimate.diagnostics import rhat_rank
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import GradientLedger, SamplerDiverged
from lambda_hat_cli.samplers.chains import over_chains
from lambda_hat_cli.samplers.driver import host_stats
from lambda_hat_cli.samplers.isokinetic import Moving, leapfrog, refreshed

DRAW_STEPS = 10
BLOCK_DRAWS = 10
BLOCK_STEPS = DRAW_STEPS * BLOCK_DRAWS
ENERGY_ERROR = 5e-4
"""Variance of a step's energy error over d; coarser than recording needs, for these steps are not used."""
SHORTEST_DECOHERENCE = 30.0
LOOK_EVERY = 3
# Where nothing is flat the chains agree on ‖w−w*‖² at once; where they do not, a stand-still is believed later.
LEAST_BLOCKS, LEAST_BLOCKS_APART, MOST_BLOCKS = 6, 12, 200
AGREEING = 1.05
SHARE = 0.3
"""Of the gradients and seconds that are left, how much filling may take."""
MOST_HALVINGS = 12


@dataclass(frozen=True)
class Filling:
    """Chains on their way along the flat directions.

    Attributes:
        chains: every leaf with a leading axis of chains. step_size: ε, a distance in parameter space.
        filled: whether no growth of ‖w−w*‖² was to be seen at the end; few chains see little.
        energy_error: of the latest block, variance of a step's energy error over d.
        blocks: the statistics of every block that was kept, each (chains, BLOCK_DRAWS), means over DRAW_STEPS steps.
        steps: steps a chain so far.
    """

    chains: Moving
    step_size: float
    filled: bool = False
    energy_error: float = math.nan
    blocks: tuple[dict[str, np.ndarray], ...] = ()
    steps: int = 0

    @property
    def stats(self) -> dict[str, np.ndarray]:
        """The statistics of every kept block, (chains, draws); empty before the first."""
        names = self.blocks[0] if self.blocks else {}
        return {name: np.concatenate([block[name] for block in self.blocks], axis=1) for name in names}

    @property
    def summary(self) -> dict[str, float | None]:
        """What run.json says of the filling; growth and R-hat are those of ‖w−w*‖², None where nothing was moved."""
        tuned: dict[str, float | None] = {
            "flat_directions_filled": float(self.filled),
            "filling_steps": float(self.steps),
            "filling_growth": None,
            "filling_rhat": None,
        }
        if len(self.blocks) >= LOOK_EVERY:
            distance = self.stats["distance_squared"]
            tuned["filling_growth"] = float(np.mean(growth(distance)) / np.mean(_thirds(distance)[1]))
            tuned["filling_rhat"] = rhat_rank(_second_half(distance))
        return tuned


@dataclass
class Mover:
    """Moves chains in blocks of BLOCK_STEPS unadjusted steps whose size follows their energy error.

    Attributes:
        keys: one a chain. ledger: books every gradient as `warmup`.
    """

    posterior: LocalPosterior
    keys: PRNGKeyArray
    ledger: GradientLedger
    _number: int = field(default=0, init=False)

    def fill(self, filling: Filling) -> Filling:
        """Move with decoherence length max(√mean‖w−w*‖², 30ε) until ‖w−w*‖² stands still or a share is used up.

        A length near the width of the flat directions is the quickest way along them; the step is tuned all along,
        for one that was tuned near w* is about three times too long on a deep linear network that has been filled.

        Raises:
            SamplerDiverged: when every step tried is unstable. BudgetUsedUp: when the ledger has nothing left.
        """
        away = np.asarray(filling.chains.place.w - self.posterior.w_star, np.float64)
        width = math.sqrt(float(np.mean(np.sum(away**2, axis=1))))
        share = self.ledger.share(SHARE)
        block = BLOCK_STEPS * away.shape[0]
        for count in range(1, MOST_BLOCKS + 1):
            if not share.holds(block):
                break
            filling = self.tuned_block(filling, ENERGY_ERROR, width)
            width = math.sqrt(float(np.mean(filling.blocks[-1]["distance_squared"])))
            if count % LOOK_EVERY == 0 and count >= LEAST_BLOCKS and _enough(filling, count):
                return replace(filling, filled=True)
        return filling

    def tuned_block(self, filling: Filling, energy_error: float, width: float = 0.0) -> Filling:
        """One stable block with decoherence length max(width, 30ε); then ε moves towards `energy_error`.

        Raises:
            SamplerDiverged: when halving the step MOST_HALVINGS times has not made it stable.
        """
        size = filling.step_size
        for _ in range(MOST_HALVINGS):
            self.ledger.require("warm-up")
            dtype = self.posterior.w_star.dtype
            chains, stats = _block(
                self.posterior,
                filling.chains,
                np.asarray(size, dtype),
                np.asarray(size / max(width, SHORTEST_DECOHERENCE * size), dtype),
                self.keys,
                np.asarray(self._number),
            )
            self._number += 1
            seen = host_stats(stats)
            self.ledger.add("warmup", BLOCK_STEPS * len(seen["llc"]))
            error = float(np.mean(seen["energy_error"]))
            # Far above the target the step is about to leave what leapfrog can follow.
            if np.isfinite(error) and np.isfinite(seen["llc"]).all() and error <= 100.0 * energy_error + 1.0:
                # The energy error's variance grows as the sixth power of the step.
                factor = (energy_error / max(error, 1e-30)) ** (1.0 / 6.0)
                return replace(
                    filling,
                    chains=chains,
                    step_size=size * float(np.clip(factor, 0.7, 1.4)),
                    energy_error=error,
                    blocks=(*filling.blocks, seen),
                    steps=filling.steps + BLOCK_STEPS,
                )
            size /= 2.0
        raise SamplerDiverged(
            f"no stable microcanonical step was found: unstable at {2.0 * size:.3g} and above; take hmc"
        )


def growth(distance_squared: Float[np.ndarray, "chains draws"]) -> Float[np.ndarray, " chains"]:
    """How much ‖w−w*‖² grew from the middle to the last third, by chain."""
    middle, last = _thirds(distance_squared)
    return last - middle


def stands_still(distance_squared: Float[np.ndarray, "chains draws"]) -> bool:
    """Whether ‖w−w*‖² grew by less than 5 % or less than 2 standard errors from the middle to the last third."""
    grown = growth(distance_squared)
    error = float(np.std(grown, ddof=1)) / math.sqrt(grown.size)
    last = float(_thirds(distance_squared)[1].mean())
    return bool(grown.mean() < 0.05 * last or grown.mean() < 2.0 * error)


def _enough(filling: Filling, count: int) -> bool:
    distance = filling.stats["distance_squared"]
    believed = count >= LEAST_BLOCKS_APART or rhat_rank(_second_half(distance)) <= AGREEING
    return believed and stands_still(distance)


def _thirds(
    distance_squared: Float[np.ndarray, "chains draws"],
) -> tuple[Float[np.ndarray, " chains"], Float[np.ndarray, " chains"]]:
    """Means over the middle and the last third, by chain."""
    third = distance_squared.shape[1] // 3
    return distance_squared[:, -2 * third : -third].mean(axis=1), distance_squared[:, -third:].mean(axis=1)


def _second_half(values: Float[np.ndarray, "chains draws"]) -> Float[np.ndarray, "chains half"]:
    return values[:, values.shape[1] // 2 :]


@jax.jit
def _block(
    posterior: LocalPosterior,
    chains: Moving,
    size: Float[Array, ""],
    share: Float[Array, ""],
    keys: PRNGKeyArray,
    number: Int[Array, ""],
) -> tuple[Moving, dict[str, Array]]:
    """BLOCK_STEPS steps of every chain; statistics (chains, BLOCK_DRAWS), means over DRAW_STEPS steps."""

    def chain(start: Moving, key: PRNGKeyArray) -> tuple[Moving, dict[str, Array]]:
        def step(at: Moving, noise: Float[Array, " d"]) -> tuple[Moving, dict[str, Array]]:
            moved, error = leapfrog(posterior, at, size)
            away = moved.place.w - posterior.w_star
            return Moving(moved.place, refreshed(moved.direction, share, noise)), {
                "llc": moved.place.llc,
                "energy": moved.place.potential,
                "energy_error": error**2 / posterior.d,
                "virial": posterior.virial(moved.place.w, moved.place.gradient),
                "distance_squared": jnp.vdot(away, away),
            }

        def draw(at: Moving, key: PRNGKeyArray) -> tuple[Moving, dict[str, Array]]:
            noise = jax.random.normal(key, (DRAW_STEPS, posterior.d), size.dtype)
            at, seen = lax.scan(step, at, noise)
            return at, jax.tree.map(jnp.mean, seen) | {"step_size": size}

        draws = number * BLOCK_DRAWS + jnp.arange(BLOCK_DRAWS)
        return lax.scan(draw, start, jax.vmap(partial(jax.random.fold_in, key))(draws))

    return over_chains(posterior)(chain)(chains, keys)
