"""Functions of one chain over all chains: on every device of the process, with keys of their own."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from lambda_hat_cli.posterior.local import LocalPosterior

# Above this many multiply-adds a gradient, one chain after the other keeps the working set in the cache and wins.
ONE_BY_ONE_WORK = 20_000

_PHASES = {"warmup": 1, "sampling": 2, "filling": 3}


def chain_keys(key: PRNGKeyArray, chains: int, phase: str = "sampling") -> PRNGKeyArray:
    """One key for each chain of a phase ("warmup", "filling" or "sampling"), (chains,).

    A draw's key folds in the draw's number, so that no key depends on block sizes.
    """
    return _keys(key, np.asarray(_PHASES[phase]), chains)


@partial(jax.jit, static_argnames="chains")
def _keys(key: PRNGKeyArray, phase: Int[Array, ""], chains: int) -> PRNGKeyArray:
    return jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, phase)))(jnp.arange(chains))


def over_chains(posterior: LocalPosterior) -> Any:
    """f ↦ f over a leading axis of chains, which the process's devices share.

    On a device `jax.vmap` for small gradients, one chain after the other for larger ones. The choice depends on sizes
    only, never on a timing, so that results are reproducible.
    """
    one_by_one = posterior.work > ONE_BY_ONE_WORK

    def mapped(function: Any) -> Any:
        def on_device(*arguments: PyTree) -> PyTree:
            if one_by_one:
                return lax.map(lambda packed: function(*packed), arguments)
            return jax.vmap(function)(*arguments)

        return partial(_over_devices, on_device)

    return mapped


def divided(values: PyTree) -> PyTree:
    """`values`, with a leading axis of chains, placed where `over_chains` leaves its results.

    A program is compiled for the places of its arguments: so the one for later blocks serves the first too.
    """
    mesh = _mesh(values)
    return values if mesh is None else jax.device_put(values, NamedSharding(mesh, PartitionSpec("chains")))


def _over_devices(function: Any, *arguments: PyTree) -> PyTree:
    """`function` on as many devices as divide the chains, which are the arguments' leading axis.

    A task of N CPUs has N devices, a thread each: matrix products of one chain are too small to divide.
    """
    mesh = _mesh(arguments)
    if mesh is None:
        return function(*arguments)
    over = PartitionSpec("chains")
    return jax.shard_map(function, mesh=mesh, in_specs=over, out_specs=over, check_vma=False)(*arguments)


def _mesh(values: PyTree) -> Mesh | None:
    """The devices that share these chains; None where it is one."""
    chains = jax.tree.leaves(values)[0].shape[0]
    devices = jax.devices()
    count = max(number for number in range(1, len(devices) + 1) if chains % number == 0)
    return Mesh(devices[:count], ("chains",)) if count > 1 else None
