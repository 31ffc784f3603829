"""The samplers' normal numbers against threefry itself and the exact inverse."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from scipy import stats

from lambda_hat_cli.samplers.normals import normal_of_bits, standard_normal


def key(seed: int) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def test_every_bit_pattern_meets_the_exact_inverse() -> None:
    """All 2^23 cells: within 1e-6 of the quantile at the cell's middle, odd, never infinite."""
    cells = np.arange(2**23, dtype=np.uint32)
    found = np.asarray(normal_of_bits(jnp.asarray(cells << 9)), np.float64)
    exact = stats.norm.ppf((cells + 0.5) / 2**23)
    assert np.abs(found - exact).max() < 1e-6
    assert np.array_equal(found, -found[::-1])
    assert 5 < found.max() < 6
    # Mean of squares of all cells: what E[ξ²] = 1 loses by its cells is far below any Monte-Carlo error.
    assert abs(np.mean(found**2) - 1) < 1e-6


def test_numbers_are_those_of_the_hash_and_normal() -> None:
    shape = (3, 5, 1001)
    found = np.asarray(standard_normal(key(1), shape, jnp.float32))
    assert found.shape == shape
    assert found.dtype == np.float32
    bits = threefry_2x32(jax.random.key_data(key(1)), jnp.arange(3 * 5 * 1001, dtype=jnp.uint32))
    middle = (np.asarray(bits, np.uint64) // 2**9 + 0.5) / 2**23
    np.testing.assert_allclose(found.ravel(), stats.norm.ppf(middle), atol=1e-6)


def test_streams_of_many_keys_are_normal_and_uncorrelated() -> None:
    """400 streams: each moment's z and the correlations of neighbours, judged by their own spread."""
    drawn = np.asarray(jax.vmap(lambda k: standard_normal(k, (2000,), jnp.float32))(jax.random.split(key(7), 400)))
    drawn = drawn.astype(np.float64)
    root = np.sqrt(drawn.size)
    assert abs(drawn.mean()) < 4 / root
    assert abs(np.mean(drawn**2) - 1) < 4 * np.sqrt(2) / root
    assert abs(np.mean(drawn**4) - 3) < 4 * np.sqrt(96) / root
    assert abs(np.mean(drawn[:, 1:] * drawn[:, :-1])) < 4 / root
    # The hash gives the first and the second half of a stream together.
    assert abs(np.mean(drawn[:, :1000] * drawn[:, 1000:])) < 4 * np.sqrt(2) / root
    assert abs(np.mean(drawn[1:] * drawn[:-1])) < 4 / root
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-4


def test_float64_is_jax_own() -> None:
    with jax.enable_x64(True):
        found = standard_normal(key(3), (4, 5), jnp.float64)
        np.testing.assert_array_equal(found, jax.random.normal(key(3), (4, 5), jnp.float64))
