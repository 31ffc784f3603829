"""A module beside my_model.py: it is copied and hashed with it, and imported by its plain name."""

import numpy as np
from jaxtyping import Float32


def noisy_samples(
    rows: int, sigma: float, seed: int
) -> tuple[Float32[np.ndarray, " rows"], Float32[np.ndarray, " rows"]]:
    """Points x in [−1, 1] and y = sin(πx) + σ·N(0, 1)."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, rows)
    y = np.sin(np.pi * x) + sigma * random.standard_normal(rows)
    return x.astype(np.float32), y.astype(np.float32)


def legendre_features(x: Float32[np.ndarray, " rows"], degree: int) -> Float32[np.ndarray, "rows features"]:
    """Legendre polynomials of degree 0 to `degree`, scaled to unit variance under uniform x."""
    scales = np.sqrt(2 * np.arange(degree + 1) + 1)
    return (np.polynomial.legendre.legvander(x, degree) * scales).astype(np.float32)
