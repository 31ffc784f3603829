"""The local posterior: derivatives against independent ones, float32 values against float64 ones."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat_cli.posterior.chunks import CHUNK_ROWS, losses_and_gradient, losses_of
from lambda_hat_cli.posterior.local import compensated_sum, resolve_inverse_temperature
from oracles.exact_targets import crossing, quadratic, regression

ROOT = Path(__file__).resolve().parents[2]
CANCELLING = np.random.default_rng(0).normal(size=999).astype(np.float32)

FLOAT32 = """
import json, jax, numpy as np
from lambda_hat_cli.posterior.local import compensated_sum
from oracles.exact_targets import regression
terms = np.random.default_rng(0).normal(size=999).astype(np.float32)
terms = np.concatenate([1e4 * terms, -1e4 * terms, terms]).astype(np.float32)
posterior, _ = regression(1000, 5, 0)
llc = jax.jit(type(posterior).llc)
steps = np.random.default_rng(1).normal(size=(4, 5)) * 0.05
print(json.dumps({
    "dtype": str(posterior.w_star.dtype),
    "sum": float(jax.jit(compensated_sum)(terms)),
    "batched": float(jax.jit(jax.vmap(compensated_sum))(terms[None])[0]),
    "at_w_star": float(llc(posterior, posterior.w_star)),
    "llc": [float(llc(posterior, posterior.w_star + step)) for step in steps.astype(np.float32)],
}))
"""


def test_compensated_float32_sums_and_values_agree_with_float64() -> None:
    environment = {**os.environ, "JAX_ENABLE_X64": "0", "PYTHONPATH": f"{ROOT / 'python'}:{ROOT / 'tests'}"}
    output = subprocess.run(
        [sys.executable, "-c", FLOAT32], env=environment, capture_output=True, text=True, check=True
    ).stdout
    single = json.loads(output)
    assert single["dtype"] == "float32"
    terms = np.concatenate([1e4 * CANCELLING, -1e4 * CANCELLING, CANCELLING]).astype(np.float32)
    exact = float(sum(map(Fraction, map(float, terms))))
    # A plain float32 sum of terms of size 1e4 is off by about 1e-1; one rounding of the result is 1e-6.
    assert abs(single["sum"] - exact) < 4e-6 * abs(exact)
    assert abs(single["batched"] - exact) < 4e-6 * abs(exact)
    assert abs(single["at_w_star"]) < 1e-4
    posterior, _ = regression(1000, 5, 0)
    steps = (np.random.default_rng(1).normal(size=(4, 5)) * 0.05).astype(np.float32)
    double = [float(posterior.llc(posterior.w_star + step)) for step in steps]
    np.testing.assert_allclose(single["llc"], double, rtol=2e-4, atol=2e-4)


def test_compensated_sum_keeps_what_a_plain_sum_loses() -> None:
    terms = jnp.array([1.0, 1e17, 1.0, -1e17, 1.0])
    assert float(jax.jit(compensated_sum)(terms)) == 3.0


def test_value_and_gradient_agree_with_finite_differences() -> None:
    posterior, _ = regression(50, 4, 0)
    w = posterior.w_star + jnp.array([0.1, -0.2, 0.05, 0.3])
    potential, llc, gradient = posterior.value_and_grad(w)
    assert (float(potential), float(llc)) == tuple(map(float, posterior.potential(w)))
    step = 1e-5 * jnp.eye(4)
    differences = [(posterior.potential(w + e)[0] - posterior.potential(w - e)[0]) / 2e-5 for e in step]
    np.testing.assert_allclose(gradient, jnp.array(differences), rtol=1e-6)


def test_the_potential_is_zero_at_w_star() -> None:
    posterior, _ = regression(50, 4, 0)
    assert float(posterior.potential(posterior.w_star)[0]) == 0.0


def test_hessian_vector_product_is_that_of_the_whole_hessian() -> None:
    posterior = crossing()
    w, v = jnp.array([0.3, -0.7]), jnp.array([1.0, 2.0])
    hessian = jax.hessian(lambda point: posterior.potential(point)[0])(w)
    np.testing.assert_allclose(posterior.hessian_vector(w, v), hessian @ v, rtol=1e-10)


def test_minibatch_gradients_average_to_the_full_gradient() -> None:
    posterior, _ = regression(60, 3, 0)
    w = posterior.w_star + 0.2
    batches = np.random.default_rng(0).permutation(60).reshape(6, 10)
    mean = np.mean(
        [posterior.control_variate_gradient(w, jnp.asarray(batch), posterior.anchor_at_w_star) for batch in batches],
        axis=0,
    )
    np.testing.assert_allclose(mean, posterior.gradient(w), rtol=1e-10)


def test_the_virial_of_a_quadratic_is_twice_its_potential() -> None:
    posterior = quadratic(np.array([1.0, 3.0]))
    w = posterior.w_star + jnp.array([0.1, 0.2])
    potential, _, gradient = posterior.value_and_grad(w)
    np.testing.assert_allclose(posterior.virial(w, gradient), 2 * potential / 2, rtol=1e-12)


def test_automatic_inverse_temperature() -> None:
    assert resolve_inverse_temperature("auto", 1000) == 1 / np.log(1000)
    assert resolve_inverse_temperature(0.5, 1000) == 0.5


@pytest.mark.parametrize("rows", [4 * CHUNK_ROWS, 2 * CHUNK_ROWS + 1, 2 * CHUNK_ROWS - 1])
def test_losses_and_gradients_in_chunks_are_those_of_all_rows(rows: int) -> None:
    posterior, _ = regression(rows, 5, 0)
    target = posterior.target
    w = target.w_star + 0.05 * jnp.asarray(np.random.default_rng(1).standard_normal(5))
    losses, gradient = jax.jit(losses_and_gradient)(target, w)
    assert losses.shape == (rows,)
    np.testing.assert_array_equal(losses, jax.jit(losses_of)(target, w))
    np.testing.assert_allclose(losses, target.losses(w, target.full_data), rtol=1e-13)

    def total(point: jax.Array) -> jax.Array:
        return jnp.sum(target.losses(point, target.full_data))

    np.testing.assert_allclose(gradient, jax.grad(total)(w), rtol=1e-11)
    v = jnp.asarray(np.random.default_rng(2).standard_normal(5))
    expected = posterior.nbeta / rows * (jax.hessian(total)(w) @ v) + posterior.localization * v
    np.testing.assert_allclose(posterior.hessian_vector(w, v), expected, rtol=1e-11)
