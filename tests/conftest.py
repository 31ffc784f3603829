"""One precision and one set of thread limits for the whole suite, set before JAX is imported."""

import os

os.environ.update(
    JAX_ENABLE_X64="1",
    JAX_PLATFORMS="cpu",
    JAX_DEFAULT_PRNG_IMPL="threefry2x32",
    NPROC="1",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    MPLBACKEND="Agg",
)
