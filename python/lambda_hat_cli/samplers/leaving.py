"""How chains leave w*: short HMC with a step of its own, then the flat directions are filled."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from lambda_hat_cli.posterior.local import LocalPosterior, evaluate
from lambda_hat_cli.samplers.adaptation import ADAPT, RESTART, SEARCH, Adapted, Kernel, adapt
from lambda_hat_cli.samplers.base import GradientLedger, Place, SamplerDiverged
from lambda_hat_cli.samplers.chains import chain_keys, divided
from lambda_hat_cli.samplers.filling import Filling, Mover
from lambda_hat_cli.samplers.isokinetic import random_directions

FIRST_STEP = 1e-4


def leave_w_star(
    kernel: Kernel, posterior: LocalPosterior, keys: PRNGKeyArray, draws: int, ledger: GradientLedger
) -> Adapted:
    """Short HMC from w*, its states a Place: a tenth of `draws` searches a step, then two adaptations (2 : 3).

    Raises:
        SamplerDiverged: when the step has shrunk to zero: chains that stand still are accepted whatever they do.
        BudgetUsedUp: when `ledger` has nothing left.
    """
    potential, llc, gradient = evaluate(posterior, posterior.w_star)
    ledger.add("warmup", 1)
    start = Place(posterior.w_star, potential, llc, gradient)
    places = divided(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (keys.shape[0], *leaf.shape)), start))
    search = max(4, draws // 10)
    stages = np.repeat([SEARCH, ADAPT, RESTART], (search, *parts(draws - search, 0.4)))
    left = adapt(kernel, posterior, places, keys, 0, stages, FIRST_STEP, ledger)
    if not left.step_size > 0:
        raise SamplerDiverged(
            f"HMC found no stable step to leave w* with, the last was {left.step_size:.3g}; "
            "take a larger localization or float64"
        )
    return left


def filled_or_left(
    posterior: LocalPosterior, places: Place, hmc_step: float, key: PRNGKeyArray, ledger: GradientLedger
) -> Filling:
    """Fill flat directions from `places`; the chains as they were where that has no meaning or finds no stable step.

    Args:
        places: leaves with a leading axis of chains, away from w*. hmc_step: HMC's step size there.

    Raises:
        BudgetUsedUp: when `ledger` has nothing left.
    """
    left = about_to_fill(posterior, places, hmc_step, key)
    if posterior.d < 2:
        return left
    try:
        return Mover(posterior, chain_keys(key, places.w.shape[0], "filling"), ledger).fill(left)
    except SamplerDiverged:
        return left


def about_to_fill(posterior: LocalPosterior, places: Place, hmc_step: float, key: PRNGKeyArray) -> Filling:
    """The chains at `places` with random directions; an isokinetic step of ε moves as one of HMC of 2ε/√d, or less."""
    return Filling(divided(random_directions(key, places)), 0.5 * math.sqrt(posterior.d) * hmc_step)


def parts(draws: int, share: float) -> tuple[int, int]:
    """`draws` in two, the first at most the given share of them."""
    first = int(draws * share)
    return first, draws - first
