"""Holds XLA's compiler to the CPUs that a task was given."""

import contextlib
import os

import jax
import jax.numpy as jnp


def hold_compiler_threads() -> None:
    """Make XLA compile with at most NPROC threads; call before anything else is compiled.

    NPROC sets the size of XLA's pool for running programs. The pool for compiling them is as large as the number of
    CPUs that the process may use when it compiles first, so that number is small just then. Afterwards every thread may
    use every CPU again: which one it takes is the system's business. Does nothing without NPROC, or where the system
    knows no affinity (macOS).
    """
    limit = os.environ.get("NPROC", "")
    if not limit.isdigit() or not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[: max(1, int(limit))])
    jax.jit(jnp.negative)(0.0).block_until_ready()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), allowed)
